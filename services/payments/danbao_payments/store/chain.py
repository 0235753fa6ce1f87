"""How the chain of committed batches is written, and read again from its beginning."""

from __future__ import annotations

from collections.abc import Sequence
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

    async def verify(self) -> Chain:
        """Reads every transfer once, and stops at the first that differs."""
        last, head, batches, broken = 0, b"", 0, None
        while broken is None:
            async with self._database.read() as connection:
                page = (
                    await connection.execute(
                        select(ledger_batches)
                        .where(ledger_batches.c.last_sequence > last)
                        .order_by(ledger_batches.c.last_sequence)
                        .limit(_PAGE)
                    )
                ).all()
                if not page:
                    stray = (
                        await connection.execute(
                            select(func.min(transfers.c.sequence)).where(
                                transfers.c.sequence
                                > select(func.coalesce(func.max(ledger_batches.c.last_sequence), 0)).scalar_subquery()
                            )
                        )
                    ).scalar()
                    broken = None if stray is None else Break(stray, "is of no batch")
                    break
                rows = (
                    await connection.execute(
                        select(*_TRANSFER)
                        .where(transfers.c.sequence.between(last + 1, page[-1].last_sequence))
                        .order_by(transfers.c.sequence)
                    )
                ).all()
            found = {row.sequence: Transfer._make(row) for row in rows}
            for batch in page:
                broken = _differs(batch, last, head, found)
                if broken is not None:
                    break
                last, head, batches = batch.last_sequence, batch.hash, batches + 1
        return Chain(last, head, batches, last, broken)


def _differs(batch: Any, last: int, head: bytes, found: dict[int, Transfer]) -> Break | None:
    if batch.first_sequence != last + 1:
        return Break(last + 1, "is of no batch")
    for position, sequence in enumerate(range(batch.first_sequence, batch.last_sequence + 1)):
        transfer = found.get(sequence)
        if transfer is None:
            return Break(sequence, "is missing")
        if row_hash(transfer) != batch.row_hashes[position * ROW_BYTES : (position + 1) * ROW_BYTES]:
            return Break(sequence, "was changed")
    if chained(head, link(batch.first_sequence, batch.last_sequence, batch.row_hashes)) != batch.hash:
        return Break(batch.first_sequence, "begins a batch whose hash was changed")
    return None
