"""What each report of its rail means for a payment that a rail brings, and who bears a chargeback."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from uuid import UUID

from danbao_payments.domain.account import account_id
from danbao_payments.domain.chart import (
    ESCROW_TRADE,
    RAIL_IN_TRANSIT,
    RAIL_SETTLED,
    RECEIVABLE_CHARGEBACK,
    RECEIVABLE_USER,
    SELLER_PAYABLE,
    SUBJECTS,
    USER_AVAILABLE,
)
from danbao_payments.domain.commands import AccountKey
from danbao_payments.domain.movement import CONFLICT, NOTHING_NEW, Movement, MovementKind, RailResult, Step
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.payment_split import SplitPart
from danbao_payments.domain.splits import Part, RemainderPolicy, split


class Standing(StrEnum):
    """Where a payment stands with its rail."""

    PENDING = "PENDING"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"  # before the rail brought anything
    SENT_BACK = "SENT_BACK"  # it was voided, or nobody could receive it, when the rail brought it


class PaymentEffect(StrEnum):
    """What a report of the rail does."""

    CAPTURE = "CAPTURE"  # rail.in_transit → the payee, or the parts of the split
    DECLINE = "DECLINE"  # nothing moves
    NOTE = "NOTE"  # nothing moves, nothing changes but what is known: the rail will bring nothing
    SETTLE = "SETTLE"  # rail.settled → rail.in_transit, once
    SEND_BACK = "SEND_BACK"  # rail.in_transit → clearing.refund, and the rail is asked to send it back
    CHARGE_BACK = "CHARGE_BACK"  # those who bear it → rail.settled
    WIN_BACK = "WIN_BACK"  # rail.settled → those who bore it


_S, _R, _E = Standing, RailResult, PaymentEffect

# A chargeback before success implies it: both are booked at once. That a rail gives no answer changes nothing: a
# payment has no state for it, it stays PENDING and the rail is asked what became of it.
# fmt: off
REPORTS: Mapping[tuple[Standing, RailResult], Step | None] = MappingProxyType({
    (_S.PENDING,   _R.SUCCEEDED):           Step(_S.CAPTURED, (_E.CAPTURE,)),
    (_S.PENDING,   _R.FAILED):              Step(_S.DECLINED, (_E.DECLINE,)),
    (_S.PENDING,   _R.SETTLED):             Step(_S.CAPTURED, (_E.CAPTURE, _E.SETTLE)),
    (_S.PENDING,   _R.RETURNED):            Step(_S.CAPTURED, (_E.CAPTURE, _E.CHARGE_BACK)),
    (_S.PENDING,   _R.CHARGEBACK):          Step(_S.CAPTURED, (_E.CAPTURE, _E.CHARGE_BACK)),
    (_S.PENDING,   _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.PENDING,   _R.UNANSWERED):          NOTHING_NEW,
    (_S.CAPTURED,  _R.SUCCEEDED):           NOTHING_NEW,
    (_S.CAPTURED,  _R.FAILED):              CONFLICT,
    (_S.CAPTURED,  _R.SETTLED):             Step(_S.CAPTURED, (_E.SETTLE,)),
    (_S.CAPTURED,  _R.RETURNED):            Step(_S.CAPTURED, (_E.CHARGE_BACK,)),
    (_S.CAPTURED,  _R.CHARGEBACK):          Step(_S.CAPTURED, (_E.CHARGE_BACK,)),
    (_S.CAPTURED,  _R.CHARGEBACK_REVERSED): Step(_S.CAPTURED, (_E.WIN_BACK,)),
    (_S.CAPTURED,  _R.UNANSWERED):          NOTHING_NEW,
    (_S.DECLINED,  _R.SUCCEEDED):           CONFLICT,
    (_S.DECLINED,  _R.FAILED):              NOTHING_NEW,
    (_S.DECLINED,  _R.SETTLED):             CONFLICT,
    (_S.DECLINED,  _R.RETURNED):            CONFLICT,
    (_S.DECLINED,  _R.CHARGEBACK):          CONFLICT,
    (_S.DECLINED,  _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.DECLINED,  _R.UNANSWERED):          NOTHING_NEW,
    (_S.VOIDED,    _R.SUCCEEDED):           Step(_S.SENT_BACK, (_E.SEND_BACK,)),
    (_S.VOIDED,    _R.FAILED):              Step(_S.VOIDED, (_E.NOTE,)),
    (_S.VOIDED,    _R.SETTLED):             Step(_S.SENT_BACK, (_E.SEND_BACK, _E.SETTLE)),
    (_S.VOIDED,    _R.RETURNED):            Step(_S.VOIDED, (_E.NOTE,)),
    (_S.VOIDED,    _R.CHARGEBACK):          CONFLICT,
    (_S.VOIDED,    _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.VOIDED,    _R.UNANSWERED):          NOTHING_NEW,
    (_S.SENT_BACK, _R.SUCCEEDED):           NOTHING_NEW,
    (_S.SENT_BACK, _R.FAILED):              CONFLICT,
    (_S.SENT_BACK, _R.SETTLED):             Step(_S.SENT_BACK, (_E.SETTLE,)),
    (_S.SENT_BACK, _R.RETURNED):            CONFLICT,
    (_S.SENT_BACK, _R.CHARGEBACK):          CONFLICT,
    (_S.SENT_BACK, _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.SENT_BACK, _R.UNANSWERED):          NOTHING_NEW,
})
# fmt: on


def movement_of(payment: Payment) -> Movement:
    """A payment's name among movements."""
    return Movement(MovementKind.PAYMENT, payment.id)


def standing_of(payment: Payment) -> Standing:
    """Only what the rail brought made a transaction of a payment that was never captured."""
    state = PaymentState(payment.state)
    if state in (PaymentState.VOIDED, PaymentState.DECLINED) and payment.last_transaction is not None:
        return Standing.SENT_BACK
    return Standing(state)


def step_of(payment: Payment, result: RailResult, *, whole: bool) -> Step | None:
    """What the table says, with what was told before left out. `whole`: no part of it is named, all that is left is
    meant."""
    standing = standing_of(payment)
    if result is RailResult.SETTLED and payment.settle_time is not None:
        return NOTHING_NEW
    if standing is Standing.CAPTURED and whole and payment.chargeback_from:
        if result in (RailResult.CHARGEBACK, RailResult.RETURNED) and payment.refundable_minor == 0:
            return NOTHING_NEW if payment.charged_back_minor else REPORTS[standing, result]
        if result is RailResult.CHARGEBACK_REVERSED and payment.charged_back_minor == 0:
            return NOTHING_NEW
    if standing is Standing.CAPTURED and result is RailResult.CHARGEBACK_REVERSED and not payment.chargeback_from:
        return CONFLICT
    if standing is Standing.VOIDED and payment.failure and result in (RailResult.FAILED, RailResult.RETURNED):
        return NOTHING_NEW
    return REPORTS[standing, result]


def waiting_accounts(rail: str, payee_account: UUID, currency: str) -> tuple[UUID, UUID, UUID]:
    """The accounts in which a payment that its rail has not answered yet needs room."""
    in_transit, settled = (account_id(rail, kind, currency) for kind in (RAIL_IN_TRANSIT, RAIL_SETTLED))
    return payee_account, in_transit, settled


def bearers(payment: Payment, part: SplitPart | None) -> tuple[tuple[AccountKey, ...], AccountKey | None]:
    """Who bears a chargeback of a part, or of an unsplit payment's whole: the accounts that give what they have, in
    their order, and the debt that takes what they lack; None: nobody is known who could owe it."""
    owner, kind = (payment.payee_owner, payment.payee_kind) if part is None else (part.owner, part.kind)
    first = AccountKey(owner, kind)
    if owner.startswith(SUBJECTS):
        return (first,), _debt_of(first)
    beneficiary = payment.beneficiary if part is None else part.beneficiary or payment.beneficiary
    if kind != ESCROW_TRADE:
        # The platform's fees and taxes: what is not there is borne by whom the payment is for.
        payee = AccountKey(payment.payee_owner, payment.payee_kind)
        seller = payee if payee.owner.startswith(SUBJECTS) else _payable_of(beneficiary)
        return (first, *((seller,) if seller else ())), _debt_of(seller) if seller else None
    seller = _payable_of(beneficiary)
    return (first, *((seller,) if seller else ())), _debt_of(seller) if seller else None


def won_back_by(payment: Payment, part: SplitPart | None) -> AccountKey | None:
    """Who gets a chargeback's money when it was decided for us: the seller, not the trade, which may be over."""
    owner, kind = (payment.payee_owner, payment.payee_kind) if part is None else (part.owner, part.kind)
    if kind != ESCROW_TRADE:
        return AccountKey(owner, kind)
    return _payable_of(payment.beneficiary if part is None else part.beneficiary or payment.beneficiary)


def won_back_parts(parts: tuple[SplitPart, ...], amount_minor: int) -> tuple[int, ...]:
    """What each part gets of a chargeback's money, by what was charged back of it."""
    total = sum(part.charged_back_minor for part in parts)
    weights = [Part(share=Fraction(part.charged_back_minor, total)) for part in parts]
    return split(amount_minor, weights, RemainderPolicy.LARGEST_REMAINDER)


def _payable_of(subject: str) -> AccountKey | None:
    return AccountKey(subject, SELLER_PAYABLE) if subject else None


def _debt_of(account: AccountKey) -> AccountKey:
    """The debt that this very account pays when it is credited."""
    return AccountKey(account.owner, RECEIVABLE_USER if account.kind == USER_AVAILABLE else RECEIVABLE_CHARGEBACK)
