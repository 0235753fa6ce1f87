"""Which movements a step makes in payments' ledger. A leg of nothing is left out."""

from __future__ import annotations

from collections.abc import Iterable

from danbao_escrow.domain.fees import split_release
from danbao_escrow.domain.model import OPEN_LINE_STATES, HeldPart, Leg, Line, LineState, Movement, Trade

ESCROW = "escrow.trade"
WALLET = "user.available"
FEE = "fee.escrow"
PAYABLE = "seller.payable"
HELD = "seller.payable_held"
PLATFORM = "platform"


def funding(trade: Trade) -> Movement:
    """Row 4: the buyer's wallet → the trade's account, by a payment."""
    return Movement(legs=_legs(Leg(trade.buyer, WALLET, trade.name, ESCROW, trade.total_minor)))


def release(trade: Trade, lines: Iterable[Line]) -> Movement:
    """Row 7: the trade's account → fee and → the seller, part of it kept back; with postage if nothing stays open."""
    chosen = tuple(lines)
    postage_minor = _postage_of(trade, chosen)
    return _out_of_escrow(
        trade,
        released_minor=sum(line.amount_minor for line in chosen) + postage_minor,
        postage_released_minor=postage_minor,
    )


def refund(trade: Trade, lines: Iterable[Line]) -> Movement:
    """Row 6: the trade's account → the buyer. The last open line's postage goes to the seller if any was shipped."""
    chosen = tuple(lines)
    postage_minor = _postage_of(trade, chosen)
    amount_minor = sum(line.amount_minor for line in chosen)
    if any(line.ship_time is not None for line in trade.lines):
        return _out_of_escrow(
            trade, refunded_minor=amount_minor, released_minor=postage_minor, postage_released_minor=postage_minor
        )
    return _out_of_escrow(trade, refunded_minor=amount_minor + postage_minor, postage_refunded_minor=postage_minor)


def payout(trade: Trade, parts: Iterable[HeldPart]) -> Movement:
    """Row 7b: what was kept back → payable."""
    amount_minor = sum(part.amount_minor for part in parts)
    return Movement(legs=_legs(Leg(trade.seller, HELD, trade.seller, PAYABLE, amount_minor)))


def _postage_of(trade: Trade, chosen: tuple[Line, ...]) -> int:
    """Postage goes with the last open line."""
    ids = {line.line_id for line in chosen}
    stays_open = any(line.state in OPEN_LINE_STATES and line.line_id not in ids for line in trade.lines)
    return 0 if stays_open else trade.postage_minor


def _out_of_escrow(
    trade: Trade,
    *,
    released_minor: int = 0,
    refunded_minor: int = 0,
    postage_released_minor: int = 0,
    postage_refunded_minor: int = 0,
) -> Movement:
    assert all(line.state is not LineState.UNPAID for line in trade.lines), "nothing leaves an unpaid trade"
    terms = trade.terms
    split = split_release(
        released_before_minor=trade.released_minor,
        fees_before_minor=trade.fees_minor,
        released_minor=released_minor,
        fee_bps=terms.fee_bps,
        reserve_bps=terms.reserve_bps,
    )
    rest_minor = split.seller_minor - split.reserve_minor
    delayed_minor = rest_minor if terms.payout_by_operator or terms.payout_delay_hours else 0
    return Movement(
        legs=_legs(
            Leg(trade.name, ESCROW, trade.buyer, WALLET, refunded_minor, is_refund=True),
            Leg(trade.name, ESCROW, PLATFORM, FEE, split.fee_minor),
            Leg(trade.name, ESCROW, trade.seller, PAYABLE, rest_minor - delayed_minor),
            Leg(trade.name, ESCROW, trade.seller, HELD, split.reserve_minor + delayed_minor),
        ),
        released_minor=released_minor,
        fee_minor=split.fee_minor,
        reserve_minor=split.reserve_minor,
        delayed_minor=delayed_minor,
        refunded_minor=refunded_minor,
        postage_released_minor=postage_released_minor,
        postage_refunded_minor=postage_refunded_minor,
    )


def _legs(*legs: Leg) -> tuple[Leg, ...]:
    return tuple(leg for leg in legs if leg.amount_minor > 0)
