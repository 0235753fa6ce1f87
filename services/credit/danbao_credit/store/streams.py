"""How what the streams move is read and written: cursors, counts, profiles, parked events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from danbao_credit.application.apply_events import ApplyEvents
from danbao_credit.application.ports import StreamProgress
from danbao_credit.application.rebuild import RebuildProfile
from danbao_credit.application.record_events import RecordEvents
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.events import Source
from danbao_credit.domain.profile import Profile
from danbao_kit.tables import PARTITION

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The head's lock keeps other batches out; FOR UPDATE keeps out whoever comes without it.
_LOCK_PROGRESS = (
    "SELECT source, sequence, applied, duplicates, parked, erased, hearsay, last_event_time"
    " FROM reader_cursors JOIN stream_counts USING (source, partition) WHERE partition = $1 ORDER BY source FOR UPDATE"
)
_LOCK_SUBJECTS = "SELECT subject, profile FROM subjects WHERE subject = ANY($1::text[]) ORDER BY subject FOR UPDATE"

_SAVE_PROGRESS = """
WITH moved AS (
  SELECT * FROM unnest($1::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::timestamptz[]) AS given (source, sequence, applied, duplicates, parked, erased, hearsay, last_event_time)
), cursors AS (
  INSERT INTO reader_cursors (source, partition, sequence) SELECT source, $2, sequence FROM moved
  ON CONFLICT (source, partition) DO UPDATE SET sequence = excluded.sequence
)
INSERT INTO stream_counts (source, partition, applied, duplicates, parked, erased, hearsay, last_event_time)
SELECT source, $2, applied, duplicates, parked, erased, hearsay, last_event_time FROM moved
ON CONFLICT (source, partition) DO UPDATE SET applied = excluded.applied, duplicates = excluded.duplicates,
  parked = excluded.parked, erased = excluded.erased, hearsay = excluded.hearsay,
  last_event_time = excluded.last_event_time
"""
# What is locked is there: looking for a conflict would cost each row a second search.
_UPDATE_SUBJECTS = """
UPDATE subjects SET profile = folded.profile, version = subjects.version + 1
FROM unnest($1::text[], $2::bytea[]) AS folded (subject, profile) WHERE subjects.subject = folded.subject
"""
# All others: the head's lock lets nobody else in, and what was not looked for is still found here.
_INSERT_SUBJECTS = """
INSERT INTO subjects (subject, profile) SELECT * FROM unnest($1::text[], $2::bytea[])
ON CONFLICT (subject) DO UPDATE SET profile = excluded.profile, version = subjects.version + 1
"""
_SAVE_PARKED = """
INSERT INTO parked_events (source, sequence, reason, payload, park_time)
SELECT *, now() FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[])
"""


class Streams:
    """The part of the store that chunks of events and reports move."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        telling = [command for command in commands if isinstance(command, ApplyEvents | RecordEvents)]
        if telling:
            for row in await connection.fetch(_LOCK_PROGRESS, PARTITION):
                working.progress.load(Source(row["source"]), progress_of(row["sequence"], row))
        subjects: set[str] = set().union(*(command.subjects() for command in telling))
        subjects |= {command.subject for command in commands if isinstance(command, RebuildProfile)}
        # Whom reversals concern stands in the reports they take back.
        subjects |= {who for report in working.reports.values() for who in (report.subject, report.peer) if who}
        if subjects:
            for row in await connection.fetch(_LOCK_SUBJECTS, sorted(subjects)):
                working.subjects.load(row["subject"], Profile.from_bytes(row["profile"]))

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        for statement, subjects in (
            (_UPDATE_SUBJECTS, working.subjects.updated()),
            (_INSERT_SUBJECTS, working.subjects.created()),
        ):
            if subjects:
                await connection.execute(
                    statement, [subject for subject, _ in subjects], [profile.to_bytes() for _, profile in subjects]
                )
        parked = working.parked.accepted
        if parked:
            await connection.execute(
                _SAVE_PARKED,
                [event.source for event in parked],
                [event.sequence for event in parked],
                [event.reason for event in parked],
                [event.payload for event in parked],
            )
        moved = working.progress.created() + working.progress.updated()
        if moved:
            sources = [source.value for source, _ in moved]
            await connection.execute(
                _SAVE_PROGRESS,
                sources,
                PARTITION,
                [item.sequence for _, item in moved],
                [item.applied for _, item in moved],
                [item.duplicates for _, item in moved],
                [item.parked for _, item in moved],
                [item.erased for _, item in moved],
                [item.hearsay for _, item in moved],
                [_time(item.last_event_us) for _, item in moved],
            )


def progress_of(sequence: int, counts: Any) -> StreamProgress:
    """A cursor with its counts."""
    last = counts["last_event_time"]
    return StreamProgress(
        sequence=sequence,
        applied=counts["applied"],
        duplicates=counts["duplicates"],
        parked=counts["parked"],
        erased=counts["erased"],
        hearsay=counts["hearsay"],
        last_event_us=None if last is None else (last - _EPOCH) // _MICROSECOND,
    )


def _time(us: int | None) -> datetime | None:
    return None if us is None else _EPOCH + us * _MICROSECOND
