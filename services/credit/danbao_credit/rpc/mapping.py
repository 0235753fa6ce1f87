"""How credit's answers look on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.evaluate import Evaluated
from danbao_credit.application.get_terms import SellerTerms
from danbao_credit.application.ports import StreamProgress
from danbao_credit.domain.catalogue import Indicator, SubjectKind
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.events import Source
from danbao_credit.domain.terms import TermsTable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_KINDS = {
    credit_pb2.SUBJECT_KIND_INDIVIDUAL: SubjectKind.INDIVIDUAL,
    credit_pb2.SUBJECT_KIND_MERCHANT: SubjectKind.MERCHANT,
}
KIND_NUMBERS = {kind: number for number, kind in _KINDS.items()}


def kind_of(number: int) -> SubjectKind | None:
    """None for unspecified."""
    return _KINDS.get(number)


def kind_number(kind: SubjectKind) -> credit_pb2.SubjectKind:
    """As the contract numbers it."""
    return KIND_NUMBERS[kind]


def evaluation_message(evaluated: Evaluated, judge: Judge) -> credit_pb2.Evaluation:
    evaluation = evaluated.evaluation
    message = credit_pb2.Evaluation(
        subject=evaluated.subject,
        kind=KIND_NUMBERS[evaluation.kind],
        score=evaluation.score,
        grade=evaluation.grade.value,
        blocked=evaluation.blocked,
        base_points=evaluation.base_points,
        sub_scores=[credit_pb2.SubScore(category=name, points=points) for name, points in evaluation.sub_scores],
        adjustments=[
            credit_pb2.Adjustment(code=item.code, points=item.points, text=item.text) for item in evaluation.adjustments
        ],
        reasons=[
            credit_pb2.Reason(code=item.code, points_lost=item.points_lost, text=item.text)
            for item in evaluation.reasons
        ],
        confidence_permille=evaluation.confidence_permille,
        model_version=evaluation.model_version,
        catalogue_version=judge.catalogue.version,
        payments_sequence=evaluated.snapshot.sequences.get(Source.PAYMENTS, 0),
        escrow_sequence=evaluated.snapshot.sequences.get(Source.ESCROW, 0),
    )
    message.as_of.FromDatetime(evaluated.as_of)
    return message


def terms_message(
    item: SellerTerms, table: TermsTable, *, is_public: bool = False, tells_block: bool = True
) -> credit_pb2.TradeTerms:
    """`is_public`: what everybody may see of a seller. `tells_block`: whether the counterparty's block is shown."""
    terms, evaluation = item.terms, item.evaluation
    return credit_pb2.TradeTerms(
        subject=item.subject,
        currency=item.currency,
        grade=item.grade.value,
        score=0 if is_public else evaluation.score,
        blocked=evaluation.blocked,
        counterparty_blocked=tells_block and item.counterparty_blocked,
        fee_percent=terms.fee_percent,
        auto_confirm_days=terms.auto_confirm_days,
        auto_confirm_by_operator=terms.auto_confirm_by_operator,
        per_trade_limit_minor=item.per_trade_limit_minor,
        payout_delay_hours=terms.payout_delay_hours,
        payout_by_operator=terms.payout_by_operator,
        reserve_bps=terms.reserve_bps,
        model_version=evaluation.model_version,
        terms_version=table.version,
        member=item.member,
        compensation_limit_minor=item.compensation_limit_minor,
        frozen=item.frozen and not is_public,
    )


def indicator_message(indicator: Indicator) -> credit_pb2.Indicator:
    return credit_pb2.Indicator(
        name=indicator.name,
        category=indicator.category,
        formula=indicator.expression.text,
        window=indicator.window.name,
        unit=indicator.unit,
        better=indicator.better,
        reason_code=indicator.reason,
        applies_to=indicator.applies_to,
        description=indicator.description,
    )


def stream_message(source: Source, progress: StreamProgress, *, connected: bool) -> credit_pb2.StreamStatus:
    message = credit_pb2.StreamStatus(
        source=source.value,
        sequence=progress.sequence,
        applied=progress.applied,
        duplicates=progress.duplicates,
        parked=progress.parked,
        erased=progress.erased,
        hearsay=progress.hearsay,
        connected=connected,
    )
    if progress.last_event_us is not None:
        message.last_event_time.FromDatetime(_EPOCH + timedelta(microseconds=progress.last_event_us))
    return message
