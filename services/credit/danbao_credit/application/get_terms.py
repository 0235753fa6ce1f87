"""How sellers are treated: the terms of their grade in a currency."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from danbao_credit.application.evaluate import EVALUATIONS_IN_A_ROW, seconds
from danbao_credit.application.ports import AHEAD_S, CreditReader, Snapshot
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.evaluation import Evaluation, Judge
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.marks import Mark, MarkKind, suspicion
from danbao_credit.domain.terms import GradeTerms, TermsTable
from danbao_kit.clock import Clock
from danbao_kit.money import check_currency


@dataclass(frozen=True, slots=True)
class TermsWanted:
    """Whose terms, in which currency. `field` is the path of the currency in the request."""

    subject: str
    currency: str
    field: str
    # The buyer, of whom only a block is told; empty: nobody.
    counterparty: str = ""


@dataclass(frozen=True, slots=True)
class SellerTerms:
    """The terms of one seller in one currency."""

    subject: str
    currency: str
    evaluation: Evaluation
    # The grade that the terms are of: the evaluation's, unless they are frozen.
    grade: Grade
    frozen: bool
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
    counterparties = {item.counterparty for item in wanted if item.counterparty}
    snapshot = await reader.snapshot(subjects | counterparties)
    as_of_s = seconds(clock.now())
    evaluations: dict[str, Evaluation] = {}
    for subject in subjects:
        evaluations[subject] = judge.evaluate(
            snapshot.profile(subject),
            kind=SubjectKind.MERCHANT,
            as_of_s=as_of_s,
            standing=snapshot.standing(subject, as_of_s),
        )
        if len(evaluations) % EVALUATIONS_IN_A_ROW == 0:
            await asyncio.sleep(0)
    suspicions = {subject: suspicion(snapshot.marks_of(subject), as_of_s, ahead_s=AHEAD_S) for subject in subjects}
    blocked = {subject for subject in counterparties if MarkKind.FRAUD in snapshot.standing(subject, as_of_s)}
    return [
        _terms_of(
            item,
            evaluations[item.subject],
            suspicions.get(item.subject),
            snapshot,
            table,
            counterparty_blocked=item.counterparty in blocked,
        )
        for item in wanted
    ]


def _terms_of(
    item: TermsWanted,
    evaluation: Evaluation,
    suspected: Mark | None,
    snapshot: Snapshot,
    table: TermsTable,
    *,
    counterparty_blocked: bool,
) -> SellerTerms:
    grade = evaluation.grade
    if suspected is not None:
        # Whoever has taken over an account earns nothing by it: terms stay as they were, money waits for an operator.
        grade = suspected.grade or table.default_grade
    terms = table.grades[grade]
    member = item.currency in snapshot.members.get(item.subject, ()) or item.subject in table.members
    return SellerTerms(
        subject=item.subject,
        currency=item.currency,
        evaluation=evaluation,
        grade=grade,
        frozen=suspected is not None,
        terms=terms if suspected is None else replace(terms, payout_by_operator=True),
        per_trade_limit_minor=table.limit_minor(grade, item.currency, field=item.field),
        counterparty_blocked=counterparty_blocked,
        member=member,
        compensation_limit_minor=table.compensation_limit_minor(grade, item.currency) if member else 0,
    )
