"""What happened to a trade, for others to read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from danbao_escrow.domain.model import Actor, Trade


class EventKind(StrEnum):
    """Names of the payload's fields in the contract."""

    TRADE_CREATED = "trade_created"
    TRADE_PAID = "trade_paid"
    TRADE_PAYMENT_REFUSED = "trade_payment_refused"
    LINES_SHIPPED = "lines_shipped"
    LINES_DELIVERED = "lines_delivered"
    LINES_RELEASED = "lines_released"
    LINES_REFUNDED = "lines_refunded"
    LINES_SETTLED = "lines_settled"
    TRADE_CANCELLED = "trade_cancelled"
    HELD_RELEASED = "held_released"
    STEP_BLOCKED = "step_blocked"
    OPERATOR_NEEDED = "operator_needed"


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """One thing that happened; `trade` as it was right afterwards, `amount_minor` what moved if anything."""

    kind: EventKind
    trade: Trade
    actor: Actor
    line_ids: tuple[str, ...] = ()
    amount_minor: int = 0
    reason: str = ""
