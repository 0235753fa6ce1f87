"""Who gives what when a rail takes a payment's money back, and who gets it when that was decided for us."""

from __future__ import annotations

from danbao_payments.domain.account import AccountState, available_minor
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import PLATFORM, RAIL_SETTLED, RECEIVABLE_USER, SUSPENSE, USER_AVAILABLE
from danbao_payments.domain.commands import AccountKey
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.payment_split import SplitPart, refund_parts
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.rail_payment import bearers, won_back_by, won_back_parts
from danbao_payments.domain.rail_refund import AWAITING
from danbao_payments.domain.transfer import Purpose

_SUSPENSE = AccountKey(PLATFORM, SUSPENSE)
_CHARGEBACK = Purpose.CHARGEBACK.value


def charge_back(payment: Payment, amount_minor: int, posting: Posting) -> Payment:
    """Takes the amount from those who bear it, part by part, and counts it under the payment's cap."""
    shares = refund_parts(payment.parts, amount_minor, fees_back=True) if payment.parts else (amount_minor,)
    for part, share in zip(payment.parts or (None,), shares, strict=True):
        for key, minor in _takes(payment, part, share, posting):
            account = posting.account(key.owner, key.kind, payment.currency)
            settled = posting.account(payment.rail, RAIL_SETTLED, payment.currency)
            posting.post(account, settled, minor, payment_id=payment.id, purpose=_CHARGEBACK)
            payment = payment._replace(chargeback_from=payment.chargeback_from.bears(key.owner, key.kind, minor))
    return _counted(payment, amount_minor, shares)


def given_to_wallet(payment: Payment, books: Books) -> int:
    """What went back to the payer otherwise than over the rail, and was not taken from there yet: refunds that the rail
    refused, and what was given back by legs."""
    paid_minor = payment.refunds_settled_minor
    on_its_way_minor = sum(
        refund.amount_minor
        for refund in books.rail_refunds.values()
        if refund.payment_id == payment.id and refund.state in AWAITING
    )
    if payment.state == PaymentState.CAPTURED:
        given_minor = payment.refunded_minor - (payment.charged_back_minor - payment.chargeback_from.payer_minor)
    else:
        # Nobody could receive it, and all of it was sent back.
        given_minor = payment.amount_minor
    return max(given_minor - paid_minor - on_its_way_minor - payment.chargeback_from.payer_minor, 0)


def take_from_payer(payment: Payment, amount_minor: int, posting: Posting) -> Payment:
    """Takes what the payer's wallet was given of money that the rail has taken back; what lacks there is owed.

    It went back before, so it is not counted as refunded once more, only as charged back. It goes without a purpose:
    that tells it from what those give who received it.
    """
    captured = payment.state == PaymentState.CAPTURED
    named = payment.id if captured else None
    wallet = posting.account(payment.payer, USER_AVAILABLE, payment.currency)
    if wallet.state == AccountState.CLOSED:
        wallet = posting.account(PLATFORM, SUSPENSE, payment.currency)
        there_minor = amount_minor
    else:
        there_minor = max(min(amount_minor, available_minor(wallet)), 0)
    taken = payment.chargeback_from
    for key, minor in (
        (AccountKey(wallet.owner, wallet.kind), there_minor),
        (AccountKey(payment.payer, RECEIVABLE_USER), amount_minor - there_minor),
    ):
        if minor:
            settled = posting.account(payment.rail, RAIL_SETTLED, payment.currency)
            posting.post(posting.account(key.owner, key.kind, payment.currency), settled, minor, payment_id=named)
            taken = taken.bears(key.owner, key.kind, minor) if captured else taken
    taken = taken._replace(payer_minor=taken.payer_minor + amount_minor)
    charged_back_minor = payment.charged_back_minor + (amount_minor if captured else 0)
    return payment._replace(chargeback_from=taken, charged_back_minor=charged_back_minor)


def win_back(payment: Payment, amount_minor: int, posting: Posting) -> Payment:
    """Gives the amount to whom it was taken from: the sellers and the platform, from whom it can go back once more, and
    last the payer, who had been given it back."""
    to_payer_minor = max(amount_minor - (payment.charged_back_minor - payment.chargeback_from.payer_minor), 0)
    amount_minor -= to_payer_minor
    if to_payer_minor:
        payment = _given_to_payer(payment, to_payer_minor, posting)
    if not amount_minor:
        return _settled_again(payment)
    shares = won_back_parts(payment.parts, amount_minor) if payment.parts else (amount_minor,)
    for part, share in zip(payment.parts or (None,), shares, strict=True):
        if share:
            key = won_back_by(payment, part) or _SUSPENSE
            account = posting.account(key.owner, key.kind, payment.currency)
            if account.state == AccountState.CLOSED:
                account = posting.account(PLATFORM, SUSPENSE, payment.currency)
            settled = posting.account(payment.rail, RAIL_SETTLED, payment.currency)
            posting.post(settled, account, share, payment_id=payment.id, purpose=_CHARGEBACK)
            # The debt is paid first, then the seller has it again.
            givers, debt = bearers(payment, part)
            keys = [(key.owner, key.kind) for key in (debt or _SUSPENSE, *reversed(givers))]
            payment = payment._replace(chargeback_from=payment.chargeback_from.relieved(share, keys))
    return _settled_again(_counted(payment, -amount_minor, tuple(-share for share in shares)))


def _given_to_payer(payment: Payment, amount_minor: int, posting: Posting) -> Payment:
    account = posting.account(payment.payer, USER_AVAILABLE, payment.currency)
    if account.state == AccountState.CLOSED:
        account = posting.account(PLATFORM, SUSPENSE, payment.currency)
    settled = posting.account(payment.rail, RAIL_SETTLED, payment.currency)
    posting.post(settled, account, amount_minor, payment_id=payment.id)
    keys = [(payment.payer, RECEIVABLE_USER), (account.owner, account.kind)]
    taken = payment.chargeback_from.relieved(amount_minor, keys)
    taken = taken._replace(payer_minor=taken.payer_minor - amount_minor)
    return payment._replace(chargeback_from=taken, charged_back_minor=payment.charged_back_minor - amount_minor)


def _settled_again(payment: Payment) -> Payment:
    """Where all of it was won back, the rail has taken nothing any more: what a refund gives back is the payer's."""
    if payment.charged_back_minor:
        return payment
    return payment._replace(chargeback_from=payment.chargeback_from._replace(returned_at=None))


def _takes(
    payment: Payment, part: SplitPart | None, amount_minor: int, posting: Posting
) -> list[tuple[AccountKey, int]]:
    """What is there and not held, in order, whatever is frozen: the rail has taken it. What lacks is owed."""
    givers, debt = bearers(payment, part)
    left_minor = amount_minor
    takes = []
    for key in givers:
        there_minor = available_minor(posting.account(key.owner, key.kind, payment.currency))
        takes.append((key, max(min(left_minor, there_minor), 0)))
        left_minor -= takes[-1][1]
    takes.append((debt or _SUSPENSE, left_minor))
    return [(key, minor) for key, minor in takes if minor]


def _counted(payment: Payment, amount_minor: int, shares: tuple[int, ...]) -> Payment:
    parts = payment.parts and tuple(
        part._replace(refunded_minor=part.refunded_minor + share, charged_back_minor=part.charged_back_minor + share)
        for part, share in zip(payment.parts, shares, strict=True)
    )
    return payment._replace(
        refunded_minor=payment.refunded_minor + amount_minor,
        charged_back_minor=payment.charged_back_minor + amount_minor,
        parts=parts,
    )
