"""How far the subjects of today lie from those that a model was trained on, and what a challenger would give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from danbao_credit.domain.catalogue import SubjectFacts, SubjectKind
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.training.metrics import psi

WATCH_FROM, ACT_FROM = 0.1, 0.25
SCORE = "score"


class Verdict(StrEnum):
    """What a population stability index asks for; the bounds are Siddiqi's (Credit Risk Scorecards, 2006)."""

    NONE = "NONE"
    STABLE = "STABLE"
    WATCH = "WATCH"
    ACT = "ACT"


def verdict_of(index: float) -> Verdict:
    """Of a PSI."""
    return Verdict.STABLE if index < WATCH_FROM else Verdict.WATCH if index < ACT_FROM else Verdict.ACT


@dataclass(frozen=True, slots=True)
class Drift:
    """One distribution beside its baseline."""

    name: str
    psi: float
    verdict: Verdict
    baseline: tuple[float, ...]
    now: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A challenger on the same facts."""

    version: str
    mean_difference: float
    other_grade: int
    better_grade: int
    psi: float


@dataclass(frozen=True, slots=True)
class DriftFound:
    """`score` and `characteristics` against the champion's baselines; no comparison without a challenger."""

    version: str
    kind: SubjectKind
    subjects: int
    score: Drift
    characteristics: tuple[Drift, ...]
    comparison: Comparison | None


@dataclass(slots=True)
class DriftCount:
    """Counts subjects one by one, champion and challenger on the very same facts."""

    champion: Judge
    challenger: Judge | None
    kind: SubjectKind
    _places: list[list[int]] = field(init=False)
    _grades: list[Grade] = field(default_factory=list)
    _others: list[Grade] = field(default_factory=list)
    _difference: int = 0

    def __post_init__(self) -> None:
        scorecard = self.champion.model.scorecards[self.kind]
        self._places = [[0] * (len(item.points) + 1) for item in scorecard.characteristics]

    def add(self, profile: Profile, as_of_s: int) -> None:
        """One more subject, seen at that second."""
        facts: SubjectFacts = self.champion.facts(profile, as_of_s)
        scorecard = self.champion.model.scorecards[self.kind]
        for counts, item in zip(self._places, scorecard.characteristics, strict=True):
            counts[item.place(item.measure(facts, {}))] += 1
        found = self.champion.evaluate(profile, kind=self.kind, as_of_s=as_of_s)
        self._grades.append(found.grade)
        if self.challenger is not None:
            other = self.challenger.evaluate(profile, kind=self.kind, as_of_s=as_of_s)
            self._others.append(other.grade)
            self._difference += other.score - found.score

    def found(self) -> DriftFound:
        """What came of it; the most moved characteristic first."""
        scorecard = self.champion.model.scorecards[self.kind]
        drifts = [
            _drift(item.indicator.name, item.baseline, counts)
            for item, counts in zip(scorecard.characteristics, self._places, strict=True)
        ]
        return DriftFound(
            version=self.champion.model.version,
            kind=self.kind,
            subjects=len(self._grades),
            score=_drift(SCORE, scorecard.grade_baseline, _counted(self._grades)),
            characteristics=tuple(sorted(drifts, key=lambda drift: (-drift.psi, drift.name))),
            comparison=self._comparison(),
        )

    def _comparison(self) -> Comparison | None:
        if self.challenger is None or not self._grades:
            return None
        ranks = {grade: rank for rank, grade in enumerate(Grade)}
        pairs = list(zip(self._grades, self._others, strict=True))
        return Comparison(
            version=self.challenger.model.version,
            mean_difference=self._difference / len(pairs),
            other_grade=sum(here is not there for here, there in pairs),
            better_grade=sum(ranks[there] < ranks[here] for here, there in pairs),
            psi=psi(_counted(self._grades), _counted(self._others)),
        )


def _drift(name: str, baseline: tuple[float, ...], counts: Sequence[int]) -> Drift:
    total = sum(counts)
    now = tuple(count / total for count in counts) if total else ()
    if not baseline or not now:
        return Drift(name, 0.0, Verdict.NONE, baseline, now)
    index = psi(baseline, now)
    return Drift(name, index, verdict_of(index), baseline, now)


def _counted(grades: Sequence[Grade]) -> list[int]:
    return [grades.count(grade) for grade in Grade]
