"""How what is captured of a payment is shared out among its split's destinations, and how it is gathered in again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

from danbao_payments.domain.chart import PLATFORM
from danbao_payments.domain.errors import SplitNotWhole
from danbao_payments.domain.splits import BASIS_POINTS, Part, RemainderPolicy, share_of, split


class Terms(Protocol):
    """A fixed amount, basis points, or (neither) what remains. Minor units."""

    @property
    def fixed_minor(self) -> int | None: ...
    @property
    def basis_points(self) -> int | None: ...
    @property
    def cap_minor(self) -> int | None: ...


class SplitPart(NamedTuple):
    """One destination of a payment's split, with what moved so far. Minor units."""

    owner: str
    kind: str
    fixed_minor: int | None
    basis_points: int | None
    cap_minor: int | None
    captured_minor: int = 0
    refunded_minor: int = 0
    # Who finally gets what goes to a trade's account; empty: the payment's beneficiary.
    beneficiary: str = ""
    charged_back_minor: int = 0

    @property
    def refundable_minor(self) -> int:
        """What it may still give back."""
        return self.captured_minor - self.refunded_minor

    @property
    def is_fee(self) -> bool:
        """Whether it is the platform's."""
        return self.owner == PLATFORM


def check_whole(amount_minor: int, terms: Sequence[Terms], policy: str) -> None:
    """Raises SplitNotWhole unless the parts come to the amount, and whatever is captured of it can be shared out."""
    basis_points = sum(term.basis_points or 0 for term in terms)
    if basis_points > BASIS_POINTS:
        parts_minor = str(Fraction(amount_minor * basis_points, BASIS_POINTS))
        raise SplitNotWhole(amount_minor=amount_minor, parts_minor=parts_minor, field="splits")
    try:
        split(amount_minor, [_part(term) for term in terms], RemainderPolicy(policy))
    except SplitNotWhole as error:
        parts_minor = error.metadata["parts_minor"]
        raise SplitNotWhole(amount_minor=amount_minor, parts_minor=parts_minor, field="splits") from error


def shares(captured_minor: int, terms: Sequence[Terms], policy: str) -> tuple[int, ...]:
    """What each part has coming when so much of the payment is captured.

    Of less than the whole amount, fixed parts get what shares leave, in their order, before what remains.
    """
    order = sorted(range(len(terms)), key=lambda position: terms[position].fixed_minor is None)
    parts = [_part(terms[position], fixed_is_full=False) for position in order]
    found = dict(zip(order, split(captured_minor, parts, RemainderPolicy(policy)), strict=True))
    return tuple(found[position] for position in range(len(terms)))


def capture_parts(parts: Sequence[SplitPart], amount_minor: int, policy: str) -> tuple[int, ...]:
    """What each part receives of a capture: its share of all captured so far, less what it has."""
    captured = [part.captured_minor for part in parts]
    due = shares(sum(captured) + amount_minor, parts, policy)
    return _steps(amount_minor, due, captured, [amount_minor] * len(parts))


def refund_parts(parts: Sequence[SplitPart], amount_minor: int, *, fees_back: bool) -> tuple[int, ...]:
    """What each part gives back of a refund: its share of all refunded so far, less what it gave.

    Without `fees_back` the platform's parts give nothing. Never more than a part has; `refundable_minor` says how
    much all of them can give together.
    """
    giving = [fees_back or not part.is_fee for part in parts]
    captured = [part.captured_minor if gives else 0 for part, gives in zip(parts, giving, strict=True)]
    refunded = [part.refunded_minor if gives else 0 for part, gives in zip(parts, giving, strict=True)]
    room = [had - gone for had, gone in zip(captured, refunded, strict=True)]
    weights = [Part(share=Fraction(had, sum(captured))) for had in captured]
    due = split(sum(refunded) + amount_minor, weights, RemainderPolicy.LARGEST_REMAINDER)
    return _steps(amount_minor, due, refunded, room)


def refundable_minor(parts: Sequence[SplitPart], *, fees_back: bool) -> int:
    """What the parts can still give back together."""
    return sum(part.refundable_minor for part in parts if fees_back or not part.is_fee)


def _steps(amount_minor: int, due: Sequence[int], done: Sequence[int], room: Sequence[int]) -> tuple[int, ...]:
    """From what is done towards what is due, never backwards nor beyond the room, `amount_minor` in all.

    Rounding can leave a part a unit ahead of what it has coming now; the others then take a unit less between them.
    """
    steps = [min(max(target - so_far, 0), limit) for target, so_far, limit in zip(due, done, room, strict=True)]
    over = sum(steps) - amount_minor
    for position, limit in enumerate(room):
        change = -min(over, steps[position]) if over > 0 else min(-over, limit - steps[position])
        steps[position] += change
        over += change
    assert over == 0, "the room suffices for the amount"
    return tuple(steps)


def _part(term: Terms, *, fixed_is_full: bool = True) -> Part:
    if term.fixed_minor is not None:
        return Part(fixed_minor=term.fixed_minor) if fixed_is_full else Part(cap_minor=term.fixed_minor)
    share = None if term.basis_points is None else share_of(term.basis_points)
    return Part(share=share, cap_minor=term.cap_minor)
