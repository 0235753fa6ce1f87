"""What happened to a trade, for others to read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from danbao_escrow.domain.case_model import Proceeding
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
    PRICE_ADJUSTED = "price_adjusted"
    CONFIRMATION_EXTENDED = "confirmation_extended"
    TRADE_REMINDER = "trade_reminder"
    TRADE_PAYMENT_PENDING = "trade_payment_pending"
    LATE_PAYMENT_RETURNING = "late_payment_returning"
    TRADE_CHARGED_BACK = "trade_charged_back"
    TRADE_CHARGEBACK_REVERSED = "trade_chargeback_reversed"
    STEP_ENDED = "step_ended"
    REFUND_CASE_OPENED = "refund_case_opened"
    REFUND_CASE_ACCEPTED = "refund_case_accepted"
    REFUND_CASE_REJECTED = "refund_case_rejected"
    RETURN_SUBMITTED = "return_submitted"
    REFUND_CASE_SUCCEEDED = "refund_case_succeeded"
    REFUND_CASE_WITHDRAWN = "refund_case_withdrawn"
    REFUND_CASE_CLOSED = "refund_case_closed"
    REFUND_CASE_REMINDER = "refund_case_reminder"
    DISPUTE_OPENED = "dispute_opened"
    EVIDENCE_ADDED = "evidence_added"
    OFFER_MADE = "offer_made"
    DISPUTE_SETTLED = "dispute_settled"
    DISPUTE_DECIDED = "dispute_decided"
    DISPUTE_APPEALED = "dispute_appealed"
    DISPUTE_OVERDUE = "dispute_overdue"
    DISPUTE_CLOSED = "dispute_closed"
    DISPUTE_REMINDER = "dispute_reminder"
    CLAIM_OPENED = "claim_opened"
    CLAIM_COMPENSATED = "claim_compensated"
    CLAIM_REJECTED = "claim_rejected"
    CLAIM_PAYMENT_REFUSED = "claim_payment_refused"


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """One thing that happened; `trade` as it was right afterwards, `amount_minor` what moved if anything.

    `about` is the case, dispute or claim that it happened to; None: the trade itself. `by_partner`: before payment a
    partner did it in the name of `actor`.
    """

    kind: EventKind
    trade: Trade
    actor: Actor
    line_ids: tuple[str, ...] = ()
    amount_minor: int = 0
    reason: str = ""
    about: Proceeding | None = None
    by_partner: bool = False
