"""Reads payments' events: what moved in trades' accounts, and what becomes of payments over rails."""

from __future__ import annotations

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
from danbao_kit.errors import Internal
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


def payments_reader(
    events: PaymentEvents, *, cursor: Callable[[], Awaitable[int]], group_commit: GroupCommit
) -> EventReader:
    """Every replica reads; of two that apply the same chunk, the cursor's row lets one."""

    async def apply(message: event_pb2.WatchEventsResponse, after: int) -> None:
        await _Chunk(events, group_commit, after).apply(message)

    return EventReader(PAYMENTS, cursor=cursor, open=events.open, apply=apply)


class _Chunk:
    """What changes a trade is a command of its own, in its request's trace; the rest goes together."""

    def __init__(self, events: PaymentEvents, group_commit: GroupCommit, after: int) -> None:
        self._events = events
        self._group_commit = group_commit
        self._after = after
        self._movements: list[PaymentMovement] = []

    async def apply(self, message: event_pb2.WatchEventsResponse) -> None:
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
        await self._flush(message.cursor.sequence)

    async def _apply_alone(self, event: event_pb2.Event, facts: Facts) -> None:
        await self._flush(event.sequence - 1)
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
        self._after = event.sequence

    async def _park(self, event: event_pb2.Event, reason: str) -> None:
        await self._flush(event.sequence - 1)
        log.warning("event_parked", source=PAYMENTS, sequence=event.sequence, reason=reason)
        parked = ParkedEvent(event.sequence, reason[:500], event.SerializeToString())
        await self._submit(event.sequence, parked=(parked,))

    async def _flush(self, through: int) -> None:
        if through > self._after:
            movements, self._movements = tuple(self._movements), []
            await self._submit(through, movements=movements)

    async def _submit(
        self, through: int, *, movements: tuple[PaymentMovement, ...] = (), parked: tuple[ParkedEvent, ...] = ()
    ) -> None:
        command = ApplyPaymentEvents(self._after, through, movements=movements, parked=parked)
        outcome = await self._group_commit.submit(Submission(command))
        if outcome.error is not None:
            raise outcome.error
        self._after = through
