"""How much of what is released are fees and reserve: cumulative, so that partial releases never gain or lose a unit."""

from __future__ import annotations

from dataclasses import dataclass

BPS = 10_000
"""Basis points of a whole."""

STANDARD_FEE_BPS = 100
"""The seller's fee where a trade names none, before the grade scales it."""


def rounded_half_up(numerator: int, denominator: int) -> int:
    """numerator ÷ denominator, both ≥ 0, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)


def share(bps: int, amount_minor: int) -> int:
    """`bps` of the amount, rounded half up, minor units."""
    return rounded_half_up(bps * amount_minor, BPS)


def scaled_fee_bps(fee_percent: int) -> int:
    """The standard fee scaled by a grade's percentage, rounded half up, at most the whole."""
    return min(rounded_half_up(STANDARD_FEE_BPS * fee_percent, 100), BPS)


@dataclass(frozen=True, slots=True)
class ReleaseSplit:
    """A release taken apart, minor units: fee + seller = released; reserve is part of the seller's."""

    fee_minor: int
    seller_minor: int
    reserve_minor: int


def split_release(
    *, released_before_minor: int, fees_before_minor: int, released_minor: int, fee_bps: int, reserve_bps: int
) -> ReleaseSplit:
    """Takes the next release of a trade apart.

    fee = round(fee_bps × Σ released) − fees taken before; the reserve likewise, by what is released, at most the
    seller's part.
    """
    released_after_minor = released_before_minor + released_minor
    fee_minor = share(fee_bps, released_after_minor) - fees_before_minor
    seller_minor = released_minor - fee_minor
    reserve_minor = share(reserve_bps, released_after_minor) - share(reserve_bps, released_before_minor)
    assert 0 <= fee_minor <= released_minor, "cumulative fees never exceed a release"
    return ReleaseSplit(fee_minor, seller_minor, min(reserve_minor, seller_minor))
