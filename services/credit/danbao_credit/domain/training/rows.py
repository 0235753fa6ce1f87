"""How histories become rows to train on: what was known at a cut, and whether something bad came of it afterwards.

A row is a subject at a cut. Its values come from events before the cut only, its outcome from the days after it; so
what a scorecard is measured on is what it would have had to foretell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.catalogue import Catalogue, Indicator, SubjectFacts, SubjectKind
from danbao_credit.domain.expression import Value
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.training.columns import Column, Floats, Outcomes
from danbao_credit.domain.training.histories import Histories, History
from danbao_credit.domain.windows import DAY_US

FLOORS = (5, 10, 20, 50)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes out within `horizon_days` of the cut: of what went into the slots `among`, what went into `bad`.

    Only who has some of either within those days has a row: of others nothing can be said. `most` bounds how much one
    row counts, or a few of the largest would be all that is learnt from; beyond it only the rate counts.
    """

    horizon_days: int
    bad: frozenset[int]
    among: frozenset[int]
    most: int

    def counted(self, bad: int, among: int) -> tuple[float, float]:
        """Goods and bads. What was begun before and goes wrong now may make bad more than among."""
        bads = max(bad, 0)
        goods = max(among - bads, 0)
        scale = min(1.0, self.most / max(goods + bads, 1))
        return goods * scale, bads * scale


@dataclass(frozen=True, slots=True)
class Cuts:
    """Times at which rows are taken, microseconds since the epoch: the earlier ones to train on, the later to test on.

    No outcome of a training row reaches into the time of a test row's cut.
    """

    training_us: tuple[int, ...]
    test_us: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of one kind. `cut_us` and `outcomes` by row; values by indicator, quotients by their two sides."""

    subjects: tuple[str, ...]
    cut_us: npt.NDArray[np.int64]
    outcomes: Outcomes
    indicators: tuple[Indicator, ...]
    numerators: Mapping[str, Floats]
    # Of quotients only.
    denominators: Mapping[str, Floats]

    def columns(self, which: npt.NDArray[np.bool_]) -> list[Column]:
        """Of these rows: one column an indicator, and for what may be few among few one a floor."""
        columns: list[Column] = []
        for indicator in self.indicators:
            line = indicator.name.rpartition("_")[0]
            above = self.numerators[indicator.name][which]
            if indicator.name not in self.denominators:
                columns.append(Column(indicator.name, line, indicator.better, above))
                continue
            below = self.denominators[indicator.name][which]
            for floor in FLOORS if indicator.better == "low" else (0,):
                values = above / np.maximum(below, floor)
                columns.append(Column(indicator.name, line, indicator.better, values, floor=floor))
        return columns


def cuts_between(
    first_us: int, last_us: int, *, horizon_days: int, step_days: int, warm_up_days: int, test_share: float
) -> Cuts:
    """Cuts at midnight UTC, `step_days` apart, with all of their horizon before the last event."""
    first_day = -(-first_us // DAY_US) + warm_up_days
    last_day = last_us // DAY_US - horizon_days
    days = list(range(first_day, last_day + 1, step_days))
    tests = days[len(days) - round(len(days) * test_share) :] if test_share > 0 else []
    training = [day for day in days if not tests or day + horizon_days <= tests[0]]
    return Cuts(tuple(day * DAY_US for day in training), tuple(day * DAY_US for day in tests))


def rows_of(
    histories: Histories,
    catalogue: Catalogue,
    kind: SubjectKind,
    indicators: Sequence[Indicator],
    outcome: Outcome,
    cuts: Cuts,
    *,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> Rows:
    """Plays every subject's history up to each cut. `told` hears how many subjects of how many are done."""
    taken = _Taken(indicators)
    everybody = sorted(histories.by_subject)
    for number, subject in enumerate(everybody):
        _play(histories.by_subject[subject], subject, catalogue, outcome, (*cuts.training_us, *cuts.test_us), taken)
        told(number + 1, len(everybody))
    return taken.rows()


def _play(
    history: History, subject: str, catalogue: Catalogue, outcome: Outcome, cuts_us: Sequence[int], taken: _Taken
) -> None:
    profile, played = Profile.empty(), 0
    for cut_us in cuts_us:
        end_us = cut_us + outcome.horizon_days * DAY_US
        bad = history.total(outcome.bad, from_us=cut_us, before_us=end_us)
        among = history.total(outcome.among, from_us=cut_us, before_us=end_us)
        if bad <= 0 and among <= 0:
            continue
        until = history.before(cut_us)
        if until > played:
            profile = profile.with_changes(
                zip(history.times_us[played:until], history.changes[played:until], strict=True)
            )
            played = until
        facts = SubjectFacts(profile, as_of_s=cut_us // 1_000_000, slots=catalogue.slot_ids)
        taken.take(subject, cut_us, outcome.counted(bad, among), facts)


class _Taken:
    """Rows as they are taken."""

    def __init__(self, indicators: Sequence[Indicator]) -> None:
        self._indicators = tuple(indicators)
        self._subjects: list[str] = []
        self._cuts: list[int] = []
        self._outcomes: list[tuple[float, float]] = []
        self._above: list[list[float]] = []
        self._below: list[list[float]] = []
        self._is_quotient = [item.expression.denominator is not None for item in indicators]

    def take(self, subject: str, cut_us: int, outcome: tuple[float, float], facts: SubjectFacts) -> None:
        above: list[float] = []
        below: list[float] = []
        for indicator, quotient in zip(self._indicators, self._is_quotient, strict=True):
            expression, window = indicator.expression, indicator.window.name
            if not quotient or expression.numerator is None or expression.denominator is None:
                above.append(_number(expression.value(facts, window)))
                continue
            over, under = expression.numerator(facts, window), expression.denominator(facts, window)
            known = over is not None and under is not None and under > 0
            above.append(_number(over) if known else np.nan)
            below.append(_number(under) if known else np.nan)
        self._subjects.append(subject)
        self._cuts.append(cut_us)
        self._outcomes.append(outcome)
        self._above.append(above)
        self._below.append(below)

    def rows(self) -> Rows:
        names = [item.name for item in self._indicators]
        quotients = [name for name, quotient in zip(names, self._is_quotient, strict=True) if quotient]
        above = np.array(self._above, float).reshape(len(self._above), len(names))
        below = np.array(self._below, float).reshape(len(self._below), len(quotients))
        return Rows(
            subjects=tuple(self._subjects),
            cut_us=np.array(self._cuts, np.int64),
            outcomes=Outcomes(*np.array(self._outcomes, float).reshape(len(self._outcomes), 2).T),
            indicators=self._indicators,
            numerators=dict(zip(names, above.T, strict=True)),
            denominators=dict(zip(quotients, below.T, strict=True)),
        )


def _number(value: Value) -> float:
    return np.nan if value is None else float(value)
