"""How a model's grades come out on orders it never saw: defects by grade, and whether best and worst differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from danbao_credit.domain.catalogue import Catalogue, Indicator, SubjectKind
from danbao_credit.domain.grades import Grade, grade_of
from danbao_credit.domain.scorecard import Scorecard
from danbao_credit.domain.training.histories import Histories
from danbao_credit.domain.training.pipeline import span_of_trade
from danbao_credit.domain.training.plan import KindPlan
from danbao_credit.domain.training.rows import cuts_between, rows_of
from danbao_credit.domain.training.scoring import score_rows

_CONFIDENT = 1.959964
_EVERY_ORDER = 10**9
_TWO = 2
# A grade with fewer outcomes says next to nothing of itself: none bad of a hundred may still be 4 %.
ENOUGH_OUTCOMES = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """What came of the orders of some grades: `subjects` are distinct, `bads` of `outcomes` orders were bad.

    `looks`: behind how many cuts an order lies, and as how many outcomes it counts here.
    """

    grades: tuple[Grade, ...]
    subjects: int
    outcomes: int
    bads: int
    looks: float

    @property
    def rate(self) -> float | None:
        """None: there was no outcome."""
        return self.bads / self.outcomes if self.outcomes else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's for 95 %, with every order once."""
        return wilson(self.bads / self.looks, self.outcomes / self.looks)


@dataclass(frozen=True, slots=True)
class Assessment:
    """Of one kind: grades that somebody had at some cut, best first, and the best against the worst.

    `best` and `worst` are two grades each, fewer where fewer were had; None with one grade or none. `aside`: grades
    with fewer than ENOUGH_OUTCOMES, which are compared only where there are not two others.
    """

    kind: SubjectKind
    cuts: int
    rows: int
    by_grade: tuple[Counted, ...]
    best: Counted | None
    worst: Counted | None
    aside: tuple[Grade, ...] = ()

    @property
    def ratio(self) -> float | None:
        """The worst grades' rate over the best ones'; None where that cannot be said."""
        if self.best is None or self.worst is None or not self.best.bads or not self.worst.outcomes:
            return None
        return (self.worst.bads / self.worst.outcomes) / (self.best.bads / self.best.outcomes)

    @property
    def verdict(self) -> str:
        """In a sentence, whether these orders show that the worst grades do worse."""
        if self.best is None or self.worst is None:
            return "cannot be shown: fewer than two grades have outcomes"
        best, worst = self.best.interval, self.worst.interval
        if worst[0] > best[1]:
            return "shown: the worst grades come out worse, and the 95 % intervals are apart"
        if worst[1] < best[0]:
            return "contradicted: the worst grades come out better, and the 95 % intervals are apart"
        return "cannot be shown: too few outcomes, the 95 % intervals overlap"


def assess(
    histories: Histories, catalogue: Catalogue, scorecard: Scorecard, plan: KindPlan, *, step_days: int
) -> Assessment:
    """Scores every subject at every cut by what was before it, and counts what came of its orders afterwards.

    A score is points, caps and bounds; what only stands for a while, marks and their hard rules, is left out. An order
    is an outcome of every cut that it lies within the horizon of; intervals are those of as many orders as there were.

    Raises TrainingImpossible where nothing was traded.
    """
    horizon_days = plan.outcome.horizon_days
    first_us, last_us = span_of_trade(histories, plan)
    cuts = cuts_between(
        first_us, last_us, horizon_days=horizon_days, step_days=step_days, warm_up_days=0, test_share=0.0
    )
    every_order = replace(plan.outcome, most=_EVERY_ORDER)
    rows = rows_of(histories, catalogue, scorecard.kind, indicators_of(scorecard), every_order, cuts)
    grades = [grade_of(int(score)) for score in score_rows(scorecard, rows).scores]
    goods, bads = rows.outcomes.goods, rows.outcomes.bads

    def counted(which: Sequence[Grade]) -> Counted:
        places = [place for place, grade in enumerate(grades) if grade in which]
        return Counted(
            grades=tuple(which),
            subjects=len({rows.subjects[place] for place in places}),
            outcomes=int(np.sum(goods[places]) + np.sum(bads[places])),
            bads=int(np.sum(bads[places])),
            looks=max(horizon_days / step_days, 1.0),
        )

    by_grade = [counted([grade]) for grade in Grade if grade in set(grades)]
    best, worst, aside = compared(by_grade)
    return Assessment(
        kind=scorecard.kind,
        cuts=len(cuts.training_us),
        rows=len(rows.subjects),
        by_grade=tuple(by_grade),
        best=counted(best) if best else None,
        worst=counted(worst) if worst else None,
        aside=aside,
    )


def compared(by_grade: Sequence[Counted]) -> tuple[tuple[Grade, ...], tuple[Grade, ...], tuple[Grade, ...]]:
    """Of grades, best first: which two are the best, which two the worst, and which stand aside."""
    had = [each.grades[0] for each in by_grade if each.outcomes >= ENOUGH_OUTCOMES]
    if len(had) < _TWO:
        had = [each.grades[0] for each in by_grade]
    aside = tuple(each.grades[0] for each in by_grade if each.grades[0] not in had)
    if len(had) < _TWO:
        return (), (), aside
    best = had[: 1 if len(had) == _TWO else _TWO]
    return tuple(best), tuple(had[max(len(had) - _TWO, len(best)) :]), aside


def indicators_of(scorecard: Scorecard) -> list[Indicator]:
    """Everything that a scorecard looks at."""
    named = [item.indicator for item in scorecard.characteristics]
    for cap in scorecard.caps:
        named += [cap.volume, *([cap.indicator] if cap.indicator is not None else [])]
    return list(dict.fromkeys(named))


def wilson(bads: float, outcomes: float) -> tuple[float, float]:
    """The 95 % interval of a rate (E. B. Wilson, 1927). Everything from 0 to 1 where nothing was seen."""
    if not outcomes:
        return 0.0, 1.0
    rate, z = bads / outcomes, _CONFIDENT
    spread = 1 + z * z / outcomes
    middle = (rate + z * z / (2 * outcomes)) / spread
    half = z * math.sqrt(rate * (1 - rate) / outcomes + z * z / (4 * outcomes * outcomes)) / spread
    return max(middle - half, 0.0), min(middle + half, 1.0)
