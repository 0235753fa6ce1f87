"""How the books are audited: checks in one read-only transaction, on a connection of its own, set-based."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg

from danbao_kit.database import TracedConnection
from danbao_kit.errors import StoreUnavailable
from danbao_kit.log import log
from danbao_kit.money import Money
from danbao_payments.domain.audit import (
    ALWAYS,
    Checked,
    Counts,
    Extent,
    Flows,
    Look,
    Part,
    Position,
    Violation,
    Window,
)
from danbao_payments.store.audit_checks import CHECKS, FLOWS, NEW_CHECKS, NEW_FLOWS, Check, Of

# Of one check and currency; how many there are is always told.
SHOWN = 100
_MOST_S = 600.0
_AT_ONCE = 2
_TO_END_S = 2.0
# The server went away, starts, has no room; a standby needed what we read.
_GONE = ("08", "57P0", "53300", "40001")

_FIRST = (
    "SELECT * FROM (SELECT found.*,"
    " row_number() OVER (PARTITION BY {2}currency ORDER BY length(resource), resource) AS place,"
    " count(*) OVER (PARTITION BY {2}currency) AS total, sum(off) OVER (PARTITION BY {2}currency) AS total_off"
    " FROM ({0}) AS found) AS placed WHERE place <= {1} ORDER BY {2}currency, place"
)
_HEAD = (
    "SELECT coalesce((SELECT max(sequence) FROM transfers), 0) AS sequence,"
    " (SELECT event_sequence FROM stream_heads) AS event_sequence,"
    " coalesce((SELECT hash FROM ledger_batches ORDER BY last_sequence DESC LIMIT 1), '') AS chain_hash,"
    " clock_timestamp() AS read_time, greatest((SELECT max(sequence) FROM transfers),"
    " (SELECT max(last_sequence) FROM ledger_batches), 0) AS last_number"
)
_CURRENCIES = "SELECT DISTINCT currency::text FROM accounts"
_NEW_CURRENCIES = "SELECT DISTINCT currency::text FROM transfers WHERE sequence > $1 AND sequence <= $2"
# Where the last transfers begin: with a batch, so that transactions are whole.
_BATCH = "SELECT coalesce(max(last_sequence), 0) FROM ledger_batches WHERE last_sequence <= $1"
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

_NOT_COUNTED = Counts(*[0] * len(_COUNTED))

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
        rules = {check.rule.name for check in CHECKS if check.rule.term is not None or not losses_only}
        part, until = Part(frozenset(rules), flows=True, counts=not losses_only), _until(budget_s)
        async with self._turn:
            return await self._look(part, now, until, window)

    def parts(self) -> Sequence[Part]:
        """Each is one statement, but for the sums."""
        by_query: dict[str, set[str]] = {}
        for check in CHECKS:
            by_query.setdefault(check.query, set()).add(check.rule.name)
        return Part(flows=True), *[Part(frozenset(names)) for names in by_query.values()], Part(counts=True)

    async def look_at_part(self, part: Part, *, now: datetime, window: Window = ALWAYS) -> Look:
        """Some of a look at all, on a snapshot of its own. Raises StoreUnavailable."""
        return await self._look(part, now, _until(None), window)

    async def look_at_new(self, since: Position | None, *, now: datetime, most: int) -> Look:
        """Checks what came after `since` and what it touched, as far as the last `most` transfers go.

        `now` is business time. Raises StoreUnavailable.
        """
        started, until = time.monotonic(), _until(None)
        async with self._snapshot() as connection:
            (head,) = await connection.fetch(_HEAD)
            seen = since or Position(0, max(head["event_sequence"] - most, 0))
            begin = seen.sequence
            if head["last_number"] - begin > most:
                begin = max(begin, await connection.fetchval(_BATCH, head["last_number"] - most))
            numbers: Mapping[Of, tuple[int, ...]] = {
                Of.NOTHING: (),
                Of.TRANSFERS: (begin, head["last_number"]),
                Of.EVENTS: (seen.event_sequence, head["event_sequence"]),
            }
            moved = numbers[Of.TRANSFERS]
            flows = await self._flows(connection, until, NEW_FLOWS, *moved, now)
            checked = await self._checks(connection, until, NEW_CHECKS, numbers)
            currencies = await _in_time(connection, until, _NEW_CURRENCIES, *moved)
        return Look(
            head["read_time"].astimezone(UTC),
            time.monotonic() - started,
            head["last_number"],
            head["event_sequence"],
            head["chain_hash"],
            _NOT_COUNTED,
            checked,
            tuple(sorted(row[0] for row in currencies or ())),
            flows,
            Extent.NEW,
            Position(begin, seen.event_sequence),
            begin - seen.sequence,
        )

    async def _look(self, part: Part, now: datetime, until: float, window: Window) -> Look:
        started = time.monotonic()
        chosen = [check for check in CHECKS if check.rule.name in part.rules]
        async with self._snapshot() as connection:
            (head,) = await connection.fetch(_HEAD)
            flows = await self._flows(connection, until, FLOWS, window.since, window.until, now) if part.flows else None
            currencies = await _in_time(connection, until, _CURRENCIES) if part.flows else None
            checked = await self._checks(connection, until, chosen, {Of.NOTHING: ()})
            counted = await _in_time(connection, until, _COUNTS) if part.counts else None
        return Look(
            head["read_time"].astimezone(UTC),
            time.monotonic() - started,
            head["sequence"],
            head["event_sequence"],
            head["chain_hash"],
            Counts(*counted[0]) if counted else _NOT_COUNTED,
            checked,
            tuple(sorted(row[0] for row in currencies or ())),
            flows,
        )

    async def _flows(
        self, connection: asyncpg.Connection, until: float, query: str, *arguments: Any
    ) -> dict[str, Flows] | None:
        try:
            rows = await _in_time(connection, until, query, *arguments)
        except Exception as error:
            if _is_gone(error):
                raise
            log.exception("audit_check_failed", check="flows")
            return None
        if rows is None:
            return None
        return {row[0]: Flows(*[int(number or 0) for number in tuple(row)[1:]]) for row in rows}

    async def _checks(
        self,
        connection: asyncpg.Connection,
        until: float,
        checks: Sequence[Check],
        numbers: Mapping[Of, tuple[int, ...]],
    ) -> tuple[Checked, ...]:
        """What came of each, in their order; a query that several share is run once."""
        found: dict[str, Mapping[str, Checked]] = {}
        for check in checks:
            if check.query not in found:
                alike = [each for each in checks if each.query == check.query]
                found[check.query] = await self._run(connection, until, alike, numbers[check.of])
        return tuple(found[check.query][check.rule.name] for check in checks)

    async def _run(
        self, connection: asyncpg.Connection, until: float, alike: Sequence[Check], numbers: Sequence[int]
    ) -> Mapping[str, Checked]:
        check = alike[0]
        query = _FIRST.format(check.query, SHOWN, "rule, " if check.shared else "")
        try:
            rows = await _in_time(connection, until, query, *numbers)
        except asyncpg.DataError as error:
            # Numbers so wrong that they cannot even be added up.
            broken = Violation(check.rule, "books", "", "numbers that can be compared", str(error), 0)
            return {
                each.rule.name: Checked(each.rule, True, (broken._replace(rule=each.rule),), {"": 1}) for each in alike
            }
        except Exception as error:
            if _is_gone(error):
                raise
            # Whatever stands in the row that it stumbled over, the others look on.
            log.exception("audit_check_failed", check=check.rule.name)
            rows = None
        if rows is None:
            return {each.rule.name: Checked(each.rule, done=False) for each in alike}
        return {
            each.rule.name: self._checked(
                each, [row for row in rows if not each.shared or row["rule"] == each.rule.name]
            )
            for each in alike
        }

    def _checked(self, check: Check, rows: Sequence[asyncpg.Record]) -> Checked:
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


def _until(budget_s: float | None) -> float:
    return time.monotonic() + min(_MOST_S if budget_s is None else budget_s, _MOST_S)


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
