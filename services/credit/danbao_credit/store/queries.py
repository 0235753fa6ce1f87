"""How credit's store is read: one statement a question, hence one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text

from danbao_credit.application.ports import SeenHistory, Snapshot, StreamProgress
from danbao_credit.domain.checkpoint import Checkpoint, History
from danbao_credit.domain.events import Source
from danbao_credit.domain.log import LogRow
from danbao_credit.domain.marks import Mark
from danbao_credit.domain.profile import Profile
from danbao_credit.store.log import COLUMNS
from danbao_credit.store.score_rows import MARK_COLUMNS, MARK_TYPES, mark_of
from danbao_credit.store.streams import progress_of
from danbao_kit.database import Database
from danbao_kit.shared_reads import SharedReads
from danbao_kit.tables import PARTITION

# Cursors, profiles, marks and memberships in one statement, so that an answer can say which events it knows of.
_NO_MARK = ", ".join(f"NULL::{type_} AS {name}" for name, type_ in MARK_TYPES.items() if name != "subject")
_SNAPSHOT = text(
    f"SELECT source AS subject, sequence, NULL::bytea AS profile, NULL::text[] AS currencies, {_NO_MARK}"
    " FROM reader_cursors WHERE partition = :partition"
    f" UNION ALL SELECT subject, NULL, profile, NULL, {_NO_MARK} FROM subjects WHERE subject = ANY(:subjects)"
    f" UNION ALL SELECT subject, NULL, NULL, NULL, {', '.join(name for name in MARK_TYPES if name != 'subject')}"
    " FROM marks WHERE subject = ANY(:subjects)"
    f" UNION ALL SELECT subject, NULL, NULL, currencies, {_NO_MARK} FROM memberships"
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
_MARKS = text(f"SELECT {', '.join(MARK_COLUMNS)} FROM marks WHERE subject = :subject")
# Later than any event.
_FOR_EVER_US = 2**62
_SUBJECTS = text("SELECT subject FROM subjects WHERE subject > :after ORDER BY subject LIMIT :most")
# The first old rows that are found will do.
_FOLDABLE = text(
    "SELECT DISTINCT subject FROM (SELECT subject FROM event_log WHERE at_us < :before LIMIT 500) AS old LIMIT :most"
)
_PROGRESS = text(
    "SELECT source, sequence, applied, duplicates, parked, erased, hearsay, last_event_time"
    " FROM reader_cursors JOIN stream_counts USING (source, partition) WHERE partition = :partition"
)


class CreditQueries:
    """Reads of one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshots = SharedReads("shared_read.snapshot", self._snapshot)

    async def snapshot(self, subjects: Collection[str]) -> Snapshot:
        """The profiles and marks of these subjects, and maybe of others. Raises StoreUnavailable."""
        return await self._snapshots.ask(subjects)

    async def _snapshot(self, subjects: Collection[str]) -> Snapshot:
        async with self._database.read() as connection:
            asked = {"partition": PARTITION, "subjects": list(subjects)}
            rows = (await connection.execute(_SNAPSHOT, asked)).mappings().all()
        marks: dict[str, list[Mark]] = {}
        for row in rows:
            if row["kind"] is not None:
                marks.setdefault(row["subject"], []).append(mark_of(row))
        return Snapshot(
            sequences={Source(row["subject"]): row["sequence"] for row in rows if row["sequence"] is not None},
            profiles={row["subject"]: Profile.from_bytes(row["profile"]) for row in rows if row["profile"] is not None},
            marks=marks,
            members={row["subject"]: frozenset(row["currencies"]) for row in rows if row["currencies"] is not None},
        )

    async def history(self, subject: str, until_us: int | None) -> SeenHistory:
        """What is kept of a subject, of what happened up to a moment or at all. Raises StoreUnavailable."""
        until_us = _FOR_EVER_US if until_us is None else until_us
        values = {"partition": PARTITION, "subject": subject, "until": until_us}
        async with self._database.read() as connection:
            found = (await connection.execute(_HISTORY, values)).all()
            marks = (await connection.execute(_MARKS, values)).mappings().all()
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
        return SeenHistory(sequences, profile, History(checkpoint, tuple(rows)), tuple(mark_of(row) for row in marks))

    async def subjects(self, after: str, *, most: int) -> Sequence[str]:
        """The next subjects in the order of their names. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            return (await connection.execute(_SUBJECTS, {"after": after, "most": most})).scalars().all()

    async def foldable(self, before_us: int, *, most: int) -> Sequence[str]:
        """Some subjects with rows from before a moment. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            return (await connection.execute(_FOLDABLE, {"before": before_us, "most": most})).scalars().all()

    async def progress(self) -> Mapping[Source, StreamProgress]:
        """How far each stream was read. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_PROGRESS, {"partition": PARTITION})).mappings().all()
        return {Source(row["source"]): progress_of(row["sequence"], row) for row in rows}

    async def cursor(self, source: Source) -> int:
        """The last sequence of a stream that was applied; 0 before the first. Raises StoreUnavailable."""
        progress = (await self.progress()).get(source)
        return 0 if progress is None else progress.sequence
