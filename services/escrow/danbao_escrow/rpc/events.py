"""EventService: what happened in escrow, for peer services and operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from danbao.escrow.v1 import event_pb2, event_pb2_grpc
from danbao.type.v1 import cursor_pb2
from danbao_escrow.domain.events import EventKind
from danbao_kit.call import current_call
from danbao_kit.errors import FieldInvalid, FieldViolation, PeerNotAllowed
from danbao_kit.event_stream import EventStream
from danbao_kit.wire import append_all

_KINDS = frozenset(EventKind)


class EventServicer(event_pb2_grpc.EventServiceServicer):
    """Replays and follows the outbox."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Any
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        _check_caller()
        unknown = [
            FieldViolation(f"kinds[{index}]", "not a kind of event")
            for index, kind in enumerate(request.kinds)
            if kind not in _KINDS
        ]
        if unknown:
            raise FieldInvalid(*unknown)
        async for chunk in self._stream.watch(request.cursor.sequence, frozenset(request.kinds)):
            response = event_pb2.WatchEventsResponse(cursor=cursor_pb2.Cursor(sequence=chunk.sequence))
            append_all(response, "events", chunk.payloads)
            yield response

    async def GetStreamHead(self, request: event_pb2.GetStreamHeadRequest, context: Any) -> event_pb2.StreamHead:
        _check_caller()
        return event_pb2.StreamHead(cursor=cursor_pb2.Cursor(sequence=await self._stream.head()))


def _check_caller() -> None:
    """A gapless sequence would tell partners each other's volume."""
    call = current_call()
    if not call.is_internal and "operator" not in call.roles:
        raise PeerNotAllowed(call.peer, call.method)
