"""Which of the subjects that a batch tells of were erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import text

from danbao_credit.application.apply_events import ApplyEvents
from danbao_credit.application.rebuild import FoldLog, RebuildProfile
from danbao_credit.application.record_events import RecordEvents
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.events import Source
from danbao_credit.domain.tombstone import Tombstone, secret_mark, subject_key
from danbao_kit.database import Database

_FIND = (
    "SELECT key, erase_us, payments_sequence, escrow_sequence, reports_number, reason FROM tombstones"
    " WHERE key = ANY($1)"
)
_OTHER_SECRETS = "SELECT count(*) AS others FROM tombstones WHERE secret_mark <> :mark"
_SAVE = """
INSERT INTO tombstones (key, erase_us, payments_sequence, escrow_sequence, reports_number, reason, secret_mark)
SELECT *, $7::bytea FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
ON CONFLICT (key) DO UPDATE SET erase_us = excluded.erase_us, payments_sequence = excluded.payments_sequence,
  escrow_sequence = excluded.escrow_sequence, reports_number = excluded.reports_number, reason = excluded.reason
"""


class Tombstones:
    """Tombstones of the subjects of the commands; and of those in `needs["tombstones"]`. `secret`: of their keys."""

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        told: set[str] = set(needs.get("tombstones", ()))
        for command in commands:
            if isinstance(command, ApplyEvents | RecordEvents):
                told |= command.subjects()
            elif isinstance(command, RebuildProfile):
                told.add(command.subject)
            elif isinstance(command, FoldLog):
                told.update(command.subjects)
        # Whom reversals concern stands in the reports they take back.
        for report in working.reports.values():
            told |= {who for who in (report.subject, report.peer) if who}
        if not told:
            return
        subjects = {subject_key(subject, self._secret): subject for subject in told}
        for row in await connection.fetch(_FIND, list(subjects)):
            working.tombstones.load(subjects[row["key"]], _tombstone(row))

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        erased = working.tombstones.created() + working.tombstones.updated()
        if not erased:
            return
        await connection.execute(
            _SAVE,
            [subject_key(subject, self._secret) for subject, _ in erased],
            [tombstone.erase_us for _, tombstone in erased],
            *(
                [tombstone.through.get(source, 0) for _, tombstone in erased]
                for source in (Source.PAYMENTS, Source.ESCROW, Source.REPORTS)
            ),
            [tombstone.reason for _, tombstone in erased],
            secret_mark(self._secret),
        )


async def check_secret(database: Database, secret: bytes) -> None:
    """Raises DefinitionInvalid where subjects were erased under another secret: they would come back."""
    async with database.read() as connection:
        row = (await connection.execute(text(_OTHER_SECRETS), {"mark": secret_mark(secret)})).one()
    if row.others:
        raise DefinitionInvalid(
            f"{row.others} subjects were erased under another DANBAO_ERASURE_SECRET: their events would count again"
        )


def _tombstone(row: Any) -> Tombstone:
    return Tombstone(
        erase_us=row["erase_us"],
        through={
            Source.PAYMENTS: row["payments_sequence"],
            Source.ESCROW: row["escrow_sequence"],
            Source.REPORTS: row["reports_number"],
        },
        reason=row["reason"],
    )
