"""How the log of what was told is written, read again, and folded into checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_credit.application.rebuild import FoldLog, RebuildProfile
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.checkpoint import Checkpoint, History
from danbao_credit.domain.log import LogRow
from danbao_credit.domain.profile import Profile

COLUMNS = ", ".join(LogRow._fields)
_CHECKPOINTS = "SELECT subject, profile, through_us FROM checkpoints WHERE subject = ANY($1::text[]) FOR UPDATE"
_ALL = f"SELECT {COLUMNS} FROM event_log WHERE subject = ANY($1::text[])"
# Of each subject at most so many rows: the oldest.
_OLD = f"""
SELECT {COLUMNS} FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS folded (of, before_us, most)
CROSS JOIN LATERAL (
  SELECT * FROM event_log WHERE subject = folded.of AND at_us < folded.before_us ORDER BY at_us LIMIT folded.most
) AS old
"""
_SAVE_CHECKPOINTS = """
INSERT INTO checkpoints (subject, profile, through_us) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
ON CONFLICT (subject) DO UPDATE SET profile = excluded.profile, through_us = excluded.through_us
"""
_DROP = """
DELETE FROM event_log USING unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
  AS gone (subject, source, number, role)
WHERE event_log.subject = gone.subject AND event_log.source = gone.source AND event_log.number = gone.number
  AND event_log.role = gone.role
"""


class EventLog:
    """Rows are added by COPY, in the transaction that moves the profiles; old ones go into checkpoints."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        whole = {command.subject for command in commands if isinstance(command, RebuildProfile)}
        folds = [command for command in commands if isinstance(command, FoldLog)]
        old = {subject: fold for fold in folds for subject in fold.subjects if subject not in whole}
        if not whole and not old:
            return
        checkpoints = {
            row["subject"]: Checkpoint(Profile.from_bytes(row["profile"]), row["through_us"])
            for row in await connection.fetch(_CHECKPOINTS, sorted(whole | set(old)))
        }
        rows: dict[str, list[LogRow]] = {}
        found = await connection.fetch(_ALL, sorted(whole)) if whole else []
        if old:
            found += await connection.fetch(
                _OLD, list(old), [fold.before_us for fold in old.values()], [fold.most for fold in old.values()]
            )
        for row in found:
            rows.setdefault(row["subject"], []).append(LogRow(*row.values()))
        for subject in whole | set(old):
            working.histories.load(subject, History(checkpoints.get(subject), tuple(rows.get(subject, ()))))

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        rows = working.log_rows.accepted
        if rows:
            await connection.copy_records_to_table("event_log", columns=LogRow._fields, records=rows)
        gone = working.folded.accepted
        if gone:
            await connection.execute(
                _DROP,
                [row.subject for row in gone],
                [row.source for row in gone],
                [row.number for row in gone],
                [row.role for row in gone],
            )
        checkpoints = [
            (subject, history.checkpoint)
            for subject, history in working.histories.created() + working.histories.updated()
            if history.checkpoint is not None
        ]
        if checkpoints:
            await connection.execute(
                _SAVE_CHECKPOINTS,
                [subject for subject, _ in checkpoints],
                [checkpoint.profile.to_bytes() for _, checkpoint in checkpoints],
                [checkpoint.through_us for _, checkpoint in checkpoints],
            )


async def erase_log(connection: asyncpg.Connection, subjects: Sequence[str]) -> None:
    """Forgets everything that was told of these subjects; for the erasure of a subject, within its transaction."""
    for table in ("event_log", "checkpoints", "subjects"):
        await connection.execute(f"DELETE FROM {table} WHERE subject = ANY($1::text[])", list(subjects))
