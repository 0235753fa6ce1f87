"""Serves EventService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from danbao.credit.v1 import event_pb2, event_pb2_grpc
from danbao.type.v1 import cursor_pb2
from danbao_kit.event_stream import EventStream
from danbao_kit.tables import PARTITION
from danbao_kit.wire import append_all

Context: TypeAlias = grpc.aio.ServicerContext


class EventServicer(event_pb2_grpc.EventServiceServicer):
    def __init__(self, events: EventStream) -> None:
        self._events = events

    async def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        async for chunk in self._events.watch(request.cursor.sequence, frozenset(request.kinds)):
            cursor = cursor_pb2.Cursor(partition=PARTITION, sequence=chunk.sequence)
            response = event_pb2.WatchEventsResponse(cursor=cursor)
            append_all(response, "events", chunk.payloads)
            yield response

    async def GetStreamHead(self, request: event_pb2.GetStreamHeadRequest, context: Context) -> event_pb2.StreamHead:
        head = await self._events.head()
        return event_pb2.StreamHead(cursor=cursor_pb2.Cursor(partition=PARTITION, sequence=head))
