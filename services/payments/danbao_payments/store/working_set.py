"""How a batch's rows are locked, read and written: set-based, a few statements whatever its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from danbao_payments.domain.account import Account, account_id
from danbao_payments.domain.account_commands import (
    CloseAccount,
    CreateAccount,
    CreateAccounts,
    FreezeAccount,
    UnfreezeAccount,
)
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import (
    CLEARING_CAPTURE,
    CLEARING_PAYOUT,
    CLEARING_REFUND,
    FUND_RECOVERABLE,
    GUARANTEE_FUND,
    PLATFORM,
    RAIL_IN_TRANSIT,
    RAIL_SETTLED,
    RECEIVABLE_GUARANTEE,
    RECEIVABLES,
    SELLER_PAYABLE,
    SUSPENSE,
    USER_AVAILABLE,
)
from danbao_payments.domain.commands import (
    CapturePayment,
    Command,
    CreatePayment,
    CreateTopUp,
    CreateWithdrawal,
    ExpireHolds,
    Leg,
    PostTransaction,
    RefundPayment,
    RefundTopUp,
    ReportRailResult,
    ReverseTransaction,
    SpreadLeg,
    VoidPayment,
)
from danbao_payments.domain.movement import MovementKind, RailResult
from danbao_payments.domain.payment import CaptureMode, Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.reconciliation_commands import ResolveReconciliationItem
from danbao_payments.domain.recovery import PAYS, comes_from_fund, debtor_of
from danbao_payments.domain.top_up import TopUp, awaiting_accounts
from danbao_payments.domain.transfer import PostedTransaction, Transaction, Transfer
from danbao_payments.domain.withdrawal import Withdrawal
from danbao_payments.store import rows
from danbao_payments.store.chain import append
from danbao_payments.store.copy import insert
from danbao_payments.store.limits import load_limits, save_limits
from danbao_payments.store.movements import (
    load_awaited,
    load_open_refunds,
    load_refunds,
    load_top_ups,
    load_withdrawals,
    save_movements,
)
from danbao_payments.store.owners import load_partners, save_owners
from danbao_payments.store.reconciliations import load_reconciliations, save_reconciliations

# Commands of a batch are decided a little later than it is loaded: a hold that ends meanwhile must be there.
_AHEAD = timedelta(seconds=1)
_RECEIVABLES = frozenset(RECEIVABLES)

_LOCK_ACCOUNTS = f"SELECT {rows.ACCOUNT} FROM accounts WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
# What never changes of an account needs no lock.
_OWNERS = "SELECT owner, currency FROM accounts WHERE id = ANY($1::uuid[])"
_KEYS = "SELECT owner, kind, currency FROM accounts WHERE id = ANY($1::uuid[])"
_LOCK_PAYMENTS = f"SELECT {rows.PAYMENT} FROM payments WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_LOCK_DUE_PAYMENTS = (
    f"SELECT {rows.PAYMENT} FROM payments WHERE payer_account = ANY($1::uuid[]) AND hold_id IS NOT NULL"
    " AND on_expiry = 'CANCEL' AND expire_time <= $2 ORDER BY id FOR UPDATE"
)
_REVERSED = f"SELECT {rows.TRANSACTION} FROM transactions WHERE id = ANY($1::uuid[]) OR reverses = ANY($1::uuid[])"
_REVERSED_TRANSFERS = (
    f"SELECT {', '.join(f'transfers.{name}' for name in Transfer._fields)} FROM transactions"
    " JOIN transfers ON sequence BETWEEN first_sequence AND last_sequence WHERE id = ANY($1::uuid[]) ORDER BY sequence"
)
_UPDATE_ACCOUNTS = (
    "UPDATE accounts SET state = new.state, debits_pending = new.debits_pending, debits_posted = new.debits_posted,"
    " credits_pending = new.credits_pending, credits_posted = new.credits_posted, update_time = new.update_time"
    " FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[])"
    " AS new (id, state, debits_pending, debits_posted, credits_pending, credits_posted, update_time)"
    " WHERE accounts.id = new.id"
)
# What most commands move of an account: half of the columns, and half of the work.
_UPDATE_POSTED = (
    "UPDATE accounts SET debits_posted = new.debits_posted, credits_posted = new.credits_posted,"
    " update_time = new.update_time FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[])"
    " AS new (id, debits_posted, credits_posted, update_time) WHERE accounts.id = new.id"
)
_UPDATE_PAYMENTS = (
    "UPDATE payments SET version = new.version, state = new.state, captured_minor = new.captured_minor,"
    " released_minor = new.released_minor, refunded_minor = new.refunded_minor, hold_id = new.hold_id,"
    " update_time = new.update_time, last_transaction = new.last_transaction, parts = new.parts"
    " FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],"
    " $8::timestamptz[], $9::uuid[], $10::jsonb[])"
    " AS new (id, version, state, captured_minor, released_minor, refunded_minor, hold_id, update_time,"
    " last_transaction, parts) WHERE payments.id = new.id"
)
# Only of payments that a rail brings: what a rail says makes of them what they are in one statement.
_UPDATE_RAIL_PAYMENTS = (
    "UPDATE payments SET version = new.version, state = new.state, authorized_minor = new.authorized_minor,"
    " captured_minor = new.captured_minor, refunded_minor = new.refunded_minor, update_time = new.update_time,"
    " last_transaction = new.last_transaction, parts = new.parts, rail_reference = new.rail_reference,"
    " failure = new.failure, charged_back_minor = new.charged_back_minor,"
    " refunds_settled_minor = new.refunds_settled_minor, settle_time = new.settle_time,"
    " chargeback_from = new.chargeback_from"
    " FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[],"
    " $8::uuid[], $9::jsonb[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::timestamptz[],"
    " $15::jsonb[])"
    " AS new (id, version, state, authorized_minor, captured_minor, refunded_minor, update_time, last_transaction,"
    " parts, rail_reference, failure, charged_back_minor, refunds_settled_minor, settle_time, chargeback_from)"
    " WHERE payments.id = new.id"
)


class PaymentsStore:
    """The books of one partition, as the group commit writes them."""

    async def load(
        self,
        connection: asyncpg.Connection,
        commands: Sequence[Command],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> Books:
        """Locks and reads what the commands may touch, in the order reconciliations, refunds, top-ups, withdrawals,
        payments, accounts."""
        books = Books()
        await load_reconciliations(connection, books, commands)
        wanted = _Wanted(commands)
        if wanted.refunds:
            for refund in await load_refunds(connection, books, wanted.refunds):
                wanted.accounts_of_refund(refund)
        if wanted.top_ups:
            for top_up in await load_top_ups(connection, books, wanted.top_ups):
                wanted.accounts_of_top_up(top_up)
        if wanted.withdrawals:
            for withdrawal in await load_withdrawals(connection, books, wanted.withdrawals):
                wanted.accounts_of_withdrawal(withdrawal)
        if wanted.reversing:
            await _load_posted(connection, books, wanted)
        if wanted.payments:
            for row in await connection.fetch(_LOCK_PAYMENTS, sorted(wanted.payments)):
                payment = rows.payment_of(row)
                books.payments.load(payment.id, payment)
                wanted.accounts_of_payment(payment)
            wanted.accounts_of_debtors(books)
        if wanted.returning:
            await load_open_refunds(connection, books, wanted.returning)
        if wanted.closing:
            for owner, currency in await connection.fetch(_OWNERS, sorted(wanted.closing)):
                wanted.accounts |= {account_id(owner, kind, currency) for kind in RECEIVABLES}
        await load_limits(connection, books, commands)
        if wanted.accounts:
            await _load_accounts(connection, books, wanted.accounts, now)
        if unknown := wanted.owners - books.partners.keys():
            await load_partners(connection, books, unknown)
        if wanted.charging:
            await load_awaited(connection, books, wanted.charging)
        return books

    async def save(self, connection: asyncpg.Connection, working_set: Books) -> None:
        """Writes what accepted commands changed."""
        books = working_set
        if books.transfers.accepted:
            await insert(connection, "transfers", Transfer._fields, books.transfers.accepted)
            await append(connection, books.transfers.accepted)
            await insert(
                connection,
                "transactions",
                Transaction._fields,
                rows.with_json(books.transactions.accepted, Transaction),
            )
        if created := [account for _, account in books.accounts.created()]:
            await insert(connection, "accounts", Account._fields, created)
        await _update_accounts(connection, books)
        await save_owners(connection, books)
        await self._save_payments(connection, books)
        await save_limits(connection, books)
        await save_movements(connection, books)
        await save_reconciliations(connection, books)

    async def _save_payments(self, connection: asyncpg.Connection, books: Books) -> None:
        of_wallets, others = rows.split_by_rail(payment for _, payment in books.payments.created())
        if of_wallets:
            await insert(connection, "payments", rows.PAYMENT_WITHOUT_RAIL, of_wallets)
        if others:
            await insert(connection, "payments", Payment._fields, rows.payment_rows(others))
        if updated := [
            (
                p.id,
                p.version,
                p.state,
                p.captured_minor,
                p.released_minor,
                p.refunded_minor,
                p.hold_id,
                p.update_time,
                p.last_transaction,
                rows.json_of_parts(p.parts),
            )
            for _, p in books.payments.updated()
            if not p.rail
        ]:
            await connection.execute(_UPDATE_PAYMENTS, *rows.columns_of(updated))
        if told := [
            (
                p.id,
                p.version,
                p.state,
                p.authorized_minor,
                p.captured_minor,
                p.refunded_minor,
                p.update_time,
                p.last_transaction,
                rows.json_of_parts(p.parts),
                p.rail_reference,
                p.failure,
                p.charged_back_minor,
                p.refunds_settled_minor,
                p.settle_time,
                rows.json_of_chargeback(p.chargeback_from),
            )
            for _, p in books.payments.updated()
            if p.rail
        ]:
            await connection.execute(_UPDATE_RAIL_PAYMENTS, *rows.columns_of(told))


async def _update_accounts(connection: asyncpg.Connection, books: Books) -> None:
    posted: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    loaded = books.accounts.loaded
    for key, a in books.accounts.updated():
        was = loaded(key)
        if a.debits_pending == was.debits_pending and a.credits_pending == was.credits_pending and a.state == was.state:
            posted.append((a.id, a.debits_posted, a.credits_posted, a.update_time))
        else:
            others.append(
                (a.id, a.state, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted, a.update_time)
            )
    if posted:
        await connection.execute(_UPDATE_POSTED, *rows.columns_of(posted))
    if others:
        await connection.execute(_UPDATE_ACCOUNTS, *rows.columns_of(others))


async def _load_posted(connection: asyncpg.Connection, books: Books, wanted: _Wanted) -> None:
    """What is to be reversed: written once, so it needs no lock, and whether it has been."""
    transfers: dict[UUID, list[Transfer]] = {}
    for row in await connection.fetch(_REVERSED_TRANSFERS, sorted(wanted.reversing)):
        transfer = Transfer._make(row)
        transfers.setdefault(transfer.transaction_id, []).append(transfer)
        if transfer.payment_id is not None:
            wanted.payments.add(transfer.payment_id)
    for row in await connection.fetch(_REVERSED, sorted(wanted.reversing)):
        transaction = rows.transaction_of(row)
        if transaction.id in transfers:
            books.posted.load(transaction.id, PostedTransaction(transaction, tuple(transfers[transaction.id])))
        if transaction.reverses is not None:
            books.reversals.load(transaction.reverses, transaction.id)
    touched = {
        account for each in transfers.values() for one in each for account in (one.debit_account, one.credit_account)
    }
    for owner, kind, currency in await connection.fetch(_KEYS, sorted(touched)):
        # What gave is credited now.
        wanted.credited(owner, kind, currency)


async def _load_accounts(connection: asyncpg.Connection, books: Books, wanted: set[UUID], now: datetime) -> None:
    holding = []
    missing: set[UUID] = set()
    partners = books.partners
    for row in await connection.fetch(_LOCK_ACCOUNTS, list(wanted)):
        account = rows.account_of(row)
        books.accounts.load(account.id, account)
        if partner := account.partner:
            partners[account.owner] = partner
        else:
            # Of an account that a version of the service before this opened, another may know better.
            partners.setdefault(account.owner, "")
        if account.debits_pending:
            holding.append(account.id)
        if account.kind in _RECEIVABLES and not account.is_empty:
            books.debtors.add(account.owner)
            if account.kind == RECEIVABLE_GUARANTEE:
                # Whoever owes it may pay in this batch, and then the fund gets it.
                missing |= _fund_accounts(account.currency)
    if holding:
        missing |= await _load_due_holds(connection, books, holding, now)
    missing -= wanted
    if missing:
        for row in await connection.fetch(_LOCK_ACCOUNTS, sorted(missing)):
            account = rows.account_of(row)
            books.accounts.load(account.id, account)


async def _load_due_holds(
    connection: asyncpg.Connection, books: Books, holding: list[UUID], now: datetime
) -> set[UUID]:
    """Gives the accounts through which these holds end."""
    due: list[Payment] = []
    for row in await connection.fetch(_LOCK_DUE_PAYMENTS, holding, now + _AHEAD):
        payment = rows.payment_of(row)
        if payment.id not in books.payments:
            books.payments.load(payment.id, payment)
        due.append(payment)
    for payment in sorted(due, key=lambda each: (each.expire_time, each.id)):
        books.due_holds.setdefault(payment.payer_account, []).append(payment.id)
    return {account_id(PLATFORM, CLEARING_CAPTURE, payment.currency) for payment in due}


def _fund_accounts(currency: str) -> set[UUID]:
    return {account_id(PLATFORM, kind, currency) for kind in (GUARANTEE_FUND, FUND_RECOVERABLE)}


def _clearing_of_rails(currency: str) -> set[UUID]:
    """Through which money goes out, and what stands in for an account that is closed."""
    return {account_id(PLATFORM, kind, currency) for kind in (CLEARING_PAYOUT, CLEARING_REFUND, SUSPENSE)}


class _Wanted:
    """Which rows the commands of a batch may touch."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.accounts: set[UUID] = set()
        # Who has brought them is to be known: an account may be opened for them, or they are named.
        self.owners: set[str] = set()
        # Whether their owners owe something is to be known.
        self.closing: set[UUID] = set()
        self.reversing: set[UUID] = set()
        self.payments: set[UUID] = set()
        # Legs for which the guarantee fund may pay, each with the others of its transaction.
        self.from_fund: list[tuple[Leg | SpreadLeg, Sequence[Leg | SpreadLeg]]] = []
        self.top_ups: set[UUID] = set()
        self.withdrawals: set[UUID] = set()
        self.refunds: set[UUID] = set()
        # Payments of which what is on its way back is to be known.
        self.returning: set[UUID] = set()
        # Rails and currencies in which top-ups are to be made.
        self.charging: set[tuple[str, str]] = set()
        self.movements = {
            MovementKind.TOP_UP: self.top_ups,
            MovementKind.WITHDRAWAL: self.withdrawals,
            MovementKind.PAYMENT: self.payments,
            MovementKind.REFUND: self.refunds,
        }
        for command in commands:
            self._add(command.posting("") if isinstance(command, ResolveReconciliationItem) else command)

    def credited(self, owner: str, kind: str, currency: str) -> None:
        """An account that may be credited, and what its owner may owe then."""
        self.accounts.add(account_id(owner, kind, currency))
        self.owners.add(owner)
        for debt in PAYS.get(kind, ()):
            self.accounts.add(account_id(owner, debt, currency))

    def accounts_of_payment(self, payment: Payment) -> None:
        currency = payment.currency
        self.accounts.add(account_id(PLATFORM, CLEARING_CAPTURE, currency))
        self.credited(payment.payer, USER_AVAILABLE, currency)
        self.credited(payment.payee_owner, payment.payee_kind, currency)
        for part in payment.parts:
            self.credited(part.owner, part.kind, currency)
        if payment.rail:
            self.accounts |= {account_id(payment.rail, kind, currency) for kind in (RAIL_IN_TRANSIT, RAIL_SETTLED)}
            self.accounts |= _clearing_of_rails(currency)
            # Those who bear a chargeback when the trade's account is empty.
            for beneficiary in {payment.beneficiary, *[part.beneficiary for part in payment.parts]} - {""}:
                self.credited(beneficiary, SELLER_PAYABLE, currency)

    def accounts_of_debtors(self, books: Books) -> None:
        """Who owes the fund what it pays for these payments."""
        for leg, legs in self.from_fund:
            payment = books.payments.get(leg.payment) if leg.payment is not None else None
            owner = None if payment is None else debtor_of(leg, legs, payment)
            if owner is not None:
                self.accounts.add(account_id(owner, RECEIVABLE_GUARANTEE, leg.amount.currency))
                self.owners.add(owner)

    def accounts_of_top_up(self, top_up: TopUp) -> None:
        self.credited(top_up.owner, USER_AVAILABLE, top_up.currency)
        self.accounts |= {
            account_id(top_up.rail, RAIL_IN_TRANSIT, top_up.currency),
            account_id(top_up.rail, RAIL_SETTLED, top_up.currency),
        }
        self.accounts |= _clearing_of_rails(top_up.currency)

    def accounts_of_withdrawal(self, withdrawal: Withdrawal) -> None:
        self.credited(withdrawal.owner, withdrawal.kind, withdrawal.currency)
        self.accounts.add(account_id(withdrawal.rail, RAIL_SETTLED, withdrawal.currency))
        self.accounts |= _clearing_of_rails(withdrawal.currency)

    def accounts_of_refund(self, refund: RailRefund) -> None:
        self.credited(refund.owner, USER_AVAILABLE, refund.currency)
        self.accounts.add(account_id(refund.rail, RAIL_SETTLED, refund.currency))
        self.accounts |= _clearing_of_rails(refund.currency)
        if refund.top_up_id is not None:
            self.top_ups.add(refund.top_up_id)
        if refund.payment_id is not None:
            self.payments.add(refund.payment_id)

    def _add(self, command: Command) -> None:
        accounts = self.accounts
        if isinstance(command, CreatePayment):
            currency = command.amount.currency
            accounts.add(account_id(command.payer, USER_AVAILABLE, currency))
            self.owners.add(command.payer)
            if command.beneficiary and command.caller.partner:
                self.owners.add(command.beneficiary)
            self.credited(command.payee.owner, command.payee.kind, currency)
            for term in command.splits:
                self.credited(term.destination.owner, term.destination.kind, currency)
                self.owners.add(term.beneficiary)
            if command.capture_mode == CaptureMode.MANUAL:
                accounts.add(account_id(PLATFORM, CLEARING_CAPTURE, currency))
            if command.rail:
                accounts |= {account_id(command.rail, kind, currency) for kind in (RAIL_IN_TRANSIT, RAIL_SETTLED)}
                self.charging.add((command.rail, currency))
        elif isinstance(command, PostTransaction):
            for leg in command.legs:
                for key in leg.debits:
                    accounts.add(account_id(key.owner, key.kind, leg.amount.currency))
                    self.owners.add(key.owner)
                for key in leg.credits:
                    self.credited(key.owner, key.kind, leg.amount.currency)
                if comes_from_fund(leg):
                    self.from_fund.append((leg, command.legs))
                    accounts |= _fund_accounts(leg.amount.currency)
                elif any(key.kind == RECEIVABLE_GUARANTEE for key in (*leg.debits, *leg.credits)):
                    accounts |= _fund_accounts(leg.amount.currency)
                if leg.payment is not None:
                    self.payments.add(leg.payment)
        elif isinstance(command, CapturePayment | VoidPayment | RefundPayment):
            self.payments.add(command.name)
        elif isinstance(command, CreateTopUp):
            accounts.update(awaiting_accounts(command.owner, command.rail, command.amount.currency))
            self.owners.add(command.owner)
            self.charging.add((command.rail, command.amount.currency))
        elif isinstance(command, RefundTopUp):
            self.top_ups.add(command.name)
        elif isinstance(command, CreateWithdrawal):
            currency = command.amount.currency
            accounts.add(account_id(command.owner, command.kind, currency))
            self.owners.add(command.owner)
            accounts.add(account_id(command.rail, RAIL_SETTLED, currency))
            accounts |= _clearing_of_rails(currency)
        elif isinstance(command, ReportRailResult):
            self.movements[command.movement.kind].add(command.movement.id)
            if command.movement.kind is MovementKind.PAYMENT and command.result is RailResult.RETURNED:
                self.returning.add(command.movement.id)
        elif isinstance(command, ReverseTransaction):
            self.reversing.add(command.name)
        elif isinstance(command, CreateAccount | CreateAccounts):
            accounts.update(account_id(new.owner, new.kind, new.currency) for new in command.accounts)
            self.owners.update(new.owner for new in command.accounts)
        elif isinstance(command, FreezeAccount | UnfreezeAccount):
            accounts.add(command.name)
        elif isinstance(command, CloseAccount):
            accounts.add(command.name)
            self.closing.add(command.name)
        elif isinstance(command, ExpireHolds):
            self.payments.update(command.payments)
