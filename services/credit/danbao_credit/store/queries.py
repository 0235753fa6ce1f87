"""How credit's store is read: one statement a question, hence one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import text

from danbao_credit.application.ports import Snapshot, StreamProgress
from danbao_credit.domain.events import Source
from danbao_credit.domain.marks import Mark
from danbao_credit.domain.profile import Profile
from danbao_credit.store.score_rows import MARK_TYPES, mark_of
from danbao_credit.store.streams import progress_of
from danbao_kit.database import Database
from danbao_kit.tables import PARTITION

# Cursors, profiles and marks in one statement, so that an answer can say which events it knows of.
_NO_MARK = ", ".join(f"NULL::{type_} AS {name}" for name, type_ in MARK_TYPES.items() if name != "subject")
_SNAPSHOT = text(
    f"SELECT source AS subject, sequence, NULL::bytea AS profile, {_NO_MARK} FROM reader_cursors"
    " WHERE partition = :partition"
    f" UNION ALL SELECT subject, NULL, profile, {_NO_MARK} FROM subjects WHERE subject = ANY(:subjects)"
    f" UNION ALL SELECT subject, NULL, NULL, {', '.join(name for name in MARK_TYPES if name != 'subject')} FROM marks"
    " WHERE subject = ANY(:subjects)"
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
        """The profiles and marks of these subjects. Raises StoreUnavailable."""
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
        )

    async def progress(self) -> Mapping[Source, StreamProgress]:
        """How far each stream was read. Raises StoreUnavailable."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_PROGRESS, {"partition": PARTITION})).mappings().all()
        return {Source(row["source"]): progress_of(row["sequence"], row) for row in rows}

    async def cursor(self, source: Source) -> int:
        """The last sequence of a stream that was applied; 0 before the first. Raises StoreUnavailable."""
        progress = (await self.progress()).get(source)
        return 0 if progress is None else progress.sequence
