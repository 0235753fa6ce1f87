"""What credit is told: the events of payments and escrow and what other teams report, in credit's own words.

Times are microseconds since the epoch, in business time. None where something has not happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Source(StrEnum):
    """From where it is told."""

    PAYMENTS = "payments"
    ESCROW = "escrow"
    # What other teams tell, by RecordEvents.
    REPORTS = "reports"


class Role(StrEnum):
    """On whose behalf something was done to a trade."""

    BUYER = "buyer"
    SELLER = "seller"
    CARRIER = "carrier"
    ARBITER = "arbiter"
    OPERATOR = "operator"
    SYSTEM = "system"


class TradeState(StrEnum):
    """Whether a trade has ended, and how."""

    OPEN = "open"
    COMPLETED = "completed"
    CLOSED = "closed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a trade, as it was right after the event."""

    line_id: str
    # Its whole amount went back.
    is_refunded: bool
    # It waits for shipment.
    is_to_ship: bool
    ship_us: int | None
    deliver_us: int | None
    settle_us: int | None
    # By how many days the buyer put off auto-confirm.
    extended_days: int


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """One thing that happened to a trade; `line_ids` empty: to all of it."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    trade: str
    buyer: str
    seller: str
    currency: str
    state: TradeState
    actor: Role
    line_ids: tuple[str, ...]
    amount_minor: int
    lines: tuple[Line, ...]
    create_us: int
    pay_us: int | None
    ship_by_us: int | None
    # Lines and postage.
    total_minor: int = 0
    # What went back to the buyer so far, this event included.
    refunded_minor: int = 0
    # The money came over a rail, not from the wallet.
    by_rail: bool = False
    in_checkout: bool = False
    is_adjusted: bool = False
    # Why, as the event puts it.
    reason: str = ""
    # Whose trade it is, if a partner's; on whose behalf it was made, and whether by that partner, not by the party.
    partner: str = ""
    made_by: Role = Role.BUYER
    made_by_partner: bool = False
    # Before payment: that partner acted in the name of `actor`.
    by_partner: bool = False


@dataclass(frozen=True, slots=True)
class CaseEvent:
    """One thing that happened to a refund case."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    case: str
    trade: str
    buyer: str
    seller: str
    currency: str
    actor: Role
    # What is claimed.
    amount_minor: int
    # What moved by this event.
    moved_minor: int
    # Why: not_received, not_as_described, damaged, late, counterfeit, changed_mind or other.
    reason: str
    with_return: bool
    # The goods were sent back.
    is_returned: bool
    create_us: int


@dataclass(frozen=True, slots=True)
class DisputeEvent:
    """One thing that happened to a dispute. `buyer_minor` and `seller_minor` are what was decided, else offered."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    dispute: str
    trade: str
    buyer: str
    seller: str
    currency: str
    actor: Role
    frozen_minor: int
    is_decided: bool
    buyer_minor: int
    seller_minor: int
    # What moved by this event; 0 also at the end of a dispute that a chargeback ended.
    moved_minor: int
    create_us: int


@dataclass(frozen=True, slots=True)
class ClaimEvent:
    """One thing that happened to a claim for compensation."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    claim: str
    trade: str
    buyer: str
    seller: str
    currency: str
    amount_minor: int
    compensated_minor: int
    create_us: int
    # The arbiter found that the buyer was not cheated.
    is_goodwill: bool = False


class PaymentEvent(NamedTuple):
    """One thing that happened to a payment: by far the most, and a tuple is made in a quarter of the time."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    payment: str
    payer: str
    currency: str
    # The owner of the account that receives: a subject, or a trade.
    payee: str = ""
    amount_minor: int = 0
    charged_back_minor: int = 0
    # Where the money comes from; empty: the payer's wallet.
    funding_source: str = ""


@dataclass(frozen=True, slots=True)
class TopUpEvent:
    """One thing that happened to a top-up. `funding_source` says where the money comes from."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    top_up: str
    owner: str
    currency: str
    amount_minor: int
    funding_source: str


@dataclass(frozen=True, slots=True)
class WithdrawalEvent:
    """One thing that happened to a withdrawal. `destination` says where the money goes."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    withdrawal: str
    owner: str
    currency: str
    amount_minor: int
    destination: str
    create_us: int


@dataclass(frozen=True, slots=True)
class RailRefundEvent:
    """One thing that happened to money on its way back over a rail. `owner` is whose it is if the rail refuses."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    refund: str
    owner: str
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """One thing that happened to an account; its owner may be a subject, a trade or the platform."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    account: str
    owner: str
    currency: str


@dataclass(frozen=True, slots=True)
class OwnerEvent:
    """That a partner brought a subject."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    owner: str
    partner: str


@dataclass(frozen=True, slots=True)
class ReportedEvent:
    """Something that another team knows: about `subject`, maybe with a `peer`, maybe `about` an order. Empty: none.

    `measures` are whole numbers by name; which ones a kind has stands in the catalogue.
    """

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    subject: str
    peer: str
    about: str
    currency: str
    measures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """Something that says nothing about anybody's credit."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str


Event: TypeAlias = (
    TradeEvent
    | CaseEvent
    | DisputeEvent
    | ClaimEvent
    | PaymentEvent
    | TopUpEvent
    | WithdrawalEvent
    | RailRefundEvent
    | AccountEvent
    | OwnerEvent
    | ReportedEvent
    | OtherEvent
)
