"""Statements that write many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def values(table: Table, names: Sequence[str]) -> str:
    """unnest of one array a column: as many rows as there are, in one statement."""
    types = [str(table.c[name].type.compile(dialect=_DIALECT)) if name in table.c else "INTEGER" for name in names]
    arrays = [f"${index}::{'text' if kind == 'CHAR(3)' else kind}[]" for index, kind in enumerate(types, start=1)]
    return f"unnest({', '.join(arrays)}) AS given ({', '.join(names)})"


def insert(table: Table, names: Sequence[str]) -> str:
    """New rows."""
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM {values(table, names)}"


def assignments(names: Sequence[str]) -> str:
    """Of an UPDATE from `given`."""
    return ", ".join(f"{name} = given.{name}" for name in names)


async def copy(
    connection: asyncpg.Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """New rows, by COPY: it takes half of what INSERT from arrays takes, on both sides."""
    if rows:
        await connection.copy_records_to_table(table.name, columns=names, records=rows)


async def write(connection: asyncpg.Connection, statement: str, written: list[tuple[Any, ...]]) -> None:
    """Executes it with these rows, if there are any."""
    if written:
        await connection.execute(statement, *[list(column) for column in zip(*written, strict=True)])
