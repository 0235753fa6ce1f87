"""How accounts are opened, frozen, let go again and closed."""

from __future__ import annotations

from uuid import UUID

from danbao_kit.decision import Moment
from danbao_payments.application.holds import expire_due
from danbao_payments.domain.access import check_may_control, check_may_open, check_may_say_whose
from danbao_payments.domain.account import Account, AccountState, account_id
from danbao_payments.domain.account_commands import (
    CloseAccount,
    CreateAccount,
    CreateAccounts,
    FreezeAccount,
    UnfreezeAccount,
)
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Caller
from danbao_payments.domain.chart import RECEIVABLES
from danbao_payments.domain.commands import AccountKey
from danbao_payments.domain.errors import AccountClosed, AccountFrozen, AccountNotEmpty, AccountNotFound
from danbao_payments.domain.events import AccountEvent
from danbao_payments.domain.tenancy import act_for, assign, is_foreign, sees

_FROZEN = {"DEBITS": AccountState.FROZEN_DEBITS, "ALL": AccountState.FROZEN_ALL}


def create_accounts(
    command: CreateAccount | CreateAccounts, books: Books, moment: Moment
) -> Account | tuple[Account, ...]:
    """Opens those that are not there yet. Raises KindNotAllowed, then AccountNotFound for another partner's owner, then
    OwnerTaken, then AccountClosed, and then opens none."""
    caller = command.caller
    for new in command.accounts:
        check_may_open(AccountKey(new.owner, new.kind), caller)
        check_may_say_whose(new, caller)
    for new in command.accounts:
        if is_foreign(new.owner, caller, books):
            raise AccountNotFound(f"accounts/{account_id(new.owner, new.kind, new.currency)}")
    for new in command.accounts:
        if new.partner and not caller.is_tenant:
            assign(new.owner, new.partner, books, moment)
        act_for(new.owner, caller, books, moment)
    for new in command.accounts:
        found = books.accounts.get(account_id(new.owner, new.kind, new.currency))
        if found is not None and found.state == AccountState.CLOSED:
            raise AccountClosed(found.id)
    made = []
    for new in command.accounts:
        account = books.accounts.get(account_id(new.owner, new.kind, new.currency))
        if account is None:
            account = books.account(new.owner, new.kind, new.currency, moment.now)
            _put(account, "account_opened", books, moment)
        made.append(account)
    return tuple(made) if isinstance(command, CreateAccounts) else made[0]


def freeze_account(command: FreezeAccount, books: Books, moment: Moment) -> Account:
    """Refuses debits, or everything, from now on."""
    account = _find(command.name, command.caller, books)
    frozen = account._replace(state=_FROZEN[command.scope].value, update_time=moment.now)
    if frozen.state == account.state:
        return account
    return _put(frozen, "account_frozen", books, moment)


def unfreeze_account(command: UnfreezeAccount, books: Books, moment: Moment) -> Account:
    """Lets money move again."""
    account = _find(command.name, command.caller, books)
    if account.state == AccountState.OPEN:
        return account
    opened = account._replace(state=AccountState.OPEN.value, update_time=moment.now)
    return _put(opened, "account_unfrozen", books, moment)


def close_account(command: CloseAccount, books: Books, moment: Moment) -> Account:
    """Ends an account that has nothing in it, nothing held on it, and whose owner owes nothing in its currency."""
    account = _find(command.name, command.caller, books, closing=True)
    if account.state != AccountState.OPEN:
        raise AccountFrozen(account.id, scope=account.state.removeprefix("FROZEN_"))
    # What has run out holds nothing any more, swept or not.
    expire_due((account.id,), books, moment)
    account = _find(command.name, command.caller, books, closing=True)
    for kind in (account.kind, *RECEIVABLES):
        each = books.account(account.owner, kind, account.currency, moment.now)
        if not each.is_empty:
            raise AccountNotEmpty(account.id, because=each.id, kind=each.kind)
    closed = account._replace(state=AccountState.CLOSED.value, update_time=moment.now)
    return _put(closed, "account_closed", books, moment)


def _find(account: UUID, caller: Caller, books: Books, *, closing: bool = False) -> Account:
    """The account, not closed. Raises AccountNotFound, KindNotAllowed, AccountClosed."""
    found = books.accounts.get(account)
    if found is None or not sees(caller, found.owner, books.partner_of(found.owner)):
        raise AccountNotFound(f"accounts/{account}")
    check_may_control(AccountKey(found.owner, found.kind), caller, closing=closing)
    if found.state == AccountState.CLOSED:
        raise AccountClosed(found.id)
    return found


def _put(account: Account, event: str, books: Books, moment: Moment) -> Account:
    books.accounts.put(account.id, account)
    moment.emit(AccountEvent(event, account))
    return account
