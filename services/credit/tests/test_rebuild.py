"""A profile can be counted again, folded, and looked at as it was, on the real store; what was damaged is found."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from danbao.credit.v1 import credit_pb2
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_credit.application.record_events import NewEvent
from danbao_credit.domain.profile import Change, Profile
from danbao_credit.testing.reports import BUYER, PARTNER, SELLER, record, review, reviews, stored
from danbao_credit.testing.stories import START, SYSTEM, TradeStory, good_trade, payments_event
from danbao_credit.workers.sampling import SamplingAuditor
from danbao_kit.testing.service import as_caller

OPERATOR = as_caller(subject="subjects/ops", roles="operator")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def lived_through(credit: Any, *, days: int = 40) -> int:
    """Streams, reports, late ones, duplicates, reversals; and parked ones. How many subjects that makes."""
    dice = random.Random(8)
    stories = [
        good_trade(str(n), START + n * DAY, buyer=f"subjects/b{dice.randrange(6)}", seller=f"subjects/s{n % 3}")
        for n in range(days)
    ]
    stories.append(TradeStory("x", seller="subjects/s0").paid(START).refunded(START + 11 * DAY, by=SYSTEM))
    events = [event for story in stories for event in story.events]
    dice.shuffle(events)  # so that most of them are late
    credit.streams.escrow.add(events)
    credit.streams.payments.add(
        [payments_event("top_up_succeeded", START + n * HOUR, subject=f"subjects/b{n % 6}") for n in range(30)]
    )
    told = reviews(60)
    for part in (told[:40], told[20:], [*told[::-1]], [NewEvent(f"u{n}", reverses=f"r{n}") for n in range(0, 60, 7)]):
        await record(credit, *part)
    await credit.caught_up("escrow", len(events))
    await credit.caught_up("payments", 30)
    return (await stored(credit, "SELECT count(*) FROM subjects"))[0]["count"]


async def profiles(credit: Any) -> dict[str, bytes]:
    rows = await stored(credit, "SELECT subject, profile FROM subjects")
    return {row["subject"]: row["profile"] for row in rows}


async def rebuild(credit: Any, subject: str, request_id: str = "r1", **others: Any) -> Any:
    request = credit_pb2.RebuildProfileRequest(request_id=request_id, subject=subject, **others)
    return await credit.stub().RebuildProfile(request, timeout=10, metadata=OPERATOR)


async def damage(credit: Any, subject: str) -> bytes:
    """Adds one to one number of a profile, behind the service's back."""
    connection = await asyncpg.connect(credit.database.dsn)
    try:
        data = await connection.fetchval("SELECT profile FROM subjects WHERE subject = $1", subject)
        wrong = Profile.from_bytes(data)
        values = wrong.values.copy()
        values[0] += 1
        await connection.execute(
            "UPDATE subjects SET profile = $2 WHERE subject = $1", subject, Profile(wrong.keys, values).to_bytes()
        )
        return data
    finally:
        await connection.close()


def environment(credit: Any) -> dict[str, str]:
    return os.environ | {"DANBAO_DATABASE_DSN": credit.settings.database_dsn, "DANBAO_CLOCK": credit.settings.clock}


def command_line(credit: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "danbao_credit", *arguments],
        env=environment(credit),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_counting_again_gives_the_same_bytes_as_living_through_it(credit) -> None:
    subjects = await lived_through(credit)
    before = await profiles(credit)
    assert len(before) == subjects > 20
    for number, subject in enumerate(before):
        answer = await rebuild(credit, subject, f"r{number}")
        assert (answer.same, answer.entries_differing) == (True, 0), subject
        assert answer.entries == len(Profile.from_bytes(before[subject]).keys)
        assert not answer.HasField("checkpoint_time")
    assert await profiles(credit) == before


async def test_a_damaged_profile_is_found_and_mended(credit) -> None:
    await lived_through(credit)
    right = await damage(credit, "subjects/s1")
    looked = await rebuild(credit, "subjects/s1", validate_only=True)
    assert (looked.same, looked.entries_differing) == (False, 1)
    assert (await profiles(credit))["subjects/s1"] != right, "nothing was changed by looking"
    mended = await rebuild(credit, "subjects/s1")
    assert (mended.same, mended.entries_differing) == (False, 1)
    assert (await profiles(credit))["subjects/s1"] == right
    # The same request is answered as it was; another finds nothing wrong.
    assert await rebuild(credit, "subjects/s1") == mended
    assert (await rebuild(credit, "subjects/s1", "r2")).same
    with pytest.raises(grpc.aio.AioRpcError) as reused:
        await rebuild(credit, "subjects/s2")
    assert reused.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_events_that_come_in_while_profiles_are_counted_again_are_in_them(credit) -> None:
    events = [event for n in range(30) for event in good_trade(str(n), START + n * HOUR).events]
    credit.streams.escrow.chunk = 3

    async def rebuild_again_and_again() -> None:
        for number in range(25):
            assert (await rebuild(credit, SELLER, f"r{number}")).same

    credit.streams.escrow.add(events)
    await asyncio.gather(rebuild_again_and_again(), credit.caught_up("escrow", len(events)))
    assert (await rebuild(credit, SELLER, "last")).same


async def test_folding_leaves_every_profile_as_it_was_and_the_old_rows_gone(make_credit) -> None:
    credit = await make_credit(clock="test", keep_log_days=30, fold_every_s=0.1)
    await lived_through(credit)
    before = await profiles(credit)
    rows = (await stored(credit, "SELECT count(*) FROM event_log"))[0]["count"]
    clock = clock_pb2_grpc.ClockServiceStub(credit.channel_as("operator"))
    bound = START + 20 * DAY
    request = clock_pb2.AdvanceClockRequest()
    request.to.FromDatetime(bound + 30 * DAY)
    if (await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.ToDatetime(UTC) < bound + 30 * DAY:
        await clock.AdvanceClock(request, timeout=5)
    async with asyncio.timeout(20):
        while await old_rows(credit, clock):
            await asyncio.sleep(0.05)
    left = (await stored(credit, "SELECT count(*) FROM event_log"))[0]["count"]
    assert left < rows
    assert await profiles(credit) == before
    assert command_line(credit, "audit").returncode == 0
    # What is late for the checkpoint is counted, kept and folded like anything else.
    await record(credit, review("very-late", START - 100 * DAY, subject="subjects/s0"))
    assert (await rebuild(credit, "subjects/s0")).same
    async with asyncio.timeout(20):
        while await old_rows(credit, clock):
            await asyncio.sleep(0.05)
    answer = await rebuild(credit, "subjects/s0", "again")
    assert answer.same
    assert answer.HasField("checkpoint_time")


async def old_rows(credit: Any, clock: Any) -> int:
    now = (await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.ToDatetime(UTC)
    before = int((now - 30 * DAY).timestamp()) * 1_000_000
    return (await stored(credit, f"SELECT count(*) FROM event_log WHERE at_us < {before}"))[0]["count"]


async def test_the_audit_names_every_profile_that_is_not_what_is_kept(credit, judge) -> None:
    subjects = await lived_through(credit)
    clean = await asyncio.to_thread(command_line, credit, "audit")
    assert (clean.returncode, clean.stdout.strip()) == (0, f"{subjects} subjects, 0 violations")
    await damage(credit, "subjects/s1")
    await damage(credit, "subjects/b2")
    found = await asyncio.to_thread(command_line, credit, "audit")
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["subjects/b2", "subjects/s1"]
    assert lines[2] == f"{subjects} subjects, 2 violations"
    # The service's own sampling finds them too.
    from danbao_credit.store.queries import CreditQueries
    from danbao_kit.database import Database

    database = Database(credit.database.dsn)
    auditor = SamplingAuditor(CreditQueries(database), judge.catalogue, every_s=1, dice=random.Random(1))
    sampled = {violation.subject for _ in range(30) for violation in (await auditor.look()).violations}
    await database.close()
    assert sampled == {"subjects/b2", "subjects/s1"}


async def test_all_profiles_are_counted_again_by_the_command_line_and_it_goes_on_where_it_was_ended(credit) -> None:
    subjects = await lived_through(credit)
    before = await profiles(credit)
    for subject in ("subjects/b1", "subjects/s1", "subjects/s2"):
        await damage(credit, subject)
    after = await asyncio.to_thread(command_line, credit, "rebuild", "--after", "subjects/s1")
    assert after.returncode == 0, after.stderr
    now = await profiles(credit)
    assert {subject for subject in before if now[subject] != before[subject]} == {"subjects/b1", "subjects/s1"}
    whole = await asyncio.to_thread(command_line, credit, "rebuild")
    assert whole.returncode == 0, whole.stderr
    assert f"{subjects} subjects, 2 changed" in whole.stdout
    assert await profiles(credit) == before


async def test_a_newer_catalogue_fills_its_new_slots_from_the_past(credit) -> None:
    """What an older catalogue did not count is in the log all the same."""
    events = good_trade("1").events
    credit.streams.escrow.add(events)
    await credit.caught_up("escrow", len(events))
    connection = await asyncpg.connect(credit.database.dsn)
    # As an older version would have left it: nothing counted but that something happened.
    older = Profile.empty().with_changes([(0, Change(1, "first", 1))])
    await connection.execute("UPDATE subjects SET profile = $1", older.to_bytes())
    await connection.close()
    answer = await rebuild(credit, SELLER)
    assert not answer.same
    profile = await credit.stub().GetProfile(credit_pb2.GetProfileRequest(subject=SELLER), timeout=5)
    totals = {slot.name: slot.totals.get("life", 0) for slot in profile.slots}
    assert totals["seller_orders_paid"] == totals["seller_orders_completed"] == 1


def as_of(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


async def test_a_profile_as_of_a_moment_is_what_it_was_then(credit) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    begin = now - 20 * HOUR
    stories = [good_trade(f"old{n}", now - 90 * DAY + n * HOUR) for n in range(5)]
    stories.append(TradeStory("new", at=begin).paid(begin + HOUR).shipped(begin + 5 * HOUR))
    events = [event for story in stories for event in story.events]
    credit.streams.escrow.add(events[:-1])
    await credit.caught_up("escrow", len(events) - 1)
    stub = credit.stub()
    moment = begin + 6 * HOUR

    async def seen(at: datetime | None) -> tuple[Any, dict[str, float], dict[str, int]]:
        when = {} if at is None else {"as_of": as_of(at)}
        evaluation = await stub.Evaluate(credit_pb2.EvaluateRequest(subject=SELLER, **when), timeout=5)
        values = await stub.ListIndicatorValues(
            credit_pb2.ListIndicatorValuesRequest(subject=SELLER, **when), timeout=5
        )
        profile = await stub.GetProfile(credit_pb2.GetProfileRequest(subject=SELLER, **when), timeout=5)
        if at is not None:
            assert {message.as_of.ToDatetime(UTC) for message in (evaluation, values, profile)} == {at}
        totals = {slot.name: slot.totals.get("life", 0) for slot in profile.slots}
        return evaluation, {item.name: item.value for item in values.values}, totals

    before_payment, then = await seen(begin + HOUR / 2), await seen(moment)
    assert (before_payment[1]["orders_paid_24h"], then[1]["orders_paid_24h"]) == (0, 1)
    assert (before_payment[2]["seller_orders_paid"], then[2]["seller_orders_paid"]) == (5, 6)
    assert then[1]["orders_paid_24h"] == (await seen(None))[1]["orders_paid_24h"]
    # Later events change nothing of it.
    later = good_trade("later", now - 10 * HOUR).events[:2]
    credit.streams.escrow.add(later)
    await credit.caught_up("escrow", len(events) + 1)
    again = await seen(moment)
    assert again[1:] == then[1:]
    assert (again[0].score, again[0].sub_scores, again[0].reasons) == (
        then[0].score,
        then[0].sub_scores,
        then[0].reasons,
    )
    # A late one does: it had happened by then.
    credit.streams.escrow.add(events[-1:])
    await credit.caught_up("escrow", len(events) + 2)
    assert (await seen(moment))[2]["seller_orders_shipped"] == then[2]["seller_orders_shipped"] + 1


@pytest.mark.parametrize("method", ["Evaluate", "ListIndicatorValues", "GetProfile"])
@pytest.mark.parametrize(
    "moment",
    [{"nanos": 10**9}, {"nanos": -1}, {"seconds": -1}, {"seconds": 2**62}, {"seconds": -(2**63)}, {"seconds": 10**11}],
    ids=str,
)
async def test_a_moment_that_is_none_is_refused(shared_credit, method: str, moment: dict[str, int]) -> None:
    request = getattr(credit_pb2, f"{method}Request")(subject=SELLER, as_of=moment)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(shared_credit.stub(), method)(request, timeout=5, metadata=OPERATOR)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "as_of" in (refused.value.details() or "")


@pytest.mark.parametrize("method", ["Evaluate", "ListIndicatorValues", "GetProfile"])
async def test_how_far_back_who_may_look(credit, method: str) -> None:
    stub = credit.stub()
    request = getattr(credit_pb2, f"{method}Request")

    async def refusal(moment: datetime, caller: Any = PARTNER) -> tuple[str, str] | None:
        try:
            await getattr(stub, method)(request(subject=SELLER, as_of=as_of(moment)), timeout=5, metadata=caller)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        return None

    now = datetime.now(UTC)
    assert await refusal(now - 23 * HOUR) is None
    assert await refusal(now - 400 * DAY, OPERATOR) is None
    assert (await refusal(now - 25 * HOUR))[0] == "PERMISSION_DENIED"
    assert (await refusal(now + HOUR, OPERATOR))[0] == "INVALID_ARGUMENT"
    assert (await refusal(datetime(1960, 1, 1, tzinfo=UTC), OPERATOR))[0] == "INVALID_ARGUMENT"
    connection = await asyncpg.connect(credit.database.dsn)
    folded = int((now - 10 * DAY).timestamp()) * 1_000_000
    await connection.execute("INSERT INTO checkpoints VALUES ($1, $2, $3)", SELLER, Profile.empty().to_bytes(), folded)
    await connection.close()
    code, words = await refusal(now - 11 * DAY, OPERATOR)
    assert code == "OUT_OF_RANGE"
    assert datetime.fromtimestamp(folded / 1_000_000, UTC).isoformat()[:19] in words
    assert await refusal(datetime.fromtimestamp(folded / 1_000_000, UTC), OPERATOR) is None


async def test_a_profile_shows_what_is_counted(credit) -> None:
    credit.streams.escrow.add(good_trade("1").events)
    await credit.caught_up("escrow", 5)
    answer = await credit.stub().GetProfile(credit_pb2.GetProfileRequest(subject=SELLER), timeout=5)
    slots = {slot.name: slot for slot in answer.slots}
    assert slots["seller_orders_paid"].totals["life"] == 1
    assert slots["first_sale"].mark_time.ToDatetime(UTC) == START + HOUR / 6
    assert [slot.id for slot in answer.slots] == sorted(slot.id for slot in answer.slots)
    assert (answer.kept_events, answer.newest_event_time.ToDatetime(UTC)) == (5, START + 80 * HOUR)
    assert any(slot.currency == "CNY" for slot in answer.slots)
    nobody = await credit.stub().GetProfile(credit_pb2.GetProfileRequest(subject="subjects/nobody"), timeout=5)
    assert (len(nobody.slots), nobody.entries, nobody.kept_events) == (0, 0, 0)
    assert not nobody.HasField("newest_event_time")


async def test_a_thousand_are_evaluated_in_order_and_as_one_by_one(credit) -> None:
    credit.streams.escrow.add(good_trade("1").events)
    await credit.caught_up("escrow", 5)
    wanted = [
        credit_pb2.EvaluateRequest(subject=(SELLER, BUYER, f"subjects/{n}")[n % 3], kind=n % 2) for n in range(1000)
    ]
    stub = credit.stub()
    answer = await stub.BatchEvaluate(credit_pb2.BatchEvaluateRequest(requests=wanted), timeout=20)
    assert [each.subject for each in answer.evaluations] == [each.subject for each in wanted]
    for position in (0, 1, 2, 3, 4, 5):
        alone = await stub.Evaluate(wanted[position], timeout=5)
        alone.ClearField("as_of")
        answer.evaluations[position].ClearField("as_of")
        assert answer.evaluations[position] == alone


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("BatchEvaluate", credit_pb2.BatchEvaluateRequest(), "requests"),
        (
            "BatchEvaluate",
            credit_pb2.BatchEvaluateRequest(requests=[credit_pb2.EvaluateRequest(subject=SELLER)] * 1001),
            "requests",
        ),
        (
            "BatchEvaluate",
            credit_pb2.BatchEvaluateRequest(requests=[credit_pb2.EvaluateRequest(subject="x")]),
            "requests[0].subject",
        ),
        (
            "BatchEvaluate",
            credit_pb2.BatchEvaluateRequest(requests=[credit_pb2.EvaluateRequest(subject=SELLER, as_of=as_of(START))]),
            "requests",
        ),
        ("GetProfile", credit_pb2.GetProfileRequest(subject="seller"), "subject"),
        ("RebuildProfile", credit_pb2.RebuildProfileRequest(subject=SELLER), "request_id"),
        ("RebuildProfile", credit_pb2.RebuildProfileRequest(request_id="r" * 65, subject=SELLER), "request_id"),
        ("RebuildProfile", credit_pb2.RebuildProfileRequest(request_id="r", subject="x"), "subject"),
    ],
)
async def test_bad_requests_are_refused_with_their_field(shared_credit, method: str, request_: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(shared_credit.stub(), method)(request_, timeout=5, metadata=OPERATOR)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.value.details() or "").startswith(field)
