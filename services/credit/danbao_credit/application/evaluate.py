"""What a subject's credit is, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from danbao_credit.application.ports import CreditReader, Snapshot
from danbao_credit.domain.catalogue import Indicator, SubjectKind
from danbao_credit.domain.errors import FieldInvalid, FieldViolation
from danbao_credit.domain.evaluation import Evaluation, Judge
from danbao_kit.clock import Clock


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation with its moment and how far the streams were read for it."""

    subject: str
    evaluation: Evaluation
    as_of: datetime
    snapshot: Snapshot


async def evaluate(
    subject: str, kind: SubjectKind | None, *, judge: Judge, reader: CreditReader, clock: Clock
) -> Evaluated:
    """The subject's credit now. Without a kind: as a merchant if it ever sold, else as an individual."""
    snapshot = await reader.snapshot([subject])
    as_of = clock.now()
    profile = snapshot.profile(subject)
    evaluation = judge.evaluate(profile, kind=kind or judge.kind_of(profile), as_of_s=seconds(as_of))
    return Evaluated(subject, evaluation, as_of, snapshot)


async def list_indicator_values(
    subject: str, kind: SubjectKind | None, *, judge: Judge, reader: CreditReader, clock: Clock
) -> tuple[list[tuple[str, float]], datetime]:
    """Every indicator's value now; what is missing is left out."""
    snapshot = await reader.snapshot([subject])
    as_of = clock.now()
    profile = snapshot.profile(subject)
    facts = judge.facts(profile, seconds(as_of))
    wanted = kind or judge.kind_of(profile)
    names = [indicator.name for indicator in judge.catalogue.listed(category="", kind=wanted)]
    values = zip(names, judge.catalogue.values(facts, wanted), strict=True)
    return [(name, float(value)) for name, value in values if value is not None], as_of


def list_indicators(category: str, kind: SubjectKind | None, *, judge: Judge) -> list[Indicator]:
    """The catalogue. Raises FieldInvalid for a category that it does not have."""
    if category and category not in judge.catalogue.categories:
        known = ", ".join(judge.catalogue.categories)
        raise FieldInvalid(FieldViolation("category", f"must be empty or one of {known}"))
    return judge.catalogue.listed(category=category, kind=kind)


def seconds(moment: datetime) -> int:
    """Whole seconds since the epoch."""
    return int(moment.timestamp() // 1)
