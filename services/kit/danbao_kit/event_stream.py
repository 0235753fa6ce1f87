"""How others read what happened here: the outbox, replayed from a cursor and then followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from sqlalchemy import text

from danbao_kit.database import Database
from danbao_kit.errors import CursorAhead, CursorTooOld
from danbao_kit.tables import PARTITION

_CHUNK = 500
# Another replica's commits wake nobody here; this is how late they are seen at the most.
_LOOK_AGAIN_S = 0.1
_IDLE_ANSWER_S = 15.0
# Under load commits follow one another by the millisecond: one look, one message and one transaction of the reader
# serve all that come within this time. The first after a pause is told at once.
_GATHER_S = 0.02

_HEAD = text("SELECT event_sequence FROM stream_heads WHERE partition = :partition")
_OLDEST = text("SELECT sequence FROM events ORDER BY sequence LIMIT 1")
_NEXT = text("SELECT sequence, kind, payload FROM events WHERE sequence > :after ORDER BY sequence LIMIT :chunk")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events in order, as their messages' bytes, and the sequence up to which everything was looked at."""

    payloads: list[bytes]
    sequence: int


class EventStream:
    """One partition's events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written = asyncio.Event()
        self._closing = False

    def wake(self) -> None:
        """This process has committed events."""
        self._written.set()
        self._written = asyncio.Event()

    def close(self) -> None:
        """Ends every watch, so that the server can drain."""
        self._closing = True
        self.wake()

    async def head(self) -> int:
        """The sequence of the last event."""
        async with self._database.read() as connection:
            return int((await connection.execute(_HEAD, {"partition": PARTITION})).scalar_one())

    async def watch(self, sequence: int, kinds: Collection[str] = (), *, naming: str = "") -> AsyncIterator[Chunk]:
        """Everything after `sequence`, then whatever follows, until the caller stops or the service closes.

        `naming`: only events in whose message such a text stands, wherever; looked for in its bytes, so that most of
        what does not concern a reader is neither sent nor read.
        Sequences are given under the lock of the head, so `sequence > cursor` misses nothing.
        Raises CursorTooOld and CursorAhead.
        """
        await self._check(sequence)
        reached = sequence
        told = sequence
        needle = naming.encode()
        clock = asyncio.get_running_loop().time
        idle_since = clock()
        while not self._closing:
            written = self._written
            looked = clock()
            async with self._database.read() as connection:
                rows = (await connection.execute(_NEXT, {"after": reached, "chunk": _CHUNK})).all()
            if rows:
                reached = rows[-1].sequence
                payloads = [
                    bytes(row.payload) for row in rows if (not kinds or row.kind in kinds) and needle in row.payload
                ]
                if payloads:
                    yield Chunk(payloads, reached)
                    told = reached
                    idle_since = clock()
            if len(rows) == _CHUNK:
                continue
            if told < reached and clock() - idle_since > _IDLE_ANSWER_S:
                yield Chunk([], reached)
                told = reached
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await written.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(looked + _GATHER_S - clock())

    async def _check(self, sequence: int) -> None:
        head = await self.head()
        if sequence > head:
            raise CursorAhead(head)
        async with self._database.read() as connection:
            oldest = (await connection.execute(_OLDEST)).scalar_one_or_none()
        if sequence < head and (oldest is None or oldest > sequence + 1):
            raise CursorTooOld(head + 1 if oldest is None else oldest)
