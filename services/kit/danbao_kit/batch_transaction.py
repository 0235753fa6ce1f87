"""What one batch does in its one transaction: lock the head, find known requests, decide each command, save.

Each statement is a round trip, and each round trip is paid by all who share the batch: the kit's own part takes four,
and two more where somebody acts by a privilege. A COPY takes two: only large batches have any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from danbao_kit import action_writer
from danbao_kit.clock import Clock, SettableClock
from danbao_kit.decision import DEFERRED, Moment, Need
from danbao_kit.errors import DanbaoError, Internal
from danbao_kit.failpoints import failpoint
from danbao_kit.ids import Ids
from danbao_kit.log import log
from danbao_kit.privileged_actions import PrivilegedAction, Words
from danbao_kit.request_records import Answers, RequestRecords
from danbao_kit.submission import Codec, Outcome, Store, Submission
from danbao_kit.tables import PARTITION

_MICROSECOND = timedelta(microseconds=1)
_MAX_DECISIONS = 8

# Two statements in one round trip. The first write is that of the head, and it is the lock; what it has to wait for is
# seen by the statement after it only.
_BEGIN = f"BEGIN; UPDATE stream_heads SET event_sequence = event_sequence WHERE partition = {PARTITION}"
_READ = (
    "SELECT event_sequence, row_number, last_time, test_time, key, fingerprint, state, reply FROM stream_heads"
    " LEFT JOIN request_records ON key = ANY($1::bytea[]) WHERE partition = $2"
)
_SAVE = (
    "WITH recorded AS ("
    "INSERT INTO request_records (key, caller, method, request_id, fingerprint, state, reply, create_time)"
    " SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::smallint[],"
    " $7::bytea[], $8::timestamptz[])), "
    "completed AS ("
    "UPDATE request_records SET state = late.state, reply = late.reply"
    " FROM unnest($9::bytea[], $10::smallint[], $11::bytea[]) AS late (key, state, reply)"
    " WHERE request_records.key = late.key AND request_records.state = 0), "
    "written AS ("
    "INSERT INTO events (sequence, kind, create_time, payload)"
    " SELECT * FROM unnest($12::bigint[], $13::text[], $14::timestamptz[], $15::bytea[])) "
    "UPDATE stream_heads SET event_sequence = $16, row_number = $17, last_time = $18 WHERE partition = $19"
)
_RECORD_COLUMNS = ("key", "caller", "method", "request_id", "fingerprint", "state", "reply", "create_time")
_EVENT_COLUMNS = ("sequence", "kind", "create_time", "payload")
# New rows in one statement save round trips, in COPY half of the work on both sides: it pays from so many.
_MANY = 64


@dataclass(slots=True, eq=False)
class Item:
    """A submission on its way through batches, and who waits for its outcome."""

    submission: Submission
    future: asyncio.Future[Outcome]
    submitted_ns: int
    decisions: int = 0
    needs: Mapping[str, set[Any]] | None = None

    def settle(self, outcome: Outcome) -> None:
        """Tells who waits; whoever has gone meanwhile is not told."""
        if not self.future.done():
            self.future.set_result(outcome)


@dataclass(slots=True)
class _Head:
    event_sequence: int
    row_number: int
    last_time: datetime


class BatchTransaction:
    """Runs batches. Whatever is raised, the caller must end the connection and with it the transaction."""

    def __init__(
        self, store: Store, decide: Callable[[Any, Any, Moment], Any], codec: Codec, clock: Clock, ids: Ids
    ) -> None:
        self._store = store
        self._decide = decide
        self._codec = codec
        self._clock = clock
        self._ids = ids
        self._records = RequestRecords(codec)

    async def run(self, connection: asyncpg.Connection, batch: Sequence[Item]) -> tuple[Answers, list[Item]]:
        """Commits the batch. What its callers are to be told, and the items that must be decided again."""
        answers = Answers()
        again: list[Item] = []
        await connection.execute(_BEGIN)
        head, fresh = await self._read(connection, batch, answers)
        if fresh:
            again = await self._decide_all(connection, fresh, head, answers)
        await failpoint("before_commit")
        await connection.execute("COMMIT")
        await failpoint("after_commit")
        return answers, again

    async def _read(
        self, connection: asyncpg.Connection, batch: Sequence[Item], answers: Answers
    ) -> tuple[_Head, list[Item]]:
        """The head, and the items whose requests were not seen before; the others are answered."""
        keyed = {item.submission.record_key: item.submission for item in batch if item.submission.request is not None}
        rows = await connection.fetch(_READ, list(keyed), PARTITION)
        assert rows, "the stream head is made by the first migration"
        head = rows[0]
        if isinstance(self._clock, SettableClock) and head["test_time"] is not None:
            self._clock.move_to(head["test_time"])
        known = self._records.known([row for row in rows if row["key"] is not None], keyed)
        fresh: list[Item] = []
        for item in batch:
            request = item.submission.request
            found = known.get(request) if request is not None else None
            if found is None:
                fresh.append(item)
            elif found.outcome is not None:
                answers.outcomes.append((item, found.outcome))
            else:
                answers.deferred.append((item, True))
        return _Head(head["event_sequence"], head["row_number"], head["last_time"]), fresh

    async def _decide_all(
        self, connection: asyncpg.Connection, items: list[Item], head: _Head, answers: Answers
    ) -> list[Item]:
        needs: dict[str, set[Any]] = {}
        for item in items:
            for table, keys in (item.needs or {}).items():
                needs.setdefault(table, set()).update(keys)
        now = max(self._clock.now(), head.last_time + _MICROSECOND)
        working_set = await self._store.load(connection, [item.submission.command for item in items], needs, now)
        again: list[Item] = []
        events = answers.events
        for item in items:
            submission = item.submission
            # One look at the clock for all of them, which come one after the other by microseconds.
            now = max(now, head.last_time + _MICROSECOND)
            moment = Moment(
                now=now,
                ids=self._ids,
                last_number=head.row_number,
                request=submission.request,
                traceparent=submission.traceparent,
            )
            try:
                reply = self._decide(submission.command, working_set, moment)
                message = None
                if reply is not DEFERRED and (submission.request is not None or submission.wants_reply):
                    message = self._codec.reply(submission.command, reply)
                encoded = [
                    (sequence, *self._encoded(event, sequence, moment))
                    for sequence, event in enumerate(moment.events, start=head.event_sequence + 1)
                ]
                late = [self._records.late_answer(answer, self._codec) for answer in moment.answers]
            except Need as need:
                working_set.discard()
                if _is_given_up(item, need):
                    answers.outcomes.append((item, Outcome(error=Internal())))
                else:
                    again.append(item)
                continue
            except DanbaoError as error:
                working_set.discard()
                if submission.request is not None and error.is_final:
                    self._records.refused(submission, error, now, answers)
                answers.outcomes.append((item, Outcome(error=error.kept())))
                continue
            except Exception:  # noqa: BLE001 - a bug in one decision is that caller's INTERNAL, nobody else's
                working_set.discard()
                log.exception("decision_failed", command=type(submission.command).__name__)
                answers.outcomes.append((item, Outcome(error=Internal())))
                continue
            working_set.accept()
            head.last_time = now
            head.row_number = moment.last_number
            head.event_sequence += len(encoded)
            events.extend(encoded)
            for request, outcome, record in late:
                answers.late.append((request, outcome))
                answers.late_records.append(record)
            if reply is DEFERRED:
                self._records.started(submission, now, answers)
                answers.deferred.append((item, False))
            elif submission.request is not None:
                assert message is not None
                self._records.answered(submission, message, now, answers)
                answers.outcomes.append((item, Outcome(message=message)))
            else:
                answers.outcomes.append((item, Outcome(message)))
        answers.working_set = working_set
        await self._store.save(connection, working_set)
        privileged = [item.submission for item in items if item.submission.acting is not None]
        if privileged:
            await action_writer.append(connection, self._told(privileged, answers, head))
        await _save(connection, answers, head)
        return again

    def _told(
        self, privileged: Sequence[Submission], answers: Answers, head: _Head
    ) -> list[tuple[PrivilegedAction, Words]]:
        """What the log of privileged actions is told of them."""
        outcomes: dict[int, Outcome | None] = {id(item.submission): outcome for item, outcome in answers.outcomes}
        # Whoever joined a request under way began nothing.
        outcomes |= {id(item.submission): None for item, joined in answers.deferred if not joined}
        fingerprints = {record[0]: record[4] for record in answers.records}
        return action_writer.told(privileged, outcomes, fingerprints, max(self._clock.now(), head.last_time))

    def _encoded(self, event: Any, sequence: int, moment: Moment) -> tuple[str, datetime, bytes]:
        kind, payload = self._codec.event(
            event, sequence=sequence, create_time=moment.now, traceparent=moment.traceparent
        )
        return kind, moment.now, payload


def _is_given_up(item: Item, need: Need) -> bool:
    """Whether the item has asked often enough; else it goes into the next batch with what it needs."""
    item.decisions += 1
    if item.decisions >= _MAX_DECISIONS:
        log.error("command_never_has_what_it_needs", command=type(item.submission.command).__name__)
        return True
    merged = {table: set(keys) for table, keys in (item.needs or {}).items()}
    for table, keys in need.keys.items():
        merged.setdefault(table, set()).update(keys)
    item.needs = merged
    return False


async def _save(connection: asyncpg.Connection, answers: Answers, head: _Head) -> None:
    """Writes records and events, and where the head stands now."""
    recorded, completed = answers.rows()
    events = answers.events
    if len(recorded) + len(events) >= _MANY:
        await connection.copy_records_to_table("request_records", columns=_RECORD_COLUMNS, records=recorded)
        await connection.copy_records_to_table("events", columns=_EVENT_COLUMNS, records=events)
        recorded, events = [], []
    await connection.execute(
        _SAVE,
        *_columns(recorded, 8),
        *_columns(completed, 3),
        *_columns(events, 4),
        head.event_sequence,
        head.row_number,
        head.last_time,
        PARTITION,
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    """Rows as columns, for unnest; as many empty ones without rows."""
    return list(zip(*rows, strict=True)) if rows else [()] * width
