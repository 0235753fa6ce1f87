"""How the books are audited: all checks in one read-only transaction, on a connection of its own, set-based."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg

from danbao_kit.database import TracedConnection
from danbao_kit.errors import StoreUnavailable
from danbao_kit.log import log
from danbao_kit.money import Money
from danbao_payments.domain.audit import ALWAYS, Checked, Counts, Flows, Look, Violation, Window
from danbao_payments.store.audit_checks import CHECKS, FLOWS, Check

# Of one check and currency; how many there are is always told.
SHOWN = 100
_MOST_S = 600.0
_AT_ONCE = 2
_TO_END_S = 2.0
# The server went away, starts, has no room; a standby needed what we read.
_GONE = ("08", "57P0", "53300", "40001")

_FIRST = (
    "SELECT * FROM (SELECT found.*,"
    " row_number() OVER (PARTITION BY currency ORDER BY length(resource), resource) AS place,"
    " count(*) OVER (PARTITION BY currency) AS total, sum(off) OVER (PARTITION BY currency) AS total_off"
    " FROM ({}) AS found) AS placed WHERE place <= {} ORDER BY currency, place"
)
_HEAD = (
    "SELECT coalesce((SELECT max(sequence) FROM transfers), 0), (SELECT event_sequence FROM stream_heads),"
    " coalesce((SELECT hash FROM ledger_batches ORDER BY last_sequence DESC LIMIT 1), ''), clock_timestamp(),"
    " (SELECT coalesce(array_agg(DISTINCT currency::text), '{}') FROM accounts)"
)
_COUNTED = (
    "accounts",
    "transactions",
    "transfers",
    "ledger_batches",
    "payments",
    "top_ups",
    "withdrawals",
    "rail_refunds",
    "request_records",
    "events",
)
_COUNTS = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in _COUNTED)

ReplyAmount = Callable[[str, bytes], Money | None]


class BooksAuditor:
    """Looks at all books at one moment. `amount_of_reply` tells which sum a recorded answer is about."""

    def __init__(self, dsn: str, amount_of_reply: ReplyAmount) -> None:
        self._dsn = dsn.replace("postgresql+asyncpg://", "postgresql://")
        self._amount_of_reply = amount_of_reply
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def look(
        self, *, now: datetime, budget_s: float | None = None, window: Window = ALWAYS, losses_only: bool = False
    ) -> Look:
        """Makes every check, or with `losses_only` those that tell a loss, as far as the time suffices.

        `now` is business time. Raises StoreUnavailable.
        """
        started = time.monotonic()
        until = started + min(_MOST_S if budget_s is None else budget_s, _MOST_S)
        async with self._turn, self._snapshot() as connection:
            sequence, event_sequence, chain_hash, read_time, currencies = (await connection.fetch(_HEAD))[0]
            flows = await self._flows(connection, until, window, now)
            checked = [
                await self._check(connection, until, check)
                for check in CHECKS
                if check.rule.term is not None or not losses_only
            ]
            counted = None if losses_only else await _in_time(connection, until, _COUNTS)
        return Look(
            read_time.astimezone(UTC),
            time.monotonic() - started,
            sequence,
            event_sequence,
            chain_hash,
            Counts(*counted[0]) if counted else Counts(*[0] * len(_COUNTED)),
            tuple(checked),
            tuple(sorted(currencies)),
            flows,
        )

    async def _flows(
        self, connection: asyncpg.Connection, until: float, window: Window, now: datetime
    ) -> dict[str, Flows] | None:
        try:
            rows = await _in_time(connection, until, FLOWS, window.since, window.until, now)
        except Exception as error:
            if _is_gone(error):
                raise
            log.exception("audit_check_failed", check="flows")
            return None
        if rows is None:
            return None
        return {row[0]: Flows(*[int(number or 0) for number in tuple(row)[1:]]) for row in rows}

    async def _check(self, connection: asyncpg.Connection, until: float, check: Check) -> Checked:
        try:
            rows = await _in_time(connection, until, _FIRST.format(check.query, SHOWN))
        except asyncpg.DataError as error:
            # Numbers so wrong that they cannot even be added up.
            broken = Violation(check.rule, "books", "", "numbers that can be compared", str(error), 0)
            return Checked(check.rule, True, (broken,), {"": 1})
        except Exception as error:
            if _is_gone(error):
                raise
            # Whatever stands in the row that it stumbled over, the others look on.
            log.exception("audit_check_failed", check=check.rule.name)
            return Checked(check.rule, done=False)
        if rows is None:
            return Checked(check.rule, done=False)
        violations = tuple(self._violation(check, row) for row in rows)
        counts = {row["currency"].strip(): row["total"] for row in rows}
        off = {row["currency"].strip(): int(row["total_off"] or 0) for row in rows}
        if rows and "reply" in rows[0]:
            # The sum stands in the answer only: of those that are shown.
            for violation in violations:
                off[violation.currency] = off.get(violation.currency, 0) + violation.off_minor
        return Checked(check.rule, True, violations, counts, off)

    def _violation(self, check: Check, row: asyncpg.Record) -> Violation:
        currency, off_minor = row["currency"].strip(), int(row["off"] or 0)
        if "reply" in row and (amount := self._amount_of_reply(row["method"], row["reply"])) is not None:
            currency, off_minor = amount.currency, amount.minor
        return Violation(check.rule, row["resource"], currency, row["expected"], row["found"], off_minor)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        connection: asyncpg.Connection | None = None
        try:
            connection = await asyncpg.connect(
                self._dsn,
                connection_class=TracedConnection,
                timeout=3,
                server_settings={
                    "application_name": "danbao auditor",
                    "default_transaction_read_only": "on",
                    # It takes one core at most from those who pay, and no time for plans that run once.
                    "max_parallel_workers_per_gather": "0",
                    "jit": "off",
                    "work_mem": "64MB",
                },
            )
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection
        except Exception as error:
            if _is_gone(error):
                raise StoreUnavailable from error
            raise
        finally:
            if connection is not None:
                # Ends what still runs for a caller who has gone.
                with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await connection.close(timeout=_TO_END_S)


def _is_gone(error: Exception) -> bool:
    """Whether the store is away, so that nothing can be said at all."""
    if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith(_GONE):
        return True
    return isinstance(error, OSError | TimeoutError | asyncpg.PostgresConnectionError | asyncpg.InterfaceError)


async def _in_time(connection: asyncpg.Connection, until: float, query: str, *arguments: Any) -> list[Any] | None:
    """The rows, or None when they would come too late."""
    left_ms = int((until - time.monotonic()) * 1000)
    if left_ms <= 0:
        return None
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = {left_ms}")
            return await connection.fetch(query, *arguments)
    except asyncpg.QueryCanceledError:
        return None
