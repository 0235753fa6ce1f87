"""How scores are read: by whoever scores, by whoever looks back, by whoever watches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from danbao_credit.application.ports import ChangePosition, RecordedChange, Scorable
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.marks import Mark
from danbao_credit.domain.profile import Profile
from danbao_credit.store.score_rows import CHANGE_COLUMNS, MARK_COLUMNS, mark_of, points_of
from danbao_kit.database import Database

_PROFILES = text("SELECT subject, version, profile FROM subjects WHERE subject = ANY(:subjects)")
_MARKS = text(f"SELECT {', '.join(MARK_COLUMNS)} FROM marks WHERE subject = ANY(:subjects)")
# A page of the subjects in their order, each with whether no score of it was made from its newest version, and by that
# model if one is named.
_PAGE = text(
    "SELECT subject, NOT EXISTS (SELECT FROM scores WHERE scores.subject = page.subject"
    " AND profile_version >= page.version AND (:model = '' OR model_version = :model)) AS is_stale"
    " FROM (SELECT subject, version FROM subjects WHERE subject > :after ORDER BY subject LIMIT :most) AS page"
    " ORDER BY subject"
)
_DUE = text("SELECT subject FROM scores WHERE look_time <= :now ORDER BY look_time LIMIT :most")
_HISTORY = text(
    f"SELECT {', '.join(CHANGE_COLUMNS)} FROM score_history WHERE subject = :subject AND kind = ANY(:kinds)"
    " AND (create_time, kind) < (:create_time, :kind) ORDER BY create_time DESC, kind DESC LIMIT :most"
)
_AFTER = (
    f"SELECT {', '.join(CHANGE_COLUMNS)} FROM score_history"
    " WHERE (create_time, subject, kind) > (:create_time, :subject, :kind)"
)
_IN_ORDER = " ORDER BY create_time, subject, kind LIMIT :most"
_ALL_AFTER = text(_AFTER + _IN_ORDER)
_SOME_AFTER = text(_AFTER + " AND subject = ANY(:subjects)" + _IN_ORDER)
_NEWEST = text(
    "SELECT create_time, subject, kind FROM score_history ORDER BY create_time DESC, subject DESC, kind DESC LIMIT 1"
)
_BEGINNING = ChangePosition(datetime(1970, 1, 1, tzinfo=UTC), "", "")
_END = ChangePosition(datetime(9999, 1, 1, tzinfo=UTC), "", "")


class ScoreQueries:
    """Reads of one partition. All of them raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def scorable(self, subjects: Collection[str]) -> list[Scorable]:
        """What these subjects' scores are made from; who is unknown is left out.

        Marks are read after the versions: a mark that is newer than its version comes back with the next version.
        """
        asked = {"subjects": list(subjects)}
        async with self._database.read() as connection:
            profiles = (await connection.execute(_PROFILES, asked)).all()
            rows = (await connection.execute(_MARKS, asked)).mappings().all()
        marks: dict[str, list[Mark]] = {}
        for row in rows:
            marks.setdefault(row["subject"], []).append(mark_of(row))
        return [
            Scorable(row.subject, row.version, Profile.from_bytes(row.profile), tuple(marks.get(row.subject, ())))
            for row in profiles
        ]

    async def stale_after(self, after: str, most: int, model: str = "") -> tuple[list[str], str | None]:
        """Of a page of subjects those whose score is older than their profile, or by another model than that; and its
        last one, None at the end."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_PAGE, {"after": after, "most": most, "model": model})).all()
        return [row.subject for row in rows if row.is_stale], rows[-1].subject if len(rows) == most else None

    async def due(self, now: datetime, most: int) -> list[str]:
        """Subjects that were to be looked at again by now, longest due first."""
        rows = await self._database.look(_DUE, now=now, most=most)
        return list(dict.fromkeys(row["subject"] for row in rows))

    async def history(
        self, subject: str, kinds: Collection[SubjectKind], before: ChangePosition | None, most: int
    ) -> list[RecordedChange]:
        """Changes of a subject's scores before a position, newest first."""
        position = before or _END
        asked = {
            "subject": subject,
            "kinds": [kind.value for kind in kinds],
            "create_time": position.create_time,
            "kind": position.kind,
            "most": most,
        }
        async with self._database.read() as connection:
            return [_change(row) for row in (await connection.execute(_HISTORY, asked)).mappings()]

    async def changes_after(
        self, position: ChangePosition | None, subjects: Sequence[str], most: int
    ) -> list[RecordedChange]:
        """Changes after a position in the order in which they were recorded; of nobody named: of all.

        Their times are given under the lock of the head and rise, so `after` misses nothing.
        """
        after = position or _BEGINNING
        asked = {"create_time": after.create_time, "subject": after.subject, "kind": after.kind, "most": most}
        async with self._database.read() as connection:
            if subjects:
                found = await connection.execute(_SOME_AFTER, {**asked, "subjects": list(subjects)})
            else:
                found = await connection.execute(_ALL_AFTER, asked)
            return [_change(row) for row in found.mappings()]

    async def newest_change(self) -> ChangePosition:
        """Where the changes end."""
        async with self._database.read() as connection:
            row = (await connection.execute(_NEWEST)).one_or_none()
        return _BEGINNING if row is None else ChangePosition(row.create_time, row.subject, row.kind)


def _change(row: Any) -> RecordedChange:
    values = dict(row)
    values |= {
        "kind": SubjectKind(values["kind"]),
        "grade": Grade(values["grade"]),
        "previous_score": values["previous_score"] or 0,
        "previous_grade": values["previous_grade"] or "",
        "previously_blocked": bool(values["previously_blocked"]),
        "sub_scores": points_of(values["sub_scores"]),
        "reason_codes": tuple(values["reason_codes"].split()),
    }
    return RecordedChange(**values)
