"""How new rows are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg


async def insert(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], records: Iterable[tuple[Any, ...]]
) -> None:
    """New rows, by COPY: it takes half of what INSERT from arrays takes, on both sides."""
    await connection.copy_records_to_table(table, columns=columns, records=records)
