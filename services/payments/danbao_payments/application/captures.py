"""How held money is taken: by a capture, or by time where the payment says so."""

from __future__ import annotations

from danbao_kit.decision import Moment
from danbao_payments.domain.account import Account
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_CAPTURE, PLATFORM, USER_AVAILABLE
from danbao_payments.domain.events import PaymentEvent
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.payment_split import SplitPart, capture_parts
from danbao_payments.domain.posting import Posting


def receivers(payment: Payment, books: Books, moment: Moment) -> list[Account]:
    """The accounts to which captured money goes."""
    if not payment.parts:
        return [books.account(payment.payee_owner, payment.payee_kind, payment.currency, moment.now)]
    return [books.account(part.owner, part.kind, payment.currency, moment.now) for part in payment.parts]


def take(
    payment: Payment, amount_minor: int, state: PaymentState, books: Books, moment: Moment, *, description: str
) -> Payment:
    """Ends the hold by taking so much of it; if the state says that the rest stays held, holds the rest anew.

    Freezes do not matter to that new hold: it was granted once. Raises BalanceOverflow.
    """
    assert payment.hold_id is not None, "a state that can be captured has a hold"
    now, held_minor = moment.now, payment.held_minor
    left_minor = held_minor - amount_minor
    payer = books.account(payment.payer, USER_AVAILABLE, payment.currency, now)
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
    parts = share_out(posting, payment, clearing, amount_minor, books, moment)
    keeps = state is PaymentState.PARTIALLY_CAPTURED
    hold_id = posting.hold(payer, clearing, left_minor, payment_id=payment.id) if keeps else None
    posted = posting.record(description)
    captured = payment._replace(
        version=payment.version + 1,
        state=state.value,
        captured_minor=payment.captured_minor + amount_minor,
        released_minor=payment.released_minor + (0 if keeps else left_minor),
        hold_id=hold_id,
        update_time=now,
        last_transaction=posted.transaction.id,
        parts=parts,
    )
    books.payments.put(payment.id, captured)
    moment.emit(PaymentEvent("payment_captured", captured))
    return captured


def share_out(
    posting: Posting, payment: Payment, source: Account, amount_minor: int, books: Books, moment: Moment
) -> tuple[SplitPart, ...]:
    """Posts what is captured to whom it is due, and gives the split's parts after that. Raises InsufficientFunds."""
    accounts = receivers(payment, books, moment)
    if not payment.parts:
        posting.post(source, accounts[0], amount_minor, payment_id=payment.id)
        return ()
    steps = capture_parts(payment.parts, amount_minor, payment.remainder_policy)
    for account, step in zip(accounts, steps, strict=True):
        if step:
            posting.post(source, account, step, payment_id=payment.id)
    return tuple(
        part._replace(captured_minor=part.captured_minor + step)
        for part, step in zip(payment.parts, steps, strict=True)
    )
