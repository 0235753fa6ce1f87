"""A deployment of the first release is brought to this one, and goes on where it was."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.record_events import NewEvent
from danbao_credit.domain.profile import Profile
from danbao_credit.testing.reports import record
from danbao_credit.testing.standing import BUYER, CLAIM, OPERATOR, SELLER, ago, claim_event, evaluation, upheld
from danbao_credit.testing.stories import good_trade, lived, payments_event
from danbao_kit.migrations import upgrade
from danbao_kit.testing.embedded_postgres import ServiceDatabase

BEFORE, AFTER = 12, 4
# Events of the stories, and a fraud that was confirmed.
READ = 5 * BEFORE + 1


def stories() -> tuple[list[Any], list[Any]]:
    """What the release before has read, and what came later."""
    start = ago(days=60)
    told = [good_trade(f"t{n}", start + timedelta(days=n), seller=SELLER, buyer=BUYER) for n in range(BEFORE + AFTER)]
    fraud: Any = SimpleNamespace(events=[claim_event("claim_compensated", ago(days=45))])
    return [*told[:BEFORE], fraud], told[BEFORE:]


def events_of(told: list[Any]) -> list[Any]:
    return [event for story in told for event in story.events]


async def seeded(
    database: ServiceDatabase, profiles: dict[str, Profile], cursors: dict[str, int], at: datetime
) -> None:
    """The rows that the first release had after it had read that far."""
    connection = await asyncpg.connect(database.dsn)
    try:
        await connection.executemany(
            "INSERT INTO subjects VALUES ($1, $2)", [(name, item.to_bytes()) for name, item in profiles.items()]
        )
        for source, sequence in cursors.items():
            await connection.execute("INSERT INTO reader_cursors VALUES ($1, 0, $2)", source, sequence)
            await connection.execute("INSERT INTO stream_counts VALUES ($1, 0, $2, 0, 0, $3)", source, sequence, at)
        await connection.execute("INSERT INTO parked_events VALUES ('escrow', 3, 'FutureEvent', 'x', $1)", at)
    finally:
        await connection.close()


async def profile_of(credit: Any, subject: str) -> bytes:
    (row,) = await credit.rows("SELECT profile FROM subjects WHERE subject = $1", subject)
    return bytes(row["profile"])


@pytest.fixture
async def upgraded(service_database: Any, make_credit: Any, catalogue: Any) -> tuple[Any, list[Any], list[Any]]:
    """credit of this release on a store of the first, what that had read, and what is not told yet."""
    database, (read, later) = service_database("credit"), stories()
    where = {"package": "danbao_credit", "dsn": database.owner_dsn, "role": database.role}
    await asyncio.to_thread(upgrade, **where, to="0001")
    paid = [payments_event("payment_captured", ago(days=50), subject=BUYER)]
    await seeded(database, lived(catalogue, *read, payments=paid), {"escrow": READ, "payments": 1}, ago(days=40))
    await asyncio.to_thread(upgrade, **where)
    credit = await make_credit(start=False, database=database)
    credit.streams.escrow.add(events_of(read))
    credit.streams.payments.add(paid)
    await credit.start()
    return credit, read, later


async def rebuilt(credit: Any, subject: str, request_id: str) -> credit_pb2.RebuildProfileResponse:
    request = credit_pb2.RebuildProfileRequest(request_id=request_id, subject=subject)
    found: credit_pb2.RebuildProfileResponse = await credit.stub().RebuildProfile(
        request, timeout=10, metadata=OPERATOR
    )
    return found


async def test_it_serves_rebuilds_to_the_same_bytes_and_goes_on_reading(upgraded: Any, catalogue: Any) -> None:
    credit, read, later = upgraded
    paid = credit.streams.payments.events
    old = lived(catalogue, *read, payments=paid)
    status = await credit.caught_up("escrow", READ)
    assert (status.sequence, status.applied, status.parked) == (READ, READ, 0)
    before = await evaluation(credit)
    assert before.score > 0
    for subject in (SELLER, BUYER):
        assert await profile_of(credit, subject) == old[subject].to_bytes()
        answer = await rebuilt(credit, subject, f"{subject} of before")
        assert (answer.same, answer.replayed_events) == (True, 0), "what was lived is its own checkpoint"
        assert await profile_of(credit, subject) == old[subject].to_bytes()

    credit.streams.escrow.add(events_of(later))
    status = await credit.caught_up("escrow", READ + 5 * AFTER)
    assert (status.applied, status.duplicates) == (READ + 5 * AFTER, 0), "it went on after its cursor"
    assert credit.streams.escrow.asked[0] == READ
    new = lived(catalogue, *read, *later, payments=paid)
    for subject in (SELLER, BUYER):
        assert await profile_of(credit, subject) == new[subject].to_bytes()
        answer = await rebuilt(credit, subject, f"{subject} of after")
        assert (answer.same, answer.replayed_events) == (True, 5 * AFTER)


async def test_a_fraud_that_was_read_before_blocks_nobody_until_it_is_told_again(upgraded: Any) -> None:
    """The first release read confirmed fraud as a defect only, and kept no events to read it from again."""
    credit, _, _ = upgraded
    await credit.caught_up("escrow", READ)
    assert not (await evaluation(credit)).blocked
    assert [await credit.count(table) for table in ("marks", "claim_counts", "event_log")] == [0, 0, 0]
    again = NewEvent("f", kind="fraud_confirmed", subject=SELLER, about=CLAIM, at_us=microseconds(ago(days=45)))
    (answer,) = await record(credit, again, caller=OPERATOR)
    assert answer.state == credit_pb2.RecordedEvent.STATE_APPLIED
    assert (await evaluation(credit)).blocked
    # It may be appealed against as any other.
    assert len((await upheld(credit)).reversed_events) == 1
    assert not (await evaluation(credit)).blocked
