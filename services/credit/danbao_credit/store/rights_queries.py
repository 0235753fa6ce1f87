"""How what is kept about a subject is read, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from danbao_credit.application.rights_ports import AppealFilter
from danbao_credit.domain.appeal import Appeal
from danbao_credit.domain.consent import Access, Consent
from danbao_credit.domain.erasure import Traces
from danbao_credit.domain.log import LogRow
from danbao_credit.store.removal import caller_of, name_as_field
from danbao_credit.store.rights_rows import (
    ACCESS_COLUMNS,
    APPEAL_COLUMNS,
    CONSENT_COLUMNS,
    LOG_COLUMNS,
    access_of,
    appeal_of,
    consent_of,
)
from danbao_kit.database import Database
from danbao_kit.errors import PageTokenInvalid
from danbao_kit.tables import PARTITION

_FIRST = UUID(int=0)
# Rows that one statement looks through for a name; a statement must be short beside its deadline.
_STRIDE = 20_000

_CONSENTS = text(
    f"SELECT {CONSENT_COLUMNS} FROM consents WHERE subject = :subject AND consent_id > :after"
    " AND (CAST(:partner AS text) IS NULL OR partner IN ('', :partner)) ORDER BY consent_id LIMIT :limit"
)
_APPEAL = text(f"SELECT {APPEAL_COLUMNS} FROM appeals WHERE appeal_id = :id")
_APPEALS = text(
    f"SELECT {APPEAL_COLUMNS} FROM appeals WHERE appeal_id > :after"
    " AND (CAST(:subject AS text) IS NULL OR subject = :subject)"
    " AND (CAST(:filed_by AS text) IS NULL OR filed_by = :filed_by)"
    " AND (CAST(:state AS text) IS NULL OR state = :state) ORDER BY appeal_id LIMIT :limit"
)
_ACCESSES = text(
    f"SELECT {ACCESS_COLUMNS} FROM score_accesses WHERE subject = :subject AND access_id > :after"
    " ORDER BY access_id LIMIT :limit"
)
_LOGGED = text(
    f"SELECT {LOG_COLUMNS} FROM event_log WHERE subject = :subject"
    " AND (source, number, role) > (:source, :number, :role) ORDER BY source, number, role LIMIT :limit"
)
# Of each further section, what is shown of its rows.
_OTHERS = {
    "score_history": text(
        "SELECT create_time AS time, kind, score, grade, blocked, previous_score, previous_grade, reason_codes,"
        " model_version FROM score_history WHERE subject = :subject ORDER BY create_time, kind"
        " OFFSET :offset LIMIT :limit"
    ),
    "memberships": text(
        "SELECT 'memberships/' || membership_id AS name, state, partner, currencies, required_minor, create_time,"
        " join_time, leave_time FROM memberships WHERE subject = :subject ORDER BY create_time, membership_id"
        " OFFSET :offset LIMIT :limit"
    ),
    "deposits": text(
        "SELECT currency, balance_minor FROM deposits WHERE subject = :subject ORDER BY currency"
        " OFFSET :offset LIMIT :limit"
    ),
    "claims": text(
        "SELECT opened, ended, last_end_time FROM claim_counts WHERE subject = :subject OFFSET :offset LIMIT :limit"
    ),
}
SECTIONS = tuple(_OTHERS)
_HEAD = text("SELECT event_sequence, last_time FROM stream_heads WHERE partition = :partition")
_EVENTS = text(
    "SELECT sequence FROM events WHERE sequence > :after AND sequence <= :through AND position(:field IN payload) > 0"
)
_REQUESTS = text(
    "WITH looked AS (SELECT key, caller, reply FROM request_records WHERE key > :after ORDER BY key LIMIT :stride)"
    " SELECT (SELECT key FROM looked ORDER BY key DESC LIMIT 1) AS last, ARRAY(SELECT key FROM looked"
    " WHERE caller = :caller OR position(:field IN reply) > 0) AS found"
)


class RightsQueries:
    """Reads of one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def consents(self, subject: str, after: str, limit: int, partner: str | None = None) -> list[Consent]:
        """In the order in which they were granted; with a partner, those to it or to all. Raises PageTokenInvalid."""
        rows = await self._rows(_CONSENTS, subject=subject, partner=partner, after=_id(after), limit=limit)
        return [consent_of(row) for row in rows]

    async def appeal(self, appeal_id: UUID) -> Appeal | None:
        rows = await self._rows(_APPEAL, id=appeal_id)
        return appeal_of(rows[0]) if rows else None

    async def appeals(self, wanted: AppealFilter, after: str, limit: int) -> list[Appeal]:
        """In the order in which they were filed. Raises PageTokenInvalid."""
        rows = await self._rows(
            _APPEALS,
            subject=wanted.subject,
            filed_by=wanted.filed_by,
            state=None if wanted.state is None else wanted.state.value,
            after=_id(after),
            limit=limit,
        )
        return [appeal_of(row) for row in rows]

    async def accesses(self, subject: str, after: str, limit: int) -> list[Access]:
        """In the order in which they happened. Raises PageTokenInvalid."""
        return [access_of(row) for row in await self._rows(_ACCESSES, subject=subject, after=_id(after), limit=limit)]

    async def logged(self, subject: str, after: str, limit: int) -> list[LogRow]:
        """By source, number and role. Raises PageTokenInvalid."""
        source, number, role = _place(after)
        rows = await self._rows(_LOGGED, subject=subject, source=source, number=number, role=role, limit=limit)
        return [LogRow(*(row[name] for name in LogRow._fields)) for row in rows]

    async def others(
        self, section: str, subject: str, after: str, limit: int
    ) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Oldest first. Raises PageTokenInvalid."""
        statement = _OTHERS[section]
        offset = _number(after)
        rows = await self._rows(statement, subject=subject, offset=offset, limit=limit)
        return [(str(offset + number), dict(row)) for number, row in enumerate(rows, 1)]

    async def traces(self, subject: str) -> Traces:
        """Where the name stands in events and request records written up to now. May take seconds a million rows."""
        field = name_as_field(subject)
        (head,) = await self._rows(_HEAD, partition=PARTITION)
        events: list[int] = []
        for after in range(0, head["event_sequence"], _STRIDE):
            through = min(after + _STRIDE, head["event_sequence"])
            events += [row["sequence"] for row in await self._rows(_EVENTS, after=after, through=through, field=field)]
        requests: list[bytes] = []
        last: bytes | None = b""
        while last is not None:
            (page,) = await self._rows(_REQUESTS, after=last, stride=_STRIDE, caller=caller_of(subject), field=field)
            requests += [bytes(key) for key in page["found"]]
            last = None if page["last"] is None else bytes(page["last"])
        # Records bear business time, which rises under the lock: whatever is newer than this was not looked at.
        return Traces(tuple(events), head["event_sequence"], tuple(requests), head["last_time"] - timedelta(seconds=1))

    async def _rows(self, statement: Any, **values: Any) -> Sequence[Any]:
        async with self._database.read() as connection:
            return (await connection.execute(statement, values)).mappings().all()


def _id(after: str) -> UUID:
    """The id after which a page begins. Raises PageTokenInvalid."""
    if not after:
        return _FIRST
    try:
        return UUID(after)
    except ValueError as error:
        raise PageTokenInvalid from error


def _number(after: str) -> int:
    if after and not (after.isdigit() and len(after) < 10):
        raise PageTokenInvalid
    return int(after or 0)


def _place(after: str) -> tuple[str, int, str]:
    if not after:
        return "", 0, ""
    parts = after.split(" ")
    if len(parts) != 3 or not parts[1].lstrip("-").isdigit() or abs(int(parts[1])) >= 2**63:
        raise PageTokenInvalid
    return parts[0], int(parts[1]), parts[2]
