"""What a service looks for several times a second, mostly in vain: work whose time has come, what others have written.

A read by the pool takes four times as long as the statement itself: who asks many times a second whether there is
anything to do has a connection for it, and its statements are compiled once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql import ClauseElement

from danbao_kit.errors import StoreUnavailable

# Connection exceptions; shut down, crashed, starting up; too many connections.
GONE = ("08", "57P0", "53300")

_Compiled = tuple[str, Sequence[str], dict[str, Any]]


class Looks:
    """One connection, and whoever looks uses it in turn."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._compiled: dict[Executable, _Compiled] = {}
        # How often nobody was there to be asked.
        self._missed = 0

    async def ask(self, statement: Executable, **parameters: Any) -> list[asyncpg.Record]:
        """The rows of a statement that is made once, with its parameters by name. Raises StoreUnavailable."""
        sql, names, defaults = self._compiled.get(statement) or self._compile(statement)
        given = defaults | parameters
        values = [given[name] for name in names]
        # PostgreSQL would take it for NULL, and find nothing for ever.
        assert None not in values, f"a parameter is missing: {dict(zip(names, values, strict=True))}"
        assert len(given) == len(defaults), f"{set(parameters) - set(defaults)} are no parameters"
        missed = self._missed
        async with self._turn:
            if missed != self._missed:
                # Whoever came before has waited for it in vain: a store that hangs takes seconds of each, one by one.
                raise StoreUnavailable
            connected = False
            try:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = self._connection = await self._connect()
                connected = True
                rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
            except BaseException as error:
                # Whoever is cancelled, or lost, in between leaves a connection in no known state.
                self.drop()
                if not _is_gone(error):
                    raise
                self._missed += not connected
                raise StoreUnavailable from error
        return rows

    def drop(self) -> None:
        """Ends the connection; whoever looks next has another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _compile(self, statement: Executable) -> _Compiled:
        assert isinstance(statement, ClauseElement), "only expressions can be compiled"
        made: Any = statement.compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
        compiled = self._compiled[statement] = (str(made), made.positiontup or (), made.params)
        return compiled


def _is_gone(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(GONE)
    return isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError)
