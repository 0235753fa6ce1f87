"""How well scores tell good from bad, and how far two populations lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from danbao_credit.domain.training.columns import Floats, Outcomes

# 95 % of a normal distribution lie within so many standard deviations.
_Z95 = 1.959963984540054
# A share of zero would make the index infinite; PSI takes this much instead.
_LEAST_SHARE = 1e-4


@dataclass(frozen=True, slots=True)
class Strength:
    """AUC: how often a good one scores above a bad one (a tie counts half). Gini = 2·AUC − 1. KS: the largest gap."""

    outcomes: float
    bads: float
    auc: float
    ks: float

    @property
    def gini(self) -> float:
        return 2 * self.auc - 1


def strength(scores: Floats, outcomes: Outcomes) -> Strength:
    """Of scores that are higher for the better. NaN where only good or only bad ones are there."""
    bads, goods = float(outcomes.bads.sum()), float(outcomes.goods.sum())
    if not bads or not goods:
        return Strength(goods + bads, bads, math.nan, math.nan)
    levels, places = np.unique(scores, return_inverse=True)
    good_at = np.bincount(places, weights=outcomes.goods, minlength=len(levels))
    bad_at = np.bincount(places, weights=outcomes.bads, minlength=len(levels))
    bads_below = np.cumsum(bad_at) - bad_at
    wins = float((good_at * (bads_below + bad_at / 2)).sum())
    gap = np.abs(np.cumsum(bad_at) / bads - np.cumsum(good_at) / goods).max()
    return Strength(goods + bads, bads, wins / (bads * goods), float(gap))


def roc(scores: Floats, outcomes: Outcomes) -> tuple[Floats, Floats]:
    """Share of goods and share of bads that lie below each score, from none to all."""
    levels, places = np.unique(scores, return_inverse=True)
    good = np.cumsum(np.bincount(places, weights=outcomes.goods, minlength=len(levels))) / outcomes.goods.sum()
    bad = np.cumsum(np.bincount(places, weights=outcomes.bads, minlength=len(levels))) / outcomes.bads.sum()
    return np.concatenate([[0.0], good]), np.concatenate([[0.0], bad])


def wilson(bads: float, rows: float) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson, 1927); the whole scale without a row."""
    if rows <= 0:
        return 0.0, 1.0
    rate, square = bads / rows, _Z95 * _Z95
    centre = (rate + square / (2 * rows)) / (1 + square / rows)
    half = _Z95 * math.sqrt(rate * (1 - rate) / rows + square / (4 * rows * rows)) / (1 + square / rows)
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """Rows of neighbouring chances of being bad: what was expected and what came."""

    outcomes: float
    bads: float
    expected: float
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.bads / self.outcomes


def calibration(chances: Floats, outcomes: Outcomes, *, groups: int = 10) -> list[CalibrationRow]:
    """By groups of about as many outcomes each, lowest chance first."""
    order = np.argsort(chances, kind="stable")
    counted = np.cumsum(outcomes.all[order])
    group_of = np.minimum((counted - outcomes.all[order] / 2) * groups // counted[-1], groups - 1)
    table = []
    for group in np.unique(group_of):
        part = order[group_of == group]
        count, bads = float(outcomes.all[part].sum()), float(outcomes.bads[part].sum())
        expected = float((chances[part] * outcomes.all[part]).sum() / count)
        table.append(CalibrationRow(count, bads, expected, *wilson(bads, count)))
    return table


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Population stability index of two distributions over the same bins: Σ (a − e) · ln(a / e). Counts or shares."""
    if len(expected) != len(actual):
        raise ValueError(f"{len(expected)} bins cannot be compared with {len(actual)}")
    left, right = _shares(expected), _shares(actual)
    return float(((right - left) * np.log(right / left)).sum())


def _shares(counts: Sequence[float]) -> Floats:
    numbers = np.asarray(counts, float)
    total = numbers.sum()
    if not total > 0:
        raise ValueError("a distribution without anybody in it")
    shares: Floats = np.maximum(numbers / total, _LEAST_SHARE)
    return shares
