"""Which movements a step makes in payments' ledger. A leg of nothing is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from danbao_escrow.domain.fees import Settled, part_with_fee, seller_fee, split_buyer_fee, split_release
from danbao_escrow.domain.model import OPEN_LINE_STATES, HeldPart, Line, LineState, Trade
from danbao_escrow.domain.step_model import Leg, LinePart, Movement, Step, StepKind, Together

ESCROW = "escrow.trade"
WALLET = "user.available"
FEE = "fee.escrow"
PAYABLE = "seller.payable"
HELD = "seller.payable_held"
DEPOSIT = "guarantee.deposit"
FUND = "guarantee.fund"
BACK_OVER_RAIL = "clearing.refund"
PLATFORM = "platform"


def funding(trade: Trade, *, rail: str = "", instrument: str = "", together: Together | None = None) -> Movement:
    """Rows 4 and 4r: the buyer's wallet, or a rail → the trade's account, by a payment; the buyer's fee with it."""
    legs = _legs(Leg(trade.buyer, WALLET, trade.name, ESCROW, trade.price_minor))
    return Movement(legs=legs, rail=rail, instrument=instrument, together=together)


def void() -> Movement:
    """Row 3 while a rail's payment is on its way: nothing moves by it."""
    return Movement(legs=())


def late_return(trade: Trade) -> Movement:
    """Row 4L: what the rail brought although the trade had ended → back over it."""
    left_minor = trade.price_minor - trade.charged_back_minor
    leg = Leg(trade.name, ESCROW, PLATFORM, BACK_OVER_RAIL, left_minor, is_refund=True)
    return Movement(legs=_legs(leg), refunded_minor=left_minor)


def charged_back(trade: Trade, amount_minor: int, *, last: Collection[str] = ()) -> Movement:
    """Row 16: what a chargeback took out of the trade's account, as if it were refunded: of the lines in their order.

    Those of `last` come after the others. Of the amount so much is of the total that the buyer's fee on it makes up
    the rest; the postage goes with the last open line. Nothing is left to move: payments has moved it.
    """
    before = Settled(trade.total_minor, trade.released_of_total_minor, trade.refunded_of_total_minor)
    fee_left_minor = trade.buyer_fee_minor - trade.buyer_fee_moved_minor
    of_total_minor = part_with_fee(
        trade.buyer_fee_minor, before, amount_minor=amount_minor, moved_minor=trade.buyer_fee_moved_minor
    )
    fee_minor = amount_minor - of_total_minor
    assert 0 <= fee_minor <= fee_left_minor, "no more is taken than was there"
    parts: list[LinePart] = []
    left_minor = of_total_minor
    for line in sorted(trade.lines, key=lambda each: each.line_id in last):
        if line.state not in OPEN_LINE_STATES or not left_minor:
            continue
        others_open = any(
            other.state in OPEN_LINE_STATES and other.line_id not in {part.line_id for part in parts} | {line.line_id}
            for other in trade.lines
        )
        postage_minor = trade.postage_left_minor if not others_open and left_minor >= line.unsettled_minor else 0
        taken_minor = min(left_minor, line.unsettled_minor + postage_minor)
        left_minor -= taken_minor
        parts.append(LinePart(line.line_id, refunded_minor=taken_minor, postage_minor=postage_minor))
    assert not left_minor, "the lines have what the trade has"
    return Movement(legs=(), refunded_minor=amount_minor, buyer_fee_refunded_minor=fee_minor, parts=tuple(parts))


def release(trade: Trade, lines: Iterable[Line]) -> Movement:
    """Row 7: what is left of lines → fee and → the seller, part of it kept back."""
    return _out_of_escrow(trade, tuple(LinePart(line.line_id, released_minor=line.unsettled_minor) for line in lines))


def refund(trade: Trade, lines: Iterable[Line]) -> Movement:
    """Row 6: what is left of lines → the buyer, with the share of the buyer's fee."""
    return _out_of_escrow(trade, tuple(LinePart(line.line_id, refunded_minor=line.unsettled_minor) for line in lines))


def refund_part(trade: Trade, line: Line, amount_minor: int, *, claims_postage: bool = False) -> Movement:
    """Row 9: this much of a line → the buyer, with the buyer's fee on it; with the postage if that is claimed."""
    buyer_minor = frozen_minor(trade, line, amount_minor, claims_postage=claims_postage)
    return settlement(trade, line, buyer_minor=buyer_minor, seller_minor=0, claims_postage=claims_postage)


def settlement(
    trade: Trade, line: Line, *, buyer_minor: int, seller_minor: int, claims_postage: bool = False
) -> Movement:
    """Rows 12 and 13: part of a line → the buyer as by a refund, part → the seller; of the postage too if claimed.

    The two must not exceed what of the line is unsettled, and the postage if it is claimed. The rest stays.
    """
    postage_minor = _claimed_postage(trade, line) if claims_postage else 0
    assert buyer_minor >= 0 <= seller_minor, "parts are not negative"
    assert postage_minor < buyer_minor + seller_minor <= line.unsettled_minor + postage_minor, "a part of the line"
    return _out_of_escrow(trade, (LinePart(line.line_id, seller_minor, buyer_minor, postage_minor),))


def frozen_minor(trade: Trade, line: Line, amount_minor: int, *, claims_postage: bool) -> int:
    """What a case over this much of a line is about: the amount, and the postage if it may claim and claims it."""
    return amount_minor + (_claimed_postage(trade, line) if claims_postage else 0)


def payout(trade: Trade, parts: Iterable[HeldPart]) -> Movement:
    """Row 7b: what was kept back → payable."""
    amount_minor = sum(part.amount_minor for part in parts)
    return Movement(legs=_legs(Leg(trade.seller, HELD, trade.seller, PAYABLE, amount_minor)))


def compensation(trade: Trade, amount_minor: int) -> Movement:
    """Row 14: the seller's deposit, and what it lacks from the platform's fund → the buyer."""
    leg = Leg(
        trade.seller,
        DEPOSIT,
        trade.buyer,
        WALLET,
        amount_minor,
        is_refund=True,
        fallback_owner=PLATFORM,
        fallback_kind=FUND,
    )
    return Movement(legs=_legs(leg))


def is_last_open(trade: Trade, line: Line) -> bool:
    """Whether the postage would go with this line."""
    return line.state in OPEN_LINE_STATES and not any(
        other.state in OPEN_LINE_STATES for other in trade.lines if other.line_id != line.line_id
    )


def parts_of(trade: Trade, step: Step) -> tuple[LinePart, ...]:
    """What the step takes from which line."""
    movement = step.movement
    if movement.parts or step.kind not in (StepKind.RELEASE, StepKind.REFUND):
        return movement.parts
    # Set before lines settled in parts: whole lines, without a buyer's fee; what is over is the postage, with the last.
    lines = [line for line in trade.lines if line.line_id in step.line_ids]
    amount_minor = sum(line.amount_minor for line in lines)
    if step.kind is StepKind.RELEASE:
        parts = [LinePart(line.line_id, released_minor=line.amount_minor) for line in lines]
        extra = (movement.released_minor - amount_minor, movement.refunded_minor)
    else:
        parts = [LinePart(line.line_id, refunded_minor=line.amount_minor) for line in lines]
        extra = (movement.released_minor, movement.refunded_minor - amount_minor)
    parts[-1] = _with_postage(parts[-1], released_minor=extra[0], refunded_minor=extra[1])
    return tuple(parts)


def _claimed_postage(trade: Trade, line: Line) -> int:
    """Only the last open line can take it along."""
    return trade.postage_left_minor if is_last_open(trade, line) else 0


def _with_postage(part: LinePart, *, released_minor: int = 0, refunded_minor: int = 0) -> LinePart:
    return replace(
        part,
        released_minor=part.released_minor + released_minor,
        refunded_minor=part.refunded_minor + refunded_minor,
        postage_minor=part.postage_minor + released_minor + refunded_minor,
    )


def _with_last_postage(trade: Trade, parts: tuple[LinePart, ...]) -> tuple[LinePart, ...]:
    """Postage goes with the last open line: to the seller if any line was ever shipped, else back to the buyer."""
    postage_minor = trade.postage_left_minor - sum(part.postage_minor for part in parts)
    if not postage_minor or _leaves_open(trade, parts):
        return parts
    was_shipped = any(line.ship_time is not None for line in trade.lines)
    last = (
        _with_postage(parts[-1], released_minor=postage_minor)
        if was_shipped
        else _with_postage(parts[-1], refunded_minor=postage_minor)
    )
    return (*parts[:-1], last)


def _leaves_open(trade: Trade, parts: tuple[LinePart, ...]) -> bool:
    """Whether any line is still open once these parts are taken."""
    taken = {part.line_id: part.released_minor + part.refunded_minor - part.postage_minor for part in parts}
    return any(
        line.state in OPEN_LINE_STATES and taken.get(line.line_id, 0) < line.unsettled_minor for line in trade.lines
    )


def _out_of_escrow(trade: Trade, chosen: tuple[LinePart, ...]) -> Movement:
    assert all(line.state is not LineState.UNPAID for line in trade.lines), "nothing leaves an unpaid trade"
    terms, parts = trade.terms, _with_last_postage(trade, chosen)
    released_minor = sum(part.released_minor for part in parts)
    refunded_minor = sum(part.refunded_minor for part in parts)
    before = Settled(trade.total_minor, trade.released_of_total_minor, trade.refunded_of_total_minor)
    buyer_fee = split_buyer_fee(
        trade.buyer_fee_minor,
        before,
        refunded_minor=refunded_minor,
        released_minor=released_minor,
        moved_minor=trade.buyer_fee_moved_minor,
    )
    split = split_release(seller_fee(terms), before, released_minor=released_minor, reserve_bps=terms.reserve_bps)
    fee_minor = split.fee_minor + buyer_fee.released_minor
    back_minor = refunded_minor + buyer_fee.refunded_minor
    rest_minor = split.seller_minor - split.reserve_minor
    delayed_minor = rest_minor if terms.payout_by_operator or terms.payout_delay_hours else 0
    # Where it came from; if the rail refuses, payments gives it to the wallet by itself.
    back_to = (PLATFORM, BACK_OVER_RAIL) if trade.rail else (trade.buyer, WALLET)
    return Movement(
        legs=_legs(
            Leg(trade.name, ESCROW, *back_to, back_minor, is_refund=True),
            Leg(trade.name, ESCROW, PLATFORM, FEE, fee_minor),
            Leg(trade.name, ESCROW, trade.seller, PAYABLE, rest_minor - delayed_minor),
            Leg(trade.name, ESCROW, trade.seller, HELD, split.reserve_minor + delayed_minor),
        ),
        released_minor=released_minor + buyer_fee.released_minor,
        fee_minor=fee_minor,
        reserve_minor=split.reserve_minor,
        delayed_minor=delayed_minor,
        refunded_minor=back_minor,
        buyer_fee_released_minor=buyer_fee.released_minor,
        buyer_fee_refunded_minor=buyer_fee.refunded_minor,
        parts=parts,
    )


def _legs(*legs: Leg) -> tuple[Leg, ...]:
    return tuple(leg for leg in legs if leg.amount_minor > 0)
