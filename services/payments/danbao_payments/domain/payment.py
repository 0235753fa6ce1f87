"""What a payment is, and which command is legal in which state: the whole table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from danbao_kit.errors import DanbaoError
from danbao_payments.domain.errors import HoldAlreadyCaptured, HoldAlreadyVoided, HoldExpired, PaymentStateInvalid
from danbao_payments.domain.payment_split import SplitPart
from danbao_payments.domain.taken_back import NOTHING_TAKEN, TakenBack
from danbao_payments.domain.transfer import Metadata


class PaymentState(StrEnum):
    PENDING = "PENDING"
    AUTHORIZED = "AUTHORIZED"
    PARTIALLY_CAPTURED = "PARTIALLY_CAPTURED"
    CAPTURED = "CAPTURED"
    VOIDED = "VOIDED"
    EXPIRED = "EXPIRED"
    DECLINED = "DECLINED"


# While a payment is in one of these, money is held for it.
HOLDING = frozenset({PaymentState.AUTHORIZED, PaymentState.PARTIALLY_CAPTURED})


class CaptureMode(StrEnum):
    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"


class OnExpiry(StrEnum):
    """What becomes of a hold whose time has come."""

    CANCEL = "CANCEL"
    CAPTURE = "CAPTURE"  # it does not run out: it counts until it has been captured


class FeeRefund(StrEnum):
    """Whether the platform's parts of a split go back with a refund."""

    PROPORTIONAL = "PROPORTIONAL"
    NONE = "NONE"


class RefundState(StrEnum):
    NONE = "NONE"
    PARTIAL = "PARTIAL"
    FULL = "FULL"


class PaymentCommand(StrEnum):
    """What can be done to a payment that exists."""

    CAPTURE = "CAPTURE"  # the last one
    CAPTURE_PART = "CAPTURE_PART"  # the rest stays held
    VOID = "VOID"
    EXPIRE = "EXPIRE"
    REFUND = "REFUND"


class Payment(NamedTuple):
    """A payment's row. Minor units; `hold_id` is the pending transfer while money is held."""

    id: UUID
    version: int
    state: str
    payer: str
    payee_owner: str
    payee_kind: str
    beneficiary: str
    currency: str
    amount_minor: int
    capture_mode: str
    authorized_minor: int
    captured_minor: int
    released_minor: int
    refunded_minor: int
    payer_account: UUID
    payee_account: UUID
    hold_id: int | None
    expire_time: datetime | None
    metadata: Metadata
    description: str
    create_time: datetime
    update_time: datetime
    # None while a rail has not answered.
    last_transaction: UUID | None
    on_expiry: str
    # Empty without a split; then all of it goes to the payee.
    remainder_policy: str
    parts: tuple[SplitPart, ...]
    # Whose it is; empty: nobody's.
    partner: str = ""
    # Empty when the payer's wallet pays.
    rail: str = ""
    instrument: str = ""
    rail_reference: str = ""
    failure: str = ""
    charged_back_minor: int = 0
    refunds_settled_minor: int = 0
    settle_time: datetime | None = None
    # Who bore its chargebacks, and what else is remembered of them.
    chargeback_from: TakenBack = NOTHING_TAKEN
    # Of the request that made it, where a rail is to be asked.
    traceparent: str = ""

    @property
    def held_minor(self) -> int:
        """What is held now."""
        return 0 if self.hold_id is None else self.authorized_minor - self.captured_minor - self.released_minor

    @property
    def is_unanswered(self) -> bool:
        """Whether its rail has yet to say whether it brings the money; also when nobody wants it any more."""
        return self.rail != "" and self.last_transaction is None and not self.failure

    @property
    def refundable_minor(self) -> int:
        """What may still go back, by whatever way."""
        return self.captured_minor - self.refunded_minor

    @property
    def refund_state(self) -> RefundState:
        """How much of what was captured went back."""
        if self.refunded_minor == 0:
            return RefundState.NONE
        return RefundState.FULL if self.refunded_minor == self.captured_minor else RefundState.PARTIAL

    def is_due(self, now: datetime) -> bool:
        """Whether its hold has run out and only waits to be ended."""
        return self.is_time_up(now) and self.on_expiry == OnExpiry.CANCEL

    def is_time_up(self, now: datetime) -> bool:
        """Whether the time of its hold has come: to run out, or to be captured."""
        return self.hold_id is not None and self.expire_time is not None and self.expire_time <= now

    def state_at(self, now: datetime) -> PaymentState:
        """The state, a hold that has run out counted as ended whether somebody has ended it or not."""
        state = PaymentState(self.state)
        return TRANSITIONS[state, PaymentCommand.EXPIRE].to or state if self.is_due(now) else state

    def seen_at(self, now: datetime) -> Payment:
        """The payment as it is shown: a hold that has run out is over, whether somebody has ended it or not."""
        if not self.is_due(now):
            return self
        released_minor = self.released_minor + self.held_minor
        return self._replace(state=self.state_at(now).value, released_minor=released_minor, hold_id=None)


Refusal = Callable[[Payment, PaymentState], DanbaoError]


class Step(NamedTuple):
    """The state after a command, or why it is refused."""

    to: PaymentState | None
    refusal: Refusal | None


def _to(state: PaymentState) -> Step:
    return Step(state, None)


def _invalid(payment: Payment, state: PaymentState) -> DanbaoError:
    return PaymentStateInvalid(payment.id, state=state.value)


def _captured(payment: Payment, state: PaymentState) -> DanbaoError:
    return HoldAlreadyCaptured(payment.id, state=state.value)


def _voided(payment: Payment, state: PaymentState) -> DanbaoError:
    return HoldAlreadyVoided(payment.id, state=state.value)


def _expired(payment: Payment, state: PaymentState) -> DanbaoError:
    return HoldExpired(payment.id, state=state.value)


def _no(refusal: Refusal) -> Step:
    return Step(None, refusal)


_S, _C = PaymentState, PaymentCommand

# What a final capture leaves of the hold falls free. What was captured stays so when the rest ends. What becomes of a
# payment by its rail's reports stands in rail_payment.py.
# fmt: off
TRANSITIONS: Mapping[tuple[PaymentState, PaymentCommand], Step] = MappingProxyType({
    (_S.PENDING,             _C.CAPTURE):      _no(_invalid),
    (_S.PENDING,             _C.CAPTURE_PART): _no(_invalid),
    (_S.PENDING,             _C.VOID):         _to(_S.VOIDED),
    (_S.PENDING,             _C.EXPIRE):       _no(_invalid),
    (_S.PENDING,             _C.REFUND):       _no(_invalid),
    (_S.AUTHORIZED,          _C.CAPTURE):      _to(_S.CAPTURED),
    (_S.AUTHORIZED,          _C.CAPTURE_PART): _to(_S.PARTIALLY_CAPTURED),
    (_S.AUTHORIZED,          _C.VOID):         _to(_S.VOIDED),
    (_S.AUTHORIZED,          _C.EXPIRE):       _to(_S.EXPIRED),
    (_S.AUTHORIZED,          _C.REFUND):       _no(_invalid),
    (_S.PARTIALLY_CAPTURED,  _C.CAPTURE):      _to(_S.CAPTURED),
    (_S.PARTIALLY_CAPTURED,  _C.CAPTURE_PART): _to(_S.PARTIALLY_CAPTURED),
    (_S.PARTIALLY_CAPTURED,  _C.VOID):         _to(_S.CAPTURED),
    (_S.PARTIALLY_CAPTURED,  _C.EXPIRE):       _to(_S.CAPTURED),
    (_S.PARTIALLY_CAPTURED,  _C.REFUND):       _to(_S.PARTIALLY_CAPTURED),
    (_S.CAPTURED,            _C.CAPTURE):      _no(_captured),
    (_S.CAPTURED,            _C.CAPTURE_PART): _no(_captured),
    (_S.CAPTURED,            _C.VOID):         _no(_captured),
    (_S.CAPTURED,            _C.EXPIRE):       _no(_captured),
    (_S.CAPTURED,            _C.REFUND):       _to(_S.CAPTURED),
    (_S.VOIDED,              _C.CAPTURE):      _no(_voided),
    (_S.VOIDED,              _C.CAPTURE_PART): _no(_voided),
    (_S.VOIDED,              _C.VOID):         _no(_voided),
    (_S.VOIDED,              _C.EXPIRE):       _no(_voided),
    (_S.VOIDED,              _C.REFUND):       _no(_invalid),
    (_S.EXPIRED,             _C.CAPTURE):      _no(_expired),
    (_S.EXPIRED,             _C.CAPTURE_PART): _no(_expired),
    (_S.EXPIRED,             _C.VOID):         _no(_expired),
    (_S.EXPIRED,             _C.EXPIRE):       _no(_expired),
    (_S.EXPIRED,             _C.REFUND):       _no(_invalid),
    (_S.DECLINED,            _C.CAPTURE):      _no(_invalid),
    (_S.DECLINED,            _C.CAPTURE_PART): _no(_invalid),
    (_S.DECLINED,            _C.VOID):         _no(_invalid),
    (_S.DECLINED,            _C.EXPIRE):       _no(_invalid),
    (_S.DECLINED,            _C.REFUND):       _no(_invalid),
})
# fmt: on


def next_state(payment: Payment, command: PaymentCommand, now: datetime) -> PaymentState:
    """The state that the command leads to. Raises the refusal that the table names."""
    state = payment.state_at(now) if command is not PaymentCommand.EXPIRE else PaymentState(payment.state)
    step = TRANSITIONS[state, command]
    if step.to is None:
        assert step.refusal is not None
        raise step.refusal(payment, state)
    return step.to
