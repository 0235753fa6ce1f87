"""The nouns of a money step: what it moves, who caused it, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from danbao_escrow.domain.model import Actor, HeldPart
from danbao_kit.decision import RequestKey


class StepKind(StrEnum):
    """Which way a step moves money."""

    PAY = "PAY"
    RELEASE = "RELEASE"
    REFUND = "REFUND"
    # A decision or an agreement: part to the buyer, part to the seller.
    SETTLE = "SETTLE"
    PAYOUT_HELD = "PAYOUT_HELD"
    # Not the trade's money: the seller's deposit and the fund make good a loss.
    COMPENSATE = "COMPENSATE"
    # The trade has ended unpaid: its payment over a rail is not wanted any more.
    VOID = "VOID"
    # It has ended unpaid, but the rail had brought the money: back over it.
    RETURN = "RETURN"


OUT_OF_ESCROW = frozenset({StepKind.RELEASE, StepKind.REFUND, StepKind.SETTLE, StepKind.RETURN})
"""Steps that take from the trade's account."""


class StepState(StrEnum):
    """Where a step stands. A refused PAY or COMPENSATE ends; any other stays pending under its next generation."""

    PENDING = "PENDING"
    DONE = "DONE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Leg:
    """One movement of a step's transaction, minor units of the trade's currency."""

    debit_owner: str
    debit_kind: str
    credit_owner: str
    credit_kind: str
    amount_minor: int
    # Gives money back to the payer: counts under the payment's refundable cap.
    is_refund: bool = False
    # Who gives what the debited account lacks; empty: nobody.
    fallback_owner: str = ""
    fallback_kind: str = ""


@dataclass(frozen=True, slots=True)
class LinePart:
    """What a step takes from a line, without the buyer's fee; the postage that goes with it is within the two."""

    line_id: str
    released_minor: int = 0
    refunded_minor: int = 0
    postage_minor: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What of a checkout's payment is one trade's; `trade` is trades/{uuid}."""

    trade: str
    seller: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Together:
    """One payment of several trades: each trade's step asks for the very same, under the very same id."""

    # checkouts/{uuid}, and how often it was tried before.
    checkout: str
    generation: int
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Movement:
    """What a step moves, decided when it is set and never changed: the same under every retry."""

    legs: tuple[Leg, ...]
    # Out of the trade's account towards the seller and fees, minor units.
    released_minor: int = 0
    fee_minor: int = 0
    # Of what is released: kept back until later; the reserve and the rest apart.
    reserve_minor: int = 0
    delayed_minor: int = 0
    # Out of the trade's account towards the buyer, minor units.
    refunded_minor: int = 0
    # The buyer's fee within released and refunded.
    buyer_fee_released_minor: int = 0
    buyer_fee_refunded_minor: int = 0
    # From which lines; empty for a funding, a payout, and a step that was set before lines settled in parts.
    parts: tuple[LinePart, ...] = ()
    # Of a funding: the rail that brings the money, and how it is told to charge.
    rail: str = ""
    instrument: str = ""
    # Of a funding together with other trades.
    together: Together | None = None

    @property
    def amount_minor(self) -> int:
        """All that moves, minor units."""
        return sum(leg.amount_minor for leg in self.legs)


@dataclass(frozen=True, slots=True)
class Cause:
    """Who set a step and why; stands on the timeline once the step has ended."""

    command: str
    actor: Actor
    token_subject: str
    reason: str
    trace_id: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom money is asked of a payer: the partner whose trade it is, and the subject, subjects/{id}, that asks
    itself; without a subject the partner asks. Neither: it is not known."""

    partner: str = ""
    subject: str = ""


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class Step:
    """A durable intent to move money, executed outside any transaction under an id made of its first three fields."""

    trade_id: UUID
    number: int
    generation: int
    kind: StepKind
    state: StepState
    line_ids: tuple[str, ...]
    movement: Movement
    cause: Cause
    # The request that waits for the step's end; None when a timer set it or it was answered.
    request: RequestKey | None
    # What PAYOUT_HELD moves.
    held: tuple[HeldPart, ...] = ()
    # Who pays and what the payment is about.
    # Whose money step it is besides the trade's, refundCases/{uuid} and the like: it ends together with the step.
    subject: str = ""
    payer: str = ""
    beneficiary: str = ""
    currency: str = ""
    payment: str = ""
    # Rises with every take-over, so that only one of two takers wins.
    claim: int = 0
    # Real time from this version's commit until somebody else may try it, ms.
    attempt_in_ms: int = 0
    refusals: int = 0
    refusal: str = ""
    # transactions/{uuid} or payments/{uuid}, once done.
    ledger_reference: str = ""
    create_time: datetime | None = None
    settle_time: datetime | None = None
    # PAY only: who asked for it, whichever replica asks payments.
    for_partner: str = ""
    for_subject: str = ""
