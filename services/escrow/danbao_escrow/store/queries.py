"""What is read outside the write path: trades, timelines, and what is due."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)

from danbao_escrow.application.ports import Parties, TradeFilter, TradePosition
from danbao_escrow.domain.checkout import Checkout
from danbao_escrow.domain.commands import ClaimStep, Token
from danbao_escrow.domain.model import TimelineEntry, Trade
from danbao_escrow.store import rows
from danbao_escrow.store.deadlines import due_query
from danbao_escrow.store.payment_store import checkout_of
from danbao_escrow.store.payment_tables import checkouts
from danbao_escrow.store.tables import steps, timeline_entries, trades
from danbao_kit.database import Database
from danbao_kit.tables import PARTITION

_FACTS_KEPT = 50_000

_DUE = due_query()
_ABANDONED = (
    select(steps.c.trade_id, steps.c.number, steps.c.generation, steps.c.claim)
    # Were the state a parameter, the statement would be planned for any state, and the index holds but one.
    .where(steps.c.state == literal_column("'PENDING'"), steps.c.attempt_at <= func.clock_timestamp())
    .order_by(steps.c.attempt_at)
    .limit(bindparam("limit"))
)

_LAST_MOMENT = text("SELECT last_time FROM stream_heads WHERE partition = :partition")
_CURSOR = text("SELECT sequence FROM reader_cursors WHERE source = :source AND partition = :partition")
_UNDER_WAY = text("SELECT count(*) FROM steps WHERE state = 'PENDING' AND refusals = 0 AND create_time <= :until")


class Queries:
    """Reads of one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parties: dict[UUID, Parties] = {}

    async def trade(self, trade_id: UUID) -> Trade | None:
        """The trade as it is now."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(trades).where(trades.c.trade_id == trade_id))).one_or_none()
        return None if row is None else rows.trade_of(dict(row._mapping))

    async def checkout(self, checkout_id: UUID) -> Checkout | None:
        """The checkout as it is now."""
        query = select(checkouts).where(checkouts.c.checkout_id == checkout_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else checkout_of(dict(row._mapping))

    async def cursor(self, source: str) -> int:
        """How far that stream is applied."""
        async with self._database.read() as connection:
            found = (await connection.execute(_CURSOR, {"source": source, "partition": PARTITION})).scalar()
        return int(found or 0)

    async def parties(self, trade_ids: Iterable[UUID]) -> dict[UUID, Parties]:
        """The parties of those trades that exist; asked once a trade."""
        wanted = set(trade_ids)
        missing = [trade_id for trade_id in wanted if trade_id not in self._parties]
        if missing:
            columns = (trades.c.trade_id, trades.c.buyer, trades.c.seller, trades.c.currency)
            query = select(*columns).where(trades.c.trade_id.in_(missing))
            async with self._database.read() as connection:
                found = (await connection.execute(query)).all()
            for row in found:
                self.remember(UUID(int=row.trade_id.int), Parties(row.buyer, row.seller, row.currency))
        return {trade_id: self._parties[trade_id] for trade_id in wanted if trade_id in self._parties}

    def remember(self, trade_id: UUID, parties: Parties) -> None:
        """The parties of a trade that is known to exist."""
        if len(self._parties) >= _FACTS_KEPT:
            del self._parties[next(iter(self._parties))]
        self._parties[trade_id] = parties

    async def trades(self, asked: TradeFilter, *, after: TradePosition | None, limit: int) -> list[Trade]:
        """Trades by their creation, after a position."""
        async with self._database.read() as connection:
            found = (await connection.execute(trades_query(asked, after=after, limit=limit))).all()
        return [rows.trade_of(dict(row._mapping)) for row in found]

    async def timeline(self, trade_id: UUID, *, after: int, limit: int) -> list[TimelineEntry]:
        """Entries after a position, oldest first."""
        entries = timeline_entries.c
        query = (
            select(timeline_entries)
            .where(entries.trade_id == trade_id, entries.position > after)
            .order_by(entries.position)
            .limit(limit)
        )
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return [rows.timeline_of(dict(row._mapping)) for row in found]

    async def due_trades(self, now: datetime, limit: int) -> list[UUID]:
        """Trades with a deadline at or before `now`, the oldest first."""
        found = await self._database.look(_DUE, now=now, limit=limit)
        return list(dict.fromkeys(UUID(int=row["trade_id"].int) for row in found))

    async def abandoned_steps(self, limit: int) -> list[ClaimStep]:
        """Pending steps whose lease or backoff is over, as claims of them."""
        return [_claim(row) for row in await self._database.look(_ABANDONED, limit=limit)]

    async def last_moment(self) -> datetime:
        """The business time of the latest decision."""
        async with self._database.read() as connection:
            found: datetime = (await connection.execute(_LAST_MOMENT, {"partition": PARTITION})).scalar_one()
        return found

    async def steps_under_way(self, until: datetime) -> int:
        """Pending steps set by then that were not refused: those that wait out a backoff are not counted."""
        async with self._database.read() as connection:
            return int((await connection.execute(_UNDER_WAY, {"until": until})).scalar_one())


def _claim(row: Any) -> ClaimStep:
    return ClaimStep(UUID(int=row["trade_id"].int), row["number"], row["generation"], row["claim"])


def trades_query(asked: TradeFilter, *, after: TradePosition | None, limit: int) -> Select[Any]:
    """A page of trades: each way to find them reads as far as the page, by an index of its own."""
    key = (trades.c.create_time, trades.c.trade_id)
    order = [column.desc() if asked.newest_first else column for column in key]
    pages = []
    for way in _ways(asked):
        page = select(trades).where(*way, *_narrowed(asked))
        if after is not None:
            position = tuple_(literal(after[0]), literal(after[1]))
            page = page.where(tuple_(*key) < position if asked.newest_first else tuple_(*key) > position)
        pages.append(page.order_by(*order).limit(limit))
    if len(pages) == 1:
        return pages[0]
    # A trade's buyer is never its seller, so the ways have no trade in common.
    found = union_all(*[page.subquery().select() for page in pages]).subquery()
    again = [found.c.create_time, found.c.trade_id]
    return select(found).order_by(*[column.desc() if asked.newest_first else column for column in again]).limit(limit)


def _ways(asked: TradeFilter) -> list[list[ColumnElement[bool]]]:
    """Conditions on the parties, each of which an index answers: several where a subject may be either."""
    fixed: list[ColumnElement[bool]] = []
    if asked.buyer:
        fixed.append(trades.c.buyer == asked.buyer)
    if asked.seller:
        fixed.append(trades.c.seller == asked.seller)
    ways = [fixed]
    for subject in dict.fromkeys((asked.party, _confined_to(asked.seen_by))):
        if subject:
            ways = [[*way, column == subject] for way in ways for column in (trades.c.buyer, trades.c.seller)]
    if asked.seen_by is not None and asked.seen_by.is_partner:
        ways = [[*way, trades.c.partner == asked.seen_by.partner] for way in ways]
    return ways


def _confined_to(token: Token | None) -> str:
    """The subject whose trades alone are seen."""
    return "" if token is None or token.is_partner else token.own_subject


def _narrowed(asked: TradeFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if asked.states:
        conditions.append(trades.c.state.in_(asked.states))
    if asked.deadline_before is not None:
        conditions.append(trades.c.deadline_time < asked.deadline_before)
    if asked.has_open_case is not None:
        conditions.append(trades.c.open_cases > 0 if asked.has_open_case else trades.c.open_cases == 0)
    return conditions
