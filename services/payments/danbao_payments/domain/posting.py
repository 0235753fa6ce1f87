"""How a transaction comes to be: legs in order upon the accounts, all of them or none."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from danbao_kit.decision import Moment
from danbao_kit.money import MAX_MINOR
from danbao_payments.domain.account import Account, AccountState, available_minor, is_short
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import (
    ESCROW_TRADE,
    FUND_RECOVERABLE,
    GUARANTEE_FUND,
    PLATFORM,
    RECEIVABLE_GUARANTEE,
    RECEIVABLES,
)
from danbao_payments.domain.errors import AccountClosed, AccountFrozen, BalanceOverflow, InsufficientFunds
from danbao_payments.domain.recovery import PAYS, recovered
from danbao_payments.domain.transfer import Metadata, PostedTransaction, Transaction, Transfer, TransferKind

_POSTED = TransferKind.POSTED.value
_PENDING = TransferKind.PENDING.value
_POST = TransferKind.POST.value
_OPEN = AccountState.OPEN.value
_CLOSED = AccountState.CLOSED.value
_FROZEN_ALL = AccountState.FROZEN_ALL.value
_RECEIVABLES = frozenset(RECEIVABLES)


def check_movable(debited: list[Account], credited: list[Account]) -> None:
    """Raises AccountClosed, then AccountFrozen, if any of the accounts is."""
    for account in (*debited, *credited):
        if account.state == _CLOSED:
            raise AccountClosed(account.id)
    for account in debited:
        if account.state != _OPEN:
            raise AccountFrozen(account.id, scope=account.state.removeprefix("FROZEN_"))
    for account in credited:
        if account.state == _FROZEN_ALL:
            raise AccountFrozen(account.id, scope="ALL")


class Posting:
    """One transaction while it is decided. Nothing reaches the books before `record`.

    Each leg is checked on the totals that the legs before it left. A total that would overflow is told last,
    after everything that may be short.
    """

    __slots__ = ("_accounts", "_books", "_effective_time", "_moment", "_overflow", "_transfers", "id")

    def __init__(self, books: Books, moment: Moment, *, effective_time: datetime | None = None) -> None:
        self._effective_time = effective_time
        self.id = moment.ids.new()
        self._books = books
        self._moment = moment
        self._accounts: dict[UUID, Account] = {}
        self._transfers: list[Transfer] = []
        self._overflow: BalanceOverflow | None = None

    def post(
        self, debit: Account, credit: Account, amount_minor: int, *, payment_id: UUID | None = None, purpose: str = ""
    ) -> None:
        """Moves money at once. Raises InsufficientFunds."""
        debited = self._accounts.get(debit.id, debit)
        credited = self._accounts.get(credit.id, credit)
        now = self._moment.now
        i, owner, kind, currency, state, rule, dp, dd, cp, cc, made, _, whose = debited
        after_debit = Account(i, owner, kind, currency, state, rule, dp, dd + amount_minor, cp, cc, made, now, whose)
        if is_short(after_debit):
            raise _insufficient(debited, amount_minor)
        i, owner, kind, currency, state, rule, dp, dd, cp, cc, made, _, whose = credited
        after_credit = Account(i, owner, kind, currency, state, rule, dp, dd, cp, cc + amount_minor, made, now, whose)
        if is_short(after_credit):
            raise _insufficient(credited, amount_minor)
        self._add(_POSTED, after_debit, after_credit, amount_minor, None, payment_id, purpose)

    def hold(self, debit: Account, credit: Account, amount_minor: int, *, payment_id: UUID) -> int:
        """Holds money and gives the hold's id. Raises InsufficientFunds."""
        debited = self._accounts.get(debit.id, debit)
        credited = self._accounts.get(credit.id, credit)
        now = self._moment.now
        after_debit = debited._replace(debits_pending=debited.debits_pending + amount_minor, update_time=now)
        if is_short(after_debit):
            raise _insufficient(debited, amount_minor)
        after_credit = credited._replace(credits_pending=credited.credits_pending + amount_minor, update_time=now)
        return self._add(_PENDING, after_debit, after_credit, amount_minor, None, payment_id, "")

    def post_held(
        self, debit: Account, credit: Account, *, held_minor: int, amount_minor: int, hold_id: int, payment_id: UUID
    ) -> None:
        """Ends a hold by moving `amount_minor` of what it held; the rest falls free."""
        assert 0 < amount_minor <= held_minor, "the payment's counters promise it"
        now = self._moment.now
        debited = self._accounts.get(debit.id, debit)
        credited = self._accounts.get(credit.id, credit)
        after_debit = debited._replace(
            debits_pending=debited.debits_pending - held_minor,
            debits_posted=debited.debits_posted + amount_minor,
            update_time=now,
        )
        after_credit = credited._replace(
            credits_pending=credited.credits_pending - held_minor,
            credits_posted=credited.credits_posted + amount_minor,
            update_time=now,
        )
        self._add(_POST, after_debit, after_credit, amount_minor, hold_id, payment_id, "")

    def release(
        self, kind: TransferKind, debit: Account, credit: Account, *, held_minor: int, hold_id: int, payment_id: UUID
    ) -> None:
        """Ends a hold, moving nothing: VOID or EXPIRE."""
        now = self._moment.now
        debited = self._accounts.get(debit.id, debit)
        credited = self._accounts.get(credit.id, credit)
        after_debit = debited._replace(debits_pending=debited.debits_pending - held_minor, update_time=now)
        after_credit = credited._replace(credits_pending=credited.credits_pending - held_minor, update_time=now)
        self._add(kind.value, after_debit, after_credit, held_minor, hold_id, payment_id, "")

    def account(self, owner: str, kind: str, currency: str) -> Account:
        """The account as the transaction has left it so far."""
        found = self._books.account(owner, kind, currency, self._moment.now)
        return self._accounts.get(found.id, found)

    def record(
        self, description: str = "", metadata: Metadata = (), *, reverses: UUID | None = None
    ) -> PostedTransaction:
        """Puts the transaction into the books, with what it recovers of debts. Raises BalanceOverflow."""
        debtors = self._books.debtors
        for account in self._accounts.values():
            if account.kind in _RECEIVABLES:
                debtors.add(account.owner)
        if debtors:
            self._recover()
            self._keep_fund_whole()
        if self._overflow is not None:
            raise self._overflow
        transfers = tuple(self._transfers)
        transaction = Transaction(
            self.id,
            transfers[0].sequence,
            transfers[-1].sequence,
            description,
            metadata,
            self._moment.now,
            self._effective_time,
            reverses,
        )
        put = self._books.accounts.put
        for key, account in self._accounts.items():
            if account.kind == ESCROW_TRADE and account.is_empty:
                # A trade's account is used once: its last money out closes it.
                account = account._replace(state=_CLOSED)
            put(key, account)
        self._books.transactions.append(transaction)
        for transfer in transfers:
            self._books.transfers.append(transfer)
        return PostedTransaction(transaction, transfers)

    def _recover(self) -> None:
        """Pays debts out of what the transaction credited to their owners' wallets. No freeze keeps it from that."""
        debtors = self._books.debtors
        credited: dict[UUID, int] = {}
        for transfer in self._transfers:
            account = self._accounts[transfer.credit_account]
            if transfer.kind == _POSTED and account.kind in PAYS and account.owner in debtors:
                credited[account.id] = credited.get(account.id, 0) + transfer.amount_minor
        for wallet_id, credited_minor in credited.items():
            wallet = self._accounts[wallet_id]
            debts = [self.account(wallet.owner, kind, wallet.currency) for kind in PAYS[wallet.kind]]
            paid = recovered(
                credited_minor=credited_minor,
                there_minor=available_minor(wallet),
                owed_minor=[available_minor(debt) for debt in debts],
            )
            for debt, minor in zip(debts, paid, strict=True):
                if minor:
                    self.post(wallet, debt, minor)

    def _keep_fund_whole(self) -> None:
        """Moves fund.recoverable as receivable.guarantee moved: paid or written off, a debt goes back into the fund."""
        moved: dict[str, int] = {}
        for account in self._accounts.values():
            if account.kind == RECEIVABLE_GUARANTEE:
                moved[account.currency] = moved.get(account.currency, 0) + self._change(account)
        for currency, owed_minor in moved.items():
            recoverable = self.account(PLATFORM, FUND_RECOVERABLE, currency)
            fund = self.account(PLATFORM, GUARANTEE_FUND, currency)
            missing = owed_minor + self._change(recoverable)
            if missing < 0:
                self.post(recoverable, fund, -missing)
            elif missing > 0:
                self.post(fund, recoverable, missing)

    def _change(self, account: Account) -> int:
        """By how much the transaction has debited the account so far, less what it credited."""
        before = self._books.account(account.owner, account.kind, account.currency, self._moment.now)
        return account.debits_posted - before.debits_posted - account.credits_posted + before.credits_posted

    def _add(
        self,
        kind: str,
        debit: Account,
        credit: Account,
        amount_minor: int,
        pending_id: int | None,
        payment_id: UUID | None,
        purpose: str,
    ) -> int:
        if debit.debits_posted + debit.debits_pending > MAX_MINOR and self._overflow is None:
            self._overflow = BalanceOverflow(debit.id, amount_minor=amount_minor)
        if credit.credits_posted + credit.credits_pending > MAX_MINOR and self._overflow is None:
            self._overflow = BalanceOverflow(credit.id, amount_minor=amount_minor)
        self._accounts[debit.id] = debit
        self._accounts[credit.id] = credit
        sequence = self._moment.next_number()
        self._transfers.append(
            Transfer(
                sequence,
                self.id,
                kind,
                debit.id,
                credit.id,
                debit.currency,
                amount_minor,
                pending_id,
                payment_id,
                purpose,
                self._moment.now,
                debit.debits_pending,
                debit.debits_posted,
                debit.credits_pending,
                debit.credits_posted,
                credit.debits_pending,
                credit.debits_posted,
                credit.credits_pending,
                credit.credits_posted,
                self._effective_time,
            )
        )
        return sequence


def _insufficient(account: Account, amount_minor: int) -> InsufficientFunds:
    return InsufficientFunds(
        account.id,
        owner=account.owner,
        kind=account.kind,
        available_minor=available_minor(account),
        amount_minor=amount_minor,
    )
