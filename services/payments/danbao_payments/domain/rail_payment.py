"""What each report of its rail means for a payment that a rail brings, and who bears a chargeback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from danbao_payments.domain.commands import AccountKey, ReportRailResult
from danbao_payments.domain.movement import CONFLICT, NOTHING_NEW, Movement, MovementKind, RailResult, Step
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.payment_split import SplitPart
from danbao_payments.domain.splits import Part, RemainderPolicy, split


class Standing(StrEnum):
    """Where a payment stands with its rail."""

    PENDING = "PENDING"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    VOIDED = "VOIDED"  # before the rail has said anything
    NEVER_CAME = "NEVER_CAME"  # it was voided, and the rail brought nothing
    SENT_BACK = "SENT_BACK"  # it was voided, or nobody could receive it, when the rail brought it
    TAKEN_BACK = "TAKEN_BACK"  # it was voided, or nobody could receive it, and the rail has taken it back by itself


class PaymentEffect(StrEnum):
    """What a report of the rail does."""

    CAPTURE = "CAPTURE"  # rail.in_transit → the payee, or the parts of the split
    DECLINE = "DECLINE"  # nothing moves
    NOTE = "NOTE"  # nothing moves, nothing changes but what is known: the rail will bring nothing
    PASS = "PASS"  # rail.in_transit → clearing.refund → rail.in_transit: it came, and it went
    SETTLE = "SETTLE"  # rail.settled → rail.in_transit, once
    SEND_BACK = "SEND_BACK"  # rail.in_transit → clearing.refund, and the rail is asked to send it back
    CHARGE_BACK = "CHARGE_BACK"  # those who bear it → rail.settled
    RETURN = "RETURN"  # all that is left, as a chargeback; what the payer's wallet was given instead → rail.settled
    WIN_BACK = "WIN_BACK"  # rail.settled → those who bore it


_S, _R, _E = Standing, RailResult, PaymentEffect

# A chargeback before success implies it: both are booked at once. That a rail gives no answer changes nothing: a
# payment has no state for it, it stays PENDING and the rail is asked what became of it.
# fmt: off
REPORTS: Mapping[tuple[Standing, RailResult], Step | None] = MappingProxyType({
    (_S.PENDING,   _R.SUCCEEDED):           Step(_S.CAPTURED, (_E.CAPTURE,)),
    (_S.PENDING,   _R.FAILED):              Step(_S.DECLINED, (_E.DECLINE,)),
    (_S.PENDING,   _R.SETTLED):             Step(_S.CAPTURED, (_E.CAPTURE, _E.SETTLE)),
    (_S.PENDING,   _R.RETURNED):            Step(_S.CAPTURED, (_E.CAPTURE, _E.RETURN)),
    (_S.PENDING,   _R.CHARGEBACK):          Step(_S.CAPTURED, (_E.CAPTURE, _E.CHARGE_BACK)),
    (_S.PENDING,   _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.PENDING,   _R.UNANSWERED):          NOTHING_NEW,
    (_S.CAPTURED,  _R.SUCCEEDED):           NOTHING_NEW,
    (_S.CAPTURED,  _R.FAILED):              CONFLICT,
    (_S.CAPTURED,  _R.SETTLED):             Step(_S.CAPTURED, (_E.SETTLE,)),
    (_S.CAPTURED,  _R.RETURNED):            Step(_S.CAPTURED, (_E.RETURN,)),
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
    (_S.VOIDED,    _R.FAILED):              Step(_S.NEVER_CAME, (_E.NOTE,)),
    (_S.VOIDED,    _R.SETTLED):             Step(_S.SENT_BACK, (_E.SEND_BACK, _E.SETTLE)),
    (_S.VOIDED,    _R.RETURNED):            Step(_S.TAKEN_BACK, (_E.PASS,)),
    (_S.VOIDED,    _R.CHARGEBACK):          CONFLICT,
    (_S.VOIDED,    _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.VOIDED,    _R.UNANSWERED):          NOTHING_NEW,
    (_S.SENT_BACK, _R.SUCCEEDED):           NOTHING_NEW,
    (_S.SENT_BACK, _R.FAILED):              CONFLICT,
    (_S.SENT_BACK, _R.SETTLED):             Step(_S.SENT_BACK, (_E.SETTLE,)),
    (_S.SENT_BACK, _R.RETURNED):            Step(_S.SENT_BACK, (_E.RETURN,)),
    (_S.SENT_BACK, _R.CHARGEBACK):          CONFLICT,
    (_S.SENT_BACK, _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.SENT_BACK, _R.UNANSWERED):          NOTHING_NEW,
    (_S.NEVER_CAME, _R.SUCCEEDED):           CONFLICT,
    (_S.NEVER_CAME, _R.FAILED):              NOTHING_NEW,
    (_S.NEVER_CAME, _R.SETTLED):             CONFLICT,
    (_S.NEVER_CAME, _R.RETURNED):            CONFLICT,
    (_S.NEVER_CAME, _R.CHARGEBACK):          CONFLICT,
    (_S.NEVER_CAME, _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.NEVER_CAME, _R.UNANSWERED):          NOTHING_NEW,
    (_S.TAKEN_BACK, _R.SUCCEEDED):           NOTHING_NEW,
    (_S.TAKEN_BACK, _R.FAILED):              CONFLICT,
    (_S.TAKEN_BACK, _R.SETTLED):             NOTHING_NEW,
    (_S.TAKEN_BACK, _R.RETURNED):            NOTHING_NEW,
    (_S.TAKEN_BACK, _R.CHARGEBACK):          CONFLICT,
    (_S.TAKEN_BACK, _R.CHARGEBACK_REVERSED): CONFLICT,
    (_S.TAKEN_BACK, _R.UNANSWERED):          NOTHING_NEW,
})
# fmt: on


def movement_of(payment: Payment) -> Movement:
    """A payment's name among movements."""
    return Movement(MovementKind.PAYMENT, payment.id)


def standing_of(payment: Payment) -> Standing:
    """Only what the rail brought made a transaction of a payment that was never captured."""
    state = PaymentState(payment.state)
    if state in (PaymentState.VOIDED, PaymentState.DECLINED) and payment.last_transaction is not None:
        return Standing.TAKEN_BACK if payment.chargeback_from.at_once else Standing.SENT_BACK
    if state is PaymentState.VOIDED and payment.failure:
        return Standing.NEVER_CAME
    return Standing(state)


def step_of(payment: Payment, command: ReportRailResult) -> Step | None:
    """What the table says, with what was told before left out."""
    standing, result, taken = standing_of(payment), command.result, payment.chargeback_from
    if result is RailResult.SETTLED and payment.settle_time is not None:
        return NOTHING_NEW
    if result is RailResult.RETURNED and payment.refundable_minor == 0:
        all_gone = 0 < payment.charged_back_minor == payment.captured_minor
        if taken.returned_at is not None or all_gone:
            return NOTHING_NEW
    if standing is not Standing.CAPTURED:
        return REPORTS[standing, result]
    before = taken.told_before(result.value, command.rail_reference)
    if before is not None:
        # Under one reference there is one amount.
        return NOTHING_NEW if command.amount is None or command.amount.minor == before else CONFLICT
    whole = command.amount is None
    if result is RailResult.CHARGEBACK and whole and payment.refundable_minor == 0 and payment.charged_back_minor:
        return NOTHING_NEW
    if result is RailResult.CHARGEBACK_REVERSED:
        if not taken.borne:
            return CONFLICT
        if whole and payment.charged_back_minor == 0:
            return NOTHING_NEW
    return REPORTS[standing, result]


def waiting_accounts(
    rail: str, currency: str, payer: str, payee_account: UUID, parts: Sequence[SplitPart]
) -> frozenset[UUID]:
    """The accounts in which a payment that its rail has not answered yet needs room: whoever receives some of it, each
    for all of it, the payer's wallet, to which it may go back, and the rail's."""
    receivers = [account_id(part.owner, part.kind, currency) for part in parts] or [payee_account]
    of_rail = [account_id(rail, kind, currency) for kind in (RAIL_IN_TRANSIT, RAIL_SETTLED)]
    return frozenset((*receivers, account_id(payer, USER_AVAILABLE, currency), *of_rail))


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
