"""How reports are found by whose event it is, and remembered for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_credit.application.record_events import RecordEvents
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.report_record import ReportRecord

_FIELDS = (
    "fingerprint",
    "number",
    "subject",
    "peer",
    "kind",
    "at_us",
    "currency",
    "about",
    "measures",
    "reverses",
    "reversed_by",
    "teller",
)
# Empty in the domain, null in the store.
_PARTIES = ("subject", "peer")
_COLUMNS = ("key", *_FIELDS)
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM reports WHERE key = ANY($1::bytea[]) ORDER BY key FOR UPDATE"
_OF_SUBJECTS = (
    f"SELECT {', '.join(_COLUMNS)} FROM reports WHERE (subject = ANY($1::text[]) OR peer = ANY($1::text[]))"
    " AND number = ANY($2::bigint[]) ORDER BY key FOR UPDATE"
)
_REVERSED = """
UPDATE reports SET reversed_by = taken.number FROM unnest($1::bytea[], $2::bigint[]) AS taken (key, number)
WHERE reports.key = taken.key
"""
# What was told of the erased subject goes; whose event it was stays, so that it is never applied again.
_ERASE = (
    "UPDATE reports SET subject = NULL, peer = NULL, about = '', measures = '{}' WHERE subject = ANY($1::text[])",
    "UPDATE reports SET peer = NULL WHERE peer = ANY($1::text[])",
)


class Reports:
    """The part of the store that knows which reports were told."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        keys: set[bytes] = set()
        for command in commands:
            if isinstance(command, RecordEvents):
                keys |= command.keys()
        if keys:
            for row in await connection.fetch(_FIND, sorted(keys)):
                working.reports.load(row["key"], _record(row))

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        new = working.reports.created()
        if new:
            records = [(key, *(_stored(name, getattr(record, name)) for name in _FIELDS)) for key, record in new]
            await connection.copy_records_to_table("reports", columns=_COLUMNS, records=records)
        taken = working.reports.updated()
        if taken:
            await connection.execute(_REVERSED, [key for key, _ in taken], [record.reversed_by for _, record in taken])


async def load_reports(
    connection: asyncpg.Connection, working: CreditSet, numbers: Sequence[int], subjects: Sequence[str]
) -> None:
    """Those reports about these subjects that have these numbers, and by which key each is found."""
    for row in await connection.fetch(_OF_SUBJECTS, list(subjects), list(numbers)):
        working.reports.load(row["key"], _record(row))
        working.report_keys[row["number"]] = row["key"]


async def erase_reports(connection: asyncpg.Connection, subjects: Sequence[str]) -> None:
    """Forgets what was reported of these subjects; for the erasure of a subject, within its transaction."""
    for statement in _ERASE:
        await connection.execute(statement, list(subjects))


def _record(row: Any) -> ReportRecord:
    fields: dict[str, Any] = {name: row[name] for name in _FIELDS}
    return ReportRecord(**fields | {name: row[name] or "" for name in _PARTIES})


def _stored(name: str, value: Any) -> Any:
    return value or None if name in _PARTIES else value
