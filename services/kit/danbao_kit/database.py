"""How a service reaches its store: a pool for reads, and connections of their own for the writer and for looks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from opentelemetry import trace
from sqlalchemy import Executable, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from danbao_kit.errors import StoreUnavailable
from danbao_kit.looks import GONE, Looks
from danbao_kit.telemetry import tracer

_SPAN_NAMES: dict[str, str] = {}


def statement_name(sql: str) -> str:
    """A short name for a statement's span: its first words."""
    name = _SPAN_NAMES.get(sql)
    if name is None:
        words = sql.split()
        verb = words[0].upper() if words else "SQL"
        targets = re.findall(r"\b(?:FROM|INTO|UPDATE|COPY)\s+([a-z_]+)", sql, re.I)
        targets = [target for target in dict.fromkeys(targets) if target.lower() not in ("unnest", "set", "stdin")]
        name = f"SQL {verb} {', '.join(targets[:4])}".strip()
        if len(_SPAN_NAMES) < 1000:
            _SPAN_NAMES[sql] = name
    return name


class TracedConnection(asyncpg.Connection):
    """An asyncpg connection whose statements are spans below the current one."""

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[asyncpg.Record]:  # type: ignore[override]
        return await _seen(query, super().fetch(query, *args, **options))  # type: ignore[no-any-return]

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        return await _seen(query, super().fetchrow(query, *args, **options))

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        return await _seen(query, super().execute(query, *args, **options))  # type: ignore[no-any-return]

    async def copy_records_to_table(self, table_name: str, **options: Any) -> str:
        copying = super().copy_records_to_table(table_name, **options)
        return await _seen(f"COPY {table_name} FROM STDIN", copying)  # type: ignore[no-any-return]


async def _seen(query: str, under_way: Awaitable[Any]) -> Any:
    """A span around one statement. Nothing is below it, so it need not become the current one, which costs most."""
    if not trace.get_current_span().is_recording():
        return await under_way
    made = tracer.start_span(statement_name(query), attributes={"db.system": "postgresql", "db.statement": query})
    try:
        return await under_way
    except Exception as error:
        # Its text may hold a whole row.
        made.set_status(trace.StatusCode.ERROR, getattr(error, "sqlstate", None) or type(error).__name__)
        raise
    finally:
        made.end()


class Database:
    """One partition of a service's store."""

    def __init__(self, dsn: str, *, pool_size: int = 8) -> None:
        self._dsn = dsn.replace("postgresql+asyncpg://", "postgresql://")
        url = make_url(self._dsn).set(drivername="postgresql+asyncpg")
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=2,
            pool_pre_ping=False,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": 3, "command_timeout": 10},
        )
        event.listen(self.engine.sync_engine, "before_cursor_execute", _open_span)
        event.listen(self.engine.sync_engine, "after_cursor_execute", _close_span)
        event.listen(self.engine.sync_engine, "handle_error", _fail_span)
        self._looks = Looks(self._connect_looks)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads, each statement on its own snapshot. Raises StoreUnavailable without a store."""
        try:
            async with self.engine.connect() as connection:
                yield connection
        except (
            OperationalError,
            InterfaceError,
            PoolTimeout,
            OSError,
            TimeoutError,
            asyncpg.PostgresConnectionError,
        ) as error:
            raise StoreUnavailable from error
        except DBAPIError as error:
            if store_is_gone(error):
                raise StoreUnavailable from error
            raise

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[asyncpg.Connection]:
        """The driver's own connection, for what is written in its words. Raises StoreUnavailable without a store."""
        async with self.read() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            try:
                yield raw
            except (asyncpg.InterfaceError, asyncpg.PostgresError) as error:
                # What broke the connection may be told by the end of a transaction, in its own words; and the pool,
                # which sees none of it, would hand the connection out again.
                if raw.is_closed() or (getattr(error, "sqlstate", None) or "").startswith(GONE):
                    await connection.invalidate()
                    raise StoreUnavailable from error
                raise

    @asynccontextmanager
    async def write(self) -> AsyncIterator[asyncpg.Connection]:
        """A transaction of its own, for what is too rare for the group commit.

        Its first statement must write the stream's head. Raises StoreUnavailable without a store.
        """
        async with self.driver() as connection, connection.transaction():
            yield connection

    async def look(self, statement: Executable, **parameters: Any) -> list[asyncpg.Record]:
        """The rows of what is looked for several times a second. Raises StoreUnavailable without a store."""
        return await self._looks.ask(statement, **parameters)

    async def connect_writer(self) -> asyncpg.Connection:
        """The writer's own connection."""
        return await self._connect("danbao writer", TracedConnection)

    async def _connect_looks(self) -> asyncpg.Connection:
        return await self._connect("danbao looks", asyncpg.Connection)

    async def _connect(self, name: str, kind: type[asyncpg.Connection]) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            connection_class=kind,
            timeout=3,
            command_timeout=10,
            server_settings={
                "application_name": name,
                # A plan made while a table was empty would read all of it for ever after.
                "enable_seqscan": "off",
                "jit": "off",
            },
        )

    async def ready(self) -> bool:
        """Whether the store answers and its tables are there."""
        try:
            async with asyncio.timeout(2), self.engine.connect() as connection:
                await connection.exec_driver_sql("SELECT partition FROM stream_heads")
        except Exception:  # noqa: BLE001 - whatever is wrong, the answer is no
            return False
        return True

    async def close(self) -> None:
        self._looks.drop()
        await self.engine.dispose()


def store_is_gone(error: DBAPIError) -> bool:
    """Whether the server went away, is still starting or takes no connection: its fault, not the statement's."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(GONE)


def _open_span(
    connection: Any, cursor: Any, statement: str, parameters: Sequence[Any], context: Any, many: bool
) -> None:
    if context is not None and trace.get_current_span().is_recording():
        context.danbao_span = tracer.start_span(
            statement_name(statement), attributes={"db.system": "postgresql", "db.statement": statement}
        )


def _close_span(
    connection: Any, cursor: Any, statement: str, parameters: Sequence[Any], context: Any, many: bool
) -> None:
    made = getattr(context, "danbao_span", None)
    if made is not None:
        made.end()


def _fail_span(failure: Any) -> None:
    made = getattr(failure.execution_context, "danbao_span", None)
    if made is not None:
        made.set_status(trace.StatusCode.ERROR)
        made.end()
