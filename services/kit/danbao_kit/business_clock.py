"""How a service runs on a clock that only tests and replays move; its time lives in its own database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import grpc
from sqlalchemy import text

from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_kit import action_writer
from danbao_kit.acting import Acting
from danbao_kit.call import current_call
from danbao_kit.clock import Clock, RealClock, SettableClock
from danbao_kit.database import Database
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.tables import PARTITION
from danbao_kit.timestamps import moment_of

# Where business time begins in a new database on the test clock.
FIRST_TIME = datetime(2016, 1, 1, tzinfo=UTC)
# Another replica may have been told the time; this is how late it is learned at the most.
_LOOK_AGAIN_S = 0.5

_READ = text("SELECT test_time, event_sequence FROM stream_heads WHERE partition = :partition")
_BEGIN = text("UPDATE stream_heads SET test_time = :now WHERE partition = :partition AND test_time IS NULL")
_LOCK = "UPDATE stream_heads SET event_sequence = event_sequence WHERE partition = $1 RETURNING test_time"
_ADVANCE = "UPDATE stream_heads SET test_time = $1 WHERE partition = $2"


class ClockMixed(Exception):
    """A database of one kind of time was opened with the other."""


async def open_clock(kind: str, database: Database) -> Clock:
    """The service's business clock. Raises ClockMixed when the database lives on the other kind of time."""
    async with database.read() as connection:
        row = (await connection.execute(_READ, {"partition": PARTITION})).one()
        if kind == "real":
            if row.test_time is not None:
                raise ClockMixed("this database lives on the test clock; start the service with CLOCK=test")
            return RealClock()
        if row.test_time is None:
            if row.event_sequence > 0:
                raise ClockMixed("this database lives on real time; start the service with CLOCK=real")
            await connection.execute(_BEGIN, {"now": FIRST_TIME, "partition": PARTITION})
            return SettableClock(FIRST_TIME)
        return SettableClock(row.test_time)


async def follow_clock(clock: SettableClock, database: Database) -> None:
    """Learns what other replicas were told; runs until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_AGAIN_S)
        async with database.read() as connection:
            row = (await connection.execute(_READ, {"partition": PARTITION})).one()
        clock.move_to(row.test_time)


class ClockServicer(clock_pb2_grpc.ClockServiceServicer):
    """Moves the test clock. `on_advanced` runs what falls due before the call is answered."""

    def __init__(
        self, clock: SettableClock, database: Database, on_advanced: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._clock = clock
        self._database = database
        self._on_advanced = on_advanced

    async def GetClock(self, request: clock_pb2.GetClockRequest, context: grpc.aio.ServicerContext) -> clock_pb2.Clock:
        return self._answer()

    async def AdvanceClock(
        self, request: clock_pb2.AdvanceClockRequest, context: grpc.aio.ServicerContext
    ) -> clock_pb2.Clock:
        if not request.HasField("to"):
            raise FieldInvalid(FieldViolation("to", "value is required"))
        to = moment_of(request.to, "to")
        self._clock.move_to(await self._advance(to))
        if self._on_advanced is not None:
            await self._on_advanced()
        return self._answer()

    async def _advance(self, to: datetime) -> datetime:
        """The time that holds afterwards. Who moved it is told in the same transaction; who moved nothing is not."""
        call = current_call()
        async with self._database.write() as connection:
            before: datetime = await connection.fetchval(_LOCK, PARTITION)
            if to <= before:
                return before
            await connection.execute(_ADVANCE, to, PARTITION)
            if call.is_privileged:
                await action_writer.append_one(connection, Acting(call), now=to)
        return to

    def _answer(self) -> clock_pb2.Clock:
        answer = clock_pb2.Clock()
        answer.now.FromDatetime(self._clock.now())
        return answer
