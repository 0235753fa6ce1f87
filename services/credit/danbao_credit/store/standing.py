"""How marks and scores are read and written within a batch. A batch without any pays no statement for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_credit.application.record_scores import RecordScores
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.marks import MarkKey, MarkKind
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.scores import ScoreKey
from danbao_credit.store.score_rows import (
    CHANGE_COLUMNS,
    MARK_COLUMNS,
    SCORE_COLUMNS,
    change_row,
    mark_of,
    mark_row,
    score_of_row,
    score_row,
)

_LOCK_SUBJECTS = "SELECT subject, profile FROM subjects WHERE subject = ANY($1::text[]) ORDER BY subject FOR UPDATE"
# Profiles rise in version under the head's lock only, which this batch holds.
_VERSIONS = "SELECT subject, version FROM subjects WHERE subject = ANY($1::text[])"
_LOCK_MARKS = (
    f"SELECT {', '.join(MARK_COLUMNS)} FROM marks WHERE subject = ANY($1::text[])"
    " ORDER BY subject, kind, reference FOR UPDATE"
)
_LOCK_SCORES = (
    f"SELECT {', '.join(SCORE_COLUMNS)} FROM scores WHERE subject = ANY($1::text[]) ORDER BY subject, kind FOR UPDATE"
)
_SAVE_MARKS = f"""
INSERT INTO marks ({", ".join(MARK_COLUMNS)})
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
ON CONFLICT (subject, kind, reference) DO UPDATE SET begins = excluded.begins, ends = excluded.ends,
  grade = excluded.grade
"""
_SAVE_SCORES = f"""
INSERT INTO scores ({", ".join(SCORE_COLUMNS)})
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::boolean[], $6::text[], $7::text[],
  $8::text[], $9::timestamptz[], $10::timestamptz[], $11::bigint[])
ON CONFLICT (subject, kind) DO UPDATE SET score = excluded.score, grade = excluded.grade, blocked = excluded.blocked,
  sub_scores = excluded.sub_scores, reason_codes = excluded.reason_codes, model_version = excluded.model_version,
  as_of = excluded.as_of, look_time = excluded.look_time, profile_version = excluded.profile_version
"""


class Standing:
    """The part of the store that holds what stands about subjects, and how they were scored.

    A command with `mark_keys()` finds those marks loaded, with profile and scores of their subjects; so does one that
    needs `marks`.
    """

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        keys: set[MarkKey] = set(needs.get("marks", ()))
        scored: set[str] = set()
        for command in commands:
            if isinstance(command, RecordScores):
                scored |= command.subjects()
            elif hasattr(command, "mark_keys"):
                keys |= command.mark_keys()
        if keys:
            await self._load_marks(connection, working, keys)
        if scored:
            for row in await connection.fetch(_VERSIONS, sorted(scored)):
                working.versions[row["subject"]] = row["version"]
        # A suspicion remembers the grade that the subject had.
        scored |= {key.subject for key in keys if key.kind is MarkKind.TAKEOVER}
        if scored:
            for row in await connection.fetch(_LOCK_SCORES, sorted(scored)):
                score = score_of_row(row)
                working.scores.load(ScoreKey(score.subject, score.kind), score)

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        marks = working.marks.created() + working.marks.updated()
        if marks:
            await connection.execute(_SAVE_MARKS, *_columns(mark_row(mark) for _, mark in marks))
        scores = working.scores.created() + working.scores.updated()
        if scores:
            await connection.execute(_SAVE_SCORES, *_columns(score_row(score) for _, score in scores))
        changes = working.score_changes.accepted
        if changes:
            await connection.copy_records_to_table(
                "score_history", columns=CHANGE_COLUMNS, records=[change_row(change) for change in changes]
            )

    async def _load_marks(self, connection: asyncpg.Connection, working: CreditSet, keys: set[MarkKey]) -> None:
        subjects = sorted({key.subject for key in keys})
        missing = [subject for subject in subjects if subject not in working.subjects]
        if missing:
            for row in await connection.fetch(_LOCK_SUBJECTS, missing):
                working.subjects.load(row["subject"], Profile.from_bytes(row["profile"]))
        for row in await connection.fetch(_LOCK_MARKS, subjects):
            mark = mark_of(row)
            working.marks.load(mark.key, mark)
        working.marks_loaded |= keys


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True))
