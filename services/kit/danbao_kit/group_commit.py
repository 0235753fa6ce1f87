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
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
from opentelemetry import trace
from opentelemetry.trace import SpanContext, StatusCode

from danbao_kit.background import keep_running
from danbao_kit.batch_transaction import BatchTransaction, Item
from danbao_kit.clock import Clock
from danbao_kit.database import Database
from danbao_kit.decision import Moment, RequestKey
from danbao_kit.errors import (
    ActionLogHeadless,
    DeadlineExceeded,
    Internal,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from danbao_kit.ids import Ids
from danbao_kit.late_answers import LateAnswers
from danbao_kit.log import log
from danbao_kit.submission import Codec, Outcome, Store, Submission, WrittenEvent
from danbao_kit.telemetry import now_ns, parent_context, past_span, tracer, within

__all__ = ["Codec", "GroupCommit", "Outcome", "Store", "Submission"]

# How long a batch is sent again after a lost connection before its callers are told that the outcome is unknown.
_GIVE_UP_S = 4.0

# When a batch waits for more: not for a few, no longer when there are enough, never after a pause.
_FEW, _ENOUGH = 8, 64
_IDLE_S = 0.05
_TICK_S = 0.001

# The server is going away or has gone, gave up on a lock, or chose our transaction to break a deadlock.
_TRY_AGAIN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # A connection that was ended while a statement was being sent; such as COMMIT, whose outcome is then not known.
    asyncpg.InternalClientError,
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
        linger_ms: float = 10.0,
        on_commit: Callable[[Any], None] = lambda working_set: None,
        on_events: Callable[[Sequence[WrittenEvent]], None] = lambda events: None,
    ) -> None:
        self._database = database
        self._transaction = BatchTransaction(store, decide, codec, clock, ids)
        self._late = LateAnswers(database, codec)
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._linger_s = linger_ms / 1000
        self._on_commit = on_commit
        self._on_events = on_events
        self._queue: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._last_size = 0
        self._expected = 0
        self._committed_at = 0.0

    def start(self) -> None:
        """Begins to work on submissions."""
        self._task = asyncio.create_task(self._run(), name="group commit")
        self._poller = asyncio.create_task(keep_running("deferred answers", self._late.look), name="deferred answers")

    async def stop(self) -> None:
        """Finishes what was submitted, then stops."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._poller.cancel()
        self._late.give_up()
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
            self._queue.append(Item(submission, future, now_ns()))
            self._wake.set()
        return future

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
            await self._linger()
            batch = self._drain()
            self._last_size = len(batch)
            if batch:
                await self._commit(batch)
                # Who was answered or is waiting now will mostly be there again for the next batch.
                self._expected = len(batch) + len(self._queue)
                self._committed_at = time.monotonic()

    async def _linger(self) -> None:
        """Waits until most of those are here who are about to come, as long as they keep coming.

        A batch costs its round trips whatever its size, so it pays to share them; whoever is alone never waits.
        """
        wanted = min(_ENOUGH, self._expected * 9 // 10)
        now = time.monotonic()
        if wanted < _FEW or now - self._committed_at > _IDLE_S:
            return
        until = now + self._linger_s
        missed = 0
        while len(self._queue) < wanted and missed < 2 and time.monotonic() < until and not self._stopping:
            before = len(self._queue)
            await asyncio.sleep(_TICK_S)
            missed = missed + 1 if len(self._queue) == before else 0

    def _drain(self) -> list[Item]:
        batch: list[Item] = []
        later: list[Item] = []
        keys: set[RequestKey] = set()
        now = time.monotonic()
        while self._queue and len(batch) < self._max_batch:
            item = self._queue.popleft()
            submission = item.submission
            if item.future.done():
                continue  # its caller has gone, and it was not begun
            if submission.deadline is not None and submission.deadline <= now:
                item.settle(Outcome(error=DeadlineExceeded()))
                continue
            if submission.request is not None:
                if submission.request in keys:
                    later.append(item)  # the next batch finds the answer of its twin
                    continue
                keys.add(submission.request)
            batch.append(item)
        self._queue.extendleft(reversed(later))
        return batch

    async def _commit(self, batch: list[Item]) -> None:
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
        with within(commit_span):
            while True:
                try:
                    await self._attempt(batch)
                    break
                except _TRY_AGAIN as error:
                    self._drop_connection()
                    if time.monotonic() - started + delay > _GIVE_UP_S or self._stopping:
                        log.error("batch_outcome_unknown", commands=len(batch), error=type(error).__name__)
                        for item in batch:
                            item.settle(Outcome(error=OutcomeUnknown()))
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
                        commit_span.set_status(StatusCode.ERROR, type(error).__name__)
                        told = error if isinstance(error, ActionLogHeadless) else Internal()
                        batch[0].settle(Outcome(error=told))
                    return
        ended_ns = now_ns()
        self._show(batch, leader, commit_span.get_span_context() if sampled else None, started_ns, ended_ns)

    def _show(
        self, batch: list[Item], leader: SpanContext | None, shared: SpanContext | None, started_ns: int, ended_ns: int
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

    async def _attempt(self, batch: list[Item]) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await self._database.connect_writer()
        try:
            answers, again = await self._transaction.run(connection, batch)
        except BaseException:
            # Waiting here would leave the head locked if we were cancelled; closing ends the transaction.
            self._drop_connection()
            raise
        for item, outcome in answers.outcomes:
            item.settle(outcome)
        for item, joined in answers.deferred:
            self._late.wait(item, joined=joined)
        for request, outcome in answers.late:
            self._late.answer(request, outcome)
        self._queue.extendleft(reversed(again))
        if answers.working_set is not None:
            # What the batch wants done outside comes from the very working set that is now durable, and from no other.
            try:
                self._on_events(answers.events)
                self._on_commit(answers.working_set)
            except Exception:  # noqa: BLE001 - the batch is committed and answered, whatever this was
                log.exception("after_commit_failed")
