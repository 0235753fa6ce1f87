"""Scores as they were, as they change, as they would be: recorded once whoever evaluates them, found after a crash."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc, event_pb2, event_pb2_grpc
from danbao_credit.application.record_events import NewEvent
from danbao_credit.application.record_scores import RecordScores, Scored
from danbao_credit.application.working_set import Touched
from danbao_credit.testing.reports import record, stored
from danbao_credit.testing.standing import (
    BUYER,
    SELLER,
    TRACE,
    TRACEPARENT,
    ago,
    another_writer,
    claim_event,
    evaluation,
    good_history,
    refusal,
    scored,
    told,
    upheld,
)
from danbao_credit.testing.stories import good_trade
from danbao_credit.workers.scorer import LOOK_AGAIN, Scorer, scores_of
from danbao_kit.clock import RealClock
from danbao_kit.group_commit import Submission
from danbao_kit.testing.service import as_caller, channel_as

MERCHANT, INDIVIDUAL = credit_pb2.SUBJECT_KIND_MERCHANT, credit_pb2.SUBJECT_KIND_INDIVIDUAL
OPERATOR = as_caller(subject="subjects/ops", roles="operator")
PARTNER = as_caller(subject="subjects/shop", roles="partner", partner="shop")


class Watcher:
    """Somebody who watches, and keeps what came with the cursor of each message."""

    def __init__(
        self,
        credit: Any,
        subjects: list[str],
        *,
        cursor: str = "",
        purpose: str = "",
        caller: Any = PARTNER,
        stub: Any = None,
    ) -> None:
        request = credit_pb2.WatchScoresRequest(subjects=subjects, cursor=cursor, purpose=purpose)
        self.call = (stub or credit.stub()).WatchScores(request, metadata=caller)
        self.changes: list[credit_pb2.ScoreChange] = []
        self.cursors: list[str] = []

    async def until(self, wanted: Any) -> credit_pb2.ScoreChange:
        """The first change that is wanted, of those that come from now on."""
        async with asyncio.timeout(30):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF
                self.changes += message.changes
                self.cursors.append(message.cursor)
                for change in message.changes:
                    if wanted(change):
                        return change


async def history(credit: Any, subject: str = SELLER, **fields: Any) -> credit_pb2.ListScoreHistoryResponse:
    request = credit_pb2.ListScoreHistoryRequest(subject=subject, **fields)
    found: credit_pb2.ListScoreHistoryResponse = await credit.stub().ListScoreHistory(request, timeout=5)
    return found


async def test_a_watcher_is_told_of_fraud_and_of_the_appeal_that_was_upheld(credit) -> None:
    await told(credit, good_history())
    before = await scored(credit, SELLER)
    watcher = Watcher(credit, [SELLER])
    await told(credit, [claim_event("claim_compensated", ago(minutes=1))])
    blocked = await watcher.until(lambda change: change.blocked)
    assert (blocked.score, blocked.grade, blocked.reason_codes[0]) == (350, "E", "FRAUD_CONFIRMED")
    assert (blocked.previous_score, blocked.previous_grade, blocked.previously_blocked) == (
        before.score,
        before.grade,
        False,
    )
    assert blocked.trace_id == TRACE
    await upheld(credit)
    free = await watcher.until(lambda change: not change.blocked)
    assert (free.score, free.grade, free.previously_blocked) == (before.score, before.grade, True)
    recorded = (await history(credit, kind=MERCHANT)).changes
    assert [change.blocked for change in recorded[:3]] == [False, True, False]
    assert [change.score for change in recorded[:3]] == [before.score, 350, before.score]


async def test_watching_goes_on_from_any_cursor_and_misses_nothing(credit) -> None:
    for trades in range(1, 7):
        await told(credit, good_trade(f"w{trades}", ago(days=30 - trades)).events)
        await scored(credit, SELLER)
    recorded = [change.create_time.ToNanoseconds() for change in reversed((await history(credit)).changes)]
    whole = Watcher(credit, [SELLER])
    await whole.until(lambda change: change.create_time.ToNanoseconds() == recorded[-1])
    assert [change.create_time.ToNanoseconds() for change in whole.changes] == recorded
    for cursor in whole.cursors[:-1]:
        rest = Watcher(credit, [SELLER], cursor=cursor)
        await rest.until(lambda change: change.create_time.ToNanoseconds() == recorded[-1])
    both = Watcher(credit, [], caller=OPERATOR)
    await both.until(lambda change: change.subject == BUYER)
    assert {change.subject for change in both.changes} <= {SELLER, BUYER}


async def test_a_watch_by_consent_ends_before_it_tells_what_is_no_longer_allowed(credit, ask) -> None:
    himself = ask(credit, {"subject": SELLER.removeprefix("subjects/"), "roles": "user"})
    refused = await refusal(Watcher(credit, [SELLER], purpose="lending").until(lambda _: True))
    assert refused[:2] == ("PERMISSION_DENIED", "CONSENT_MISSING")
    granted = await himself.rights("GrantConsent", subject=SELLER, purpose="lending", partner="shop")
    watcher = Watcher(credit, [SELLER], purpose="lending")
    await told(credit, good_trade("l1", ago(days=9)).events)
    await scored(credit, SELLER)
    await watcher.until(lambda change: change.subject == SELLER)
    await himself.rights("RevokeConsent", name=granted.name)
    await told(credit, [claim_event("claim_compensated", ago(minutes=1))])
    seen = len(watcher.changes)
    ended = await refusal(watcher.until(lambda _: False))
    assert ended[:2] == ("PERMISSION_DENIED", "CONSENT_MISSING")
    assert len(watcher.changes) == seen
    read = await credit.rows("SELECT DISTINCT method, purpose, reader FROM score_accesses")
    assert [tuple(row) for row in read] == [("WatchScores", "lending", "partner:shop")]


async def test_a_watch_ends_with_ok_when_the_service_drains(credit) -> None:
    await told(credit, good_trade("d1", ago(days=5)).events)
    # Its own channel: the service's stop in these tests closes the others.
    channel = channel_as("gateway", authority=credit.authority, service="credit", port=credit.port)
    watcher = Watcher(credit, [SELLER], stub=credit_pb2_grpc.CreditServiceStub(channel))
    await watcher.until(lambda change: True)
    stopping = asyncio.create_task(credit.stop())
    async with asyncio.timeout(20):
        while (message := await watcher.call.read()) is not grpc.aio.EOF:
            watcher.changes += message.changes
    assert await watcher.call.code() is grpc.StatusCode.OK
    await stopping
    await channel.close()


async def test_only_operators_watch_everybody_and_only_with_cursors_that_were_given_out(credit) -> None:
    for request, caller, expected in (
        (credit_pb2.WatchScoresRequest(), PARTNER, ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED", [])),
        (
            credit_pb2.WatchScoresRequest(subjects=[SELLER], cursor="abc"),
            PARTNER,
            ("INVALID_ARGUMENT", "CURSOR_INVALID", ["cursor"]),
        ),
        (
            credit_pb2.WatchScoresRequest(subjects=["nobody"]),
            OPERATOR,
            ("INVALID_ARGUMENT", "FIELD_INVALID", ["subjects[0]"]),
        ),
        (
            credit_pb2.WatchScoresRequest(subjects=[f"subjects/{n}" for n in range(101)]),
            OPERATOR,
            ("INVALID_ARGUMENT", "FIELD_INVALID", ["subjects"]),
        ),
        (
            credit_pb2.WatchScoresRequest(subjects=[SELLER, SELLER]),
            OPERATOR,
            ("INVALID_ARGUMENT", "FIELD_INVALID", ["subjects"]),
        ),
    ):
        call = credit.stub().WatchScores(request, metadata=caller)
        assert await refusal(call.read()) == expected


async def test_history_has_each_change_once_newest_first_and_pages_stay_stable(credit) -> None:
    for trades in range(1, 6):
        await told(credit, good_trade(f"h{trades}", ago(days=30 - trades)).events)
        await scored(credit, SELLER)
    whole = (await history(credit)).changes
    moments = [change.create_time.ToNanoseconds() for change in whole]
    assert moments == sorted(moments, reverse=True)
    assert len({(moment, change.kind) for moment, change in zip(moments, whole, strict=True)}) == len(whole)
    for older, newer in zip(whole[1:], whole, strict=False):
        assert (older.score, older.grade) == (newer.previous_score, newer.previous_grade)
        assert (older.score, older.grade, older.blocked) != (newer.score, newer.grade, newer.blocked)
    assert (whole[-1].previous_score, whole[-1].previous_grade) == (0, "")
    paged: list[credit_pb2.ScoreChange] = []
    token = ""
    while True:
        page = await history(credit, page_size=1, page_token=token)
        paged += page.changes
        token = page.next_page_token
        if not token:
            break
    assert paged == list(whole)
    assert not (await history(credit, kind=INDIVIDUAL)).changes, "it never bought"
    assert {change.kind for change in (await history(credit, BUYER)).changes} == {INDIVIDUAL}
    assert not (await history(credit, "subjects/nobody")).changes


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"subject": "x"}, "FIELD_INVALID", "subject"),
        ({"kind": 9}, "FIELD_INVALID", "kind"),
        ({"page_size": -1}, "FIELD_INVALID", "page_size"),
        ({"page_size": 1001}, "FIELD_INVALID", "page_size"),
        ({"page_token": "t" * 513}, "FIELD_INVALID", "page_token"),
        ({"page_token": "abc"}, "PAGE_TOKEN_INVALID", "page_token"),
    ],
)
async def test_bad_questions_about_history_are_refused(shared_credit, fields, reason, field) -> None:
    request = credit_pb2.ListScoreHistoryRequest(**{"subject": SELLER, **fields})
    refused = await refusal(shared_credit.stub().ListScoreHistory(request, timeout=5))
    assert refused == ("INVALID_ARGUMENT", reason, [field])


async def test_credits_own_events_tell_each_change_with_its_trace(credit) -> None:
    await told(credit, [*good_history(3), claim_event("claim_compensated", ago(minutes=1))])
    blocked = await scored(credit, SELLER)
    stub = event_pb2_grpc.EventServiceStub(credit.channel_as("operator"))
    head = await stub.GetStreamHead(event_pb2.GetStreamHeadRequest(), timeout=5)
    events: list[event_pb2.Event] = []
    call = stub.WatchEvents(event_pb2.WatchEventsRequest(kinds=["score_changed"]))
    async with asyncio.timeout(20):
        while not events or events[-1].sequence < head.cursor.sequence:
            events += (await call.read()).events
    call.cancel()
    assert [event.sequence for event in events] == list(range(1, head.cursor.sequence + 1))
    last = next(event for event in reversed(events) if event.score_changed.blocked)
    assert last.score_changed == blocked
    assert last.traceparent == TRACEPARENT
    partner = event_pb2_grpc.EventServiceStub(credit.channel_as("stranger"))
    refused = await refusal(partner.GetStreamHead(event_pb2.GetStreamHeadRequest(), timeout=5))
    assert refused[1] == "PEER_NOT_ALLOWED"


async def test_two_replicas_that_score_the_same_record_it_once_and_the_newer_stays(credit, judge) -> None:
    await told(credit, good_history(8))
    await scored(credit, SELLER)
    async with another_writer(credit) as (group_commit, queries):
        (found,) = await queries.scorable([SELLER])
        count = len((await history(credit)).changes)
        now, touch = ago(), Touched("", urgent=False)
        (same,) = scores_of(found, judge=judge, now=now, touch=touch)
        (older,) = scores_of(found, judge=judge, now=now - timedelta(days=20), touch=touch)
        stale = Scored(replace(older.score, profile_version=found.version - 1, as_of=now + timedelta(days=1)))
        gone = Scored(replace(same.score, subject="subjects/erased"))
        for scores in ((same,), (same, older), (stale,), (gone,)):
            outcome = await group_commit.submit(Submission(RecordScores(scores)))
            assert outcome.error is None
    assert len((await history(credit)).changes) == count
    (row,) = await stored(credit, f"SELECT score, as_of FROM scores WHERE subject = '{SELLER}'")
    assert (row["score"], row["as_of"]) == (same.score.score, now)
    assert not await stored(credit, "SELECT FROM scores WHERE subject = 'subjects/erased'")


async def test_scores_that_a_crash_kept_from_being_recorded_are_found_at_the_next_start(credit) -> None:
    await told(credit, good_history(8))
    await scored(credit, SELLER)
    await credit.stop()
    # As if it had died between the commit of the events and the record of the scores.
    await stored(credit, "UPDATE subjects SET version = version + 1 RETURNING subject")
    await stored(credit, f"DELETE FROM scores WHERE subject = '{BUYER}' RETURNING subject")
    await credit.start()
    async with asyncio.timeout(30):
        while await stored(
            credit,
            "SELECT FROM subjects WHERE NOT EXISTS (SELECT FROM scores WHERE scores.subject = subjects.subject"
            " AND profile_version = version)",
        ):
            await asyncio.sleep(0.05)


async def test_a_sweep_that_comes_first_tells_by_whose_request_a_score_moved(credit, judge) -> None:
    await told(credit, good_history(8))
    first = await scored(credit, SELLER)
    await credit.stop()
    await stored(
        credit,
        "UPDATE scores SET score = 600, as_of = as_of - interval '2 days', look_time = look_time - interval '2 days'"
        f" WHERE subject = '{SELLER}' RETURNING subject",
    )
    async with another_writer(credit) as (group_commit, queries):
        scorer = Scorer(lambda: judge, queries, group_commit, RealClock())
        scorer.touch({SELLER: Touched(TRACEPARENT, urgent=True)})
        sweeping = asyncio.create_task(scorer.sweep())
        async with asyncio.timeout(30):
            while not (
                rows := await stored(
                    credit,
                    f"SELECT score, traceparent FROM score_history WHERE previous_score = 600 AND subject = '{SELLER}'",
                )
            ):
                await asyncio.sleep(0.05)
        sweeping.cancel()
    assert [(row["score"], row["traceparent"]) for row in rows] == [(first.score, TRACEPARENT)]


class AllStale:
    """Reads in which three subjects have no score yet, and nobody is due."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def stale_after(self, after, most, model):
        return ["subjects/a", "subjects/b", "subjects/c"], None

    async def scorable(self, subjects):
        self.asked.append(list(subjects))
        return []

    async def due(self, now, most):
        return []


async def test_the_sweep_leaves_out_whoever_waits_for_a_turn_anyway(judge) -> None:
    reads = AllStale()
    scorer = Scorer(lambda: judge, reads, None, RealClock())
    scorer.touch({"subjects/a": Touched("", urgent=False), "subjects/c": Touched("", urgent=True)})
    sweeping = asyncio.create_task(scorer.sweep())
    async with asyncio.timeout(10):
        while not reads.asked:
            await asyncio.sleep(0.01)
    sweeping.cancel()
    assert reads.asked == [["subjects/b"]]


async def test_the_sweep_knows_by_whose_request_they_move_who_are_being_scored(
    judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(lambda: judge, AllStale(), None, RealClock())
    rounds: list[dict[str, str]] = []

    async def under_way(touched):
        rounds.append({subject: touch.traceparent for subject, touch in touched.items()})
        await asyncio.Event().wait()

    monkeypatch.setattr(scorer, "_score", under_way)
    scorer.touch({"subjects/a": Touched(TRACEPARENT, urgent=False)})
    working = []
    async with asyncio.timeout(10):
        for number, work in enumerate((scorer.run, scorer.sweep), 1):
            working.append(asyncio.create_task(work()))
            while len(rounds) < number:
                await asyncio.sleep(0.01)
    for task in working:
        task.cancel()
    swept = {"subjects/a": TRACEPARENT, "subjects/b": "", "subjects/c": ""}
    assert rounds == [{"subjects/a": TRACEPARENT}, swept]


@pytest.mark.parametrize(("waiting", "still_coming", "times"), [(3, True, 45), (3, False, 15), (2, True, 15)])
def test_whoever_cannot_follow_anyway_pauses_for_longer(
    judge, monkeypatch: pytest.MonkeyPatch, waiting: int, still_coming: bool, times: int
) -> None:
    monkeypatch.setattr("danbao_credit.workers.scorer._FAR_BEHIND", 2)
    monkeypatch.setattr("danbao_credit.workers.scorer._STILL_COMING_S", 60.0 if still_coming else 0.0)
    scorer = Scorer(lambda: judge, AllStale(), None, RealClock())
    scorer.touch({f"subjects/{number}": Touched("", urgent=False) for number in range(waiting)})
    assert [scorer.pause_after(1.0), scorer.pause_after(10.0)] == [1.0 * times, 60.0]


async def test_time_alone_moves_a_recorded_score(credit) -> None:
    await told(credit, good_history(8))
    first = await scored(credit, SELLER)
    (row,) = await stored(credit, f"SELECT as_of, look_time FROM scores WHERE subject = '{SELLER}'")
    assert row["look_time"] == row["as_of"] + LOOK_AGAIN
    # A day has gone by, and the score that was recorded was another.
    await stored(
        credit,
        "UPDATE scores SET score = 600, as_of = as_of - interval '2 days', look_time = look_time - interval '2 days'"
        f" WHERE subject = '{SELLER}' RETURNING subject",
    )
    async with asyncio.timeout(30):
        while len(changes := (await history(credit, kind=MERCHANT)).changes) < 2 or changes[0].previous_score != 600:
            await asyncio.sleep(0.05)
    assert (changes[0].score, changes[0].trace_id) == (first.score, "")


async def test_a_promise_that_becomes_too_old_is_looked_at_when_it_does(credit) -> None:
    begun = ago(hours=71)
    await told(credit, [*good_history(8), claim_event("claim_payment_refused", begun)])
    await scored(credit, SELLER)
    (row,) = await stored(credit, f"SELECT look_time FROM scores WHERE subject = '{SELLER}'")
    assert abs(row["look_time"] - (begun + timedelta(hours=72))) <= timedelta(seconds=1)


async def simulated(credit: Any, **fields: Any) -> credit_pb2.SimulateScoreResponse:
    request = credit_pb2.SimulateScoreRequest(**{"subject": SELLER, "kind": MERCHANT, **fields})
    found: credit_pb2.SimulateScoreResponse = await credit.stub().SimulateScore(request, timeout=5)
    return found


async def test_a_simulation_shows_both_scores_and_their_difference_and_changes_nothing(credit) -> None:
    await told(credit, good_history(3))
    await scored(credit, SELLER)
    before = await evaluation(credit)
    rows = await stored(credit, "SELECT (SELECT count(*) FROM event_log), (SELECT sum(version) FROM subjects)")
    facts = [credit_pb2.AssumedFact(slot="seller_orders_completed", amount=20)]
    found = await simulated(credit, facts=facts)
    assert found.before.score == before.score
    assert sum(item.points for item in found.differences) > 0, "20 good trades more"
    assert found.after.score >= found.before.score
    total = sum(item.points for item in found.differences) + found.adjustments_difference
    assert found.after.score - found.before.score == total
    assert [item.category for item in found.differences] == [item.category for item in before.sub_scores]
    worse = await simulated(credit, values=[credit_pb2.AssumedValue(indicator="late_shipment_rate_365d", value=0.5)])
    assert worse.after.score <= worse.before.score
    fulfilment = next(item.points for item in worse.differences if item.category == "fulfilment")
    assert fulfilment < 0
    assert any("late_shipment_rate_365d taken as 0.5" in reason.text for reason in worse.after.reasons)
    missing = await simulated(credit, values=[credit_pb2.AssumedValue(indicator="late_shipment_rate_365d")])
    assert sum(item.points for item in missing.differences) + missing.adjustments_difference == (
        missing.after.score - missing.before.score
    )
    nothing = await simulated(credit)
    assert nothing.after == nothing.before
    again = await evaluation(credit)
    assert (again.score, list(again.sub_scores)) == (before.score, list(before.sub_scores))
    assert rows == await stored(credit, "SELECT (SELECT count(*) FROM event_log), (SELECT sum(version) FROM subjects)")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": "x"}, "subject"),
        ({"kind": 9}, "kind"),
        ({"facts": [{"slot": "no_such_slot", "amount": 1}]}, "facts[0].slot"),
        ({"facts": [{"slot": "", "amount": 1}]}, "facts[0].slot"),
        ({"facts": [{"slot": "first_sale", "amount": 2}]}, "facts[0].amount"),
        ({"facts": [{"slot": "seller_orders_completed", "amount": 10**12 + 1}]}, "facts[0].amount"),
        ({"facts": [{"slot": "seller_orders_completed", "amount": 1, "time": {"seconds": 10**11}}]}, "facts[0].time"),
        ({"facts": [{"slot": "first_sale", "amount": 1, "time": {"seconds": 1, "nanos": 10**9}}]}, "facts[0].time"),
        ({"facts": [{"slot": "first_sale", "amount": 1, "time": {"seconds": 2**62}}]}, "facts[0].time"),
        ({"facts": [{"slot": "first_sale", "amount": 1}] * 101}, "facts"),
        ({"values": [{"indicator": "no_such_indicator"}]}, "values[0].indicator"),
        ({"values": [{"indicator": "sale_age_life", "value": float("nan")}]}, "values[0].value"),
        ({"values": [{"indicator": "sale_age_life"}] * 2}, "values[1].indicator"),
    ],
)
async def test_what_cannot_be_assumed_is_refused(shared_credit, fields, field) -> None:
    request = credit_pb2.SimulateScoreRequest(**{"subject": SELLER, **fields})
    refused = await refusal(shared_credit.stub().SimulateScore(request, timeout=5))
    assert refused == ("INVALID_ARGUMENT", "FIELD_INVALID", [field])


async def test_a_kind_that_a_subject_has_ceased_to_act_as_does_not_hold_up_the_sweep(credit) -> None:
    """Whoever is known before its first sale is scored as an individual, and as a merchant only from then on."""
    at_us = int(ago(days=60).timestamp()) * 1_000_000
    verified = NewEvent("v1", "identity_verified", SELLER, at_us=at_us, measures=(("level", 1),))
    (result,) = await record(credit, verified, caller=OPERATOR)
    assert result.state == credit_pb2.RecordedEvent.STATE_APPLIED
    async with asyncio.timeout(20):
        while not (await history(credit, kind=INDIVIDUAL)).changes:
            await asyncio.sleep(0.02)
    await told(credit, good_history())
    await scored(credit, SELLER)
    assert {row["kind"] for row in await stored(credit, f"SELECT kind FROM scores WHERE subject = '{SELLER}'")} == {
        "individual",
        "merchant",
    }
    await stored(credit, "UPDATE scores SET look_time = '2000-01-01' RETURNING subject")
    async with asyncio.timeout(10):
        while await stored(credit, "SELECT subject FROM scores WHERE look_time < '2001-01-01'"):
            await asyncio.sleep(0.1)


async def test_whoever_finds_no_room_among_those_who_wait_is_found_by_the_sweep(
    credit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(credit, good_history(1))
    await scored(credit, SELLER)
    monkeypatch.setattr("danbao_credit.workers.scorer._MOST_WAITING", 0)
    stranger = "subjects/stranger"
    await told(credit, good_trade("late", ago(days=3), seller=stranger).events)
    await scored(credit, stranger)
