"""How payments are decided: one function a command. What each may refuse stands in the order of its checks."""

from __future__ import annotations

from uuid import UUID

from danbao_kit.decision import Moment
from danbao_kit.money import Money
from danbao_payments.application.holds import expire_due, release
from danbao_payments.domain.access import check_may_move_payee, check_may_pay, find_payment
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_CAPTURE, PLATFORM, USER_AVAILABLE
from danbao_payments.domain.commands import (
    DEFAULT_HOLD_LIFETIME,
    CapturePayment,
    CreatePayment,
    RefundPayment,
    VoidPayment,
)
from danbao_payments.domain.errors import CaptureAmountExceeded, CurrencyMismatch, RefundAmountExceeded
from danbao_payments.domain.events import PaymentEvent
from danbao_payments.domain.payment import CaptureMode, Payment, PaymentCommand, PaymentState, next_state
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.transfer import Purpose, TransferKind


def create_payment(command: CreatePayment, books: Books, moment: Moment) -> Payment:
    """Pays at once, or holds.

    Raises KindNotAllowed, AccountClosed, AccountFrozen, InsufficientFunds, BalanceOverflow.
    """
    check_may_pay(command)
    now = moment.now
    amount_minor, currency = command.amount.minor, command.amount.currency
    payer = books.account(command.payer, USER_AVAILABLE, currency, now)
    payee = books.account(command.payee.owner, command.payee.kind, currency, now)
    check_movable([payer], [payee])
    if payer.id in books.due_holds:
        expire_due((payer.id,), books, moment)
        payer = books.account(command.payer, USER_AVAILABLE, currency, now)
    payment_id = moment.ids.new()
    posting = Posting(books, moment)
    if command.capture_mode == CaptureMode.AUTOMATIC:
        posting.post(payer, payee, amount_minor, payment_id=payment_id)
        state, captured_minor, hold_id, expire_time = PaymentState.CAPTURED, amount_minor, None, None
    else:
        clearing = books.account(PLATFORM, CLEARING_CAPTURE, currency, now)
        hold_id = posting.hold(payer, clearing, amount_minor, payment_id=payment_id)
        state, captured_minor = PaymentState.AUTHORIZED, 0
        # The microseconds only keep commands apart that come at the same time; they do not prolong a hold.
        begun = now.replace(microsecond=now.microsecond // 1000 * 1000)
        expire_time = begun + (command.hold_lifetime or DEFAULT_HOLD_LIFETIME)
    posted = posting.record(command.description)
    payment = Payment(
        payment_id,
        1,
        state.value,
        command.payer,
        command.payee.owner,
        command.payee.kind,
        command.beneficiary,
        currency,
        amount_minor,
        command.capture_mode,
        amount_minor,
        captured_minor,
        0,
        0,
        payer.id,
        payee.id,
        hold_id,
        expire_time,
        command.metadata,
        command.description,
        now,
        now,
        posted.transaction.id,
    )
    books.payments.put(payment_id, payment)
    moment.emit(PaymentEvent("payment_captured" if hold_id is None else "payment_authorized", payment))
    return payment


def capture_payment(command: CapturePayment, books: Books, moment: Moment) -> Payment:
    """Takes held money for the payee. Whatever the amount, it is final: the rest of the hold falls free."""
    payment = find_payment(command.name, command.caller, books)
    check_may_move_payee(payment, command.caller)
    _check_currency(command.amount, payment)
    now = moment.now
    payer = books.account(payment.payer, USER_AVAILABLE, payment.currency, now)
    payee = books.account(payment.payee_owner, payment.payee_kind, payment.currency, now)
    check_movable([payer], [payee])
    state = next_state(payment, PaymentCommand.CAPTURE, now)
    held_minor = payment.held_minor
    amount_minor = held_minor if command.amount is None else command.amount.minor
    if amount_minor > held_minor:
        raise CaptureAmountExceeded(payment.id, held_minor=held_minor, amount_minor=amount_minor)
    assert payment.hold_id is not None, "a state that can be captured has a hold"
    clearing = books.account(PLATFORM, CLEARING_CAPTURE, payment.currency, now)
    posting = Posting(books, moment)
    posting.post_held(
        payer,
        clearing,
        held_minor=held_minor,
        amount_minor=amount_minor,
        hold_id=payment.hold_id,
        payment_id=payment.id,
    )
    posting.post(clearing, payee, amount_minor, payment_id=payment.id)
    posted = posting.record(payment.description)
    captured = payment._replace(
        version=payment.version + 1,
        state=state.value,
        captured_minor=payment.captured_minor + amount_minor,
        released_minor=payment.released_minor + held_minor - amount_minor,
        hold_id=None,
        update_time=now,
        last_transaction=posted.transaction.id,
    )
    books.payments.put(payment.id, captured)
    moment.emit(PaymentEvent("payment_captured", captured))
    return captured


def void_payment(command: VoidPayment, books: Books, moment: Moment) -> Payment:
    """Releases a hold."""
    payment = find_payment(command.name, command.caller, books)
    check_may_move_payee(payment, command.caller)
    state = next_state(payment, PaymentCommand.VOID, moment.now)
    posted = release(payment, TransferKind.VOID, books, moment, description=payment.description)
    voided = payment._replace(
        version=payment.version + 1,
        state=state.value,
        released_minor=payment.released_minor + payment.held_minor,
        hold_id=None,
        update_time=moment.now,
        last_transaction=posted.transaction.id,
    )
    books.payments.put(payment.id, voided)
    moment.emit(PaymentEvent("payment_voided", voided))
    return voided


def refund_payment(command: RefundPayment, books: Books, moment: Moment) -> Payment:
    """Gives captured money back from the payee to the payer's wallet, under the payment's one refundable cap."""
    payment = find_payment(command.name, command.caller, books)
    check_may_move_payee(payment, command.caller, debits=True)
    _check_currency(command.amount, payment)
    now = moment.now
    payee = books.account(payment.payee_owner, payment.payee_kind, payment.currency, now)
    payer = books.account(payment.payer, USER_AVAILABLE, payment.currency, now)
    check_movable([payee], [payer])
    next_state(payment, PaymentCommand.REFUND, now)
    amount_minor = payment.refundable_minor if command.amount is None else command.amount.minor
    check_refundable(payment, amount_minor)
    if payee.id in books.due_holds:
        expire_due((payee.id,), books, moment)
        payee = books.account(payment.payee_owner, payment.payee_kind, payment.currency, now)
    posting = Posting(books, moment)
    posting.post(payee, payer, amount_minor, payment_id=payment.id, purpose=Purpose.REFUND.value)
    posted = posting.record(command.description or payment.description)
    return count_refund(payment, amount_minor, posted.transaction.id, books, moment)


def check_refundable(payment: Payment, amount_minor: int) -> None:
    """Raises RefundAmountExceeded. Nothing left is too little for every amount."""
    if amount_minor > payment.refundable_minor or amount_minor == 0:
        raise RefundAmountExceeded(
            f"payments/{payment.id}", refundable_minor=payment.refundable_minor, amount_minor=amount_minor
        )


def count_refund(payment: Payment, amount_minor: int, transaction: UUID, books: Books, moment: Moment) -> Payment:
    """Counts what went back under the payment's cap, and tells it."""
    refunded = payment._replace(
        version=payment.version + 1,
        refunded_minor=payment.refunded_minor + amount_minor,
        update_time=moment.now,
        last_transaction=transaction,
    )
    books.payments.put(payment.id, refunded)
    moment.emit(PaymentEvent("payment_refunded", refunded))
    return refunded


def _check_currency(amount: Money | None, payment: Payment) -> None:
    if amount is not None and amount.currency != payment.currency:
        raise CurrencyMismatch(f"payments/{payment.id}", currency=amount.currency, expected=payment.currency)
