"""What payments' events say that concerns trades: what moved in their accounts, and what became of their payments."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from danbao_kit.errors import Code, DanbaoError

PAYMENTS = "payments"
"""The stream's name."""


@dataclass(frozen=True, slots=True)
class PaymentMovement:
    """One transaction of payments upon one trade's account; amounts in minor units."""

    event_sequence: int
    trade_id: UUID
    # transactions/{uuid}, and payments/{uuid} where it is one's.
    reference: str
    payment: str
    # The event's name.
    kind: str
    # Which of the trade's steps asked for it; 0: none, or a checkout's payment.
    step: int
    currency: str
    in_minor: int
    out_minor: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Brought:
    """The rail has brought a payment's money into the trade's account."""

    trade_id: UUID
    payment: str
    step: int
    # Of a checkout's payment: how often it was tried before.
    generation: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Declined:
    """The rail refused a payment."""

    trade_id: UUID
    payment: str
    step: int
    generation: int
    failure: str


@dataclass(frozen=True, slots=True)
class ChargedBack:
    """A payment's money was taken back; of the amount so much out of the trade's account, the rest from its seller."""

    trade_id: UUID
    payment: str
    transaction: str
    amount_minor: int
    taken_minor: int


@dataclass(frozen=True, slots=True)
class ChargebackReversed:
    """A chargeback was decided for us: the seller has the amount."""

    trade_id: UUID
    payment: str
    transaction: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that could not be understood or applied, as it came, and why."""

    sequence: int
    reason: str
    payload: bytes


class StreamGap(DanbaoError):
    """A chunk does not follow on what was applied: the reader has to go back to the cursor."""

    code, reason = Code.ABORTED, "STREAM_GAP"

    def __init__(self, *, applied: int, after: int) -> None:
        super().__init__(f"payments' events are applied up to {applied}, not {after}", applied=applied, after=after)


Effect = Brought | Declined | ChargedBack | ChargebackReversed


@dataclass(frozen=True, slots=True)
class ApplyPaymentEvents:
    """The service's own: everything of payments' stream after one sequence up to and with another.

    Effects and what is parked are of the last event alone.
    """

    not_fingerprinted: ClassVar[tuple[str, ...]] = ()
    after: int
    through: int
    movements: tuple[PaymentMovement, ...] = ()
    effects: tuple[Effect, ...] = ()
    parked: tuple[ParkedEvent, ...] = ()

    @property
    def trade_ids(self) -> set[UUID]:
        """The trades that it may change."""
        return {effect.trade_id for effect in self.effects}


class EventMalformed(Exception):
    """It cannot be understood."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one event says that concerns trades."""

    movements: list[PaymentMovement] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
