"""How holds end by time: the sweeper asks for it, and so does whatever touches the account before the sweeper does."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from danbao_kit.decision import Moment
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_CAPTURE, PLATFORM, USER_AVAILABLE
from danbao_payments.domain.commands import ExpireHolds
from danbao_payments.domain.events import PaymentEvent
from danbao_payments.domain.payment import Payment, PaymentCommand, next_state
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.transfer import PostedTransaction, TransferKind


def expire_holds(command: ExpireHolds, books: Books, moment: Moment) -> None:
    """Ends those holds that have run out; the others are left alone."""
    for payment_id in command.payments:
        _expire_if_due(payment_id, books, moment)


def expire_due(accounts: Iterable[UUID], books: Books, moment: Moment) -> None:
    """Ends every hold on these accounts that has run out, so that it no longer counts."""
    for account in accounts:
        for payment_id in books.due_holds.get(account, ()):
            _expire_if_due(payment_id, books, moment)


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


def _expire_if_due(payment_id: UUID, books: Books, moment: Moment) -> None:
    payment = books.payments.get(payment_id)
    if payment is None or not payment.is_due(moment.now):
        return
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
