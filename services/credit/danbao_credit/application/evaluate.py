"""What a subject's credit is, and what it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from danbao_credit.application.as_of import NOW, AsOf, profile_as_of
from danbao_credit.application.ports import AHEAD_S, CreditReader, Snapshot
from danbao_credit.domain.catalogue import Indicator, SubjectKind
from danbao_credit.domain.errors import FieldInvalid, FieldViolation
from danbao_credit.domain.evaluation import Evaluation, Judge
from danbao_kit.clock import Clock

# A thousand at once would keep every other call waiting for a fifth of a second.
EVALUATIONS_IN_A_ROW = 25


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation with its moment and how far the streams were read for it."""

    subject: str
    evaluation: Evaluation
    as_of: datetime
    snapshot: Snapshot


async def evaluate(
    subject: str, kind: SubjectKind | None, *, judge: Judge, reader: CreditReader, clock: Clock, as_of: AsOf = NOW
) -> Evaluated:
    """The subject's credit at a moment. Without a kind: as a merchant if it had ever sold, else as an individual.

    Raises FieldInvalid, AsOfNotAllowed, AsOfTooOld.
    """
    seen = await profile_as_of(subject, as_of, catalogue=judge.catalogue, reader=reader, clock=clock)
    as_of_s = seconds(seen.moment)
    evaluation = judge.evaluate(
        seen.profile,
        kind=kind or judge.kind_of(seen.profile),
        as_of_s=as_of_s,
        standing=seen.snapshot.standing(subject, as_of_s, ahead_s=AHEAD_S if as_of.moment is None else 0),
    )
    return Evaluated(subject, evaluation, seen.moment, seen.snapshot)


async def evaluate_many(
    wanted: Sequence[tuple[str, SubjectKind | None]], *, judge: Judge, reader: CreditReader, clock: Clock
) -> list[Evaluated]:
    """The credit of many now, in order, by one snapshot and of one moment."""
    snapshot = await reader.snapshot({subject for subject, _ in wanted})
    now = clock.now()
    as_of_s = seconds(now)
    evaluated: list[Evaluated] = []
    for subject, kind in wanted:
        profile = snapshot.profile(subject)
        evaluation = judge.evaluate(
            profile, kind=kind or judge.kind_of(profile), as_of_s=as_of_s, standing=snapshot.standing(subject, as_of_s)
        )
        evaluated.append(Evaluated(subject, evaluation, now, snapshot))
        if len(evaluated) % EVALUATIONS_IN_A_ROW == 0:
            await asyncio.sleep(0)
    return evaluated


async def list_indicator_values(
    subject: str, kind: SubjectKind | None, *, judge: Judge, reader: CreditReader, clock: Clock, as_of: AsOf = NOW
) -> tuple[list[tuple[str, float]], datetime]:
    """Every indicator's value at a moment; what is missing is left out. Raises as `evaluate`."""
    seen = await profile_as_of(subject, as_of, catalogue=judge.catalogue, reader=reader, clock=clock)
    facts = judge.facts(seen.profile, seconds(seen.moment))
    wanted = kind or judge.kind_of(seen.profile)
    names = [indicator.name for indicator in judge.catalogue.listed(category="", kind=wanted)]
    values = zip(names, judge.catalogue.values(facts, wanted), strict=True)
    return [(name, float(value)) for name, value in values if value is not None], seen.moment


def list_indicators(category: str, kind: SubjectKind | None, *, judge: Judge) -> list[Indicator]:
    """The catalogue. Raises FieldInvalid for a category that it does not have."""
    if category and category not in judge.catalogue.categories:
        known = ", ".join(judge.catalogue.categories)
        raise FieldInvalid(FieldViolation("category", f"must be empty or one of {known}"))
    return judge.catalogue.listed(category=category, kind=kind)


def seconds(moment: datetime) -> int:
    """Whole seconds since the epoch."""
    return int(moment.timestamp() // 1)
