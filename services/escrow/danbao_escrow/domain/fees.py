"""How much of what moves are fees and reserve: cumulative, so that parts never gain or lose a unit on the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from danbao_escrow.domain.model import FeePayer, Terms

BPS = 10_000
"""Basis points of a whole."""

STANDARD_FEE_BPS = 100
"""The fee where a trade names none, before the grade scales it."""


def rounded_half_up(numerator: int, denominator: int) -> int:
    """numerator ÷ denominator, both ≥ 0, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)


def share(bps: int, amount_minor: int) -> int:
    """`bps` of the amount, rounded half up, minor units."""
    return rounded_half_up(bps * amount_minor, BPS)


def scaled_fee_bps(fee_percent: int) -> int:
    """The standard fee scaled by a grade's percentage, rounded half up, at most the whole."""
    return min(rounded_half_up(STANDARD_FEE_BPS * fee_percent, 100), BPS)


class Fee(NamedTuple):
    """One party's fee: basis points, at most the cap, or a fixed amount spread over the whole; 0: not given."""

    bps: int = 0
    fixed_minor: int = 0
    cap_minor: int = 0

    def on(self, moved_minor: int, *, total_minor: int) -> int:
        """The fee on what has moved of a trade so far, minor units."""
        if self.fixed_minor:
            return rounded_half_up(self.fixed_minor * moved_minor, total_minor)
        fee_minor = share(self.bps, moved_minor)
        return min(fee_minor, self.cap_minor) if self.cap_minor else fee_minor


class AskedFees(NamedTuple):
    """What a new trade says about fees; None: nothing."""

    bps: int | None = None
    fixed_minor: int | None = None
    cap_minor: int | None = None
    payer: FeePayer | None = None
    buyer_bps: int | None = None
    buyer_fixed_minor: int | None = None


def fees_of(asked: AskedFees, *, standard_bps: int) -> tuple[Fee, Fee]:
    """The seller's and the buyer's fee. Of a split one the buyer has the half, rounded down."""
    fixed_minor, cap_minor = asked.fixed_minor or 0, asked.cap_minor or 0
    bps = 0 if asked.fixed_minor is not None else standard_bps if asked.bps is None else asked.bps
    whole = Fee(bps, fixed_minor, cap_minor)
    if asked.payer is FeePayer.BUYER:
        return Fee(), whole
    if asked.payer is not FeePayer.SPLIT:
        return whole, Fee(asked.buyer_bps or 0, asked.buyer_fixed_minor or 0)
    half = Fee(bps // 2, fixed_minor // 2, cap_minor // 2)
    rest = Fee(bps - half.bps, fixed_minor - half.fixed_minor, cap_minor - half.cap_minor)
    # Half of a cap of 1 is no cap of 0, which would mean none: it is no fee.
    return rest, Fee() if cap_minor and not half.cap_minor else half


def seller_fee(terms: Terms) -> Fee:
    """What the seller pays out of what is released."""
    return Fee(terms.fee_bps, terms.fee_fixed_minor, terms.fee_cap_minor)


def buyer_fee_minor(terms: Terms, total_minor: int) -> int:
    """What the buyer pays on top of a total."""
    fee = Fee(terms.buyer_fee_bps, terms.buyer_fee_fixed_minor, terms.buyer_fee_cap_minor)
    return fee.on(total_minor, total_minor=total_minor)


@dataclass(frozen=True, slots=True)
class Settled:
    """How far a trade is settled, of its total and without the buyer's fee, minor units."""

    total_minor: int
    released_minor: int
    refunded_minor: int


@dataclass(frozen=True, slots=True)
class BuyerFeeSplit:
    """The buyer's fee that moves with a part of the total, minor units: back to the buyer, and to the platform."""

    refunded_minor: int
    released_minor: int


def split_buyer_fee(
    buyer_fee_minor: int,
    before: Settled,
    *,
    refunded_minor: int,
    released_minor: int,
    moved_minor: int | None = None,
) -> BuyerFeeSplit:
    """moved = round(bf × (Σ released + Σ refunded) / P), the buyer's part first; nothing is left over at the end.

    `moved_minor` is what moved before, where a chargeback took a unit more than the formula says.
    """
    settled_minor = before.released_minor + before.refunded_minor
    so_far_minor = _moved_minor(buyer_fee_minor, before, settled_minor) if moved_minor is None else moved_minor
    after_refund_minor = max(so_far_minor, _moved_minor(buyer_fee_minor, before, settled_minor + refunded_minor))
    after_all_minor = _moved_minor(buyer_fee_minor, before, settled_minor + refunded_minor + released_minor)
    return BuyerFeeSplit(
        refunded_minor=after_refund_minor - so_far_minor,
        released_minor=max(after_refund_minor, after_all_minor) - after_refund_minor,
    )


def part_with_fee(buyer_fee_minor: int, before: Settled, *, amount_minor: int, moved_minor: int) -> int:
    """The largest part of the total that, with the buyer's fee on it, an amount suffices for.

    The fee on it is the rest, or the rest less one: then the amount takes one unit of the fee early.
    """
    settled_minor = before.released_minor + before.refunded_minor
    low, high = 0, min(amount_minor, before.total_minor - settled_minor)
    while low < high:
        middle = (low + high + 1) // 2
        fee_minor = max(0, _moved_minor(buyer_fee_minor, before, settled_minor + middle) - moved_minor)
        low, high = (middle, high) if middle + fee_minor <= amount_minor else (low, middle - 1)
    return low


def _moved_minor(buyer_fee_minor: int, before: Settled, settled_minor: int) -> int:
    return rounded_half_up(buyer_fee_minor * settled_minor, before.total_minor)


@dataclass(frozen=True, slots=True)
class ReleaseSplit:
    """A release taken apart, minor units: fee + seller = released; reserve is part of the seller's."""

    fee_minor: int
    seller_minor: int
    reserve_minor: int


def split_release(fee: Fee, before: Settled, *, released_minor: int, reserve_bps: int) -> ReleaseSplit:
    """Takes the next release of a trade apart.

    fee = the fee on Σ released − the fee on what was released before; the reserve likewise, at most the seller's part.
    """
    total_minor, before_minor = before.total_minor, before.released_minor
    after_minor = before_minor + released_minor
    fee_minor = fee.on(after_minor, total_minor=total_minor) - fee.on(before_minor, total_minor=total_minor)
    seller_minor = released_minor - fee_minor
    reserve_minor = share(reserve_bps, after_minor) - share(reserve_bps, before_minor)
    assert 0 <= fee_minor <= released_minor, "cumulative fees never exceed a release"
    return ReleaseSplit(fee_minor, seller_minor, min(reserve_minor, seller_minor))
