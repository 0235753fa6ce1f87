"""How credit's store is read: one statement a question, hence one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import text

from danbao_credit.application.ports import Snapshot, StreamProgress
from danbao_credit.domain.events import Source
from danbao_credit.domain.profile import Profile
from danbao_credit.store.streams import progress_of
from danbao_kit.database import Database
from danbao_kit.tables import PARTITION

# Cursors and profiles in one statement, so that an answer can say which events it knows of.
_SNAPSHOT = text(
    "SELECT source AS name, sequence, NULL::bytea AS profile FROM reader_cursors WHERE partition = :partition"
    " UNION ALL SELECT subject, NULL, profile FROM subjects WHERE subject = ANY(:subjects)"
)
_PROGRESS = text(
    "SELECT source, sequence, applied, duplicates, parked, last_event_time"
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
            sequences={Source(row.name): row.sequence for row in rows if row.profile is None},
            profiles={row.name: Profile.from_bytes(row.profile) for row in rows if row.profile is not None},
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
