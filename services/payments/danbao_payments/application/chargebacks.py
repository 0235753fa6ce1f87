"""Who gives what when a rail takes a payment's money back, and who gets it when that was decided for us."""

from __future__ import annotations

from danbao_payments.domain.account import AccountState, available_minor
from danbao_payments.domain.chart import PLATFORM, RAIL_SETTLED, SUSPENSE
from danbao_payments.domain.commands import AccountKey
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.payment_split import SplitPart, refund_parts
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.rail_payment import bearers, won_back_by, won_back_parts
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
            payment = _borne(payment, key, minor)
    return _counted(payment, amount_minor, shares)


def win_back(payment: Payment, amount_minor: int, posting: Posting) -> Payment:
    """Gives the amount to whom it was taken from: the sellers and the platform. It can go back once more."""
    shares = won_back_parts(payment.parts, amount_minor) if payment.parts else (amount_minor,)
    for part, share in zip(payment.parts or (None,), shares, strict=True):
        if share:
            key = won_back_by(payment, part) or _SUSPENSE
            account = posting.account(key.owner, key.kind, payment.currency)
            if account.state == AccountState.CLOSED:
                account = posting.account(PLATFORM, SUSPENSE, payment.currency)
            settled = posting.account(payment.rail, RAIL_SETTLED, payment.currency)
            posting.post(settled, account, share, payment_id=payment.id, purpose=_CHARGEBACK)
    return _counted(payment, -amount_minor, tuple(-share for share in shares))


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


def _borne(payment: Payment, key: AccountKey, minor: int) -> Payment:
    borne = {(owner, kind): so_far for owner, kind, so_far in payment.chargeback_from}
    borne[key.owner, key.kind] = borne.get((key.owner, key.kind), 0) + minor
    return payment._replace(chargeback_from=tuple((owner, kind, total) for (owner, kind), total in borne.items()))


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
