"""How consents, appeals, accesses, and what they need of the log, are read and written in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_credit.application.appeals import DecideAppeal, FileAppeal, WithdrawAppeal
from danbao_credit.application.consents import GrantConsent, ReadForPurpose, RevokeConsent
from danbao_credit.application.erasure import EraseSubject
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.appeal import EventKey
from danbao_credit.domain.events import Source
from danbao_credit.domain.log import LogRow
from danbao_credit.domain.profile import Profile
from danbao_credit.store.reports import load_reports
from danbao_credit.store.rights_rows import (
    ACCESS_COLUMNS,
    APPEAL_COLUMNS,
    CONSENT_COLUMNS,
    LOG_COLUMNS,
    access_row,
    appeal_of,
    appeal_row,
    consent_of,
    consent_row,
    reversed_text,
)
from danbao_credit.store.score_rows import MARK_COLUMNS, mark_of

_APPEALS_BY_ID = f"SELECT {APPEAL_COLUMNS} FROM appeals WHERE appeal_id = ANY($1::uuid[]) ORDER BY appeal_id FOR UPDATE"
_APPEALS_OF = f"SELECT {APPEAL_COLUMNS} FROM appeals WHERE subject = ANY($1::text[]) ORDER BY appeal_id FOR UPDATE"
_CONSENTS_BY_ID = (
    f"SELECT {CONSENT_COLUMNS} FROM consents WHERE consent_id = ANY($1::uuid[]) ORDER BY consent_id FOR UPDATE"
)
# One that has ended decides nothing any more.
_CONSENTS_OF = (
    f"SELECT {CONSENT_COLUMNS} FROM consents WHERE subject = ANY($1::text[]) AND revoke_time IS NULL"
    " ORDER BY consent_id FOR UPDATE"
)
# An event's rows, and those that take it back: by an appeal they have its number below zero.
_EVENTS = (
    f"SELECT {LOG_COLUMNS} FROM event_log JOIN unnest($1::text[], $2::text[], $3::bigint[])"
    " AS wanted (subject, source, number) USING (subject, source, number) ORDER BY subject, source, number, role"
)
_MATTERS = (
    f"SELECT {LOG_COLUMNS} FROM event_log JOIN unnest($1::text[], $2::text[], $3::bigint[])"
    " AS wanted (subject, about, at_us) USING (subject, about, at_us) ORDER BY subject, source, number, role"
)
_MARKS = (
    f"SELECT {', '.join(MARK_COLUMNS)} FROM marks WHERE subject = ANY($1::text[])"
    " ORDER BY subject, kind, reference FOR UPDATE"
)
_SUBJECTS = "SELECT subject, profile FROM subjects WHERE subject = ANY($1::text[]) ORDER BY subject FOR UPDATE"

_END_CONSENTS = (
    "UPDATE consents SET revoke_time = ended.revoke_time, revoked_by = ended.revoked_by"
    " FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS ended (consent_id, revoke_time, revoked_by)"
    " WHERE consents.consent_id = ended.consent_id"
)
_ADD_CONSENTS = (
    f"INSERT INTO consents ({CONSENT_COLUMNS}) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],"
    " $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[], $9::timestamptz[], $10::text[])"
)
_END_APPEALS = (
    "UPDATE appeals SET state = ended.state, decided_by = ended.decided_by, decision = ended.decision,"
    " reversed_events = ended.reversed_events, end_time = ended.end_time"
    " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])"
    " AS ended (appeal_id, state, decided_by, decision, reversed_events, end_time)"
    " WHERE appeals.appeal_id = ended.appeal_id"
)
_ADD_APPEALS = (
    f"INSERT INTO appeals ({APPEAL_COLUMNS}) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],"
    " $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::timestamptz[],"
    " $13::text[], $14::text[], $15::text[], $16::timestamptz[])"
)
_ADD_ACCESSES = (
    f"INSERT INTO score_accesses ({ACCESS_COLUMNS}) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[],"
    " $4::text[], $5::text[], $6::text[], $7::timestamptz[])"
)


class Rights:
    """The part of the store that the rights of subjects are in."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        await self._load_appeals(connection, working, commands, needs)
        await self._load_consents(connection, working, commands, needs)
        await self._load_log(connection, working, needs)
        marked = needs.get("marks_of", set())
        if marked:
            for row in await connection.fetch(_MARKS, sorted(marked)):
                mark = mark_of(row)
                working.marks.load(mark.key, mark)
            working.marks_of_loaded |= marked
        subjects = sorted(needs.get("subjects", ()))
        if subjects:
            for row in await connection.fetch(_SUBJECTS, subjects):
                working.subjects.load(row["subject"], Profile.from_bytes(row["profile"]))
            working.subjects_looked_up.update(subjects)

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        # What ends goes first: one consent stands at a time.
        ended = [consent for _, consent in working.consents.updated()]
        if ended:
            rows = [(consent.consent_id, consent.revoke_time, consent.revoked_by) for consent in ended]
            await connection.execute(_END_CONSENTS, *_columns(rows))
        granted = [consent_row(consent) for _, consent in working.consents.created()]
        if granted:
            await connection.execute(_ADD_CONSENTS, *_columns(granted))
        over = [appeal for _, appeal in working.appeals.updated()]
        if over:
            changes = [
                (
                    appeal.appeal_id,
                    appeal.state.value,
                    appeal.decided_by,
                    appeal.decision,
                    reversed_text(appeal),
                    appeal.end_time,
                )
                for appeal in over
            ]
            await connection.execute(_END_APPEALS, *_columns(changes))
        filed = [appeal_row(appeal) for _, appeal in working.appeals.created()]
        if filed:
            await connection.execute(_ADD_APPEALS, *_columns(filed))
        accesses = [access_row(access) for access in working.accesses.accepted]
        if accesses:
            await connection.execute(_ADD_ACCESSES, *_columns(accesses))

    async def _load_appeals(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
    ) -> None:
        ids = sorted({command.appeal_id for command in commands if isinstance(command, WithdrawAppeal | DecideAppeal)})
        subjects = {command.subject for command in commands if isinstance(command, FileAppeal | EraseSubject)}
        subjects |= needs.get("appeals_of", set())
        rows = await connection.fetch(_APPEALS_BY_ID, ids) if ids else []
        rows += await connection.fetch(_APPEALS_OF, sorted(subjects)) if subjects else []
        for row in rows:
            working.appeals.load(row["appeal_id"], appeal_of(row))
        working.appeals_loaded |= subjects

    async def _load_consents(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
    ) -> None:
        ids = sorted({command.consent_id for command in commands if isinstance(command, RevokeConsent)})
        subjects: set[str] = set(needs.get("consents_of", ()))
        for command in commands:
            if isinstance(command, GrantConsent):
                subjects.add(command.subject)
            elif isinstance(command, ReadForPurpose):
                subjects.update(command.subjects)
        rows = await connection.fetch(_CONSENTS_BY_ID, ids) if ids else []
        rows += await connection.fetch(_CONSENTS_OF, sorted(subjects)) if subjects else []
        for row in rows:
            working.consents.load(row["consent_id"], consent_of(row))
        working.consents_loaded |= subjects

    async def _load_log(
        self, connection: asyncpg.Connection, working: CreditSet, needs: Mapping[str, set[Any]]
    ) -> None:
        matters = sorted(needs.get("logged_matters", ()))
        found: dict[tuple[str, EventKey], list[LogRow]] = {key: [] for key in needs.get("logged_events", ())}
        if matters:
            by_matter: dict[tuple[str, str, int], list[LogRow]] = {matter: [] for matter in matters}
            for row in await connection.fetch(_MATTERS, *_columns(matters)):
                logged = log_row(row)
                by_matter[logged.subject, logged.about, logged.at_us].append(logged)
                found.setdefault((logged.subject, EventKey(logged.source, abs(logged.number))), [])
            working.matters_looked_up.update({matter: tuple(rows) for matter, rows in by_matter.items()})
        if found:
            wanted = sorted({(subject, key.source, n) for subject, key in found for n in (key.number, -key.number)})
            for row in await connection.fetch(_EVENTS, *_columns(wanted)):
                logged = log_row(row)
                key = (logged.subject, EventKey(logged.source, abs(logged.number)))
                if logged.number < 0:
                    working.taken_back.load(key, True)
                else:
                    found[key].append(logged)
            working.events_looked_up.update({key: tuple(rows) for key, rows in found.items()})
            reports = sorted({key.number for _, key in found if key.source == Source.REPORTS})
            if reports:
                await load_reports(connection, working, reports, sorted({subject for subject, _ in found}))


def log_row(row: Any) -> LogRow:
    return LogRow(*(row[name] for name in LogRow._fields))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True))
