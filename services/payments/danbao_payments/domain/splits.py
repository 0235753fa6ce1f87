"""How an amount is split into whole minor units such that nothing is lost: the parts' sum is the amount, always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from danbao_payments.domain.errors import SplitNotWhole

BASIS_POINTS = 10_000


class RemainderPolicy(StrEnum):
    """Who gets the units that rounding down leaves over, one each."""

    FIRST = "FIRST"  # the parts in their order
    LARGEST_REMAINDER = "LARGEST_REMAINDER"  # those that rounding cost most; among equals the earlier


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a split: a fixed amount, a share of the whole, or (neither) what remains.

    Parts that take what remains are filled in their order, each up to its cap. A share's cap leaves its surplus to
    what remains. Minor units.
    """

    fixed_minor: int | None = None
    share: Fraction | None = None
    cap_minor: int | None = None

    @property
    def is_remaining(self) -> bool:
        """Whether it takes what the others leave."""
        return self.fixed_minor is None and self.share is None


def share_of(basis_points: int) -> Fraction:
    """250 basis points are 2.5 %."""
    return Fraction(basis_points, BASIS_POINTS)


def split(amount_minor: int, parts: Sequence[Part], policy: RemainderPolicy) -> tuple[int, ...]:
    """What each part gets, in their order. Parts may get 0.

    Shares are of the whole amount, not of what fixed parts leave. What remains is rounded like a share: by
    LARGEST_REMAINDER a lone share beside it is rounded to the nearest unit.
    Raises SplitNotWhole when the parts are more than the amount, or less with nobody to take the rest.
    """
    exact = [_exact(amount_minor, part) for part in parts]
    left = amount_minor - sum(exact, Fraction(0))
    if left < 0:
        raise SplitNotWhole(amount_minor=amount_minor, parts_minor=str(amount_minor - left))
    for position, part in enumerate(parts):
        if part.is_remaining:
            taken = left if part.cap_minor is None else min(left, Fraction(part.cap_minor))
            exact[position] = taken
            left -= taken
    if left > 0:
        raise SplitNotWhole(amount_minor=amount_minor, parts_minor=str(amount_minor - left))
    whole = [value.numerator // value.denominator for value in exact]
    rounded = [position for position, value in enumerate(exact) if value != whole[position]]
    if policy is RemainderPolicy.LARGEST_REMAINDER:
        rounded.sort(key=lambda position: whole[position] - exact[position])
    elif rounded:
        # In order means in order: a share that came out whole takes its turn as well, unless its cap is met.
        rounded = [
            position
            for position, part in enumerate(parts)
            if part.fixed_minor is None
            and exact[position] > 0
            and (part.cap_minor is None or whole[position] < part.cap_minor)
        ]
    for position in rounded[: amount_minor - sum(whole)]:
        whole[position] += 1
    assert sum(whole) == amount_minor, "rounding down costs less than a unit a part"
    return tuple(whole)


def _exact(amount_minor: int, part: Part) -> Fraction:
    if part.fixed_minor is not None:
        return Fraction(part.fixed_minor)
    if part.share is None:
        return Fraction(0)
    value = amount_minor * part.share
    return value if part.cap_minor is None else min(value, Fraction(part.cap_minor))
