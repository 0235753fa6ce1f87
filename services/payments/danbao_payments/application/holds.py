"""How holds end by time: the sweeper asks for it, and so does whatever touches the account before the sweeper does."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from danbao_kit.decision import Moment
from danbao_payments.application.captures import receivers, take
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_CAPTURE, PLATFORM, USER_AVAILABLE
from danbao_payments.domain.commands import ExpireHolds
from danbao_payments.domain.errors import BalanceOverflow
from danbao_payments.domain.events import PaymentEvent
from danbao_payments.domain.payment import OnExpiry, Payment, PaymentCommand, PaymentState, next_state
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.transfer import PostedTransaction, TransferKind


def expire_holds(command: ExpireHolds, books: Books, moment: Moment) -> None:
    """Ends those holds whose time has come, by release or capture; the others are left alone."""
    for payment_id in command.payments:
        payment = books.payments.get(payment_id)
        if payment is not None and payment.is_time_up(moment.now):
            if payment.on_expiry == OnExpiry.CAPTURE:
                _capture_by_time(payment, books, moment)
            else:
                _expire(payment, books, moment)


def expire_due(accounts: Iterable[UUID], books: Books, moment: Moment) -> None:
    """Ends every hold on these accounts that has run out, so that it no longer counts."""
    for account in accounts:
        for payment_id in books.due_holds.get(account, ()):
            payment = books.payments.get(payment_id)
            if payment is not None and payment.is_due(moment.now):
                _expire(payment, books, moment)


def release(
    payment: Payment, kind: TransferKind, books: Books, moment: Moment, *, description: str
) -> PostedTransaction:
    """Ends a payment's hold, moving nothing."""
    assert payment.hold_id is not None
    payer = books.account(payment.payer, USER_AVAILABLE, payment.currency, moment.now)
    clearing = books.account(PLATFORM, CLEARING_CAPTURE, payment.currency, moment.now)
    posting = Posting(books, moment)
    posting.release(
        kind, payer, clearing, held_minor=payment.held_minor, hold_id=payment.hold_id, payment_id=payment.id
    )
    return posting.record(description)


def _capture_by_time(payment: Payment, books: Books, moment: Moment) -> None:
    """Freezes do not keep it: it was agreed when the money was held. Where nobody can receive, the hold just ends."""
    if any(account.state == AccountState.CLOSED for account in receivers(payment, books, moment)):
        _expire(payment, books, moment)
        return
    try:
        take(payment, payment.held_minor, PaymentState.CAPTURED, books, moment, description="hold captured by time")
    except BalanceOverflow:
        _expire(payment, books, moment)


def _expire(payment: Payment, books: Books, moment: Moment) -> None:
    state = next_state(payment, PaymentCommand.EXPIRE, moment.now)
    posted = release(payment, TransferKind.EXPIRE, books, moment, description="hold ended by time")
    ended = payment._replace(
        version=payment.version + 1,
        state=state.value,
        released_minor=payment.released_minor + payment.held_minor,
        hold_id=None,
        update_time=moment.now,
        last_transaction=posted.transaction.id,
    )
    books.payments.put(payment.id, ended)
    moment.emit(PaymentEvent("payment_expired", ended))
