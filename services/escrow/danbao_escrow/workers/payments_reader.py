"""Reads payments' events: what moved in trades' accounts, and what becomes of payments over rails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from danbao.payments.v1 import event_pb2
from danbao_escrow.domain.payment_events import (
    PAYMENTS,
    ApplyPaymentEvents,
    EventMalformed,
    Facts,
    ParkedEvent,
    PaymentMovement,
)
from danbao_kit.errors import DanbaoError, Internal
from danbao_kit.event_reader import EventReader
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log
from danbao_kit.telemetry import parse_traceparent


class PaymentEvents(Protocol):
    """The stream of payments, and who understands it."""

    def open(self, after: int) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        """Everything after a sequence, then what follows."""
        ...

    async def read(self, event: event_pb2.Event) -> Facts:
        """Raises EventMalformed, and RemoteError where payments has to be asked and cannot answer."""
        ...


# Most of payments' events are none of escrow's; the cursor alone is written this often, not with each of their chunks.
CURSOR_ALONE_S = 1.0


def payments_reader(
    events: PaymentEvents, *, cursor: Callable[[], Awaitable[int]], group_commit: GroupCommit
) -> EventReader:
    """Every replica reads; of two that apply the same chunk, the cursor's row lets one."""
    return PaymentsReader(Follower(events, group_commit), cursor=cursor, open=events.open)


class PaymentsReader(EventReader):
    """Reads until cancelled; then nothing is written any more."""

    def __init__(
        self,
        follower: Follower,
        *,
        cursor: Callable[[], Awaitable[int]],
        open: Callable[[int], AsyncIterator[event_pb2.WatchEventsResponse]],
    ) -> None:
        super().__init__(PAYMENTS, cursor=cursor, open=open, apply=follower.apply)
        self._follower = follower

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._follower.stop()


class Follower:
    """What changes a trade is a command of its own, in its request's trace; the rest goes together.

    What was read and concerns nobody is read again after a crash: the stored cursor may be behind, never ahead.
    """

    def __init__(
        self, events: PaymentEvents, group_commit: GroupCommit, *, cursor_alone_s: float = CURSOR_ALONE_S
    ) -> None:
        self._events = events
        self._group_commit = group_commit
        self._cursor_alone_s = cursor_alone_s
        # How far the store knows that events were read, as far as we know; None: as the next chunk says.
        self._after: int | None = None
        self._reached = 0
        self._written_at = -cursor_alone_s
        self._movements: list[PaymentMovement] = []
        self._one = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None

    async def apply(self, message: event_pb2.WatchEventsResponse, after: int) -> None:
        """A chunk that follows on `after`. Raises what keeps it from being applied; then the reader begins anew."""
        async with self._one:
            if self._after is None or after < self._after:
                self._after, self._movements = after, []
            try:
                await self._apply(message)
            except BaseException:
                self._after = None
                raise

    def stop(self) -> None:
        """The cursor stays where it was written last."""
        if self._later is not None:
            self._later.cancel()

    async def _apply(self, message: event_pb2.WatchEventsResponse) -> None:
        for event in message.events:
            try:
                facts = await self._events.read(event)
            except EventMalformed as error:
                await self._park(event, str(error))
                continue
            if facts.effects:
                await self._apply_alone(event, facts)
            else:
                self._movements += facts.movements
        self._reached = message.cursor.sequence
        if self._movements or time.monotonic() - self._written_at >= self._cursor_alone_s:
            await self._flush(self._reached)
        elif self._later is None or self._later.done():
            self._later = asyncio.create_task(self._write_cursor_later(), name="cursor of payments' events")

    async def _write_cursor_later(self) -> None:
        await asyncio.sleep(self._cursor_alone_s)
        async with self._one:
            if self._after is None:
                return
            try:
                await self._flush(self._reached)
            except DanbaoError as error:
                # Written with the next chunk, or read again.
                log.warning("cursor_not_written", source=PAYMENTS, reason=error.reason)

    async def _apply_alone(self, event: event_pb2.Event, facts: Facts) -> None:
        await self._flush(event.sequence - 1)
        assert self._after is not None
        command = ApplyPaymentEvents(
            self._after, event.sequence, movements=tuple(facts.movements), effects=tuple(facts.effects)
        )
        span = parse_traceparent(event.traceparent)
        outcome = await self._group_commit.submit(Submission(command, traceparent=event.traceparent, span=span))
        if isinstance(outcome.error, Internal):
            # Whatever is wrong with one event, those after it are not kept waiting.
            await self._park(event, "could not be applied; the log has the trace")
            return
        if outcome.error is not None:
            raise outcome.error
        self._after, self._written_at = event.sequence, time.monotonic()

    async def _park(self, event: event_pb2.Event, reason: str) -> None:
        await self._flush(event.sequence - 1)
        log.warning("event_parked", source=PAYMENTS, sequence=event.sequence, reason=reason)
        parked = ParkedEvent(event.sequence, reason[:500], event.SerializeToString())
        await self._submit(event.sequence, parked=(parked,))

    async def _flush(self, through: int) -> None:
        if self._after is not None and through > self._after:
            movements, self._movements = tuple(self._movements), []
            await self._submit(through, movements=movements)

    async def _submit(
        self, through: int, *, movements: tuple[PaymentMovement, ...] = (), parked: tuple[ParkedEvent, ...] = ()
    ) -> None:
        assert self._after is not None
        command = ApplyPaymentEvents(self._after, through, movements=movements, parked=parked)
        outcome = await self._group_commit.submit(Submission(command))
        if outcome.error is not None:
            raise outcome.error
        self._after, self._written_at = through, time.monotonic()
