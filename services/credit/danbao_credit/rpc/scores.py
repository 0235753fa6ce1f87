"""Scores as they were, as they change, and as they would be, on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.ports import ChangePosition, CreditReader, RecordedChange, ScoreReader
from danbao_credit.application.score_feed import ScoreFeed
from danbao_credit.application.simulate import AssumedFact, AssumedValue, simulate_score
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.errors import CallerNotAllowed, CursorInvalid
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.scores import ScoreChanged
from danbao_credit.rpc.mapping import KIND_NUMBERS, evaluation_message, kind_of
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.errors import PageTokenInvalid
from danbao_kit.paging import decode_token, encode_token, page_size
from danbao_kit.timestamps import moment_of

_OPERATOR = "operator"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WATCH = "watchScores"


@dataclass(frozen=True, slots=True)
class ScoreCalls:
    """Serves the calls about scores of CreditService."""

    judge: Judge
    reader: CreditReader
    scores: ScoreReader
    feed: ScoreFeed
    clock: Clock

    async def history(self, request: credit_pb2.ListScoreHistoryRequest) -> credit_pb2.ListScoreHistoryResponse:
        kind = kind_of(request.kind)
        scope = f"scoreHistory {request.subject} {kind}"
        before = _position(scope, request.page_token) if request.page_token else None
        most = page_size(request.page_size)
        found = await self.scores.history(request.subject, [kind] if kind else list(SubjectKind), before, most + 1)
        page = found[:most]
        more = _token(scope, page[-1].position) if len(found) > most else ""
        return credit_pb2.ListScoreHistoryResponse(
            changes=[recorded_message(change) for change in page], next_page_token=more
        )

    async def watch(self, request: credit_pb2.WatchScoresRequest) -> AsyncIterator[credit_pb2.WatchScoresResponse]:
        call = current_call()
        if not request.subjects and not (call.is_internal or _OPERATOR in call.roles):
            raise CallerNotAllowed
        try:
            after = _position(_WATCH, request.cursor) if request.cursor else None
        except PageTokenInvalid as error:
            raise CursorInvalid from error
        async for found in self.feed.watch(list(request.subjects), after):
            yield credit_pb2.WatchScoresResponse(
                changes=[recorded_message(change) for change in found.changes], cursor=_token(_WATCH, found.position)
            )

    async def simulate(self, request: credit_pb2.SimulateScoreRequest) -> credit_pb2.SimulateScoreResponse:
        simulated = await simulate_score(
            request.subject,
            kind_of(request.kind),
            [
                AssumedFact(
                    fact.slot,
                    fact.amount,
                    moment_of(fact.time, f"facts[{number}].time") if fact.HasField("time") else None,
                )
                for number, fact in enumerate(request.facts)
            ],
            [AssumedValue(item.indicator, item.value if item.HasField("value") else None) for item in request.values],
            judge=self.judge,
            reader=self.reader,
            clock=self.clock,
        )
        return credit_pb2.SimulateScoreResponse(
            before=evaluation_message(simulated.before, self.judge),
            after=evaluation_message(simulated.after, self.judge),
            differences=[
                credit_pb2.SubScore(category=category, points=points) for category, points in simulated.differences
            ],
            adjustments_difference=simulated.adjustments_difference,
        )


def recorded_message(change: RecordedChange) -> credit_pb2.ScoreChange:
    """A change as history keeps it."""
    message = credit_pb2.ScoreChange(
        subject=change.subject,
        kind=KIND_NUMBERS[change.kind],
        score=change.score,
        grade=change.grade.value,
        blocked=change.blocked,
        previous_score=change.previous_score,
        previous_grade=change.previous_grade,
        previously_blocked=change.previously_blocked,
        sub_scores=[credit_pb2.SubScore(category=name, points=points) for name, points in change.sub_scores],
        reason_codes=change.reason_codes,
        model_version=change.model_version,
        trace_id=_trace_id(change.traceparent),
    )
    message.as_of.FromDatetime(change.as_of)
    message.create_time.FromDatetime(change.create_time)
    return message


def changed_message(changed: ScoreChanged) -> credit_pb2.ScoreChange:
    """A change as it is recorded."""
    score, previous = changed.score, changed.previous
    return recorded_message(
        RecordedChange(
            subject=score.subject,
            create_time=changed.create_time,
            kind=score.kind,
            score=score.score,
            grade=score.grade,
            blocked=score.blocked,
            previous_score=0 if previous is None else previous.score,
            previous_grade="" if previous is None else previous.grade.value,
            previously_blocked=previous is not None and previous.blocked,
            sub_scores=score.sub_scores,
            reason_codes=score.reason_codes,
            model_version=score.model_version,
            as_of=score.as_of,
            traceparent=changed.traceparent,
        )
    )


def _token(scope: str, position: ChangePosition) -> str:
    moment_us = (position.create_time - _EPOCH) // _MICROSECOND
    return encode_token(scope, f"{moment_us} {position.subject} {position.kind}")


def _position(scope: str, token: str) -> ChangePosition:
    """Raises PageTokenInvalid."""
    try:
        moment_us, subject, kind = decode_token(scope, token).split(" ")
        return ChangePosition(_EPOCH + int(moment_us) * _MICROSECOND, subject, kind)
    except (ValueError, OverflowError) as error:
        raise PageTokenInvalid from error


def _trace_id(traceparent: str) -> str:
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""
