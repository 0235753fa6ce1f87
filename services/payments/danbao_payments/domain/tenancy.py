"""Whose an owner is: which partner has brought it, what of it exists for whom, and how a partner brings one.

A partner's are the subjects that it brought and its own trades. A subject that nobody has brought is open to every
partner, and the first that acts for it brings it; it never changes hands. What is another's is answered like what there
is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danbao_kit.decision import Moment
from danbao_payments.domain.account import Account, AccountState, account_id, new_account
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.chart import ESCROW_TRADE, SELLER_PAYABLE, SUBJECTS, TRADES
from danbao_payments.domain.commands import AccountKey, CreatePayment, Leg, SpreadLeg
from danbao_payments.domain.errors import AccountNotFound, OwnerTaken
from danbao_payments.domain.events import OwnerEvent
from danbao_payments.domain.owner import Owner

_NOT_CREDITED = frozenset({AccountState.CLOSED, AccountState.FROZEN_ALL})


def sees(caller: Caller, owner: str, partner: str) -> bool:
    """Whether what is this owner's exists for the caller. `partner` has brought it; empty: nobody has."""
    if caller.party is Party.PARTNER:
        return partner == caller.partner if partner else owner.startswith(SUBJECTS)
    return caller.owns(owner)


def is_foreign(owner: str, caller: Caller, books: Books) -> bool:
    """Whether a partner asks, and another has brought the owner."""
    return caller.is_tenant and books.partner_of(owner) not in ("", caller.partner)


def bring(owner: str, partner: str, books: Books, moment: Moment) -> None:
    """Makes the owner this partner's, from now on, and tells it of a subject. No other may have brought it before."""
    by = "" if moment.request is None else moment.request.caller
    brought = Owner(owner, partner, moment.now, by)
    books.brought.put(owner, brought)
    if owner.startswith(SUBJECTS):
        moment.emit(OwnerEvent("owner_brought", brought))


def act_for(owner: str, caller: Caller, books: Books, moment: Moment) -> None:
    """A partner that acts for an owner brings it, if nobody has; so does the partner that a user's token names when the
    user acts for itself: one issuer signed both claims. Raises AssertionError where a partner acts for another's."""
    if caller.is_tenant and owner.startswith(SUBJECTS):
        partner = books.partner_of(owner)
        assert partner in ("", caller.partner), "whose it is was looked at before"
        if not partner:
            bring(owner, caller.partner, books, moment)
    elif caller.sent_by and owner == caller.subject and not books.partner_of(owner):
        bring(owner, caller.sent_by, books, moment)


def assign(owner: str, partner: str, books: Books, moment: Moment) -> None:
    """An operator says whose the owner is. Said again, it sets right what was written without, and tells those who have
    not heard of it. Raises OwnerTaken."""
    brought_by = books.partner_of(owner)
    if brought_by not in ("", partner):
        raise OwnerTaken(owner, partner=brought_by)
    if owner not in books.brought:
        bring(owner, partner, books, moment)


def account_to_debit(owner: str, kind: str, currency: str, caller: Caller, books: Books, moment: Moment) -> Account:
    """The account as it stands; to a partner another's is one that nobody has posted to. A subject's that nobody has
    brought is the partner's from now on."""
    if is_foreign(owner, caller, books):
        return new_account(owner, kind, currency, moment.now)
    act_for(owner, caller, books, moment)
    return books.account(owner, kind, currency, moment.now)


def check_creditable(accounts: Iterable[Account], caller: Caller, books: Books) -> None:
    """Raises AccountNotFound where a partner would learn how it stands with another's account."""
    if caller.is_tenant:
        for account in accounts:
            if account.state in _NOT_CREDITED and is_foreign(account.owner, caller, books):
                raise AccountNotFound(f"accounts/{account.id}")


def enter(
    command: CreatePayment, payer: Account, credited: Sequence[Account], books: Books, moment: Moment
) -> tuple[Account, list[Account], bool]:
    """Brings a payment's owners to the partner that makes it, or whose trade it is: those whom it names as
    beneficiaries, those to whom it opens an account, and the payer, unless that asks itself.

    Gives the accounts anew, and whether the payer exists for who asks; if not, there is nothing in its account. Raises
    AccountNotFound for a beneficiary that another has brought, for another's account that cannot be paid into, and for
    such a payer where a rail is to bring the money: a missing one would be opened.
    """
    caller, partner, now = command.caller, command.caller.partner, moment.now
    for owner in {command.beneficiary, *[term.beneficiary for term in command.splits]} - {""}:
        brought_by = books.partner_of(owner)
        if brought_by not in ("", partner):
            raise AccountNotFound(f"accounts/{account_id(owner, SELLER_PAYABLE, payer.currency)}")
        if not brought_by:
            bring(owner, partner, books, moment)
    for account in credited:
        if not account.partner:
            _open(AccountKey(account.owner, account.kind), account.currency, partner, books, moment)
    credited = [books.account(each.owner, each.kind, each.currency, now) for each in credited]
    exists = not is_foreign(command.payer, caller, books)
    if not exists:
        payer = new_account(payer.owner, payer.kind, payer.currency, now)
        if command.rail:
            raise AccountNotFound(f"accounts/{payer.id}")
    elif not payer.partner:
        act_for(command.payer, caller, books, moment)
        payer = books.account(payer.owner, payer.kind, payer.currency, now)
    check_creditable(credited, caller, books)
    return payer, credited, exists


def open_from_trades(legs: Iterable[Leg | SpreadLeg], books: Books, moment: Moment) -> None:
    """Those to whom a trade's money opens an account are brought by the trade's partner, if nobody has."""
    for leg in legs:
        for debit in leg.debits:
            partner = books.partner_of(debit.owner) if debit.kind == ESCROW_TRADE else ""
            if partner:
                for key in leg.credits:
                    _open(key, leg.amount.currency, partner, books, moment)


def _open(key: AccountKey, currency: str, partner: str, books: Books, moment: Moment) -> None:
    if account_id(key.owner, key.kind, currency) in books.accounts or not key.owner.startswith((SUBJECTS, TRADES)):
        return
    if not books.partner_of(key.owner):
        bring(key.owner, partner, books, moment)
