"""How a subject is taken out of every table, in the transaction that leaves its tombstone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_credit.application.erasure import EraseSubject
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.erasure import OpenMatters, Removal
from danbao_credit.domain.events import Source
from danbao_credit.domain.rights_errors import ReplyErased
from danbao_credit.store.reports import erase_reports
from danbao_kit.rpc_status import status_of
from danbao_kit.tables import PARTITION, REFUSED, STARTED

ERASED_KIND = "erased"
"""The kind of an event whose subject was erased; nothing else is left of it."""

_CURSORS = "SELECT source, sequence FROM reader_cursors WHERE partition = $1"
# What has begun in the subject's log and has not ended there.
_OPEN_TRADES = """
SELECT subject FROM unnest($1::text[]) AS asked (subject) WHERE EXISTS (
  SELECT FROM event_log AS begun WHERE begun.subject = asked.subject AND begun.source = 'escrow'
    AND begun.kind = 'trade_created' AND NOT EXISTS (
      SELECT FROM event_log AS ended WHERE ended.subject = asked.subject AND ended.source = 'escrow'
        AND ended.about = begun.about
        AND (ended.kind = 'trade_cancelled' OR ended.kind IN ('lines_released', 'lines_refunded')
          AND (ended.measures::json->>'completed' = '1' OR ended.measures::json->>'closed' = '1'))))
"""
_OPEN_CLAIMS = """
SELECT subject FROM unnest($1::text[]) AS asked (subject) WHERE EXISTS (
  SELECT FROM event_log AS begun WHERE begun.subject = asked.subject AND begun.source = 'escrow'
    AND begun.kind = 'claim_opened' AND NOT EXISTS (
      SELECT FROM event_log AS ended WHERE ended.subject = asked.subject AND ended.source = 'escrow'
        AND ended.about = begun.about AND ended.kind IN ('claim_compensated', 'claim_rejected')))
"""

# Going on, or money of it is still there.
_MEMBERSHIPS = """
SELECT subject FROM memberships WHERE subject = ANY($1::text[]) AND state <> 'LEFT'
UNION SELECT subject FROM deposits WHERE subject = ANY($1::text[]) AND balance_minor <> 0
"""

# Words of the log of privileged actions that name the subject or what is the subject's; the entries stay.
_WORDS = (
    "DELETE FROM privileged_action_words WHERE subject = $1 OR object IN ("
    "SELECT 'appeals/' || appeal_id FROM appeals WHERE subject = $1"
    " UNION SELECT 'consents/' || consent_id FROM consents WHERE subject = $1"
    " UNION SELECT 'memberships/' || membership_id FROM memberships WHERE subject = $1)"
)
_WITH_THE_SUBJECT = (
    # What membership is over; the money's own history is in the books of payments.
    "DELETE FROM deposit_steps WHERE $2::bigint IS NOT NULL"
    " AND membership_id IN (SELECT membership_id FROM memberships WHERE subject = $1)",
    "DELETE FROM memberships WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM deposit_movements WHERE $2::bigint IS NOT NULL"
    " AND account IN (SELECT account FROM deposits WHERE subject = $1)",
    "DELETE FROM deposits WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM claim_counts WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM event_log WHERE subject = $1 AND at_us <= $2",
    "DELETE FROM checkpoints WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM consents WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM appeals WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM score_accesses WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM marks WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM scores WHERE subject = $1 AND $2::bigint IS NOT NULL",
    "DELETE FROM score_history WHERE subject = $1 AND $2::bigint IS NOT NULL",
)
_PROFILE = "DELETE FROM subjects WHERE subject = $1"
# $1: the name as a field of a message, so that nobody else's longer name is meant.
_PARKED = (
    "UPDATE parked_events SET payload = '', reason = 'its subject was erased'"
    " WHERE position($1::bytea IN payload) > 0 OR position($2::text IN reason) > 0"
)
_EVENTS = (
    "SELECT sequence, create_time FROM events WHERE sequence = ANY($1::bigint[])"
    " UNION SELECT sequence, create_time FROM events WHERE sequence > $2 AND position($3::bytea IN payload) > 0"
)
_BLANK = (
    "UPDATE events SET kind = $1, payload = blank.payload"
    " FROM unnest($2::bigint[], $3::bytea[]) AS blank (sequence, payload) WHERE events.sequence = blank.sequence"
)
_REQUESTS = (
    "UPDATE request_records SET caller = 'erased', request_id = '', state = $1, reply = $2 WHERE state <> $3"
    " AND (key = ANY($4::bytea[])"
    " OR create_time >= $5 AND (caller = $6 OR position($7::bytea IN reply) > 0))"
)


class Removals:
    """What hinders an erasure, and what it takes away. `blank_event` writes an event of which nothing is left."""

    def __init__(self, blank_event: Callable[[int, datetime], bytes] | None) -> None:
        self._blank_event = blank_event

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        subjects = sorted({command.subject for command in commands if isinstance(command, EraseSubject)})
        if not subjects:
            return
        rows = await connection.fetch(_CURSORS, PARTITION)
        through = {Source(row["source"]): row["sequence"] for row in rows}
        trades = {row["subject"] for row in await connection.fetch(_OPEN_TRADES, subjects)}
        members = {row["subject"] for row in await connection.fetch(_MEMBERSHIPS, subjects)}
        claims = {row["subject"] for row in await connection.fetch(_OPEN_CLAIMS, subjects)}
        for subject in subjects:
            working.open_matters[subject] = OpenMatters(
                through=through, membership=subject in members, trade=subject in trades, claim=subject in claims
            )

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        for removal in working.removals.accepted:
            await self._remove(connection, removal, working)

    async def _remove(self, connection: asyncpg.Connection, removal: Removal, working: CreditSet) -> None:
        subject, traces = removal.subject, removal.traces
        await connection.execute(_WORDS, subject)
        if removal.through_us is not None:
            for statement in _WITH_THE_SUBJECT:
                await connection.execute(statement, subject, removal.through_us)
            await erase_reports(connection, [subject])
            profile = working.subjects.get(subject)
            if profile is None or not len(profile.keys):
                await connection.execute(_PROFILE, subject)
        field = name_as_field(subject)
        await connection.execute(_PARKED, field, subject)
        events = await connection.fetch(_EVENTS, list(traces.events), traces.through_sequence, field)
        if events:
            assert self._blank_event is not None, "whoever erases can blank events"
            await connection.execute(
                _BLANK,
                ERASED_KIND,
                [row["sequence"] for row in events],
                [self._blank_event(row["sequence"], row["create_time"]) for row in events],
            )
        await connection.execute(
            _REQUESTS,
            REFUSED,
            status_of(ReplyErased()).SerializeToString(),
            STARTED,
            list(traces.requests),
            traces.looked_from,
            caller_of(subject),
            field,
        )


def name_as_field(subject: str) -> bytes:
    """The subject's name as it stands in a message: its length, which is below 128, then its bytes."""
    name = subject.encode()
    assert len(name) < 128, "a subject's name is short"
    return bytes([len(name)]) + name


def caller_of(subject: str) -> str:
    """What request records call the subject when it called itself."""
    return f"subject:{subject.removeprefix('subjects/')}"
