"""What the trainer reads: one column an indicator, with its direction and what a missing value may be worth."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How each row came out: so many good and so many bad, both at least zero. A single outcome is one of the two."""

    goods: Floats
    bads: Floats

    @classmethod
    def single(cls, is_bad: npt.NDArray[np.bool_]) -> Outcomes:
        """One outcome a row."""
        return cls((~is_bad).astype(float), is_bad.astype(float))

    def of(self, which: npt.NDArray[np.bool_]) -> Outcomes:
        """Of these rows."""
        return Outcomes(self.goods[which], self.bads[which])

    @property
    def all(self) -> Floats:
        return self.goods + self.bads

    @property
    def bad_rate(self) -> float:
        """Of all rows together."""
        return float(self.bads.sum() / max(self.all.sum(), 1e-12))


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one indicator, a row a subject and moment; NaN is missing.

    `line` groups the windows of one indicator. `floor`: the values are quotients whose denominator counts as at least
    this much, 0 where there is none.
    """

    name: str
    line: str
    better: str
    values: Floats
    floor: int = 0
    # Nobody may gain by having something happen for the first time that is not good; set for what a service scores.
    guards_missing: bool = True

    @property
    def key(self) -> tuple[str, int]:
        """One indicator may be tried with several floors."""
        return self.name, self.floor

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        known = self.values[~np.isnan(self.values)]
        return bool(np.all(known == np.round(known)))

    def places(self, edges: Sequence[float]) -> Places:
        """Each value's bin; a missing value's is one more than the last.

        As a scorecard reads them: up to an edge (better low) or from an edge on (better high) is the better bin.
        """
        known_edges = np.asarray(edges, float)
        if self.better == "low":
            places: Places = np.searchsorted(known_edges, self.values, side="left")
        else:
            places = np.searchsorted(known_edges, self.values, side="right")
        places[np.isnan(self.values)] = len(edges) + 1
        return places

    def bounds_of_missing(self, edges: Sequence[float], worths: Sequence[float]) -> tuple[float, float]:
        """The lowest and highest worth of a missing value, given the bins' worths.

        Never better than the best bin: hiding must not pay. Where more is better, having nothing is the least there is:
        neither more, nor so much less that the first slip would be a gain. Where less is better, a first slip must not
        be worth more than having nothing to judge by: the quotient of one slip, 1 / floor, bounds it from below.
        """
        if not self.guards_missing:
            return -math.inf, math.inf
        low, high = min(worths), max(worths)
        if self.better == "high":
            return worths[0], worths[0]
        if self.floor:
            low = worths[place_of(1 / self.floor, edges, self.better)]
        return low, high


def place_of(value: float, edges: Sequence[float], better: str) -> int:
    """The bin of one value."""
    return (bisect_left if better == "low" else bisect_right)(edges, value)
