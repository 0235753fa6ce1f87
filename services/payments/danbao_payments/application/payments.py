"""How payments are decided: one function a command. What each may refuse stands in the order of its checks."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from danbao_kit.decision import Moment
from danbao_kit.money import Money
from danbao_payments.application.captures import receivers, share_out, take
from danbao_payments.application.holds import expire_due, release
from danbao_payments.application.limits import count_payment
from danbao_payments.application.rail_payments import await_rail, check_refund_has_room, refund_over_rail
from danbao_payments.domain.access import check_may_move_payee, check_may_pay, find_payment
from danbao_payments.domain.account import Account, account_id
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Caller
from danbao_payments.domain.chart import CLEARING_CAPTURE, CLEARING_REFUND, PLATFORM, USER_AVAILABLE
from danbao_payments.domain.commands import (
    DEFAULT_HOLD_LIFETIME,
    CapturePayment,
    CreatePayment,
    RefundPayment,
    VoidPayment,
)
from danbao_payments.domain.errors import CaptureAmountExceeded, CurrencyMismatch, RailUnknown, RefundAmountExceeded
from danbao_payments.domain.events import PaymentEvent
from danbao_payments.domain.payment import CaptureMode, Payment, PaymentCommand, PaymentState, next_state
from danbao_payments.domain.payment_split import SplitPart, refund_parts, refundable_minor
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.tenancy import account_to_debit, check_creditable, enter
from danbao_payments.domain.transfer import TransferKind


def create_payment(command: CreatePayment, books: Books, moment: Moment, rails: frozenset[str]) -> Payment:
    """Pays at once, or holds, or waits for the rail that is to bring the money.

    Raises RailUnknown, KindNotAllowed, AccountNotFound, AccountClosed, AccountFrozen, LimitExceeded, InsufficientFunds,
    BalanceOverflow.
    """
    if command.rail and command.rail not in rails:
        raise RailUnknown(command.rail)
    check_may_pay(command)
    now = moment.now
    amount_minor, currency = command.amount.minor, command.amount.currency
    payer = books.account(command.payer, USER_AVAILABLE, currency, now)
    payee = books.account(command.payee.owner, command.payee.kind, currency, now)
    credited = [payee]
    if command.splits:
        credited = [
            books.account(term.destination.owner, term.destination.kind, currency, now) for term in command.splits
        ]
    partner, exists = command.caller.partner, True
    if partner and not (partner == payer.partner == payee.partner and len(credited) == 1 and not command.beneficiary):
        payer, credited, exists = enter(command, payer, credited, books, moment)
        payee = payee if command.splits else credited[0]
    elif command.caller.sent_by and not payer.partner:
        payer = account_to_debit(command.payer, USER_AVAILABLE, currency, command.caller, books, moment)
    check_movable([payer], credited)
    if exists and payer.id in books.due_holds:
        expire_due((payer.id,), books, moment)
        payer = books.account(command.payer, USER_AVAILABLE, currency, now)
    count_payment(command, books, moment, payer=command.payer if exists else "")
    payment_id = moment.ids.new()
    posting = Posting(books, moment)
    automatic = command.capture_mode == CaptureMode.AUTOMATIC
    authorized_minor = amount_minor
    if command.rail:
        state, captured_minor, hold_id, expire_time = PaymentState.PENDING, 0, None, None
        authorized_minor = 0
    elif automatic:
        if not command.splits:
            posting.post(payer, payee, amount_minor, payment_id=payment_id)
        state, captured_minor, hold_id, expire_time = PaymentState.CAPTURED, amount_minor, None, None
    else:
        clearing = books.account(PLATFORM, CLEARING_CAPTURE, currency, now)
        hold_id = posting.hold(payer, clearing, amount_minor, payment_id=payment_id)
        state, captured_minor = PaymentState.AUTHORIZED, 0
        # The microseconds only keep commands apart that come at the same time; they do not prolong a hold.
        begun = now.replace(microsecond=now.microsecond // 1000 * 1000)
        expire_time = begun + (command.hold_lifetime or DEFAULT_HOLD_LIFETIME)
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
        authorized_minor,
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
        None if command.rail else posting.id,
        command.on_expiry,
        command.remainder_policy,
        tuple(
            SplitPart(
                term.destination.owner,
                term.destination.kind,
                term.fixed_minor,
                term.basis_points,
                term.cap_minor,
                beneficiary=term.beneficiary,
            )
            for term in command.splits
        )
        if command.splits
        else (),
        partner or payer.partner or books.partner_of(command.payer),
    )
    if command.rail:
        waiting = payment._replace(rail=command.rail, instrument=command.instrument, traceparent=moment.traceparent)
        return await_rail(waiting, books, moment)
    if payment.parts and automatic:
        payment = payment._replace(parts=share_out(posting, payment, payer, amount_minor, books, moment))
    posting.record(command.description)
    books.payments.put(payment_id, payment)
    moment.emit(PaymentEvent("payment_captured" if hold_id is None else "payment_authorized", payment))
    return payment


def capture_payment(command: CapturePayment, books: Books, moment: Moment) -> Payment:
    """Takes held money for the payee: for the last time, or so that the rest stays held."""
    payment = find_payment(command.name, command.caller, books)
    check_may_move_payee(payment, command.caller)
    _check_currency(command.amount, payment)
    now = moment.now
    payer = books.account(payment.payer, USER_AVAILABLE, payment.currency, now)
    credited = receivers(payment, books, moment)
    check_creditable(credited, command.caller, books)
    check_movable([payer], credited)
    held_minor = payment.held_minor
    amount_minor = held_minor if command.amount is None else command.amount.minor
    final = command.final or amount_minor >= held_minor
    state = next_state(payment, PaymentCommand.CAPTURE if final else PaymentCommand.CAPTURE_PART, now)
    if amount_minor > held_minor:
        raise CaptureAmountExceeded(payment.id, held_minor=held_minor, amount_minor=amount_minor)
    return take(payment, amount_minor, state, books, moment, description=payment.description)


def void_payment(command: VoidPayment, books: Books, moment: Moment) -> Payment:
    """Releases a hold."""
    payment = find_payment(command.name, command.caller, books)
    check_may_move_payee(payment, command.caller)
    state = next_state(payment, PaymentCommand.VOID, moment.now)
    if payment.state == PaymentState.PENDING:
        # The rail may bring the money all the same; then it is sent back.
        unwanted = payment._replace(version=payment.version + 1, state=state.value, update_time=moment.now)
        books.payments.put(payment.id, unwanted)
        moment.emit(PaymentEvent("payment_voided", unwanted))
        return unwanted
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
    """Gives captured money back from where it went to where it came from, the payer's wallet or the rail, under the
    payment's one refundable cap."""
    payment = find_payment(command.name, command.caller, books)
    check_may_move_payee(payment, command.caller, debits=True)
    _check_currency(command.amount, payment)
    now = moment.now
    payer = books.account(payment.payer, USER_AVAILABLE, payment.currency, now)
    sources = _givers(payment, command.caller, books, moment)
    keeping = {
        account_id(p.owner, p.kind, payment.currency) for p in payment.parts if p.is_fee and not command.fees_back
    }
    check_movable([account for account in sources if account.id not in keeping], [] if payment.rail else [payer])
    next_state(payment, PaymentCommand.REFUND, now)
    left_minor = payment.refundable_minor
    if payment.parts:
        left_minor = min(left_minor, refundable_minor(payment.parts, fees_back=command.fees_back))
    amount_minor = left_minor if command.amount is None else command.amount.minor
    check_refundable(payment, amount_minor, left_minor=left_minor)
    if any(account.id in books.due_holds for account in sources):
        expire_due([account.id for account in sources], books, moment)
        sources = _givers(payment, command.caller, books, moment)
    shares: tuple[int, ...] = (amount_minor,)
    if payment.parts:
        shares = refund_parts(payment.parts, amount_minor, fees_back=command.fees_back)
    posting = Posting(books, moment)
    target = books.account(PLATFORM, CLEARING_REFUND, payment.currency, now) if payment.rail else payer
    for source, share in zip(sources, shares, strict=True):
        if share:
            posting.post(source, target, share, payment_id=payment.id, purpose=command.purpose)
    if payment.rail:
        check_refund_has_room(payment, amount_minor, books, moment)
    posted = posting.record(command.description or payment.description)
    given = {source.id: share for source, share in zip(sources, shares, strict=True)}
    refunded = count_refund(payment, given, posted.transaction.id, books, moment)
    if payment.rail:
        refund_over_rail(refunded, amount_minor, books, moment)
    return refunded


def _givers(payment: Payment, caller: Caller, books: Books, moment: Moment) -> list[Account]:
    """The accounts that give a refund; to a partner another's is one in which there is nothing."""
    accounts = receivers(payment, books, moment)
    if not caller.is_tenant and not caller.sent_by:
        return accounts
    return [
        account_to_debit(account.owner, account.kind, account.currency, caller, books, moment) for account in accounts
    ]


def check_refundable(payment: Payment, amount_minor: int, *, left_minor: int | None = None) -> None:
    """Raises RefundAmountExceeded. Nothing left is too little for every amount."""
    left_minor = payment.refundable_minor if left_minor is None else left_minor
    if amount_minor > left_minor or amount_minor == 0:
        raise RefundAmountExceeded(f"payments/{payment.id}", refundable_minor=left_minor, amount_minor=amount_minor)


def check_parts_refundable(payment: Payment, given: Mapping[UUID, int]) -> None:
    """Raises RefundAmountExceeded when a part would give back more than it received; `given` is by account."""
    for part in payment.parts:
        amount_minor = given.get(account_id(part.owner, part.kind, payment.currency), 0)
        if amount_minor > part.refundable_minor:
            raise RefundAmountExceeded(
                f"payments/{payment.id}", refundable_minor=part.refundable_minor, amount_minor=amount_minor
            )


def count_refund(
    payment: Payment, given: Mapping[UUID, int], transaction: UUID, books: Books, moment: Moment
) -> Payment:
    """Counts what went back, by the account that gave it, under the caps of payment and parts, and tells it."""
    refunded = payment._replace(
        version=payment.version + 1,
        refunded_minor=payment.refunded_minor + sum(given.values()),
        update_time=moment.now,
        last_transaction=transaction,
        parts=tuple(
            part._replace(
                refunded_minor=part.refunded_minor + given.get(account_id(part.owner, part.kind, payment.currency), 0)
            )
            for part in payment.parts
        ),
    )
    books.payments.put(payment.id, refunded)
    moment.emit(PaymentEvent("payment_refunded", refunded))
    return refunded


def _check_currency(amount: Money | None, payment: Payment) -> None:
    if amount is not None and amount.currency != payment.currency:
        raise CurrencyMismatch(f"payments/{payment.id}", currency=amount.currency, expected=payment.currency)
