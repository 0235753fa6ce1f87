"""How credit's store is read: one statement a question, hence one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import text

from danbao_credit.application.ports import SeenHistory, Snapshot, StreamProgress
from danbao_credit.domain.checkpoint import Checkpoint, History
from danbao_credit.domain.events import Source
from danbao_credit.domain.log import LogRow
from danbao_credit.domain.profile import Profile
from danbao_credit.store.log import COLUMNS
from danbao_credit.store.streams import progress_of
from danbao_kit.database import Database
from danbao_kit.tables import PARTITION

# Cursors, profiles and memberships in one statement, so that an answer can say which events it knows of.
_SNAPSHOT = text(
    "SELECT source AS name, sequence, NULL::bytea AS profile, NULL::text[] AS currencies"
    " FROM reader_cursors WHERE partition = :partition"
    " UNION ALL SELECT subject, NULL, profile, NULL FROM subjects WHERE subject = ANY(:subjects)"
    " UNION ALL SELECT subject, NULL, NULL, currencies FROM memberships"
    " WHERE subject = ANY(:subjects) AND state IN ('ACTIVE', 'NOTICE')"
)
_TYPES = {"number": "bigint", "at_us": "bigint", "sign": "smallint"}
_NO_ROW = ", ".join(f"NULL::{_TYPES.get(name, 'text')} AS {name}" for name in LogRow._fields)
# Everything that is kept of one subject, by one snapshot.
_HISTORY = text(
    f"SELECT 'cursor' AS part, source AS name, sequence AS n, NULL::bytea AS bytes, {_NO_ROW}"
    " FROM reader_cursors WHERE partition = :partition"
    f" UNION ALL SELECT 'profile', NULL, NULL, profile, {_NO_ROW} FROM subjects WHERE subject = :subject"
    f" UNION ALL SELECT 'checkpoint', NULL, through_us, profile, {_NO_ROW} FROM checkpoints WHERE subject = :subject"
    f" UNION ALL SELECT 'row', NULL, NULL, NULL, {COLUMNS} FROM event_log"
    " WHERE subject = :subject AND at_us <= :until"
)
_PROGRESS = text(
    "SELECT source, sequence, applied, duplicates, parked, erased, last_event_time"
    " FROM reader_cursors JOIN stream_counts USING (source, partition) WHERE partition = :partition"
)


class CreditQueries:
    """Reads of one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def snapshot(self, subjects: Collection[str]) -> Snapshot:
        """The profiles of these subjects. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_SNAPSHOT, {"partition": PARTITION, "subjects": list(subjects)})).all()
        return Snapshot(
            sequences={Source(row.name): row.sequence for row in rows if row.sequence is not None},
            profiles={row.name: Profile.from_bytes(row.profile) for row in rows if row.profile is not None},
            members={row.name: frozenset(row.currencies) for row in rows if row.currencies is not None},
        )

    async def history(self, subject: str, until_us: int) -> SeenHistory:
        """What is kept of a subject, of what happened up to a moment. Raises StoreUnavailable."""
        values = {"partition": PARTITION, "subject": subject, "until": until_us}
        async with self._database.read() as connection:
            found = (await connection.execute(_HISTORY, values)).all()
        sequences: dict[Source, int] = {}
        profile, checkpoint, rows = Profile.empty(), None, []
        for part, name, n, data, *row in found:
            if part == "row":
                rows.append(LogRow(*row))
            elif part == "cursor":
                sequences[Source(name)] = n
            elif part == "profile":
                profile = Profile.from_bytes(data)
            else:
                checkpoint = Checkpoint(Profile.from_bytes(data), n)
        return SeenHistory(sequences, profile, History(checkpoint, tuple(rows)))

    async def progress(self) -> Mapping[Source, StreamProgress]:
        """How far each stream was read. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_PROGRESS, {"partition": PARTITION})).mappings().all()
        return {Source(row["source"]): progress_of(row["sequence"], row) for row in rows}

    async def cursor(self, source: Source) -> int:
        """The last sequence of a stream that was applied; 0 before the first. Raises StoreUnavailable."""
        progress = (await self.progress()).get(source)
        return 0 if progress is None else progress.sequence
