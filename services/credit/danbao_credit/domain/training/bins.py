"""Where an indicator's bins lie: cut at quantiles, merged until the bad rate only ever follows the direction.

Merging violators of an order is isotonic regression by pooling adjacent violators (Ayer et al., 1955). A bin's weight
of evidence is ln(good odds in the bin / good odds of all): above zero is better than the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from danbao_credit.domain.training.columns import Column, Floats, Outcomes

PRE_BINS = 40
_SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True, slots=True)
class BinRules:
    """How fine bins may be. A share or rate counted on less than this is noise and not evidence."""

    least_share: float = 0.04
    least_bads: float = 8.0
    most_bins: int = 6
    # So many rows of the average bad rate are mixed into every bin: what few rows say is drawn towards the average.
    smoothing_rows: float = 20.0


@dataclass(frozen=True, slots=True)
class Bins:
    """One column's bins, in the order of the edges: a low value first. Missing values have a bin of their own."""

    edges: tuple[float, ...]
    goods: tuple[float, ...]
    bads: tuple[float, ...]
    woe: tuple[float, ...]
    missing_goods: float
    missing_bads: float
    missing_woe: float

    @property
    def information(self) -> float:
        """Information value: Σ (share of goods − share of bads) · WOE; missing values included.

        Below zero where what a missing value must not be worth costs more than the bins tell.
        """
        goods = np.array([*self.goods, self.missing_goods], float)
        bads = np.array([*self.bads, self.missing_bads], float)
        if not goods.sum() or not bads.sum():
            return 0.0
        return float(((goods / goods.sum() - bads / bads.sum()) * np.array([*self.woe, self.missing_woe])).sum())


def bins_of(column: Column, outcomes: Outcomes, rules: BinRules) -> Bins | None:
    """None if the column tells nothing: fewer than two bins are left."""
    known = ~np.isnan(column.values)
    values, average = column.values[known], outcomes.bad_rate
    if not len(values) or not 0 < average < 1:
        return None
    edges = _candidate_edges(values, column.is_whole)
    if not edges:
        return None
    places = column.places(edges)[known]
    rows: Floats = np.bincount(places, weights=outcomes.all[known], minlength=len(edges) + 1).astype(float)
    bads: Floats = np.bincount(places, weights=outcomes.bads[known], minlength=len(edges) + 1).astype(float)
    merger = _Merger(edges, rows, bads, rising=column.better == "low", average=average, rules=rules)
    edges, rows, bads = merger.merged(float(outcomes.all.sum()))
    if not edges:
        return None
    rates = merger.rates(rows, bads)
    missing_rows, missing_bads = float(outcomes.all[~known].sum()), float(outcomes.bads[~known].sum())
    woe = tuple(_logit(average) - _logit(rate) for rate in rates)
    bins = Bins(
        edges=tuple(edges),
        goods=tuple(float(n - b) for n, b in zip(rows, bads, strict=True)),
        bads=tuple(float(b) for b in bads),
        woe=woe,
        missing_goods=missing_rows - missing_bads,
        missing_bads=missing_bads,
        missing_woe=0.0,
    )
    own = _logit(average) - _logit(
        (missing_bads + rules.smoothing_rows * average) / (missing_rows + rules.smoothing_rows)
    )
    low, high = column.bounds_of_missing(bins.edges, woe)
    # What hardly anybody lacks says nothing: neutral, within the bounds.
    enough = missing_rows >= rules.least_share * float(outcomes.all.sum())
    return replace(bins, missing_woe=min(max(own if enough else 0.0, low), high))


def _candidate_edges(values: Floats, is_whole: bool) -> list[float]:
    """Quantiles, rounded to what people can read, without the lowest value: nothing lies below it."""
    quantiles = np.quantile(values, np.linspace(0, 1, PRE_BINS + 1), method="inverted_cdf")
    # Where most values are the same (no defects at all), the others' quantiles tell them apart.
    most, often = np.unique(values, return_counts=True)
    mode = most[np.argmax(often)]
    others = values[values != mode]
    if len(others):
        extra = np.quantile(others, np.linspace(0, 1, PRE_BINS // 2 + 1), method="inverted_cdf")
        quantiles = np.concatenate([quantiles, extra, [mode]])
    rounded = {float(round(value)) if is_whole else _rounded(float(value)) for value in quantiles}
    lowest, highest = float(values.min()), float(values.max())
    return sorted(value for value in rounded if lowest <= value <= highest)


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


class _Merger:
    """Merges neighbours until the bins are ordered, large enough and few enough."""

    def __init__(
        self,
        edges: Sequence[float],
        rows: Floats,
        bads: Floats,
        *,
        rising: bool,
        average: float,
        rules: BinRules,
    ) -> None:
        # Of each bin: its upper edge (the last has none), rows, bads.
        self._bins = [
            [edge, float(n), float(b)] for edge, n, b in zip([*edges, float("inf")], rows, bads, strict=True) if n > 0
        ]
        self._bins[-1][0] = float("inf")
        self._rising = rising
        self._average = average
        self._rules = rules

    def merged(self, all_rows: float) -> tuple[list[float], Floats, Floats]:
        """Edges, rows and bads of what is left."""
        least = max(1.0, self._rules.least_share * all_rows)
        self._order()
        while len(self._bins) > 1:
            small = [
                place
                for place, (_, rows, bads) in enumerate(self._bins)
                if rows < least or min(bads, rows - bads) < self._rules.least_bads
            ]
            if small:
                self._merge_with_nearest(min(small, key=lambda place: (self._bins[place][1], place)))
            elif len(self._bins) > self._rules.most_bins:
                self._merge(min(range(len(self._bins) - 1), key=lambda place: (self._difference(place), place)))
            else:
                break
            self._order()
        edges = [edge for edge, _, _ in self._bins[:-1]]
        return edges, np.array([b[1] for b in self._bins]), np.array([b[2] for b in self._bins])

    def rates(self, rows: Floats, bads: Floats) -> list[float]:
        """Bad rates, drawn towards the average."""
        return [self._rate(float(n), float(b)) for n, b in zip(rows, bads, strict=True)]

    def _rate(self, rows: float, bads: float) -> float:
        drawn = self._rules.smoothing_rows
        return (bads + drawn * self._average) / (rows + drawn)

    def _order(self) -> None:
        """Pools adjacent violators until the rates strictly follow the direction."""
        place = 0
        while place < len(self._bins) - 1:
            here, beyond = (self._rate(*self._bins[p][1:]) for p in (place, place + 1))
            if (here < beyond) if self._rising else (here > beyond):
                place += 1
            else:
                self._merge(place)
                place = max(place - 1, 0)

    def _merge_with_nearest(self, place: int) -> None:
        if place == 0:
            self._merge(0)
        elif place == len(self._bins) - 1 or self._difference(place - 1) <= self._difference(place):
            self._merge(place - 1)
        else:
            self._merge(place)

    def _difference(self, place: int) -> float:
        """How much is lost by merging a bin with the next: their distance weighed by the smaller one."""
        (_, rows, bads), (_, more_rows, more_bads) = self._bins[place], self._bins[place + 1]
        distance = abs(_logit(self._rate(rows, bads)) - _logit(self._rate(more_rows, more_bads)))
        return distance * min(rows, more_rows)

    def _merge(self, place: int) -> None:
        upper, rows, bads = self._bins.pop(place + 1)
        self._bins[place] = [upper, self._bins[place][1] + rows, self._bins[place][2] + bads]


def _logit(rate: float) -> float:
    return float(np.log(rate / (1 - rate)))
