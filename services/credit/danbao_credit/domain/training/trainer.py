"""How a scorecard is made of columns and outcomes: bins, choice of characteristics, coefficients, points.

Pure and without chance: the same rows give the same scorecard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from danbao_credit.domain.errors import TrainingImpossible
from danbao_credit.domain.scale import FACTOR, OFFSET
from danbao_credit.domain.training.bins import BinRules, Bins, bins_of
from danbao_credit.domain.training.columns import Column, Floats, Outcomes, place_of
from danbao_credit.domain.training.logistic import Fit, fit_not_negative
from danbao_credit.domain.training.points import WholePoints, whole_points


@dataclass(frozen=True, slots=True)
class TrainingRules:
    """What a scorecard may look like."""

    bins: BinRules = field(default_factory=BinRules)
    least_information: float = 0.02
    # Two characteristics that say nearly the same share their weight by chance.
    most_correlation: float = 0.75
    most_characteristics: int = 30
    # With fewer bads than this for each, coefficients are noise (Peduzzi et al., 1996).
    least_bads_each: int = 10
    most_windows_of_a_line: int = 2
    l2: float = 4.0
    # What moves a score by less than this from its worst to its best bin is not worth a reason of its own.
    least_points: float = 4.0


@dataclass(frozen=True, slots=True)
class FittedCharacteristic:
    """One column of a trained scorecard. `share`: of the training rows by bin, the missing ones last."""

    column: str
    line: str
    better: str
    floor: int
    bins: Bins
    coefficient: float
    points: WholePoints

    @property
    def key(self) -> tuple[str, int]:
        return self.column, self.floor

    @property
    def counts(self) -> tuple[float, ...]:
        """Training outcomes by bin, those with a missing value last."""
        known = (good + bad for good, bad in zip(self.bins.goods, self.bins.bads, strict=True))
        return (*known, self.bins.missing_goods + self.bins.missing_bads)


@dataclass(frozen=True, slots=True)
class FittedScorecard:
    """score = base + Σ points. `exact_base` is the base before rounding."""

    characteristics: tuple[FittedCharacteristic, ...]
    fit: Fit
    exact_base: float
    # Why a column is not in it.
    left_out: Mapping[str, str]

    @property
    def base(self) -> int:
        return round(self.exact_base)

    def log_odds(self, columns: Mapping[tuple[str, int], Column]) -> Floats:
        """The exact log odds of good, before any rounding."""
        total: Floats | None = None
        for item, coefficient in zip(self.characteristics, self.fit.coefficients, strict=True):
            part = coefficient * _evidence(columns[item.key], item.bins)
            total = self.fit.intercept + part if total is None else total + part
        assert total is not None, "a scorecard has characteristics"
        return total

    def scores(self, columns: Mapping[tuple[str, int], Column]) -> Floats:
        """base + points of every row, not bounded by the scale."""
        total = None
        for item in self.characteristics:
            points = np.array([*item.points.points, item.points.missing])
            part = points[columns[item.key].places(item.bins.edges)]
            total = part if total is None else total + part
        assert total is not None, "a scorecard has characteristics"
        return (self.base + total).astype(float)


def train(
    columns: Sequence[Column],
    outcomes: Outcomes,
    rules: TrainingRules,
    *,
    reference: Mapping[str, float | None],
    told: Callable[[str], None] = lambda _line: None,
) -> FittedScorecard:
    """A scorecard for these rows. `reference`: the values of who has no points anywhere; None or absent is missing.

    Raises TrainingImpossible where nothing can be learnt.
    """
    bads, cases = float(outcomes.bads.sum()), float(outcomes.all.sum())
    if not 0 < bads < cases:
        raise TrainingImpossible(f"{bads:.0f} of {cases:.0f} outcomes are bad: there is nothing to tell apart")
    left_out: dict[str, str] = {}
    told(f"binning {len(columns)} columns, {bads:.0f} of {cases:.0f} outcomes are bad")
    binned: dict[str, tuple[Column, Bins]] = {}
    for column in columns:
        bins = bins_of(column, outcomes, rules.bins)
        if bins is None:
            left_out[column.name] = "tells nothing in its direction"
        elif bins.information < rules.least_information:
            left_out[column.name] = f"information value {bins.information:.3f}"
        elif column.name not in binned or bins.information > binned[column.name][1].information:
            binned[column.name] = (column, bins)
    left_out = {name: why for name, why in left_out.items() if name not in binned}
    chosen = _chosen(binned, bads, rules, left_out)
    told(f"fitting {len(chosen)} of {len(binned)} that tell something")
    while True:
        if not chosen:
            raise TrainingImpossible("no indicator tells good from bad")
        evidence = np.column_stack([_evidence(*binned[name]) for name in chosen])
        fit = fit_not_negative(evidence, outcomes, l2=rules.l2)
        none = {
            name
            for name, weight in zip(chosen, fit.coefficients, strict=True)
            if FACTOR * weight * _span(binned[name][1]) < rules.least_points
        }
        if not none:
            break
        left_out |= dict.fromkeys(none, f"adds less than {rules.least_points:g} points to the others")
        chosen = [name for name in chosen if name not in none]
    return _made(chosen, binned, fit, reference, left_out)


def _made(
    chosen: Sequence[str],
    binned: Mapping[str, tuple[Column, Bins]],
    fit: Fit,
    reference: Mapping[str, float | None],
    left_out: Mapping[str, str],
) -> FittedScorecard:
    bins = [binned[name][1] for name in chosen]
    references = []
    for name in chosen:
        column, item = binned[name]
        value = reference.get(name)
        references.append(len(item.woe) if value is None else place_of(value, item.edges, column.better))
    points = whole_points(bins, list(fit.coefficients), references)
    start = fit.intercept
    for item, coefficient, place in zip(bins, fit.coefficients, references, strict=True):
        start += coefficient * [*item.woe, item.missing_woe][place]
    return FittedScorecard(
        characteristics=tuple(
            FittedCharacteristic(
                column=name,
                line=binned[name][0].line,
                better=binned[name][0].better,
                floor=binned[name][0].floor,
                bins=item,
                coefficient=float(coefficient),
                points=given,
            )
            for name, item, coefficient, given in zip(chosen, bins, fit.coefficients, points, strict=True)
        ),
        fit=fit,
        exact_base=OFFSET + FACTOR * float(start),
        left_out=left_out,
    )


def _chosen(
    binned: Mapping[str, tuple[Column, Bins]], bads: float, rules: TrainingRules, left_out: dict[str, str]
) -> list[str]:
    """By information value, without those that say what a better one says."""
    most = max(1, min(rules.most_characteristics, int(bads) // rules.least_bads_each))
    chosen: list[str] = []
    evidence: list[Floats] = []
    lines: dict[str, int] = {}
    for name in sorted(binned, key=lambda name: (-binned[name][1].information, name)):
        column, bins = binned[name]
        if len(chosen) >= most:
            left_out[name] = f"{most} better ones are enough for {bads:.0f} bad outcomes"
            continue
        if lines.get(column.line, 0) >= rules.most_windows_of_a_line:
            left_out[name] = "other windows of it tell more"
            continue
        own = _standardized(_evidence(column, bins))
        alike = max(
            ((abs(float(own @ other)), n) for other, n in zip(evidence, chosen, strict=True)), default=(0.0, "")
        )
        if alike[0] > rules.most_correlation:
            left_out[name] = f"says what {alike[1]} says (correlation {alike[0]:.2f})"
            continue
        chosen.append(name)
        evidence.append(own)
        lines[column.line] = lines.get(column.line, 0) + 1
    return chosen


def _standardized(evidence: Floats) -> Floats:
    centred = evidence - evidence.mean()
    length = float(np.sqrt(centred @ centred))
    scaled: Floats = centred / length if length > 0 else centred
    return scaled


def _evidence(column: Column, bins: Bins) -> Floats:
    evidence: Floats = np.array([*bins.woe, bins.missing_woe])[column.places(bins.edges)]
    return evidence


def _span(bins: Bins) -> float:
    worths = (*bins.woe, bins.missing_woe)
    return max(worths) - min(worths)
