"""What is kept of events: enough to count every profile again, and nothing of whoever was erased."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg

from danbao_credit.application.apply_events import FUTURE, apply_events, command_for, microseconds
from danbao_credit.application.working_set import CreditSet
from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import Source
from danbao_credit.domain.log import LogRow, decoded, encoded, replayed
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.tombstone import Tombstone, subject_key
from danbao_credit.testing.stories import START, SYSTEM, TradeStory, good_trade, moment, numbered, payments_event

HOUR = timedelta(hours=1)


def applied(catalogue: Catalogue, events: list[Any], working: CreditSet | None = None) -> CreditSet:
    working = CreditSet() if working is None else working
    chunk = [EscrowEvent(event) for event in numbered(events)]
    apply_events(command_for(Source.ESCROW, 0, len(chunk), chunk, catalogue), working, moment())
    working.accept()
    return working


def test_every_event_leaves_a_row_per_subject_and_role(catalogue: Catalogue) -> None:
    story = good_trade("1")
    rows = applied(catalogue, story.events).log_rows.accepted
    assert [(row.number, row.role, row.subject) for row in rows] == [
        (number, role, f"subjects/{role}") for number in range(1, 6) for role in ("buyer", "seller")
    ]
    assert {row.about for row in rows} == {"trades/1"}
    assert {row.currency for row in rows} == {"CNY"}
    assert rows[0].source == "escrow"
    assert rows[0].at_us == microseconds(START)
    paid = decoded(next(row.measures for row in rows if row.kind == "trade_paid"))
    assert paid["pay_minutes"] == 10


def test_what_the_catalogue_does_not_count_is_kept_too(catalogue: Catalogue) -> None:
    working = CreditSet()
    chunk = [PaymentsEvent(event) for event in numbered([payments_event("payment_authorized")])]
    command = command_for(Source.PAYMENTS, 0, 1, chunk, catalogue)
    apply_events(command, working, moment())
    working.accept()
    assert [(row.kind, row.role) for row in working.log_rows.accepted] == [("payment_authorized", "payer")]


def test_the_log_alone_gives_the_profiles(catalogue: Catalogue) -> None:
    events = [event for n in range(9) for event in good_trade(str(n), START + n * HOUR).events]
    working = applied(catalogue, events)
    for subject in ("subjects/buyer", "subjects/seller"):
        rows = [row for row in working.log_rows.accepted if row.subject == subject]
        lived = working.subjects.get(subject)
        assert lived is not None
        assert replayed(Profile.empty(), reversed(rows), catalogue).to_bytes() == lived.to_bytes()


def test_measures_come_back_as_they_were() -> None:
    measures = {"one": 1, "late": 0, "amount_minor": 10**15, "buyer": 2**32 - 1}
    assert decoded(encoded(measures)) == measures
    assert encoded(measures) == '{"one":1,"late":0,"amount_minor":1000000000000000,"buyer":4294967295}'


def test_what_was_told_of_an_erased_subject_is_dropped_and_counted(catalogue: Catalogue) -> None:
    story = good_trade("1")
    whole = applied(catalogue, story.events)
    working = CreditSet()
    # Erased right when the trade was paid: what came later is the seller's new life.
    working.tombstones.load("subjects/seller", Tombstone(microseconds(START + HOUR / 6), {}))
    applied(catalogue, story.events, working)
    progress = working.progress.get(Source.ESCROW)
    assert progress is not None
    assert (progress.applied, progress.erased) == (5, 2)
    rows = working.log_rows.accepted
    assert [row.kind for row in rows if row.role == "seller"] == ["lines_shipped", "lines_delivered", "lines_released"]
    assert len([row for row in rows if row.role == "buyer"]) == 5
    lived = working.subjects.get("subjects/seller")
    assert lived is not None
    assert replayed(Profile.empty(), [row for row in rows if row.role == "seller"], catalogue).to_bytes() == (
        lived.to_bytes()
    )
    buyer, before = working.subjects.get("subjects/buyer"), whole.subjects.get("subjects/buyer")
    assert buyer is not None
    assert before is not None
    assert buyer.to_bytes() == before.to_bytes()


def test_an_event_from_the_future_is_parked_as_it_came(catalogue: Catalogue) -> None:
    story = TradeStory("1").paid(START + timedelta(minutes=5)).cancelled(START + timedelta(minutes=5, seconds=1))
    chunk = [EscrowEvent(event) for event in numbered(story.events)]
    working = CreditSet()
    apply_events(command_for(Source.ESCROW, 0, 3, chunk, catalogue), working, moment(START))
    working.accept()
    [parked] = working.parked.accepted
    assert (parked.sequence, parked.reason) == (3, FUTURE)
    assert parked.payload == chunk[2].payload
    progress = working.progress.get(Source.ESCROW)
    assert progress is not None
    assert (progress.sequence, progress.applied, progress.parked) == (3, 2, 1)
    assert {row.kind for row in working.log_rows.accepted} == {"trade_created", "trade_paid"}


async def test_the_log_stands_in_the_store_with_the_profiles(credit, catalogue: Catalogue) -> None:
    events = [event for n in range(20) for event in good_trade(str(n), START + n * HOUR).events]
    refused = TradeStory("x").paid(START).refunded(START + 300 * HOUR, by=SYSTEM)
    events += refused.events
    credit.streams.escrow.add(events)
    credit.streams.payments.add([payments_event("top_up_succeeded")])
    await credit.caught_up("escrow", len(events))
    await credit.caught_up("payments", 1)
    connection = await asyncpg.connect(credit.database.dsn)
    try:
        rows = [LogRow(*row.values()) for row in await connection.fetch("SELECT * FROM event_log")]
        profiles = {row["subject"]: row["profile"] for row in await connection.fetch("SELECT * FROM subjects")}
    finally:
        await connection.close()
    assert len(rows) == 2 * len(events) + 1
    for subject, profile in profiles.items():
        own = [row for row in rows if row.subject == subject]
        assert replayed(Profile.empty(), own, catalogue).to_bytes() == profile


async def test_an_erased_subject_stays_erased_when_the_stream_tells_of_it_again(make_credit) -> None:
    credit = await make_credit(start=False)
    connection = await asyncpg.connect(credit.database.dsn)
    await connection.execute(
        "INSERT INTO tombstones VALUES ($1, $2, 0, 0, 0)",
        subject_key("subjects/seller"),
        microseconds(START + 9 * HOUR),
    )
    credit.streams.escrow.add(good_trade("1").events)
    await credit.start()
    await credit.caught_up("escrow", 5)
    kinds = await connection.fetch("SELECT kind FROM event_log WHERE subject = 'subjects/seller' ORDER BY number")
    assert [row["kind"] for row in kinds] == ["lines_shipped", "lines_delivered", "lines_released"]
    assert await connection.fetchval("SELECT erased FROM stream_counts WHERE source = 'escrow'") == 2
    await connection.close()


def test_on_test_clocks_which_are_moved_one_by_one_no_event_is_from_the_future(catalogue: Catalogue) -> None:
    chunk = [EscrowEvent(event) for event in numbered(TradeStory("1", at=START + HOUR).events)]
    working = CreditSet()
    apply_events(command_for(Source.ESCROW, 0, 1, chunk, catalogue, parks_future=False), working, moment(START))
    working.accept()
    assert [row.kind for row in working.log_rows.accepted] == ["trade_created", "trade_created"]
