"""Serves EventService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from danbao.payments.v1 import event_pb2, event_pb2_grpc
from danbao.type.v1 import cursor_pb2
from danbao_kit.event_stream import EventStream
from danbao_kit.tables import PARTITION

Context: TypeAlias = grpc.aio.ServicerContext


class EventServicer(event_pb2_grpc.EventServiceServicer):
    def __init__(self, events: EventStream) -> None:
        self._events = events

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        async for chunk in self._events.watch(request.cursor.sequence, frozenset(request.kinds), naming=request.naming):
            yield event_pb2.WatchEventsResponse(
                events=[event_pb2.Event.FromString(payload) for payload in chunk.payloads],
                cursor=cursor_pb2.Cursor(partition=PARTITION, sequence=chunk.sequence),
            )

    async def GetStreamHead(self, request: event_pb2.GetStreamHeadRequest, context: Context) -> event_pb2.StreamHead:
        head = await self._events.head()
        return event_pb2.StreamHead(cursor=cursor_pb2.Cursor(partition=PARTITION, sequence=head))
