"""How the books are read: SQLAlchemy Core on the readers' pool, never on the writer's connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from danbao_kit.database import Database
from danbao_payments.application.ports import KindTotals
from danbao_payments.domain.account import Account
from danbao_payments.domain.chart import SUBJECTS
from danbao_payments.domain.owner import Owner
from danbao_payments.domain.payment import OnExpiry, Payment
from danbao_payments.domain.transfer import PostedTransaction, Transaction, Transfer, TransferKind
from danbao_payments.store import rows
from danbao_payments.store.tables import accounts, owners, payments, transactions, transfers


def _columns(table: Table, fields: Sequence[str]) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in fields]


_ACCOUNT = _columns(accounts, Account._fields)
_OWNER = _columns(owners, Owner._fields)
_PAYMENT = _columns(payments, Payment._fields)
_TRANSACTION = _columns(transactions, Transaction._fields)
_TRANSFER = _columns(transfers, Transfer._fields)
_MOVES_MONEY = transfers.c.kind.in_([TransferKind.POSTED.value, TransferKind.POST.value])


class BooksQueries:
    """Reads of one partition's books."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def account(self, account_id: UUID, now: datetime) -> Account | None:
        found = await self._all(_accounts_at(now).where(accounts.c.id == account_id))
        return _account_at(found[0]) if found else None

    async def accounts_of(
        self,
        owner: str,
        *,
        kind: str,
        states: Sequence[str],
        after: tuple[str, str, str] | None,
        limit: int,
        now: datetime,
        seen_by: str | None = None,
    ) -> Sequence[Account]:
        query = _accounts_at(now)
        if seen_by is not None:
            open_to_all = and_(accounts.c.partner == "", accounts.c.owner.startswith(SUBJECTS))
            query = query.where(or_(accounts.c.partner == seen_by, open_to_all))
        if owner:
            query = query.where(accounts.c.owner == owner)
        if kind:
            query = query.where(accounts.c.kind == kind)
        if states:
            query = query.where(accounts.c.state.in_(states))
        key = (accounts.c.owner, accounts.c.kind, accounts.c.currency)
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(*map(literal, after)))
        found = await self._all(query.order_by(*key).limit(limit))
        return [_account_at(row) for row in found]

    async def owners(self, names: Collection[str]) -> dict[str, Owner]:
        found = await self._all(select(*_OWNER).where(owners.c.owner.in_(names)))
        return {row.owner: Owner._make(row) for row in found}

    async def whose(self, ids: Collection[UUID]) -> dict[UUID, tuple[str, str]]:
        found = await self._all(
            select(accounts.c.id, accounts.c.owner, accounts.c.partner).where(accounts.c.id.in_(ids))
        )
        return {row.id: (row.owner, row.partner) for row in found}

    async def payment(self, payment_id: UUID, now: datetime) -> Payment | None:
        found = await self._all(select(*_PAYMENT).where(payments.c.id == payment_id))
        return rows.payment_of(found[0]).seen_at(now) if found else None

    async def transaction(self, transaction_id: UUID) -> tuple[PostedTransaction, frozenset[str]] | None:
        both = accounts.c.id.in_([transfers.c.debit_account, transfers.c.credit_account])
        query = (
            select(*_TRANSACTION, *_TRANSFER, func.array_agg(accounts.c.owner).label("owners"))
            .join(
                transfers,
                transfers.c.sequence.between(transactions.c.first_sequence, transactions.c.last_sequence),
            )
            .join(accounts, both)
            .where(transactions.c.id == transaction_id)
            .group_by(transactions.c.id, transfers.c.sequence)
            .order_by(transfers.c.sequence)
        )
        found = await self._all(query)
        if not found:
            return None
        width = len(_TRANSACTION)
        transaction = rows.transaction_of(found[0][:width])
        legs = tuple(Transfer._make(row[width:-1]) for row in found)
        return PostedTransaction(transaction, legs), frozenset(owner for row in found for owner in row.owners)

    async def transactions_of(
        self, accounts: Sequence[UUID], *, since: datetime | None, until: datetime | None, after: int, limit: int
    ) -> tuple[Sequence[PostedTransaction], int]:
        touching = []
        for side in (transfers.c.debit_account, transfers.c.credit_account):
            one = select(transfers.c.sequence, transfers.c.transaction_id).where(
                side.in_(accounts), transfers.c.sequence > after
            )
            if since is not None:
                one = one.where(transfers.c.create_time >= since)
            if until is not None:
                one = one.where(transfers.c.create_time < until)
            touching.append(one.order_by(transfers.c.sequence).limit(limit).subquery().select())
        sides = union_all(*touching).subquery("sides")
        found = await self._all(select(sides).order_by(sides.c.sequence).limit(limit))
        ids = list(dict.fromkeys(row.transaction_id for row in found))
        if not ids:
            return [], 0
        query = (
            select(*_TRANSACTION, *_TRANSFER)
            .join(
                transfers,
                transfers.c.sequence.between(transactions.c.first_sequence, transactions.c.last_sequence),
            )
            .where(transactions.c.id.in_(ids))
            .order_by(transfers.c.sequence)
        )
        width = len(_TRANSACTION)
        heads: dict[UUID, Transaction] = {}
        legs: dict[UUID, list[Transfer]] = {}
        for row in await self._all(query):
            heads.setdefault(row[0], rows.transaction_of(row[:width]))
            legs.setdefault(row[0], []).append(Transfer._make(row[width:]))
        posted = [PostedTransaction(head, tuple(legs[key])) for key, head in heads.items()]
        return posted, posted[-1].transaction.last_sequence if len(found) == limit else 0

    async def balance_at(self, account: Account, *, at: datetime, effective: bool) -> tuple[int, int]:
        # Times rise with sequences: what was recorded by then ends at one number.
        recorded = (
            select(func.coalesce(func.max(transactions.c.last_sequence), 0))
            .where(
                transactions.c.create_time
                == select(func.max(transactions.c.create_time))
                .where(transactions.c.create_time <= at)
                .scalar_subquery()
            )
            .scalar_subquery()
        )
        latest = []
        for side in ("debit", "credit"):
            one = select(
                transfers.c.sequence,
                transfers.c[f"{side}_debits_posted"].label("debits"),
                transfers.c[f"{side}_credits_posted"].label("credits"),
            ).where(transfers.c[f"{side}_account"] == account.id, transfers.c.sequence <= recorded)
            latest.append(one.order_by(transfers.c.sequence.desc()).limit(1).subquery().select())
        sides = union_all(*latest).subquery("sides")
        found = await self._all(select(sides).order_by(sides.c.sequence.desc()).limit(1))
        totals = (
            {"debit": int(found[0].debits), "credit": int(found[0].credits)} if found else {"debit": 0, "credit": 0}
        )
        if effective:
            # The few that count for another time than their own, read by their own index.
            late = and_(transfers.c.effective_time <= at, transfers.c.create_time > at)
            early = and_(transfers.c.effective_time > at, transfers.c.create_time <= at)
            for side in totals:
                query = select(
                    func.coalesce(func.sum(transfers.c.amount_minor).filter(late), 0)
                    - func.coalesce(func.sum(transfers.c.amount_minor).filter(early), 0)
                ).where(transfers.c[f"{side}_account"] == account.id, transfers.c.effective_time.is_not(None))
                totals[side] += int((await self._all(query))[0][0])
        return totals["debit"], totals["credit"]

    async def trial_balance(self) -> Sequence[KindTotals]:
        totals = [
            func.sum(accounts.c[name])
            for name in ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
        ]
        query = (
            select(accounts.c.currency, accounts.c.kind, func.count(), *totals)
            .group_by(accounts.c.currency, accounts.c.kind)
            .order_by(accounts.c.currency, accounts.c.kind)
        )
        return [
            KindTotals(row[0], row[1], int(row[2]), int(row[3]), int(row[4]), int(row[5]), int(row[6]))
            for row in await self._all(query)
        ]

    async def due_holds(self, now: datetime, limit: int) -> Sequence[UUID]:
        return [row["id"] for row in await self._database.look(_DUE_HOLDS, now=now, limit=limit)]

    async def _all(self, query: Any) -> Sequence[Any]:
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()


def _time_is_up(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return and_(payments.c.hold_id.is_not(None), payments.c.expire_time <= now)


# Asked four times a second.
_DUE_HOLDS = (
    select(payments.c.id)
    .where(_time_is_up(bindparam("now")))
    .order_by(payments.c.expire_time)
    .limit(bindparam("limit"))
)


def has_ended(now: datetime) -> ColumnElement[bool]:
    """Whether a payment's hold has run out, ended or not."""
    return and_(_time_is_up(now), payments.c.on_expiry == OnExpiry.CANCEL.value)


def _accounts_at(now: datetime) -> Select[Any]:
    """Accounts, and beside each what is still counted as held on it though it has run out by `now`."""
    held = payments.c.authorized_minor - payments.c.captured_minor - payments.c.released_minor
    over = (
        select(func.coalesce(func.sum(held), 0))
        .where(payments.c.payer_account == accounts.c.id, has_ended(now))
        .scalar_subquery()
    )
    return select(*_ACCOUNT, over.label("over"))


def _account_at(row: Any) -> Account:
    account = rows.account_of(row[:-1])
    return account._replace(debits_pending=account.debits_pending - int(row.over)) if row.over else account
