"""Who may move which money, and see which payment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from danbao_payments.domain.account_commands import NewAccount
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import PAYING, Caller, Party
from danbao_payments.domain.chart import (
    CHART,
    ESCROW_TRADE,
    FEE_PAYMENT,
    FUND_RECOVERABLE,
    PLATFORM,
    RAILS,
    RECEIVABLES,
    SELLER_PAYABLE,
    SUBJECTS,
    TAX_PAYABLE,
    TRADES,
    USER_AVAILABLE,
    Kind,
)
from danbao_payments.domain.commands import AccountKey, CreatePayment, Leg, SpreadLeg
from danbao_payments.domain.errors import KindNotAllowed, PaymentNotFound
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.recovery import WRITTEN_OFF_FROM
from danbao_payments.domain.transfer import PostedTransaction, TransferKind

_OPENED_BY_PARTNERS = frozenset({USER_AVAILABLE, SELLER_PAYABLE})
_PAYEE_KINDS = frozenset({USER_AVAILABLE, SELLER_PAYABLE, ESCROW_TRADE})
_SPLIT_KINDS = _PAYEE_KINDS | {FEE_PAYMENT, TAX_PAYABLE}
_SENDING_BACK = frozenset({Party.ESCROW, Party.OPERATOR})


def check_may_pay(command: CreatePayment) -> None:
    """Raises KindNotAllowed unless the caller may pay from this wallet into that account."""
    caller, payee = command.caller, command.payee
    if caller.party not in PAYING or not caller.owns(command.payer) or not _is_its_own(command.payer, caller):
        raise _not_allowed(f"{command.payer} is not the caller's to pay for", command.payer, USER_AVAILABLE, caller)
    _check_payable(payee, _PAYEE_KINDS, caller)
    for term in command.splits:
        _check_payable(term.destination, _SPLIT_KINDS, caller)


def _check_payable(key: AccountKey, kinds: frozenset[str], caller: Caller) -> None:
    kind_of(key, caller)
    if key.kind not in kinds:
        raise _not_allowed(f"nobody is paid into {key.kind}", key.owner, key.kind, caller)
    if key.kind == ESCROW_TRADE and caller.party is not Party.ESCROW:
        raise _not_allowed("a trade's account is escrow's alone", key.owner, key.kind, caller)


def check_may_move_payee(payment: Payment, caller: Caller, *, debits: bool = False) -> None:
    """Raises KindNotAllowed unless the caller may act for the payee; with `debits`, also for others who received.

    Neither the payer nor a beneficiary has a say. The platform's parts of a split go back with a refund whoever asks.
    """
    payee = (payment.payee_owner, payment.payee_kind)
    for owner, kind in (payee, *[(part.owner, part.kind) for part in payment.parts]):
        if kind == ESCROW_TRADE:
            allowed = caller.party is Party.ESCROW
        else:
            concerned = owner == payment.payee_owner or (debits and owner != PLATFORM)
            allowed = caller.party in PAYING and (not concerned or caller.owns(owner))
        if not allowed:
            raise _not_allowed(f"{kind} of {owner} is not the caller's to move", owner, kind, caller)


def check_may_debit(key: AccountKey, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may name the account as a leg's debit."""
    if caller.party not in kind_of(key, caller).debited_by:
        raise _not_allowed(f"{key.kind} is not the caller's to debit", key.owner, key.kind, caller)


def check_may_credit(key: AccountKey, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may name the account as a leg's credit."""
    if caller.party not in kind_of(key, caller).credited_by:
        raise _not_allowed(f"{key.kind} is not the caller's to credit", key.owner, key.kind, caller)


def check_own_debits(legs: Iterable[Leg | SpreadLeg], caller: Caller) -> None:
    """Raises KindNotAllowed where a service asks for a subject, and a leg debits another's account."""
    for leg in legs:
        for key in leg.debits:
            if not _is_its_own(key.owner, caller):
                raise _not_allowed(f"{key.kind} is not {caller.subject}'s to debit", key.owner, key.kind, caller)


def _is_its_own(owner: str, caller: Caller) -> bool:
    """Of a subject for which a service asks: whether the owner is that subject."""
    return not caller.asks_for_subject or caller.subject == owner


def check_own_rules(leg: Leg | SpreadLeg, caller: Caller) -> None:
    """Raises KindNotAllowed where the leg would pay a debt otherwise than by writing it off from its own loss account,
    touch what the guarantee fund is owed, or stand for a rail's report. All of these are payments' own rules."""
    for key in leg.debits:
        if key.kind == FUND_RECOVERABLE:
            raise _fund_s_own(key, caller)
        if leg.payment is not None and key.owner.startswith(RAILS):
            raise _not_allowed("what a rail brings for a payment is reported, not posted", key.owner, key.kind, caller)
    for key in leg.credits:
        if key.kind == FUND_RECOVERABLE:
            raise _fund_s_own(key, caller)
        loss = WRITTEN_OFF_FROM.get(key.kind)
        if leg.payment is not None and key.owner.startswith(RAILS):
            raise _not_allowed("what a rail takes of a payment is reported, not posted", key.owner, key.kind, caller)
        if loss is not None and any(debit != AccountKey(PLATFORM, loss) for debit in leg.debits):
            raise _not_allowed(f"{key.kind} is written off from {loss} alone", key.owner, key.kind, caller)


def check_may_send_back(key: AccountKey, leg: Leg | SpreadLeg, payment: Payment | None, caller: Caller) -> None:
    """Raises KindNotAllowed unless the leg gives money of a payment that a rail brought back over that rail."""
    kind_of(key, caller)
    if caller.party not in _SENDING_BACK or not leg.purpose or payment is None or not payment.rail:
        why = f"{key.kind} takes only what goes back of a payment that a rail brought"
        raise _not_allowed(why, key.owner, key.kind, caller)


def check_may_reverse(posted: PostedTransaction, caller: Caller, books: Books) -> None:
    """Raises KindNotAllowed for what gave money back to a payer, what held money or ended a hold, and what a rail
    brought for a payment or took of it."""
    for transfer in posted.transfers:
        giver = None if transfer.payment_id is None else books.accounts.get(transfer.debit_account)
        taker = None if transfer.payment_id is None else books.accounts.get(transfer.credit_account)
        over_rail = any(account is not None and account.owner.startswith(RAILS) for account in (giver, taker))
        if transfer.purpose or transfer.kind != TransferKind.POSTED or over_rail:
            name = f"transactions/{transfer.transaction_id}"
            why = f"{name} belongs to its payment, which alone can undo it"
            raise _not_allowed(why, f"payments/{transfer.payment_id}", transfer.kind, caller)


def check_may_open(key: AccountKey, caller: Caller) -> None:
    """Raises KindNotAllowed unless the caller may open such an account before anything is posted to it."""
    kind = kind_of(key, caller)
    if caller.party is Party.PARTNER:
        allowed = key.kind in _OPENED_BY_PARTNERS
    else:
        allowed = caller.party is Party.OPERATOR or caller.party in kind.debited_by | kind.credited_by
    if not allowed:
        raise _not_allowed(f"{key.kind} is not the caller's to open", key.owner, key.kind, caller)


def check_may_say_whose(new: NewAccount, caller: Caller) -> None:
    """Raises KindNotAllowed where another than an operator says which partner brings an owner."""
    if new.partner and caller.party is not Party.OPERATOR and not (caller.is_tenant and new.partner == caller.partner):
        raise _not_allowed("whose an owner is, operators say", new.owner, new.kind, caller)


def check_may_control(key: AccountKey, caller: Caller, *, closing: bool = False) -> None:
    """Raises KindNotAllowed unless the caller may freeze the account, or with `closing` end it."""
    if caller.party is not Party.OPERATOR:
        raise _not_allowed("only operators freeze and close accounts", key.owner, key.kind, caller)
    if not CHART[key.kind].debited_by:
        raise _not_allowed(f"{key.kind} moves by payments' own rules only", key.owner, key.kind, caller)
    if closing and key.kind in RECEIVABLES:
        raise _not_allowed("where debts are kept is never closed", key.owner, key.kind, caller)
    if closing and not key.owner.startswith((SUBJECTS, TRADES)):
        raise _not_allowed(f"accounts of {key.owner} are never closed", key.owner, key.kind, caller)


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
    if payment is None or not can_see_payment(payment, caller, books.partner_of):
        raise PaymentNotFound(f"payments/{payment_id}")
    return payment


def can_see_payment(payment: Payment, caller: Caller, partner_of: Callable[[str], str]) -> bool:
    """Whether the payment exists for the caller: for a partner its own, and what is nobody's between owners of whom no
    other has brought one. `partner_of`: who has brought an owner."""
    if caller.party is not Party.PARTNER:
        return caller.owns_one_of(payment.payer, payment.payee_owner, payment.beneficiary)
    if payment.partner:
        return payment.partner == caller.partner
    return all(partner_of(owner) in ("", caller.partner) for owner in (payment.payer, payment.payee_owner))


def _fund_s_own(key: AccountKey, caller: Caller) -> KindNotAllowed:
    return _not_allowed(f"{key.kind} moves by payments' own rules only", key.owner, key.kind, caller)


def _not_allowed(why: str, owner: str, kind: str, caller: Caller) -> KindNotAllowed:
    return KindNotAllowed(why, owner=owner, kind=kind, caller=caller.party.value)
