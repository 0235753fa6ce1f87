"""The event streams of payments and escrow, opened at a sequence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.escrow.v1 import event_pb2_grpc as escrow_event_pb2_grpc
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao.payments.v1 import event_pb2_grpc as payments_event_pb2_grpc
from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.events import Source


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events in order, and the sequence up to which the stream was looked at."""

    events: Sequence[EscrowEvent | PaymentsEvent]
    through_sequence: int
    # As EventReader reads it.
    cursor: Any


class EventStreamClient:
    """One service's stream."""

    def __init__(
        self,
        source: Source,
        channel: grpc.aio.Channel,
        watch: Callable[[int], grpc.aio.UnaryStreamCall[Any, Any]],
        wrap: Callable[[Any], EscrowEvent | PaymentsEvent],
    ) -> None:
        self.source = source
        self._channel = channel
        self._watch = watch
        self._wrap = wrap
        self._call: grpc.aio.UnaryStreamCall[Any, Any] | None = None

    @property
    def connected(self) -> bool:
        """Whether the stream is open over a living connection."""
        call = self._call
        return call is not None and not call.done() and self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def open(self, after_sequence: int) -> AsyncIterator[Chunk]:
        """Everything after a sequence, then what follows. Ends when the service ends it; raises when it breaks."""
        call = self._call = self._watch(after_sequence)
        try:
            async for message in call:
                yield Chunk([self._wrap(event) for event in message.events], message.cursor.sequence, message.cursor)
        finally:
            call.cancel()


def payments_stream(channel: grpc.aio.Channel) -> EventStreamClient:
    """The stream of payments."""
    stub = payments_event_pb2_grpc.EventServiceStub(channel)

    def watch(sequence: int) -> Any:
        request = payments_event_pb2.WatchEventsRequest()
        request.cursor.sequence = sequence
        return stub.WatchEvents(request)

    return EventStreamClient(Source.PAYMENTS, channel, watch, PaymentsEvent)


def escrow_stream(channel: grpc.aio.Channel) -> EventStreamClient:
    """The stream of escrow."""
    stub = escrow_event_pb2_grpc.EventServiceStub(channel)

    def watch(sequence: int) -> Any:
        request = escrow_event_pb2.WatchEventsRequest()
        request.cursor.sequence = sequence
        return stub.WatchEvents(request)

    return EventStreamClient(Source.ESCROW, channel, watch, EscrowEvent)
