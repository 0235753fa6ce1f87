"""How weights of evidence become whole points, so that base + points stays as close to the odds as whole numbers can.

Each bin's points are FACTOR · coefficient · WOE, counted from a bin of reference that has none: somebody nobody has
seen then scores the base alone. Rounding each bin to the nearest would leave a mean error that grows with the number of
characteristics; so, as with largest remainders (Hare, 1857), the roundings nearest to a half are turned until the mean
over all training rows is right to a fraction of a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.scale import FACTOR
from danbao_credit.domain.training.bins import Bins
from danbao_credit.domain.training.columns import Floats


@dataclass(frozen=True, slots=True)
class WholePoints:
    """A characteristic's points by bin and for a missing value."""

    points: tuple[int, ...]
    missing: int


def whole_points(bins: Sequence[Bins], coefficients: Sequence[float], references: Sequence[int]) -> list[WholePoints]:
    """`references`: of each characteristic the bin that has no points; one more than the last is the missing value."""
    exact = [
        FACTOR * coefficient * (np.array([*item.woe, item.missing_woe]) - [*item.woe, item.missing_woe][reference])
        for item, coefficient, reference in zip(bins, coefficients, references, strict=True)
    ]
    whole = [np.round(numbers).astype(np.int64) for numbers in exact]
    weights = [_weights(item) for item in bins]
    _turn_roundings(exact, whole, weights, references)
    return [WholePoints(tuple(int(p) for p in numbers[:-1]), int(numbers[-1])) for numbers in whole]


def _weights(bins: Bins) -> Floats:
    rows = np.array([good + bad for good, bad in zip(bins.goods, bins.bads, strict=True)] + [0], float)
    rows[-1] = bins.missing_goods + bins.missing_bads
    shares: Floats = rows / rows.sum()
    return shares


def _turn_roundings(
    exact: list[Floats], whole: list[npt.NDArray[np.int64]], weights: list[Floats], references: Sequence[int]
) -> None:
    """Moves single bins by one point, the cheapest first, while that brings the mean nearer."""
    error = sum(float((w * (n - e)).sum()) for e, n, w in zip(exact, whole, weights, strict=True))
    step = -1 if error > 0 else 1
    options = sorted(
        (abs(numbers[place] + step - exact[which][place]), which, place)
        for which, numbers in enumerate(whole)
        for place in range(len(numbers))
        if place != references[which] and weights[which][place] > 0
    )
    for distance, which, place in options:
        # Further than one point away would be no rounding any more.
        if distance >= 1:
            break
        moved = whole[which].copy()
        moved[place] += step
        change = step * weights[which][place]
        if abs(error + change) < abs(error) and _keeps_order(exact[which], moved):
            whole[which] = moved
            error += change


def _keeps_order(exact: Floats, moved: npt.NDArray[np.int64]) -> bool:
    """Whether the bins still follow the direction and the missing value lies within them."""
    bins = moved[:-1]
    rising = exact[-2] >= exact[0]
    ordered = bool(np.all(np.diff(bins) >= 0)) if rising else bool(np.all(np.diff(bins) <= 0))
    # What stood on one side of a bin may come level with it and never pass it.
    sides = np.sign(exact[-1] - exact[:-1]) * np.sign(moved[-1] - bins)
    return ordered and bool(np.all(sides >= 0))
