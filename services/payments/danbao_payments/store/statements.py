"""How an account's statement over a period is read: as recorded, or as it counts, from one fixed end of the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import case, func, literal, select, tuple_, union_all

from danbao_kit.database import Database
from danbao_payments.application.ports import Entry, Period, Statement
from danbao_payments.domain.account import Account
from danbao_payments.domain.chart import CHART, Side
from danbao_payments.domain.transfer import TransferKind
from danbao_payments.store.tables import accounts, transactions, transfers

_MOVES_MONEY = transfers.c.kind.in_([TransferKind.POSTED.value, TransferKind.POST.value])


class StatementQueries:
    """Reads of statements. Each walks the account's own rows, by its two indexes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def statement(
        self, account: Account, period: Period, *, after: tuple[datetime, int] | None, head: int | None, limit: int
    ) -> Statement:
        """`head` is the last sequence that counts, so that all pages show one ledger; None: the last there is."""
        async with self._database.read() as connection:
            if head is None:
                head = (await connection.execute(select(func.coalesce(func.max(transfers.c.sequence), 0)))).scalar_one()
            rows = _rows(account, head, effective=period.effective)
            normal = rows.c.side == CHART[account.kind].normal_side.value
            signed = case((normal, rows.c.amount_minor), else_=-rows.c.amount_minor)
            opening = literal(0) if period.since is None else _sum(signed, rows.c.at < period.since)
            closing = _sum(signed, literal(True) if period.until is None else rows.c.at < period.until)
            before = literal(0) if after is None else _sum(signed, tuple_(rows.c.at, rows.c.sequence) <= tuple_(*after))
            sums = (await connection.execute(select(opening, closing, before).select_from(rows))).one()
            page = select(rows)
            if period.since is not None:
                page = page.where(rows.c.at >= period.since)
            if period.until is not None:
                page = page.where(rows.c.at < period.until)
            if after is not None:
                page = page.where(tuple_(rows.c.at, rows.c.sequence) > tuple_(*after))
            chosen = page.order_by(rows.c.at, rows.c.sequence).limit(limit).subquery("page")
            query = (
                select(chosen, accounts.c.owner, accounts.c.kind, transactions.c.description)
                .join(accounts, accounts.c.id == chosen.c.counterparty)
                .join(transactions, transactions.c.id == chosen.c.transaction_id)
                .order_by(chosen.c.at, chosen.c.sequence)
            )
            found = (await connection.execute(query)).all()
        running = int(sums[0] if after is None else sums[2])
        entries = []
        for row in found:
            running += row.amount_minor if row.side == CHART[account.kind].normal_side else -row.amount_minor
            entries.append(_entry(row, running))
        return Statement(int(sums[0]), int(sums[1]), head, entries, [(row.at, row.sequence) for row in found])


def _rows(account: Account, head: int, *, effective: bool) -> Any:
    counts = func.coalesce(transfers.c.effective_time, transfers.c.create_time)
    sides = []
    for side, other in ((Side.DEBIT, "credit"), (Side.CREDIT, "debit")):
        ours = transfers.c.debit_account if side is Side.DEBIT else transfers.c.credit_account
        sides.append(
            select(
                (counts if effective else transfers.c.create_time).label("at"),
                transfers.c.sequence,
                transfers.c.transaction_id,
                literal(side.value).label("side"),
                transfers.c.currency,
                transfers.c.amount_minor,
                transfers.c[f"{other}_account"].label("counterparty"),
                transfers.c.create_time,
                counts.label("effective_time"),
            ).where(ours == account.id, transfers.c.sequence <= head, _MOVES_MONEY)
        )
    return union_all(*sides).subquery("rows")


def _sum(signed: Any, of: Any) -> Any:
    return func.coalesce(func.sum(signed).filter(of), 0)


def _entry(row: Any, balance_minor: int) -> Entry:
    return Entry(
        row.sequence,
        row.transaction_id,
        row.side,
        row.currency,
        row.amount_minor,
        row.counterparty,
        row.owner,
        row.kind,
        balance_minor,
        row.create_time,
        row.description,
        row.effective_time,
    )
