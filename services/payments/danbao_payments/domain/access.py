"""Who may move which money, and see which payment."""

from __future__ import annotations

from uuid import UUID

from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import PAYING, Caller, Party
from danbao_payments.domain.chart import CHART, ESCROW_TRADE, SELLER_PAYABLE, USER_AVAILABLE, Kind
from danbao_payments.domain.commands import AccountKey, CreatePayment
from danbao_payments.domain.errors import KindNotAllowed, PaymentNotFound
from danbao_payments.domain.payment import Payment

_PAYEE_KINDS = frozenset({USER_AVAILABLE, SELLER_PAYABLE, ESCROW_TRADE})


def check_may_pay(command: CreatePayment) -> None:
    """Raises KindNotAllowed unless the caller may pay from this wallet into that account."""
    caller, payee = command.caller, command.payee
    if caller.party not in PAYING or not caller.owns(command.payer):
        raise _not_allowed(f"{command.payer} is not the caller's to pay for", command.payer, USER_AVAILABLE, caller)
    kind_of(payee, caller)
    if payee.kind not in _PAYEE_KINDS:
        raise _not_allowed(f"nobody is paid into {payee.kind}", payee.owner, payee.kind, caller)
    if payee.kind == ESCROW_TRADE and caller.party is not Party.ESCROW:
        raise _not_allowed("a trade's account is escrow's alone", payee.owner, payee.kind, caller)


def check_may_move_payee(payment: Payment, caller: Caller, *, debits: bool = False) -> None:
    """Raises KindNotAllowed unless the caller may act on the payment; with `debits`, also for its payee."""
    if payment.payee_kind == ESCROW_TRADE:
        allowed = caller.party is Party.ESCROW
    else:
        allowed = caller.party in PAYING and (not debits or caller.owns(payment.payee_owner))
    if not allowed:
        why = f"{payment.payee_kind} of {payment.payee_owner} is not the caller's to move"
        raise _not_allowed(why, payment.payee_owner, payment.payee_kind, caller)


def check_may_debit(key: AccountKey, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may name the account as a leg's debit."""
    if caller.party not in kind_of(key, caller).debited_by:
        raise _not_allowed(f"{key.kind} is not the caller's to debit", key.owner, key.kind, caller)


def check_may_credit(key: AccountKey, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may name the account as a leg's credit."""
    if caller.party not in kind_of(key, caller).credited_by:
        raise _not_allowed(f"{key.kind} is not the caller's to credit", key.owner, key.kind, caller)


def kind_of(key: AccountKey, caller: Caller) -> Kind:
    """The kind in the chart of accounts. Raises KindNotAllowed when there is none, or not for such an owner."""
    kind = CHART.get(key.kind)
    if kind is None:
        raise _not_allowed(f"there is no kind {key.kind!r}", key.owner, key.kind, caller)
    if not kind.may_belong_to(key.owner):
        raise _not_allowed(f"{key.kind} cannot belong to {key.owner}", key.owner, key.kind, caller)
    return kind


def find_payment(payment_id: UUID, caller: Caller, books: Books) -> Payment:
    """The payment. Raises PaymentNotFound, for one that is not the caller's to see as well."""
    payment = books.payments.get(payment_id)
    if payment is None or not can_see_payment(payment, caller):
        raise PaymentNotFound(f"payments/{payment_id}")
    return payment


def can_see_payment(payment: Payment, caller: Caller) -> bool:
    """Whether the payment exists for the caller."""
    return caller.owns_one_of(payment.payer, payment.payee_owner, payment.beneficiary)


def _not_allowed(why: str, owner: str, kind: str, caller: Caller) -> KindNotAllowed:
    return KindNotAllowed(why, owner=owner, kind=kind, caller=caller.party.value)
