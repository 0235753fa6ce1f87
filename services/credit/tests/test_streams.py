"""No event is missed, none applied twice, whatever dies when; and whose work it was can be followed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.testing.stories import START, SYSTEM, TradeStory, good_trade, lived, payments_event
from danbao_kit.group_commit import GroupCommit, Submission

DAY = timedelta(days=1)


def history(trades: int, seed: int = 5) -> list[TradeStory]:
    dice = random.Random(seed)
    stories = []
    for n in range(trades):
        parties = {"buyer": f"subjects/b{dice.randrange(12)}", "seller": f"subjects/s{dice.randrange(5)}"}
        at = START + n * timedelta(hours=5)
        match dice.randrange(5):
            case 0:
                stories.append(TradeStory(str(n), at=at, **parties).cancelled(at + DAY))
            case 1:
                stories.append(TradeStory(str(n), at=at, **parties).paid(at).refunded(at + 11 * DAY, by=SYSTEM))
            case _:
                stories.append(good_trade(str(n), at, **parties))
    return stories


async def stored(credit: Any) -> dict[str, bytes]:
    connection = await asyncpg.connect(credit.database.dsn)
    try:
        return {row["subject"]: row["profile"] for row in await connection.fetch("SELECT * FROM subjects")}
    finally:
        await connection.close()


def expected(catalogue: Catalogue, stories: list[TradeStory], payments: list[Any]) -> dict[str, bytes]:
    return {subject: profile.to_bytes() for subject, profile in lived(catalogue, *stories, payments=payments).items()}


async def test_killed_again_and_again_credit_ends_where_it_would_have(make_credit, catalogue: Catalogue) -> None:
    """kill -9 while both streams are read in small chunks, several times, at moments nobody chose."""
    credit = await make_credit(start=False)
    stories = history(150)
    payments = [payments_event("top_up_succeeded", START + n * DAY, subject=f"subjects/b{n % 12}") for n in range(200)]
    events = [event for story in stories for event in story.events]
    credit.streams.escrow.chunk = credit.streams.payments.chunk = 2
    credit.streams.escrow.add(events)
    credit.streams.payments.add(payments)
    settings = credit.settings
    environment = os.environ | {
        "DANBAO_DATABASE_DSN": settings.database_dsn,
        "DANBAO_PAYMENTS_ADDRESS": settings.payments_address,
        "DANBAO_ESCROW_ADDRESS": settings.escrow_address,
        "DANBAO_TLS_CERT": str(settings.tls_cert),
        "DANBAO_TLS_KEY": str(settings.tls_key),
        "DANBAO_TLS_CA": str(settings.tls_ca),
        "DANBAO_LOG_LEVEL": "error",
    }
    dice = random.Random(2)
    reached = 0
    for _ in range(2):
        service = subprocess.Popen([sys.executable, "-m", "danbao_credit", "serve"], env=environment)  # noqa: ASYNC220
        try:
            goal = reached + dice.randrange(60, 120)
            async with asyncio.timeout(30):
                while reached < min(goal, len(events) - 1):
                    await asyncio.sleep(0.01)
                    reached = await cursor(credit, "escrow")
        finally:
            service.send_signal(signal.SIGKILL)
            service.wait()
    assert 0 < reached < len(events), "killed before the end"
    # What ends it also breaks off every few chunks.
    credit.streams.escrow.chunk = credit.streams.payments.chunk = 40
    await credit.start()
    status = await credit.caught_up("escrow", len(events))
    assert (status.applied, status.duplicates, status.parked) == (len(events), 0, 0)
    status = await credit.caught_up("payments", len(payments))
    assert (status.applied, status.duplicates, status.parked) == (len(payments), 0, 0)
    assert await stored(credit) == expected(catalogue, stories, payments)
    assert len(credit.streams.escrow.asked) >= 3


async def cursor(credit: Any, source: str) -> int:
    connection = await asyncpg.connect(credit.database.dsn)
    try:
        return await connection.fetchval("SELECT sequence FROM reader_cursors WHERE source = $1", source) or 0
    finally:
        await connection.close()


async def test_streams_that_break_off_are_read_on(make_credit, catalogue: Catalogue) -> None:
    credit = await make_credit(start=False)
    stories = history(30)
    credit.streams.escrow.break_after = 4
    credit.streams.escrow.chunk = 9
    credit.streams.escrow.add([event for story in stories for event in story.events])
    total = len(credit.streams.escrow.events)
    await credit.start()
    status = await credit.caught_up("escrow", total)
    assert (status.applied, status.duplicates) == (total, 0)
    assert len(credit.streams.escrow.asked) >= 3
    assert await stored(credit) == expected(catalogue, stories, [])


async def test_two_replicas_apply_each_event_once(make_credit, catalogue: Catalogue) -> None:
    first = await make_credit()
    stories = history(60)
    second = await make_credit(start=False)
    second.settings = first.settings
    await second.start()
    first.streams.escrow.add([event for story in stories for event in story.events])
    total = len(first.streams.escrow.events)
    status = await first.caught_up("escrow", total)
    assert status.applied == total
    await second.caught_up("escrow", total)
    assert await stored(first) == expected(catalogue, stories, [])


async def test_a_poison_event_is_parked_with_its_reason_and_the_stream_goes_on(credit, catalogue: Catalogue) -> None:
    stories = [good_trade("1"), good_trade("2")]
    events = [event for story in stories for event in story.events]
    poison = TradeStory("3").paid(START).events[-1]
    poison.trade_paid.seller = "nobody"
    credit.streams.escrow.add([*events[:4], poison, *events[4:]])
    status = await credit.caught_up("escrow", 11)
    assert (status.applied, status.parked) == (10, 1)
    assert await stored(credit) == expected(catalogue, stories, [])
    connection = await asyncpg.connect(credit.database.dsn)
    parked = await connection.fetch("SELECT source, sequence, reason, payload FROM parked_events")
    await connection.close()
    assert [(row["source"], row["sequence"]) for row in parked] == [("escrow", 5)]
    assert "the seller 'nobody' is not a subject" in parked[0]["reason"]
    again = type(poison).FromString(parked[0]["payload"])
    assert again.trade_paid == poison.trade_paid


async def test_a_gap_is_refused_and_nothing_of_its_chunk_applied(credit, catalogue: Catalogue) -> None:
    """A stream that leaves something out (a restored backup, say) never moves the cursor past it."""
    from danbao_credit.app import Database
    from danbao_credit.application.apply_events import ApplyEvents
    from danbao_credit.application.decide import decide
    from danbao_credit.domain.events import Source
    from danbao_credit.rpc.codec import CreditCodec
    from danbao_credit.rpc.rights_codec import blank_event
    from danbao_credit.store.credit_store import CreditStore
    from danbao_kit.clock import RealClock
    from danbao_kit.time_ordered_ids import TimeOrderedIds

    database = Database(credit.database.dsn)
    commit = GroupCommit(database, CreditStore(blank_event), decide, CreditCodec(), RealClock(), TimeOrderedIds())
    commit.start()
    outcome = await commit.submit(Submission(ApplyEvents(Source.ESCROW, 5, 9, ())))
    assert outcome.error is not None
    assert outcome.error.reason == "STREAM_GAP"
    assert outcome.error.metadata["sequence"] == "0"
    assert await cursor(credit, "escrow") == 0
    await commit.stop()
    await database.close()


@pytest.fixture(scope="session")
def spans() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


async def test_applying_an_event_is_a_trace_of_its_own_linked_to_the_request(spans, credit) -> None:
    def caused_by(number: int, flags: str = "01") -> str:
        return f"00-{number:032x}-{number:016x}-{flags}"

    stories = [good_trade(str(n), traceparent=caused_by(n)) for n in range(1, 51)]
    unsampled = good_trade("99", traceparent=caused_by(99, "00"))
    spans.clear()
    credit.streams.escrow.chunk = 500
    credit.streams.escrow.add([event for story in [*stories, unsampled] for event in story.events])
    await credit.caught_up("escrow", 255)
    await asyncio.sleep(0.05)
    finished = spans.get_finished_spans()
    applied = {span.links[0].context.trace_id: span for span in finished if span.name == "credit.apply_event"}
    assert set(applied) == set(range(1, 51))
    span = applied[7]
    assert span.parent is None
    assert span.context.trace_id != 7
    assert span.attributes["danbao.about"] == "trades/7"
    assert span.attributes["danbao.subjects"] == "subjects/buyer, subjects/seller"
    assert span.attributes["danbao.events"] == 5
    # The chunk's commit and its SQL stand below the first of them.
    below = {item.name: item for item in finished if item.context.trace_id == applied[1].context.trace_id}
    assert "group_commit.commit" in below
    assert any(name.startswith("SQL") and "subjects" in name for name in below), sorted(below)


async def test_a_request_that_caused_many_events_is_not_told_all_of_them_again(spans, credit) -> None:
    cause = f"00-{7:032x}-{7:016x}-01"
    stories = [good_trade(str(n), traceparent=cause, seller=f"subjects/s{n}") for n in range(60)]
    spans.clear()
    credit.streams.escrow.chunk = 500
    credit.streams.escrow.add([event for story in stories for event in story.events])
    await credit.caught_up("escrow", 300)
    await asyncio.sleep(0.05)
    (span,) = [span for span in spans.get_finished_spans() if span.name == "credit.apply_event"]
    assert span.attributes["danbao.events"] == 300
    assert span.attributes["danbao.about"] == "trades/0, trades/1, trades/2, trades/3"
    assert span.attributes["danbao.subjects"] == "subjects/buyer, subjects/s0, subjects/s1, subjects/s2, subjects/s3"


async def test_two_thousand_events_a_second_are_applied(credit) -> None:
    """On an idle machine it is several times as fast; this only finds a collapse."""
    stories = history(500)
    events = [event for story in stories for event in story.events]
    credit.streams.escrow.chunk = 500
    started = asyncio.get_running_loop().time()
    credit.streams.escrow.add(events)
    await credit.caught_up("escrow", len(events))
    rate = len(events) / (asyncio.get_running_loop().time() - started)
    print(f"{rate:,.0f} events a second")
    assert rate > 400
