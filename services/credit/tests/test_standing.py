"""What stands about a subject, as callers meet it: blocked, capped, frozen, and free again, on the real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from danbao.credit.v1 import credit_pb2
from danbao.escrow.v1 import claim_pb2
from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.record_events import NewEvent
from danbao_credit.domain.marks import Mark, MarkKind
from danbao_credit.testing.reports import record
from danbao_credit.testing.standing import (
    BUYER,
    CLAIM,
    DAY,
    HOUR,
    OPERATOR,
    SELLER,
    TRACEPARENT,
    ago,
    another_writer,
    appealed,
    claim_event,
    evaluation,
    good_history,
    refusal,
    scored,
    stamp,
    terms,
    told,
    upheld,
)
from danbao_credit.testing.stories import SYSTEM, TradeStory
from danbao_kit.testing.service import as_caller


async def test_confirmed_fraud_is_350_e_and_blocked_until_an_appeal_is_upheld(credit) -> None:
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
    decided = await upheld(credit)
    assert decided.target.mark.reference == CLAIM
    assert [event.source for event in decided.reversed_events] == ["escrow"]
    again = await evaluation(credit)
    # To the point: everything but the moment and how far the streams were read is as it was.
    for message in (before, again):
        message.ClearField("as_of")
        message.ClearField("escrow_sequence")
    assert again == before
    assert not (await terms(credit)).blocked
    assert (await refusal(appealed(credit)))[1] == "APPEAL_TARGET_NOT_FOUND", "taken back once"


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
        then = await evaluation(credit, as_of=stamp(ago(hours=2)))
        assert then.score > 549
    await told(credit, [claim_event("claim_rejected", ago(minutes=1))])
    assert (await evaluation(credit)).score > 549


async def test_a_mark_counts_from_when_it_began_and_not_before(credit) -> None:
    await told(credit, good_history())
    await told(credit, [claim_event("claim_compensated", ago(hours=2))])
    assert (await evaluation(credit)).score == 350
    then = await evaluation(credit, as_of=stamp(ago(hours=3)))
    assert not then.blocked
    assert then.score > 350
    assert (await evaluation(credit, as_of=stamp(ago(hours=1)))).blocked


async def test_marks_are_kept_with_the_trace_of_their_cause(credit) -> None:
    await told(credit, [*good_history(2), claim_event("claim_compensated", ago(minutes=1))])
    async with another_writer(credit) as (_, queries):
        (found,) = await queries.scorable([SELLER])
    marks: dict[MarkKind, Mark] = {mark.kind: mark for mark in found.marks}
    begin = marks[MarkKind.FRAUD].begin
    assert begin is not None
    assert (begin.by, begin.traceparent) == ("escrow.claim_compensated", TRACEPARENT)
    assert marks[MarkKind.PROMISE_UNPAID].begin is None


async def test_an_event_told_under_several_sequences_is_several_tellings_of_a_mark_that_stands_once(credit) -> None:
    """A sender restored from a backup might tell it so. A sequence is told once: what was read stays read."""
    fraud = claim_event("claim_compensated", ago(minutes=1))
    await told(credit, [*good_history(2), fraud, fraud])
    await credit.stop()
    await credit.start()
    await told(credit, [fraud])
    async with another_writer(credit) as (_, queries):
        (found,) = await queries.scorable([SELLER])
    frauds = [mark for mark in found.marks if mark.kind is MarkKind.FRAUD]
    assert [[turn.number for turn in mark.begins] for mark in frauds] == [[11, 12, 13]]
    assert [len(mark.runs) for mark in frauds] == [1]


async def test_a_reporter_takes_back_its_own_word_and_no_other_reporters(credit) -> None:
    at = microseconds(ago(hours=2))
    other = as_caller(subject="subjects/ops2", roles="operator")
    for caller in (OPERATOR, other):
        await record(
            credit, NewEvent("f", kind="fraud_confirmed", subject=SELLER, about="claims/9", at_us=at), caller=caller
        )
    await record(credit, NewEvent("back", reverses="f"), caller=OPERATOR)
    assert (await evaluation(credit)).blocked, "the other one's word stands"
    await record(credit, NewEvent("back", reverses="f"), caller=other)
    assert not (await evaluation(credit)).blocked


async def test_an_appeal_lifts_whatever_was_told_of_the_time_that_a_mark_without_a_reference_stood(credit) -> None:
    """Two reporters at the same moment, and one after them; the suspicion of before, which was cleared, stays."""
    await told(credit, good_history(2))
    other = as_caller(subject="subjects/ops2", roles="operator")

    def suspected(name: str, kind: str = "takeover_suspected", *, hours: int) -> NewEvent:
        return NewEvent(name, kind=kind, subject=SELLER, at_us=microseconds(ago(hours=hours)))

    await record(credit, suspected("old", hours=9), suspected("end", "takeover_cleared", hours=8), caller=OPERATOR)
    twice = suspected("new", hours=3)
    for caller in (OPERATOR, other):
        await record(credit, twice, caller=caller)
    await record(credit, suspected("later", hours=1), caller=other)
    assert (await terms(credit)).frozen
    decided = await upheld(credit, "TAKEOVER")
    assert len(decided.reversed_events) == 3
    assert not (await terms(credit)).frozen
    async with another_writer(credit) as (_, queries):
        (found,) = await queries.scorable([SELLER])
    (mark,) = found.marks
    assert [(len(mark.begins), len(mark.ends), len(mark.runs))] == [(1, 1, 1)]


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


def _abandoned(name: str) -> list[Any]:
    """A trade that was paid and never shipped, and given back after ship-by."""
    at = ago(days=12)
    story = TradeStory(name, at=at).paid(at + HOUR).refunded(at + 11 * DAY, by=SYSTEM)
    return list(story.events)


async def test_a_user_sees_the_terms_of_others_and_not_their_score_suspicion_or_block(credit) -> None:
    suspected = NewEvent("s1", kind="takeover_suspected", subject=SELLER, at_us=microseconds(ago(minutes=5)))
    fraud = NewEvent("f1", kind="fraud_confirmed", subject=BUYER, about="claims/1", at_us=microseconds(ago(minutes=5)))
    await record(credit, suspected, fraud, caller=OPERATOR)

    async def shown(who: str, roles: str, partner: str = "") -> tuple[int, bool, bool, str]:
        request = credit_pb2.GetTermsRequest(subject=SELLER, currency="CNY", counterparty=BUYER)
        caller = as_caller(subject=who, roles=roles, **({"partner": partner} if partner else {}))
        found = await credit.stub().GetTerms(request, timeout=5, metadata=caller)
        return found.score, found.frozen, found.counterparty_blocked, found.grade

    assert await shown("somebody", "user") == (0, False, False, "C")
    assert await shown(SELLER.removeprefix("subjects/"), "user") == (620, True, False, "C")
    assert await shown(BUYER.removeprefix("subjects/"), "user") == (0, False, True, "C")
    for roles in ("partner", "operator", "arbiter"):
        assert await shown("somebody", roles, "shop" if roles == "partner" else "") == (620, True, True, "C")
    assert (await terms(credit, counterparty=BUYER)).score == 620, "a service of ours is told all"
