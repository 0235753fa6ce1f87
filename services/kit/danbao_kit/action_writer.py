"""How a batch tells what privileged calls did in it: entries written in its own transaction, in two statements."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_kit.acting import Acting
from danbao_kit.errors import ActionLogHeadless
from danbao_kit.failpoints import failpoint
from danbao_kit.privileged_actions import OK, SALT_BYTES, UNDER_WAY, Place, PrivilegedAction, Words, chained
from danbao_kit.submission import Outcome, Submission
from danbao_kit.tables import PARTITION

_HEAD = "SELECT sequence, hash FROM privileged_action_heads WHERE partition = $1"
_WRITE = (
    "WITH written AS ("
    "INSERT INTO privileged_actions (sequence, create_time, method, operation, caller_kind, actor, roles, partner,"
    " outcome, trace_id, words_digest, previous_hash, hash)"
    " SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],"
    " $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[])), "
    "said AS ("
    "INSERT INTO privileged_action_words (sequence, salt, request_id, fingerprint, subject, object, why)"
    " SELECT * FROM unnest($1::bigint[], $14::bytea[], $15::text[], $16::bytea[], $17::text[], $18::text[],"
    " $19::text[])) "
    "UPDATE privileged_action_heads SET sequence = $20, hash = $21 WHERE partition = $22"
)


def told(
    submissions: Sequence[Submission],
    outcomes: Mapping[int, Outcome | None],
    fingerprints: Mapping[bytes, bytes],
    now: datetime,
) -> list[tuple[PrivilegedAction, Words]]:
    """What is told of those submissions, in their order.

    `outcomes` by the submission's id(): None is under way, and what has none is decided again. A refusal is told if it
    is final: any other may be tried again, and had no effect. `fingerprints` by the request's record.
    """
    salts = os.urandom(SALT_BYTES * len(submissions))
    actions: list[tuple[PrivilegedAction, Words]] = []
    for position, submission in enumerate(submissions):
        acting = submission.acting
        assert acting is not None
        if id(submission) not in outcomes:
            continue
        outcome = outcomes[id(submission)]
        if outcome is not None and outcome.error is not None and not outcome.error.is_final:
            continue
        request = submission.request
        words = acting.words(
            salt=salts[position * SALT_BYTES : (position + 1) * SALT_BYTES],
            request_id=request.request_id if request is not None else "",
            fingerprint=fingerprints.get(submission.record_key, b""),
            about=submission.about,
            reply=outcome.message if outcome is not None else None,
        )
        action = acting.action(
            operation=request.method if request is not None else "",
            outcome=_outcome(outcome),
            create_time=now,
            words=words,
        )
        actions.append((action, words))
    return actions


async def append(connection: asyncpg.Connection, actions: Sequence[tuple[PrivilegedAction, Words]]) -> None:
    """Chains the actions to the log. The caller's transaction holds the stream's head: nobody else does meanwhile.

    Raises ActionLogHeadless: somebody took away what the migration made, so there is no entry to chain to.
    """
    if not actions:
        return
    await failpoint("before_actions")
    head = await connection.fetchrow(_HEAD, PARTITION)
    if head is None:
        raise ActionLogHeadless
    entries = chained(Place(head["sequence"], head["hash"]), actions)
    columns: list[Any] = list(
        zip(
            *[
                (
                    entry.sequence,
                    action.create_time,
                    action.method,
                    action.operation,
                    action.caller_kind,
                    action.actor,
                    action.roles,
                    action.partner,
                    action.outcome,
                    action.trace_id,
                    action.words_digest,
                    entry.previous_hash,
                    entry.hash,
                    words.salt,
                    words.request_id,
                    words.fingerprint,
                    words.subject,
                    words.object,
                    words.why,
                )
                for entry, (action, words) in zip(entries, actions, strict=True)
            ],
            strict=True,
        )
    )
    await connection.execute(_WRITE, *columns, entries[-1].sequence, entries[-1].hash, PARTITION)
    await failpoint("after_actions")


async def append_one(connection: asyncpg.Connection, acting: Acting, *, now: datetime, outcome: str = OK) -> None:
    """For what is committed outside the group commit, with the stream's head written first."""
    words = acting.words(salt=os.urandom(SALT_BYTES))
    action = acting.action(operation="", outcome=outcome, create_time=now, words=words)
    await append(connection, [(action, words)])


def _outcome(outcome: Outcome | None) -> str:
    if outcome is None:
        return UNDER_WAY
    return OK if outcome.error is None else outcome.error.reason
