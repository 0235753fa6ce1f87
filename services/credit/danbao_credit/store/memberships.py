"""What a batch reads and writes of memberships, deposits, their movements and steps, and counts of claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from danbao_credit.application.apply_events import ApplyEvents
from danbao_credit.application.membership_commands import (
    ApplyMembership,
    ClaimDepositStep,
    Named,
    OpenDeposits,
    SettleDepositStep,
    StepDone,
)
from danbao_credit.application.working_set import CreditSet, Touched
from danbao_credit.domain.membership import Cause, CauseCode, State, StepKind
from danbao_credit.domain.membership_model import (
    ClaimCount,
    ClaimTurn,
    Deposit,
    DepositStep,
    Membership,
    Movement,
    StepState,
)
from danbao_credit.domain.profile import Profile
from danbao_credit.store.score_rows import MARK_TYPES, mark_of
from danbao_kit.decision import RequestKey
from danbao_kit.tables import PARTITION

_SUBJECTS_OF = "SELECT subject FROM memberships WHERE membership_id = ANY($1::uuid[])"
_MEMBERSHIPS = """
SELECT * FROM memberships WHERE membership_id = ANY($1::uuid[]) OR (subject = ANY($2::text[]) AND state <> 'LEFT')
ORDER BY membership_id FOR UPDATE
"""
_DEPOSITS = """
SELECT account, subject, currency, balance_minor FROM deposits
WHERE subject = ANY($1::text[]) OR account = ANY($2::uuid[]) ORDER BY account FOR UPDATE
"""
_MOVEMENTS = """
SELECT account, transaction_id, credited_minor, debited_minor FROM deposit_movements
WHERE account = ANY($1::uuid[]) AND transaction_id = ANY($2::uuid[])
"""
_CLAIMS = "SELECT * FROM claim_counts WHERE subject = ANY($1::text[]) ORDER BY subject FOR UPDATE"
_STEPS = """
SELECT * FROM deposit_steps WHERE (membership_id, number) IN (SELECT * FROM unnest($1::uuid[], $2::integer[]))
ORDER BY membership_id, number FOR UPDATE
"""
_MARKS = f"SELECT {', '.join(MARK_TYPES)} FROM marks WHERE subject = ANY($1::text[])"
_PROFILES = "SELECT subject, profile FROM subjects WHERE subject = ANY($1::text[])"

_CHANGES = (
    ("state", "text"),
    ("required_minor", "text"),
    ("causes", "jsonb"),
    ("notice_end_time", "timestamptz"),
    ("join_time", "timestamptz"),
    ("leave_time", "timestamptz"),
    ("last_step", "integer"),
    ("pending_step", "integer"),
    ("step_refusal", "text"),
    ("look_time", "timestamptz"),
    ("look_cause", "text"),
    ("update_time", "timestamptz"),
    ("revision", "bigint"),
)
_FIXED = (
    ("membership_id", "uuid"),
    ("subject", "text"),
    ("partner", "text"),
    ("currencies", "text"),
    ("create_time", "timestamptz"),
)
# Arrays of arrays are no use to unnest: lists of one membership travel as text.
_LISTS = {"currencies": "::text[]", "required_minor": "::bigint[]"}
_STEP_CHANGES = (
    ("state", "text"),
    ("generation", "integer"),
    ("claim", "integer"),
    ("amount_minor", "bigint"),
    ("refusals", "integer"),
    ("refusal", "text"),
    ("transaction", "text"),
    ("settle_time", "timestamptz"),
)
_STEP_FIXED = (
    ("membership_id", "uuid"),
    ("number", "integer"),
    ("kind", "text"),
    ("subject", "text"),
    ("currency", "text"),
    ("counter_kind", "text"),
    ("request", "jsonb"),
    ("traceparent", "text"),
    ("create_time", "timestamptz"),
    ("for_partner", "text"),
    ("for_subject", "text"),
)
_ATTEMPT_AT = "clock_timestamp() + given.attempt_in_ms * interval '1 millisecond'"

_Columns = Sequence[tuple[str, str]]


def _given(columns: _Columns) -> str:
    arrays = ", ".join(f"${place}::{kind}[]" for place, (_, kind) in enumerate(columns, 1))
    return f"unnest({arrays}) AS given ({', '.join(name for name, _ in columns)})"


def _insert(table: str, columns: _Columns) -> str:
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(f"given.{name}{_LISTS.get(name, '')}" for name, _ in columns)
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {_given(columns)}"


def _update(table: str, keys: _Columns, changes: _Columns) -> str:
    sets = ", ".join(f"{name} = given.{name}{_LISTS.get(name, '')}" for name, _ in changes)
    where = " AND ".join(f"{table}.{name} = given.{name}" for name, _ in keys)
    return f"UPDATE {table} SET {sets} FROM {_given((*keys, *changes))} WHERE {where}"


_INSERT_MEMBERSHIPS = _insert("memberships", (*_FIXED, *_CHANGES))
_UPDATE_MEMBERSHIPS = _update("memberships", _FIXED[:1], _CHANGES)
_NEW_STEP: _Columns = (*_STEP_FIXED, *_STEP_CHANGES, ("attempt_in_ms", "integer"))
_INSERT_STEPS = (
    f"INSERT INTO deposit_steps ({', '.join(name for name, _ in _NEW_STEP[:-1])}, attempt_at)"
    f" SELECT {', '.join(f'given.{name}' for name, _ in _NEW_STEP[:-1])}, {_ATTEMPT_AT} FROM {_given(_NEW_STEP)}"
)
_UPDATE_STEPS = (
    f"UPDATE deposit_steps SET {', '.join(f'{name} = given.{name}' for name, _ in _STEP_CHANGES)},"
    f" attempt_at = {_ATTEMPT_AT}"
    f" FROM {_given((*_STEP_FIXED[:2], *_STEP_CHANGES, ('attempt_in_ms', 'integer')))}"
    " WHERE deposit_steps.membership_id = given.membership_id AND deposit_steps.number = given.number"
)
_SAVE_DEPOSITS = """
INSERT INTO deposits (account, subject, currency, balance_minor)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
ON CONFLICT (account) DO UPDATE SET balance_minor = excluded.balance_minor
"""
_INSERT_MOVEMENTS = """
INSERT INTO deposit_movements (account, transaction_id, credited_minor, debited_minor)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
"""
_SAVE_CLAIMS = """
INSERT INTO claim_counts (subject, opened, ended, last_end_time)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[])
ON CONFLICT (subject) DO UPDATE SET opened = excluded.opened, ended = excluded.ended,
  last_end_time = excluded.last_end_time
"""

# Of all who were touched mostly few are members, so they are found first.
_MEMBERS = "SELECT subject FROM memberships WHERE state <> 'LEFT' AND subject = ANY($1::text[])"
# Whose score may have moved, or whose claims or deposit: a member is looked at as soon as this is committed. What is
# urgent names the trace; else the first that made it due.
_TOUCH = """
UPDATE memberships SET look_time = least(look_time, head.last_time),
  look_cause = CASE WHEN touched.urgent OR look_cause = '' THEN touched.traceparent ELSE look_cause END
FROM unnest($1::text[], $2::text[], $3::boolean[]) AS touched (subject, traceparent, urgent), stream_heads AS head
WHERE memberships.subject = touched.subject AND memberships.state <> 'LEFT' AND head.partition = $4
"""


class Memberships:
    """The part of the store that memberships move, and events as far as members are concerned."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        ids: set[UUID] = {command.name for command in commands if isinstance(command, Named)}
        applying = [command for command in commands if isinstance(command, ApplyMembership | OpenDeposits)]
        subjects: set[str] = {command.subject for command in applying}
        chunks = [command for command in commands if isinstance(command, ApplyEvents)]
        if not ids and not subjects and not any(chunk.heard for chunk in chunks):
            return
        # Whose membership it is never changes, so it is read without a lock.
        if ids:
            subjects |= {row["subject"] for row in await connection.fetch(_SUBJECTS_OF, sorted(ids))}
        judged = set(subjects)
        accounts, transactions = _postings(chunks)
        heard = [item.what for chunk in chunks for item in chunk.heard]
        sellers = {what.seller for what in heard if isinstance(what, ClaimTurn)}
        if judged:
            for row in await connection.fetch(_MEMBERSHIPS, sorted(ids), sorted(judged)):
                working.memberships.load(row["membership_id"], membership_of(row))
        counted = judged | sellers
        if counted:
            for row in await connection.fetch(_CLAIMS, sorted(counted)):
                working.claim_counts.load(row["subject"], ClaimCount(*row))
        if judged or accounts:
            for row in await connection.fetch(_DEPOSITS, sorted(judged), sorted(accounts)):
                working.deposits.load(row["account"], Deposit(*row))
        for command in commands:
            if isinstance(command, SettleDepositStep) and isinstance(command.outcome, StepDone):
                transactions.add(UUID(command.outcome.transaction.partition("/")[2]))
        known = {deposit.account for deposit in working.deposits.values()}
        for command in commands:
            if isinstance(command, ApplyMembership | SettleDepositStep):
                transactions |= {movement.transaction_id for movement in command.statement}
                known |= {movement.account for movement in command.statement}
        if known and transactions:
            for row in await connection.fetch(_MOVEMENTS, sorted(known), sorted(transactions)):
                working.movements.load((row["account"], row["transaction_id"]), Movement(*row))
        steps = {
            (each.name, each.number) for each in commands if isinstance(each, ClaimDepositStep | SettleDepositStep)
        }
        if steps:
            for row in await connection.fetch(_STEPS, *map(list, zip(*sorted(steps), strict=True))):
                working.deposit_steps.load((row["membership_id"], row["number"]), step_of(row))
        if judged:
            for row in await connection.fetch(_PROFILES, sorted(judged)):
                if row["subject"] not in working.subjects:
                    working.subjects.load(row["subject"], Profile.from_bytes(row["profile"]))
            for row in await connection.fetch(_MARKS, sorted(judged)):
                mark = mark_of(row)
                if mark.key not in working.marks:
                    working.marks.load(mark.key, mark)

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        # Who leaves goes first: a subject has one membership that goes on.
        await _write(
            connection,
            _UPDATE_MEMBERSHIPS,
            [(item.membership_id, *_changes(item)) for _, item in working.memberships.updated()],
        )
        await _write(connection, _INSERT_MEMBERSHIPS, [_new_row(item) for _, item in working.memberships.created()])
        deposits = working.deposits.created() + working.deposits.updated()
        await _write(
            connection,
            _SAVE_DEPOSITS,
            [(item.account, item.subject, item.currency, item.balance_minor) for _, item in deposits],
        )
        await _write(
            connection,
            _INSERT_MOVEMENTS,
            [
                (item.account, item.transaction_id, item.credited_minor, item.debited_minor)
                for _, item in working.movements.created()
            ],
        )
        counts = working.claim_counts.created() + working.claim_counts.updated()
        await _write(
            connection,
            _SAVE_CLAIMS,
            [(item.subject, item.opened, item.ended, item.last_end_time) for _, item in counts],
        )
        await _write(connection, _INSERT_STEPS, [_new_step(item) for _, item in working.deposit_steps.created()])
        await _write(
            connection,
            _UPDATE_STEPS,
            [
                (item.membership_id, item.number, *_step_changes(item), item.attempt_in_ms)
                for _, item in working.deposit_steps.updated()
            ],
        )
        await _touch(connection, dict(working.touched.created()))


async def _touch(connection: asyncpg.Connection, touched: Mapping[str, Touched]) -> None:
    """Members among those who were touched are to be looked at."""
    if not touched:
        return
    members = {row["subject"] for row in await connection.fetch(_MEMBERS, list(touched))}
    if members:
        await connection.execute(
            _TOUCH,
            list(members),
            [touched[subject].traceparent for subject in members],
            [touched[subject].urgent for subject in members],
            PARTITION,
        )


def membership_of(row: Any) -> Membership:
    """The membership in a row."""
    return Membership(
        membership_id=UUID(int=row["membership_id"].int),
        subject=row["subject"],
        partner=row["partner"],
        state=State(row["state"]),
        currencies=tuple(row["currencies"]),
        required_minor=tuple(row["required_minor"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        causes=tuple(Cause(CauseCode(item["code"]), item["text"]) for item in _json(row["causes"])),
        notice_end_time=row["notice_end_time"],
        join_time=row["join_time"],
        leave_time=row["leave_time"],
        last_step=row["last_step"],
        pending_step=row["pending_step"],
        step_refusal=row["step_refusal"],
        look_time=row["look_time"],
        look_cause=row["look_cause"],
        revision=row["revision"],
    )


def step_of(row: Any) -> DepositStep:
    """The step in a row."""
    request = _json(row["request"])
    return DepositStep(
        membership_id=UUID(int=row["membership_id"].int),
        number=row["number"],
        kind=StepKind(row["kind"]),
        subject=row["subject"],
        currency=row["currency"],
        amount_minor=row["amount_minor"],
        counter_kind=row["counter_kind"],
        create_time=row["create_time"],
        state=StepState(row["state"]),
        generation=row["generation"],
        claim=row["claim"],
        refusals=row["refusals"],
        refusal=row["refusal"],
        transaction=row["transaction"],
        request=None if request is None else RequestKey(*request),
        traceparent=row["traceparent"],
        settle_time=row["settle_time"],
        for_partner=row["for_partner"],
        for_subject=row["for_subject"],
    )


def _postings(chunks: Sequence[ApplyEvents]) -> tuple[set[UUID], set[UUID]]:
    """The accounts and the transactions that the chunks tell of."""
    postings = [item.what for chunk in chunks for item in chunk.heard if not isinstance(item.what, ClaimTurn)]
    accounts = {account for posting in postings for account in posting.accounts()}
    return accounts, {posting.transaction_id for posting in postings}


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _new_row(item: Membership) -> tuple[Any, ...]:
    fixed = (item.membership_id, item.subject, item.partner, _array(item.currencies), item.create_time)
    return (*fixed, *_changes(item))


def _changes(item: Membership) -> tuple[Any, ...]:
    return (
        item.state.value,
        _array(item.required_minor),
        json.dumps([{"code": cause.code.value, "text": cause.text} for cause in item.causes]),
        item.notice_end_time,
        item.join_time,
        item.leave_time,
        item.last_step,
        item.pending_step,
        item.step_refusal,
        item.look_time,
        item.look_cause,
        item.update_time,
        item.revision,
    )


def _new_step(item: DepositStep) -> tuple[Any, ...]:
    request = item.request
    return (
        item.membership_id,
        item.number,
        item.kind.value,
        item.subject,
        item.currency,
        item.counter_kind,
        None if request is None else json.dumps([request.caller, request.method, request.request_id]),
        item.traceparent,
        item.create_time,
        item.for_partner,
        item.for_subject,
        *_step_changes(item),
        item.attempt_in_ms,
    )


def _step_changes(item: DepositStep) -> tuple[Any, ...]:
    return (
        item.state.value,
        item.generation,
        item.claim,
        item.amount_minor,
        item.refusals,
        item.refusal,
        item.transaction,
        item.settle_time,
    )


def _array(values: Sequence[object]) -> str:
    """As PostgreSQL writes an array of codes or numbers."""
    return "{" + ",".join(map(str, values)) + "}"


async def _write(connection: asyncpg.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        await connection.execute(statement, *[list(column) for column in zip(*rows, strict=True)])
