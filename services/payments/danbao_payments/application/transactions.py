"""How a transaction of several legs is decided."""

from __future__ import annotations

from uuid import UUID

from danbao_kit.decision import Moment
from danbao_payments.application.holds import expire_due
from danbao_payments.application.payments import check_refundable, count_refund
from danbao_payments.domain.access import check_may_credit, check_may_debit, find_payment
from danbao_payments.domain.account import account_id
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import USER_AVAILABLE
from danbao_payments.domain.commands import Leg, PostTransaction
from danbao_payments.domain.errors import CurrencyMismatch
from danbao_payments.domain.events import TransactionEvent
from danbao_payments.domain.payment import Payment, PaymentCommand, next_state
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.transfer import PostedTransaction


def post_transaction(command: PostTransaction, books: Books, moment: Moment) -> PostedTransaction:
    """All legs or none.

    Each kind of check runs over all legs before the next, so that the same input always gets the same reason.
    """
    now = moment.now
    payments = {
        leg.payment: find_payment(leg.payment, command.caller, books) for leg in command.legs if leg.payment is not None
    }
    for leg in command.legs:
        check_may_debit(leg.debit, command.caller)
        check_may_credit(leg.credit, command.caller)
    for leg in command.legs:
        if leg.payment is not None and payments[leg.payment].currency != leg.amount.currency:
            expected = payments[leg.payment].currency
            raise CurrencyMismatch(f"payments/{leg.payment}", currency=leg.amount.currency, expected=expected)
    if books.due_holds:
        expire_due(
            {account_id(leg.debit.owner, leg.debit.kind, leg.amount.currency) for leg in command.legs}, books, moment
        )
    sides = [
        (
            books.account(leg.debit.owner, leg.debit.kind, leg.amount.currency, now),
            books.account(leg.credit.owner, leg.credit.kind, leg.amount.currency, now),
        )
        for leg in command.legs
    ]
    check_movable([debit for debit, _ in sides], [credit for _, credit in sides])
    given_back = _given_back(command.legs, payments)
    for payment_id in given_back:
        next_state(payments[payment_id], PaymentCommand.REFUND, now)
    for payment_id, amount_minor in given_back.items():
        check_refundable(payments[payment_id], amount_minor)
    posting = Posting(books, moment)
    for leg, (debit, credit) in zip(command.legs, sides, strict=True):
        posting.post(debit, credit, leg.amount.minor, payment_id=leg.payment, purpose=leg.purpose)
    posted = posting.record(command.description, command.metadata)
    for payment_id, amount_minor in given_back.items():
        # Read again: a hold of it may have ended in this very command.
        payment = books.payments.get(payment_id)
        assert payment is not None
        count_refund(payment, amount_minor, posted.transaction.id, books, moment)
    moment.emit(TransactionEvent("transaction_posted", posted))
    return posted


def _given_back(legs: tuple[Leg, ...], payments: dict[UUID, Payment]) -> dict[UUID, int]:
    """What goes back per payment: every leg that says so, and every leg of a payment that credits its payer anyway."""
    sums: dict[UUID, int] = {}
    for leg in legs:
        if leg.payment is None:
            continue
        to_payer = leg.credit.owner == payments[leg.payment].payer and leg.credit.kind == USER_AVAILABLE
        if leg.purpose or to_payer:
            sums[leg.payment] = sums.get(leg.payment, 0) + leg.amount.minor
    return sums
