"""What credit is told: the events of payments and escrow and what other teams report, in credit's own words.

Times are microseconds since the epoch, in business time. None where something has not happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


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
    is_refunded: bool
    ship_us: int | None
    deliver_us: int | None
    settle_us: int | None


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


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """One thing that happened to a payment."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    payment: str
    payer: str
    currency: str


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


Event: TypeAlias = TradeEvent | PaymentEvent | TopUpEvent | ReportedEvent | OtherEvent
