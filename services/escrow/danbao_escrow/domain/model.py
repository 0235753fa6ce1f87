"""The nouns of escrow: trades with their lines, the terms they were made on, held parts, the timeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """What somebody is in a trade."""

    BUYER = "BUYER"
    SELLER = "SELLER"
    CARRIER = "CARRIER"
    ARBITER = "ARBITER"
    OPERATOR = "OPERATOR"
    SYSTEM = "SYSTEM"


class Delivery(StrEnum):
    """How goods travel; decides how long auto-confirm waits when no delivery is reported."""

    DIGITAL = "DIGITAL"
    VIRTUAL = "VIRTUAL"
    EXPRESS = "EXPRESS"
    POST = "POST"


class FeePayer(StrEnum):
    """Who pays the platform's fee."""

    SELLER = "SELLER"
    BUYER = "BUYER"
    SPLIT = "SPLIT"


class TradeState(StrEnum):
    """Where a trade stands; derived from its lines, never set."""

    PENDING_PAYMENT = "PENDING_PAYMENT"
    AWAITING_SHIPMENT = "AWAITING_SHIPMENT"
    PARTIALLY_SHIPPED = "PARTIALLY_SHIPPED"
    AWAITING_CONFIRMATION = "AWAITING_CONFIRMATION"
    COMPLETED = "COMPLETED"
    CLOSED = "CLOSED"
    CANCELLED = "CANCELLED"


END_STATES = frozenset({TradeState.COMPLETED, TradeState.CLOSED, TradeState.CANCELLED})


class LineState(StrEnum):
    """Where a line stands."""

    UNPAID = "UNPAID"
    PAID = "PAID"
    SHIPPED = "SHIPPED"
    RELEASED = "RELEASED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"


OPEN_LINE_STATES = frozenset({LineState.PAID, LineState.SHIPPED})
"""The line's money is in the trade's account."""


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf a command is given; `subject` is subjects/{id}."""

    subject: str
    role: Role


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class Line:
    """Goods within a trade that move together."""

    line_id: str
    title: str
    amount_minor: int
    delivery: Delivery
    state: LineState = LineState.UNPAID
    # What left it, without the buyer's fee; postage that it took along included.
    released_minor: int = 0
    refunded_minor: int = 0
    # The trade's postage, once it goes with this line.
    postage_minor: int = 0
    carrier: str = ""
    tracking: str = ""
    ship_time: datetime | None = None
    deliver_time: datetime | None = None
    # Auto-confirm, once shipped.
    deadline_time: datetime | None = None
    settle_time: datetime | None = None
    # Auto-confirm's time has passed, and the terms leave the rest to an operator.
    operator_needed: bool = False
    # By how much the buyer put off auto-confirm.
    extended_days: int = 0
    # The refund case that is open on it, refundCases/{uuid} or disputes/{uuid}; since when its timers stand still; and
    # for how long they stood still before, since it was paid, shipped or delivered.
    open_case: str = ""
    pause_time: datetime | None = None
    paused_us: int = 0

    @property
    def unsettled_minor(self) -> int:
        """What of it neither party has yet, minor units."""
        return self.amount_minor + self.postage_minor - self.released_minor - self.refunded_minor


@dataclass(frozen=True, slots=True)
class HeldPart:
    """Money released but kept back in seller.payable_held; due None waits for an operator."""

    amount_minor: int
    due_time: datetime | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a trade was agreed on; frozen at creation."""

    grade: str
    score: int
    model_version: str
    terms_version: str
    fee_bps: int
    auto_confirm_days: int
    auto_confirm_by_operator: bool
    per_trade_limit_minor: int
    payout_delay_hours: int
    payout_by_operator: bool
    reserve_bps: int
    defaulted: bool
    # What `fee_bps` leaves unsaid: a fixed amount in its place, or at most so much; 0: none.
    fee_fixed_minor: int = 0
    fee_cap_minor: int = 0
    fee_payer: FeePayer = FeePayer.SELLER
    # The buyer's, on top of the total.
    buyer_fee_bps: int = 0
    buyer_fee_fixed_minor: int = 0
    buyer_fee_cap_minor: int = 0
    # Whether the seller is a credible merchant, and how much at most a buyer is then compensated.
    member: bool = False
    compensation_limit_minor: int = 0


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class Trade:
    """A secured transaction between one buyer and one seller."""

    trade_id: UUID
    state: TradeState
    buyer: str
    seller: str
    # Whose trade it is: the partner that made it; empty when none did.
    partner: str
    currency: str
    lines: tuple[Line, ...]
    postage_minor: int
    # Lines and postage: what the formulas of the design call P.
    total_minor: int
    terms: Terms
    pay_by_time: datetime
    ship_by_time: datetime | None
    reference: str
    create_time: datetime
    update_time: datetime
    # Paid on top of the total.
    buyer_fee_minor: int = 0
    funded_minor: int = 0
    # All that left the trade's account, either way; the buyer's fee included.
    released_minor: int = 0
    refunded_minor: int = 0
    # All that went to fee.escrow: the seller's fee and what of the buyer's was released.
    fees_minor: int = 0
    buyer_fee_released_minor: int = 0
    buyer_fee_refunded_minor: int = 0
    held: tuple[HeldPart, ...] = ()
    payment: str = ""
    # Steps are numbered from 1 within the trade; 0: none.
    last_step: int = 0
    pending_step: int = 0
    step_blocked: bool = False
    step_refusal: str = ""
    pay_time: datetime | None = None
    end_time: datetime | None = None
    revision: int = 1
    timeline_length: int = 0
    # How many of its lines have an open case; follows from them.
    open_cases: int = 0
    # When its price was last adjusted; pay-by counts from then.
    adjust_time: datetime | None = None
    # The earliest deadline of the trade or a line of it, for whoever looks at many trades; follows from them.
    deadline_time: datetime | None = None
    # Reminders that were due until then are given.
    remind_time: datetime | None = None
    # What the buyer was compensated, besides what left the trade's account; and the claim that waits, claims/{uuid}.
    compensated_minor: int = 0
    open_claim: str = ""
    # The rail that brings or brought the money; empty: the wallet. Pending: `payment` is still on its way over it.
    rail: str = ""
    payment_pending: bool = False
    # checkouts/{uuid} into which it was put last.
    checkout: str = ""
    # What chargebacks took out of the trade's account; of that, what waits for the end of the pending step, and the
    # transaction that took it.
    charged_back_minor: int = 0
    chargeback_due_minor: int = 0
    chargeback_due: str = ""
    # On whose behalf it was made, and whether by the partner instead of by a token of that party's own.
    made_by: Role = Role.BUYER
    made_by_partner: bool = False

    @property
    def name(self) -> str:
        """trades/{uuid}."""
        return f"trades/{self.trade_id}"

    @property
    def price_time(self) -> datetime:
        """Since when its price stands."""
        return self.adjust_time or self.create_time

    @property
    def price_minor(self) -> int:
        """What the buyer pays: the total and the buyer's fee."""
        return self.total_minor + self.buyer_fee_minor

    @property
    def released_of_total_minor(self) -> int:
        """Of the total, what went to the seller and the seller's fee."""
        return self.released_minor - self.buyer_fee_released_minor

    @property
    def refunded_of_total_minor(self) -> int:
        """Of the total, what went back."""
        return self.refunded_minor - self.buyer_fee_refunded_minor

    @property
    def buyer_fee_moved_minor(self) -> int:
        """Of the buyer's fee, what moved either way."""
        return self.buyer_fee_released_minor + self.buyer_fee_refunded_minor

    @property
    def seller_fees_minor(self) -> int:
        """Of the fees taken, the seller's."""
        return self.fees_minor - self.buyer_fee_released_minor

    @property
    def postage_left_minor(self) -> int:
        """The postage that no line has taken along yet."""
        return self.postage_minor - sum(line.postage_minor for line in self.lines)

    @property
    def is_paid_together(self) -> bool:
        """Whether the payment of a checkout is on its way over a rail."""
        return bool(self.checkout) and self.payment_pending

    @property
    def held_back_minor(self) -> int:
        """Released but kept back, minor units."""
        return sum(part.amount_minor for part in self.held)

    @property
    def is_pending(self) -> bool:
        """Whether a money step is under way."""
        return self.pending_step != 0

    def line(self, line_id: str) -> Line | None:
        """The line of that id."""
        return next((line for line in self.lines if line.line_id == line_id), None)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened to a trade."""

    trade_id: UUID
    position: int
    command: str
    actor: Actor
    token_subject: str
    line_ids: tuple[str, ...]
    state: TradeState
    reason: str
    ledger_reference: str
    amount_minor: int
    trace_id: str
    create_time: datetime
    # The case, dispute or claim that it was about.
    subject: str = ""
