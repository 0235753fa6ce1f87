"""How model versions are read and written. They are few: a batch with a command about one loads them all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import text

from danbao_credit.application.model_commands import MODEL_COMMANDS
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.models import Finding, ModelState, ModelVersion
from danbao_credit.domain.profile import Profile
from danbao_kit.database import Database

_COLUMNS = "version, state, artefact, sha256, description, create_time, change_time, findings, former"
_LOCK = f"SELECT {_COLUMNS} FROM model_versions ORDER BY version FOR UPDATE"
_CREATE = f"""
INSERT INTO model_versions ({_COLUMNS})
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
  $8::jsonb[], $9::text[])
"""
_UPDATE = """
UPDATE model_versions AS known SET state = moved.state, change_time = moved.change_time, findings = moved.findings,
  former = moved.former
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::jsonb[], $5::text[])
  AS moved (version, state, change_time, findings, former)
WHERE known.version = moved.version
"""
_CHANGES = """
INSERT INTO model_changes (version, change_time, number, step, state, actor, reason)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[])
"""
# One of each at most: before anybody comes into these places, all who move leave them, whatever becomes of them.
_LEAVE_PLACES = """
UPDATE model_versions SET state = 'RETIRED' WHERE version = ANY($1::text[]) AND state IN ('CHAMPION', 'CHALLENGER')
"""


class Models:
    """The part of the store that keeps model versions."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        if any(isinstance(command, MODEL_COMMANDS) for command in commands):
            for row in await connection.fetch(_LOCK):
                working.models.load(row["version"], model_of(row))

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        moved = [version for _, version in working.models.updated()]
        if moved:
            await connection.execute(_LEAVE_PLACES, [version.version for version in moved])
            await connection.execute(
                _UPDATE,
                [version.version for version in moved],
                [version.state.value for version in moved],
                [version.change_time for version in moved],
                [_findings_text(version) for version in moved],
                [version.former for version in moved],
            )
        made = [version for _, version in working.models.created()]
        if made:
            await connection.execute(
                _CREATE,
                [version.version for version in made],
                [version.state.value for version in made],
                [version.artefact for version in made],
                [version.sha256 for version in made],
                [version.description for version in made],
                [version.create_time for version in made],
                [version.change_time for version in made],
                [_findings_text(version) for version in made],
                [version.former for version in made],
            )
        changes = working.model_changes.accepted
        if changes:
            await connection.execute(
                _CHANGES,
                [change.version for change in changes],
                [change.at for change in changes],
                list(range(len(changes))),
                [change.step for change in changes],
                [change.state.value for change in changes],
                [change.actor for change in changes],
                [change.reason for change in changes],
            )


def model_of(row: Any) -> ModelVersion:
    """A row as a version."""
    found = row["findings"]
    return ModelVersion(
        version=row["version"],
        state=ModelState(row["state"]),
        artefact=row["artefact"],
        sha256=row["sha256"],
        description=row["description"],
        create_time=row["create_time"],
        change_time=row["change_time"],
        findings=tuple(Finding(*item) for item in (json.loads(found) if isinstance(found, str) else found)),
        former=row["former"],
    )


def _findings_text(version: ModelVersion) -> str:
    return json.dumps([[item.check, item.passed, item.detail] for item in version.findings], ensure_ascii=False)


_ONE = text(f"SELECT {_COLUMNS} FROM model_versions WHERE version = :version")
_IN_USE = text("SELECT version, state, sha256 FROM model_versions WHERE state IN ('CHAMPION', 'CHALLENGER')")
_PAGE = text(
    "SELECT version, state, '' AS artefact, sha256, description, create_time, change_time, findings, former"
    " FROM model_versions WHERE (create_time, version) < (:before, :version)"
    " ORDER BY create_time DESC, version DESC LIMIT :limit"
)
_COUNT = text("SELECT count(*) FROM subjects")
_SAMPLE = text(
    "SELECT profile FROM subjects TABLESAMPLE BERNOULLI (:percent) REPEATABLE (11) ORDER BY subject LIMIT :limit"
)


class ModelQueries:
    """Reads of model versions, and of subjects to look at them by. Raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, version: str) -> ModelVersion | None:
        """One version with its artefact."""
        async with self._database.read() as connection:
            row = (await connection.execute(_ONE, {"version": version})).mappings().one_or_none()
        return None if row is None else model_of(row)

    async def in_use(self) -> dict[ModelState, tuple[str, str]]:
        """Version and hash of the champion and of the challenger, as far as there are any."""
        rows = await self._database.look(_IN_USE)
        return {ModelState(row["state"]): (row["version"], row["sha256"]) for row in rows}

    async def page(self, before: datetime, version: str, limit: int) -> list[ModelVersion]:
        """Versions without artefacts, the newest first, older than that one."""
        values = {"before": before, "version": version, "limit": limit}
        async with self._database.read() as connection:
            rows = (await connection.execute(_PAGE, values)).mappings().all()
        return [model_of(row) for row in rows]

    async def sample(self, limit: int) -> list[Profile]:
        """Profiles of subjects drawn evenly, the same while the store stays the same; fewer if there are no more."""
        async with self._database.read() as connection:
            count = int((await connection.execute(_COUNT)).scalar_one())
            # A fifth more than needed: a sample's size varies.
            percent = min(100.0, 120.0 * limit / max(count, 1))
            rows = (await connection.execute(_SAMPLE, {"percent": percent, "limit": limit})).all()
        return [Profile.from_bytes(row.profile) for row in rows]
