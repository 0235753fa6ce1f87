"""The one write path: concurrent commands become a batch, pure code decides it, one transaction commits it.

What holds, whatever happens in between:
- a command, its effect, its events and its recorded answer are committed together or not at all;
- a refusal, or a bug, of one command never touches its neighbours;
- one batch at a time per partition, over all replicas: the first statement locks the stream head;
- an answer is given only after the commit; a batch whose commit may or may not have happened is sent again, because
  every request id in it was recorded with its effect.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from opentelemetry import trace
from opentelemetry.trace import SpanContext

from danbao_kit.background import keep_running
from danbao_kit.clock import Clock, SettableClock
from danbao_kit.database import Database
from danbao_kit.decision import DEFERRED, Moment, Need, RequestKey
from danbao_kit.errors import DanbaoError, DeadlineExceeded, Internal, OutcomeUnknown, Overloaded, StoreUnavailable
from danbao_kit.failpoints import failpoint
from danbao_kit.ids import Ids
from danbao_kit.log import log
from danbao_kit.request_records import Answers, RequestRecords
from danbao_kit.submission import Codec, Outcome, Store, Submission
from danbao_kit.tables import PARTITION
from danbao_kit.telemetry import now_ns, parent_context, past_span, tracer

__all__ = ["Codec", "GroupCommit", "Outcome", "Store", "Submission"]

_MICROSECOND = timedelta(microseconds=1)
_MAX_DECISIONS = 8
# How long a batch is sent again after a lost connection before its callers are told that the outcome is unknown.
_GIVE_UP_S = 4.0

# The server is going away or has gone, gave up on a lock, or chose our transaction to break a deadlock.
_TRY_AGAIN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    OSError,
    TimeoutError,
)


@dataclass(slots=True, eq=False)
class _Item:
    submission: Submission
    future: asyncio.Future[Outcome]
    submitted_ns: int
    decisions: int = 0
    needs: Mapping[str, set[Any]] | None = None


@dataclass(slots=True)
class _Head:
    event_sequence: int
    row_number: int
    last_time: datetime


class GroupCommit:
    """Collects commands and commits them in batches, one batch at a time."""

    def __init__(
        self,
        database: Database,
        store: Store,
        decide: Callable[[Any, Any, Moment], Any],
        codec: Codec,
        clock: Clock,
        ids: Ids,
        *,
        max_batch: int = 1000,
        max_waiting: int = 20_000,
        linger_ms: float = 2.0,
        on_commit: Callable[[Any], None] = lambda working_set: None,
    ) -> None:
        self._database = database
        self._store = store
        self._decide = decide
        self._codec = codec
        self._clock = clock
        self._ids = ids
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._linger_s = linger_ms / 1000
        self._on_commit = on_commit
        self._queue: deque[_Item] = deque()
        self._wake = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._records = RequestRecords(codec)
        # Who waits for the late answer of a deferred request.
        self._deferred: dict[RequestKey, list[tuple[_Item, bool]]] = {}
        self._last_size = 0

    def start(self) -> None:
        """Begins to work on submissions."""
        self._task = asyncio.create_task(self._run(), name="group commit")
        self._poller = asyncio.create_task(
            keep_running("deferred answers", self._poll_deferred), name="deferred answers"
        )

    async def stop(self) -> None:
        """Finishes what was submitted, then stops."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._poller.cancel()
        for waiting in self._deferred.values():
            for item, _ in waiting:
                _settle(item, Outcome(error=OutcomeUnknown()))
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close(timeout=2)

    async def submit(self, submission: Submission) -> Outcome:
        """Decides and commits one command. A caller that is cancelled meanwhile leaves the commit undisturbed."""
        return await self.begin(submission)

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Decides commands in their order, each on its own, and gives their outcomes in that order."""
        return list(await asyncio.gather(*[self.begin(submission) for submission in submissions]))

    def begin(self, submission: Submission) -> asyncio.Future[Outcome]:
        """Puts one command into the queue. Cancelled before it is drained, it is not begun; later, it goes on."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._stopping:
            future.set_result(Outcome(error=StoreUnavailable()))
        elif len(self._queue) >= self._max_waiting:
            future.set_result(Outcome(error=Overloaded()))
        else:
            self._queue.append(_Item(submission, future, now_ns()))
            self._wake.set()
        return future

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
            # Lingering pays only when others are about to come: the batch before was large and this one is smaller.
            if self._last_size > 8 and len(self._queue) < self._last_size // 2 and not self._stopping:
                await asyncio.sleep(self._linger_s)
            batch = self._drain()
            self._last_size = len(batch)
            if batch:
                await self._commit(batch)

    def _drain(self) -> list[_Item]:
        batch: list[_Item] = []
        later: list[_Item] = []
        keys: set[RequestKey] = set()
        now = time.monotonic()
        while self._queue and len(batch) < self._max_batch:
            item = self._queue.popleft()
            submission = item.submission
            if item.future.done():
                continue  # its caller has gone, and it was not begun
            if submission.deadline is not None and submission.deadline <= now:
                _settle(item, Outcome(error=DeadlineExceeded()))
                continue
            if submission.request is not None:
                if submission.request in keys:
                    later.append(item)  # the next batch finds the answer of its twin
                    continue
                keys.add(submission.request)
            batch.append(item)
        self._queue.extendleft(reversed(later))
        return batch

    async def _commit(self, batch: list[_Item]) -> None:
        started = time.monotonic()
        started_ns = now_ns()
        leader = next((item.submission.span for item in batch if item.submission.span is not None), None)
        sampled = leader is not None and bool(leader.trace_flags & 1)
        commit_span = (
            tracer.start_span(
                "group_commit.commit",
                context=parent_context(leader),
                start_time=started_ns,
                attributes={"danbao.batch.size": len(batch)},
            )
            if sampled
            else trace.INVALID_SPAN
        )
        delay = 0.02
        with trace.use_span(commit_span, end_on_exit=True):
            while True:
                try:
                    await self._attempt(batch)
                    break
                except _TRY_AGAIN as error:
                    self._drop_connection()
                    if time.monotonic() - started + delay > _GIVE_UP_S or self._stopping:
                        log.error("batch_outcome_unknown", commands=len(batch), error=type(error).__name__)
                        for item in batch:
                            _settle(item, Outcome(error=OutcomeUnknown()))
                        break
                    log.warning("batch_sent_again", commands=len(batch), error=type(error).__name__)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 0.5)
                except Exception as error:  # noqa: BLE001 - a bug in load or save must not end the writer
                    self._drop_connection()
                    if len(batch) > 1:
                        # One command of the batch may carry it: alone, it harms nobody else.
                        log.exception("batch_failed_commands_go_one_by_one", commands=len(batch))
                        for item in batch:
                            await self._commit([item])
                    else:
                        log.exception("command_failed", command=type(batch[0].submission.command).__name__)
                        trace.get_current_span().record_exception(error)
                        _settle(batch[0], Outcome(error=Internal()))
                    return
        ended_ns = now_ns()
        self._show(batch, leader, commit_span.get_span_context() if sampled else None, started_ns, ended_ns)

    def _show(
        self, batch: list[_Item], leader: SpanContext | None, shared: SpanContext | None, started_ns: int, ended_ns: int
    ) -> None:
        """Every sampled request sees its own wait and commit; the batch's SQL stands once, in the leader's, linked."""
        for item in batch:
            parent = item.submission.span
            if parent is None or not parent.trace_flags & 1:
                continue
            past_span("group_commit.wait", parent=parent, start_ns=item.submitted_ns, end_ns=started_ns)
            if parent is not leader:
                past_span(
                    "group_commit.commit",
                    parent=parent,
                    start_ns=started_ns,
                    end_ns=ended_ns,
                    attributes={"danbao.batch.size": len(batch)},
                    linked=shared,
                )

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _attempt(self, batch: list[_Item]) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await self._database.connect_writer()
        answers = Answers()
        again: list[_Item] = []
        await connection.execute("BEGIN")
        try:
            head = await self._lock_head(connection)
            fresh = await self._known_requests(connection, batch, answers)
            if fresh:
                again = await self._decide_all(connection, fresh, head, answers)
            await failpoint("before_commit")
            await connection.execute("COMMIT")
            await failpoint("after_commit")
        except BaseException:
            if not connection.is_closed():
                # Waiting here would leave the head locked if we were cancelled; closing ends the transaction.
                self._drop_connection()
            raise
        for item, outcome in answers.outcomes:
            _settle(item, outcome)
        for item, joined in answers.deferred:
            request = item.submission.request
            assert request is not None, "only a request can be deferred"
            self._deferred.setdefault(request, []).append((item, joined))
        for request, outcome in answers.late:
            self._answer_deferred(request, outcome)
        self._queue.extendleft(reversed(again))
        if answers.working_set is not None:
            # What the batch wants done outside comes from the very working set that is now durable, and from no other.
            try:
                self._on_commit(answers.working_set)
            except Exception:  # noqa: BLE001 - the batch is committed and answered, whatever this was
                log.exception("after_commit_failed")

    async def _lock_head(self, connection: asyncpg.Connection) -> _Head:
        row = await connection.fetchrow(
            "UPDATE stream_heads SET event_sequence = event_sequence WHERE partition = $1"
            " RETURNING event_sequence, row_number, last_time, test_time",
            PARTITION,
        )
        assert row is not None, "the stream head is made by the first migration"
        if isinstance(self._clock, SettableClock) and row["test_time"] is not None:
            self._clock.move_to(row["test_time"])
        return _Head(row["event_sequence"], row["row_number"], row["last_time"])

    async def _known_requests(
        self, connection: asyncpg.Connection, batch: list[_Item], answers: Answers
    ) -> list[_Item]:
        keyed = [item for item in batch if item.submission.request is not None]
        if not keyed:
            return batch
        known = await self._records.find(connection, [item.submission for item in keyed])
        fresh: list[_Item] = []
        for item in batch:
            request = item.submission.request
            found = known.get(request) if request is not None else None
            if found is None:
                fresh.append(item)
            elif found.outcome is not None:
                answers.outcomes.append((item, found.outcome))
            else:
                answers.deferred.append((item, True))
        return fresh

    async def _decide_all(
        self, connection: asyncpg.Connection, items: list[_Item], head: _Head, answers: Answers
    ) -> list[_Item]:
        needs: dict[str, set[Any]] = {}
        for item in items:
            for table, keys in (item.needs or {}).items():
                needs.setdefault(table, set()).update(keys)
        now = max(self._clock.now(), head.last_time + _MICROSECOND)
        working_set = await self._store.load(connection, [item.submission.command for item in items], needs, now)
        again: list[_Item] = []
        events: list[tuple[str, bytes, datetime]] = []
        for item in items:
            submission = item.submission
            now = max(self._clock.now(), head.last_time + _MICROSECOND)
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
                if reply is not DEFERRED and submission.request is not None:
                    message = self._codec.reply(submission.command, reply)
                encoded = [
                    self._codec.event(
                        event,
                        sequence=head.event_sequence + position,
                        create_time=now,
                        traceparent=submission.traceparent,
                    )
                    for position, event in enumerate(moment.events, start=1)
                ]
                late = [self._records.late_answer(answer, self._codec) for answer in moment.answers]
            except Need as need:
                working_set.discard()
                item.decisions += 1
                if item.decisions >= _MAX_DECISIONS:
                    log.error("command_never_has_what_it_needs", command=type(submission.command).__name__)
                    answers.outcomes.append((item, Outcome(error=Internal())))
                else:
                    merged = {table: set(keys) for table, keys in (item.needs or {}).items()}
                    for table, keys in need.keys.items():
                        merged.setdefault(table, set()).update(keys)
                    item.needs = merged
                    again.append(item)
                continue
            except DanbaoError as error:
                working_set.discard()
                if submission.request is not None and error.is_final:
                    self._records.refused(submission, error, now, answers)
                answers.outcomes.append((item, Outcome(error=error)))
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
            events.extend((kind, payload, now) for kind, payload in encoded)
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
                answers.outcomes.append((item, Outcome()))
        answers.working_set = working_set
        await self._store.save(connection, working_set)
        await self._records.save(connection, answers)
        first = head.event_sequence - len(events) + 1
        await connection.execute(
            "WITH written AS (INSERT INTO events (sequence, kind, create_time, payload)"
            " SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::bytea[]))"
            " UPDATE stream_heads SET event_sequence = $5, row_number = $6, last_time = $7 WHERE partition = $8",
            list(range(first, head.event_sequence + 1)),
            [kind for kind, _, _ in events],
            [at for _, _, at in events],
            [payload for _, payload, _ in events],
            head.event_sequence,
            head.row_number,
            head.last_time,
            PARTITION,
        )
        return again

    def _answer_deferred(self, request: RequestKey, outcome: Outcome) -> None:
        for item, joined in self._deferred.pop(request, []):
            _settle(item, Outcome(outcome.message, outcome.error, replayed=joined))

    async def _poll_deferred(self) -> None:
        """Another replica, or this one after a restart, may give the late answer: the record tells."""
        while True:
            await asyncio.sleep(0.25)
            for request in [key for key, items in self._deferred.items() if all(i.future.done() for i, _ in items)]:
                del self._deferred[request]
            waiting = [items[0][0].submission for items in self._deferred.values()]
            if not waiting:
                continue
            try:
                async with self._database.read() as reading:
                    raw = await reading.get_raw_connection()
                    connection = raw.driver_connection
                    assert connection is not None
                    known = await self._records.find(connection, waiting)
            except DanbaoError:
                continue
            for known_request, found in known.items():
                if known_request is not None and found.outcome is not None:
                    self._answer_deferred(known_request, found.outcome)


def _settle(item: _Item, outcome: Outcome) -> None:
    if not item.future.done():
        item.future.set_result(outcome)
