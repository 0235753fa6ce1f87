"""How it is read and written which partner has brought an owner."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import SUBJECTS
from danbao_payments.domain.owner import Owner
from danbao_payments.store import rows

_PARTNERS = "SELECT owner, partner FROM owners WHERE owner = ANY($1::text[])"
_BRING = (
    f"INSERT INTO owners ({', '.join(Owner._fields)})"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) ON CONFLICT (owner) DO NOTHING"
)
# Accounts that were opened before anybody had brought their owner.
_TAKE_OVER = (
    "UPDATE accounts SET partner = brought.partner FROM unnest($1::text[], $2::text[]) AS brought (owner, partner)"
    " WHERE accounts.owner = brought.owner AND accounts.partner = ''"
)


async def load_partners(connection: asyncpg.Connection, books: Books, owners: Iterable[str]) -> None:
    """Who has brought those of these owners that are subjects. Rows that are written once need no lock, and who writes
    one holds the stream's head, as we do."""
    if subjects := [owner for owner in owners if owner.startswith(SUBJECTS)]:
        for owner, partner in await connection.fetch(_PARTNERS, subjects):
            books.partners[owner] = partner


async def save_owners(connection: asyncpg.Connection, books: Books) -> None:
    """Writes who was brought. Accounts are written before."""
    brought = [row for key, row in books.brought.created() if key.startswith(SUBJECTS)]
    if brought:
        await connection.execute(_BRING, *rows.columns_of(brought))
        await connection.execute(_TAKE_OVER, [row.owner for row in brought], [row.partner for row in brought])
