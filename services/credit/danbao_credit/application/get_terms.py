"""How sellers are treated: the terms of their grade in a currency."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from danbao_credit.application.evaluate import EVALUATIONS_IN_A_ROW, seconds
from danbao_credit.application.ports import CreditReader, Snapshot
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.evaluation import Evaluation, Judge
from danbao_credit.domain.terms import GradeTerms, TermsTable
from danbao_kit.clock import Clock
from danbao_kit.money import check_currency


@dataclass(frozen=True, slots=True)
class TermsWanted:
    """Whose terms, in which currency. `field` is the path of the currency in the request."""

    subject: str
    currency: str
    field: str


@dataclass(frozen=True, slots=True)
class SellerTerms:
    """The terms of one seller in one currency."""

    subject: str
    currency: str
    evaluation: Evaluation
    terms: GradeTerms
    per_trade_limit_minor: int
    counterparty_blocked: bool
    member: bool
    compensation_limit_minor: int


async def get_terms(
    wanted: Sequence[TermsWanted], *, judge: Judge, table: TermsTable, reader: CreditReader, clock: Clock
) -> list[SellerTerms]:
    """Terms in the order asked for. Raises CurrencyUnknown, then CurrencyWithoutTerms, before anything is read."""
    for item in wanted:
        check_currency(item.currency, item.field)
    for item in wanted:
        table.limit_minor(table.default_grade, item.currency, field=item.field)
    subjects = {item.subject for item in wanted}
    snapshot = await reader.snapshot(subjects)
    as_of_s = seconds(clock.now())
    evaluations: dict[str, Evaluation] = {}
    for subject in subjects:
        evaluations[subject] = judge.evaluate(snapshot.profile(subject), kind=SubjectKind.MERCHANT, as_of_s=as_of_s)
        if len(evaluations) % EVALUATIONS_IN_A_ROW == 0:
            await asyncio.sleep(0)
    return [_terms_of(item, evaluations[item.subject], snapshot, table) for item in wanted]


def _terms_of(item: TermsWanted, evaluation: Evaluation, snapshot: Snapshot, table: TermsTable) -> SellerTerms:
    grade, covered = evaluation.grade, snapshot.members.get(item.subject, frozenset())
    member = item.currency in covered or item.subject in table.members
    return SellerTerms(
        subject=item.subject,
        currency=item.currency,
        evaluation=evaluation,
        terms=table.grades[grade],
        per_trade_limit_minor=table.limit_minor(grade, item.currency, field=item.field),
        # Nobody can be blocked before fraud can be confirmed.
        counterparty_blocked=False,
        member=member,
        compensation_limit_minor=table.compensation_limit_minor(grade, item.currency) if member else 0,
    )
