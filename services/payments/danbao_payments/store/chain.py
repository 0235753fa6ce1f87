"""How the chain of committed batches is written, and read again from its beginning."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
from sqlalchemy import func, select

from danbao_kit.database import Database
from danbao_payments.domain.chain import ROW_BYTES, Break, Chain, chained, link, row_hash, row_hashes
from danbao_payments.domain.transfer import Transfer
from danbao_payments.store.tables import ledger_batches, transfers

# One statement: the batch before is whatever the last one is, and nobody else writes while we hold the stream's head.
_APPEND = (
    "INSERT INTO ledger_batches (last_sequence, first_sequence, row_hashes, hash, create_time)"
    " SELECT $1, $2, $3, sha256(coalesce((SELECT hash FROM ledger_batches ORDER BY last_sequence DESC LIMIT 1), '')"
    " || $4::bytea), $5"
)
_PAGE = 100
_TRANSFERS = 250
_TRANSFER = [transfers.c[name] for name in Transfer._fields]


async def append(connection: asyncpg.Connection, written: Sequence[Transfer]) -> None:
    """Chains a batch's new transfers, within its transaction."""
    first, last = written[0].sequence, written[-1].sequence
    hashes = row_hashes(written)
    await connection.execute(_APPEND, last, first, hashes, link(first, last, hashes), written[-1].create_time)


class ChainReader:
    """Recomputes the chain from the books."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def verify(
        self, *, after: tuple[int, bytes] | None = None, max_batches: int | None = None, budget_s: float | None = None
    ) -> Chain:
        """Reads every transfer once, and stops at the first that differs, or where batches or time end."""
        until = math.inf if budget_s is None else time.monotonic() + budget_s
        last, head = after or (0, b"")
        if after is not None and (broken := await self._anchor(last, head)) is not None:
            return Chain(0, b"", 0, broken, complete=True)
        batches = 0
        while page := await self._page(last):
            for few in _few_at_once(page):
                if time.monotonic() >= until:
                    return Chain(last, head, batches, None, complete=False)
                found = await self._transfers(last + 1, few[-1].last_sequence)
                for batch in few:
                    if batches == max_batches:
                        return Chain(last, head, batches, None, complete=False)
                    broken = _differs(batch, last, head, found)
                    if broken is not None:
                        return Chain(last, head, batches, broken, complete=True)
                    last, head, batches = batch.last_sequence, batch.hash, batches + 1
        return Chain(last, head, batches, await self._stray(), complete=True)

    async def _anchor(self, last: int, head: bytes) -> Break | None:
        """What is wrong with where it is to begin: then the chain is not the one that somebody looked at before."""
        query = select(ledger_batches.c.hash).where(ledger_batches.c.last_sequence == last)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).scalar()
        if found is None:
            return Break(last, "ends no batch")
        return None if found == head else Break(last, "ends a batch with another hash")

    async def _page(self, last: int) -> Sequence[Any]:
        query = (
            select(ledger_batches)
            .where(ledger_batches.c.last_sequence > last)
            .order_by(ledger_batches.c.last_sequence)
            .limit(_PAGE)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()

    async def _transfers(self, first: int, last: int) -> dict[int, Transfer]:
        query = select(*_TRANSFER).where(transfers.c.sequence.between(first, last))
        async with self._database.read() as connection:
            return {row.sequence: Transfer._make(row) for row in await connection.execute(query)}

    async def _stray(self) -> Break | None:
        """The first transfer behind the last batch."""
        last = select(func.coalesce(func.max(ledger_batches.c.last_sequence), 0)).scalar_subquery()
        async with self._database.read() as connection:
            found = (
                await connection.execute(select(func.min(transfers.c.sequence)).where(transfers.c.sequence > last))
            ).scalar()
        return None if found is None else Break(found, "is of no batch")


def _few_at_once(batches: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Batches in groups whose transfers are hashed within milliseconds: nobody else is served meanwhile."""
    few: list[Any] = []
    for batch in batches:
        few.append(batch)
        if batch.last_sequence - few[0].first_sequence >= _TRANSFERS:
            yield few
            few = []
    if few:
        yield few


def _can_be_told(transfer: Transfer) -> bool:
    """Whether its times are times: the store has an infinity too, which the driver gives without a zone."""
    return all(time is None or time.tzinfo for time in (transfer.create_time, transfer.effective_time))


def _differs(batch: Any, last: int, head: bytes, found: dict[int, Transfer]) -> Break | None:
    if batch.first_sequence != last + 1:
        return Break(last + 1, "is of no batch")
    for position, sequence in enumerate(range(batch.first_sequence, batch.last_sequence + 1)):
        transfer = found.get(sequence)
        if transfer is None:
            return Break(sequence, "is missing")
        recorded = batch.row_hashes[position * ROW_BYTES : (position + 1) * ROW_BYTES]
        if not _can_be_told(transfer) or row_hash(transfer) != recorded:
            return Break(sequence, "was changed")
    if chained(head, link(batch.first_sequence, batch.last_sequence, batch.row_hashes)) != batch.hash:
        return Break(batch.first_sequence, "begins a batch whose hash was changed")
    return None
