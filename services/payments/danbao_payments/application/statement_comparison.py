"""How a statement is compared with the books: outside the write path, which must not wait for fifty thousand lines.

What was compared counts only if no other statement of the rail was imported meanwhile; the import's own decision sees
to that, under the lock that all imports take. The books may go on: they are read up to one sequence, and what comes
later counts later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Protocol
from uuid import UUID

from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_payments.domain.reconciliation import (
    Earlier,
    RailMovement,
    Reconciliation,
    ReconciliationItem,
    StatementLine,
    match_statement,
)
from danbao_payments.domain.reconciliation_commands import ImportStatement, Reading

# How long before a statement's time a movement may have been recorded that a line of it still names.
REACH = timedelta(days=35)
MOST_MOVEMENTS = 300_000
# What counts from a time on may have been recorded a little earlier.
_AHEAD = timedelta(minutes=5)
_MICROSECOND = timedelta(microseconds=1)


class Heads(NamedTuple):
    """How far a rail's statements and the books go."""

    # Of the rail's last statement, in whatever currency.
    last_number: int
    # Of its last one in the same currency: where it ended, and up to when it answered for movements.
    end_time: datetime | None
    movements_until: datetime | None
    # The ledger's last sequence, and when that was.
    ledger_sequence: int
    ledger_time: datetime


class ReconciliationReader(Protocol):
    """Reads of reconciliations, and of what a statement is compared with."""

    async def heads(self, rail: str, currency: str) -> Heads: ...

    async def movements(
        self, rail: str, currency: str, *, since: datetime, until_sequence: int, most: int
    ) -> Sequence[RailMovement]:
        """What was recorded since then, up to this sequence, and was not matched yet; not many more than `most`."""
        ...

    async def earlier(self, rail: str, lines: Sequence[StatementLine]) -> Earlier:
        """What earlier statements of the rail said in the same words."""
        ...

    async def reconciliation(self, key: UUID) -> Reconciliation | None: ...

    async def items(
        self, reconciliation: UUID, *, kind: str, state: str, after: int, limit: int
    ) -> Sequence[ReconciliationItem]:
        """By number, those after; an empty kind or state: any."""
        ...


async def compare(command: ImportStatement, reader: ReconciliationReader) -> Reading:
    """Reads and matches. Raises FieldInvalid where there is more to compare with than we take at once."""
    heads = await reader.heads(command.rail, command.currency)
    movements_from, movements_until = answers_for(command, heads)
    since = min(command.start_time - REACH, movements_from - _AHEAD)
    movements = await reader.movements(
        command.rail, command.currency, since=since, until_sequence=heads.ledger_sequence, most=MOST_MOVEMENTS
    )
    if len(movements) > MOST_MOVEMENTS:
        violation = FieldViolation("header.end_time", f"more than {MOST_MOVEMENTS} movements wait for statements")
        raise FieldInvalid(violation)
    rows = command.lines.rows
    earlier = await reader.earlier(command.rail, rows)
    match = partial(match_statement, movements_from=movements_from, movements_until=movements_until, earlier=earlier)
    # On a thread: others are served meanwhile.
    matching = await asyncio.to_thread(match, rows, movements)
    return Reading(heads.last_number, heads.ledger_sequence, movements_from, movements_until, matching)


def answers_for(command: ImportStatement, heads: Heads) -> tuple[datetime, datetime]:
    """From when to before when movements must stand in the statement.

    It begins where the statement before stopped looking, if that one reaches to this one's beginning; it ends where the
    books ended when they were read.
    """
    begins = command.start_time
    if (
        heads.end_time is not None
        and heads.movements_until is not None
        and heads.movements_until < begins <= heads.end_time
    ):
        begins = heads.movements_until
    ends = min(command.end_time - command.grace, heads.ledger_time + _MICROSECOND)
    return begins, max(begins, ends)
