"""What stands about a subject, as callers meet it: blocked, capped, frozen, and free again, on the real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from danbao.credit.v1 import credit_pb2
from danbao.escrow.v1 import claim_pb2
from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.decide import decide
from danbao_credit.application.marking import Reversal, end_mark, reversal_of
from danbao_credit.application.record_events import NewEvent
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.marks import Mark, MarkKey, MarkKind
from danbao_credit.rpc.codec import CreditCodec
from danbao_credit.store.credit_store import CreditStore
from danbao_credit.store.score_queries import ScoreQueries
from danbao_credit.testing import SYSTEM, TradeStory, good_trade
from danbao_credit.testing_reports import record
from danbao_kit.clock import RealClock
from danbao_kit.database import Database
from danbao_kit.decision import Moment
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.ids import TimeOrderedIds
from danbao_kit.testing.service import as_caller

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SELLER, BUYER = "subjects/seller", "subjects/buyer"
CLAIM = "claims/00000000-0000-4000-8000-000000000001"
OPERATOR = as_caller(subject="subjects/ops", roles="operator")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


def claim_event(
    kind: str, at: datetime, *, finding: int = claim_pb2.FINDING_FRAUD, traceparent: str = TRACEPARENT
) -> escrow_event_pb2.Event:
    """What escrow tells of a claim of 10.00 CNY."""
    event = escrow_event_pb2.Event(traceparent=traceparent, amount_minor=1000)
    event.create_time.FromDatetime(at)
    event.actor.role = 4  # type: ignore[assignment]
    claim = getattr(event, kind)
    claim.name, claim.trade, claim.buyer, claim.seller, claim.currency = CLAIM, "trades/t1", BUYER, SELLER, "CNY"
    claim.amount_minor = claim.compensated_minor = 1000
    claim.finding = finding
    claim.create_time.FromDatetime(at - HOUR)
    return event


def good_history(trades: int = 30) -> list[Any]:
    return [event for n in range(trades) for event in good_trade(f"t{n}", ago(days=40 - n)).events]


async def told(credit: Any, events: list[Any]) -> None:
    """Escrow tells these, and credit has read them."""
    credit.streams.escrow.add(events)
    await credit.caught_up("escrow", len(credit.streams.escrow.events))


async def evaluation(credit: Any, subject: str = SELLER, **fields: Any) -> credit_pb2.Evaluation:
    request = credit_pb2.EvaluateRequest(subject=subject, kind=credit_pb2.SUBJECT_KIND_MERCHANT, **fields)
    found: credit_pb2.Evaluation = await credit.stub().Evaluate(request, timeout=5)
    assert found.score == found.base_points + sum(s.points for s in found.sub_scores) + sum(
        a.points for a in found.adjustments
    )
    return found


async def terms(credit: Any, subject: str = SELLER, counterparty: str = "") -> credit_pb2.TradeTerms:
    request = credit_pb2.GetTermsRequest(subject=subject, currency="CNY", counterparty=counterparty)
    found: credit_pb2.TradeTerms = await credit.stub().GetTerms(request, timeout=5)
    return found


@dataclass(frozen=True)
class EndForTest:
    """An appeal that was upheld, as another part of the service would decide it."""

    key: MarkKey
    reversal: Reversal | None


def _decide(command: Any, working: CreditSet, moment: Moment) -> object:
    if isinstance(command, EndForTest):
        end_mark(working, moment, command.key, by="appeals/1", reversal=command.reversal)
        return None
    return decide(command, working, moment)


@asynccontextmanager
async def another_writer(credit: Any) -> AsyncIterator[tuple[GroupCommit, ScoreQueries]]:
    """A second replica's write path on the same database."""
    database = Database(credit.database.dsn)
    group_commit = GroupCommit(database, CreditStore(), _decide, CreditCodec(), RealClock(), TimeOrderedIds())
    group_commit.start()
    try:
        yield group_commit, ScoreQueries(database)
    finally:
        await group_commit.stop()
        await database.close()


async def upheld(credit: Any, catalogue: Any, key: MarkKey) -> None:
    """An appeal against fraud is upheld: the mark is annulled, and what its events told is taken back."""
    async with another_writer(credit) as (group_commit, queries):
        reversal = reversal_of(key, await queries.events_of(key), catalogue)
        outcome = await group_commit.submit(Submission(EndForTest(key, reversal), traceparent=TRACEPARENT))
        assert outcome.error is None


async def test_confirmed_fraud_is_350_e_and_blocked_until_an_appeal_is_upheld(credit, catalogue) -> None:
    await told(credit, good_history())
    before = await evaluation(credit)
    assert (before.grade, before.blocked) != ("E", True)
    await told(credit, [claim_event("claim_compensated", ago(minutes=1))])
    after = await evaluation(credit)
    assert (after.score, after.grade, after.blocked) == (350, "E", True)
    assert after.reasons[0].code == "FRAUD_CONFIRMED"
    assert after.adjustments[0].code == "FRAUD_CONFIRMED"
    assert len(after.reasons) <= 4
    own = await terms(credit)
    assert (own.blocked, own.grade, own.member) == (True, "E", False)
    other = await terms(credit, "subjects/other", counterparty=SELLER)
    assert (other.blocked, other.counterparty_blocked) == (False, True)
    assert not (await terms(credit, "subjects/other", counterparty=BUYER)).counterparty_blocked
    key = MarkKey(SELLER, MarkKind.FRAUD, CLAIM)
    await upheld(credit, catalogue, key)
    again = await evaluation(credit)
    # To the point: everything but the moment and how far the streams were read is as it was.
    for message in (before, again):
        message.ClearField("as_of")
        message.ClearField("escrow_sequence")
    assert again == before
    assert not (await terms(credit)).blocked
    await upheld(credit, catalogue, key)
    twice = await evaluation(credit)
    assert (twice.score, list(twice.sub_scores)) == (before.score, list(before.sub_scores)), "taken back once"


async def test_a_goodwill_is_a_defect_but_no_fraud(credit) -> None:
    await told(credit, good_history())
    await told(credit, [claim_event("claim_compensated", ago(minutes=1), finding=claim_pb2.FINDING_NOT_FRAUD)])
    found = await evaluation(credit)
    assert not found.blocked
    assert found.score > 350
    request = credit_pb2.ListIndicatorValuesRequest(subject=SELLER, kind=credit_pb2.SUBJECT_KIND_MERCHANT)
    values = {value.name: value.value for value in (await credit.stub().ListIndicatorValues(request, timeout=5)).values}
    assert values["defective_orders_60d"] == 1


@pytest.mark.parametrize(("hours", "most"), [(71, None), (73, 549)])
async def test_an_award_unpaid_for_more_than_72_hours_caps_the_score(credit, hours, most) -> None:
    await told(credit, good_history())
    before = await evaluation(credit)
    assert before.score > 549
    await told(credit, [claim_event("claim_payment_refused", ago(hours=hours))])
    found = await evaluation(credit)
    assert found.score == (before.score if most is None else most)
    assert not found.blocked
    if most is not None:
        assert found.adjustments[0].code == found.reasons[0].code == "PROMISE_UNPAID"
        assert "73 hours" in found.adjustments[0].text
        # What stood then: a moment before the time was up nothing bound, and nothing did before it was told.
        then = await evaluation(credit, as_of=_stamp(ago(hours=2)))
        assert then.score > 549
    await told(credit, [claim_event("claim_rejected", ago(minutes=1))])
    assert (await evaluation(credit)).score > 549


async def test_a_mark_counts_from_when_it_began_and_not_before(credit) -> None:
    await told(credit, good_history())
    await told(credit, [claim_event("claim_compensated", ago(hours=2))])
    assert (await evaluation(credit)).score == 350
    then = await evaluation(credit, as_of=_stamp(ago(hours=3)))
    assert not then.blocked
    assert then.score > 350
    assert (await evaluation(credit, as_of=_stamp(ago(hours=1)))).blocked


async def test_marks_are_kept_with_the_trace_of_their_cause(credit) -> None:
    await told(credit, [*good_history(2), claim_event("claim_compensated", ago(minutes=1))])
    async with another_writer(credit) as (_, queries):
        (found,) = await queries.scorable([SELLER])
    marks: dict[MarkKind, Mark] = {mark.kind: mark for mark in found.marks}
    begin = marks[MarkKind.FRAUD].begin
    assert begin is not None
    assert (begin.by, begin.traceparent) == ("escrow.claim_compensated", TRACEPARENT)
    assert marks[MarkKind.PROMISE_UNPAID].begin is None


async def test_events_told_twice_turn_a_mark_once(credit) -> None:
    """The same event under two sequences, as a sender restored from a backup might tell it, and after a restart."""
    fraud = claim_event("claim_compensated", ago(minutes=1))
    await told(credit, [*good_history(2), fraud, fraud])
    await credit.stop()
    await credit.start()
    await told(credit, [fraud])
    async with another_writer(credit) as (_, queries):
        (found,) = await queries.scorable([SELLER])
    frauds = [mark for mark in found.marks if mark.kind is MarkKind.FRAUD]
    assert [len(mark.begins) for mark in frauds] == [1]


async def test_a_suspected_takeover_freezes_terms_and_not_the_score(credit) -> None:
    await told(credit, good_history(60))
    await scored(credit, SELLER)
    before = await terms(credit)
    suspected = NewEvent("s1", kind="takeover_suspected", subject=SELLER, at_us=microseconds(ago(minutes=5)))
    await record(credit, suspected)
    await told(credit, [event for n in range(100, 104) for event in _abandoned(f"bad{n}")])
    frozen, score = await terms(credit), await evaluation(credit)
    assert not before.payout_by_operator
    assert (frozen.frozen, frozen.payout_by_operator) == (True, True)
    assert frozen.grade == before.grade
    assert frozen.per_trade_limit_minor == before.per_trade_limit_minor
    assert score.score < before.score, "the score moves on"
    assert frozen.score == score.score
    cleared = NewEvent("s2", kind="takeover_cleared", subject=SELLER, at_us=microseconds(ago(minutes=1)))
    await record(credit, cleared, caller=OPERATOR)
    free = await terms(credit)
    assert (free.frozen, free.grade) == (False, score.grade)


async def scored(credit: Any, subject: str) -> credit_pb2.ScoreChange:
    """The newest score in the subject's history, once there is one that knows all that was told."""
    async with asyncio.timeout(20):
        while True:
            request = credit_pb2.ListScoreHistoryRequest(subject=subject, kind=credit_pb2.SUBJECT_KIND_MERCHANT)
            found = (await credit.stub().ListScoreHistory(request, timeout=5)).changes
            now = await evaluation(credit, subject)
            if found and (found[0].score, found[0].blocked) == (now.score, now.blocked):
                change: credit_pb2.ScoreChange = found[0]
                return change
            await asyncio.sleep(0.02)


def _abandoned(name: str) -> list[Any]:
    """A trade that was paid and never shipped, and given back after ship-by."""
    at = ago(days=12)
    story = TradeStory(name, at=at).paid(at + HOUR).refunded(at + 11 * DAY, by=SYSTEM)
    return list(story.events)


def _stamp(moment: datetime) -> Any:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
