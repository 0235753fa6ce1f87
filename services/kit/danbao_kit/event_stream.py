"""How others read what happened here: the outbox, replayed from a cursor and then followed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from danbao_kit.database import Database
from danbao_kit.errors import CursorAhead, CursorTooOld
from danbao_kit.submission import WrittenEvent
from danbao_kit.tables import PARTITION

_CHUNK = 500
# Another replica's commits wake nobody here; this is how late they are seen at the most.
_LOOK_AGAIN_S = 0.1
_IDLE_ANSWER_S = 15.0
# Commits may follow one another by the millisecond: one look, one message and one transaction of the reader serve all
# that come within this time. The first after a pause is told at once.
_GATHER_S = 0.02
# Where a look finds so many, it pays to wait for longer: what a reader does costs most of it whatever a message holds.
_MANY = 4
_GATHER_MANY_S = 0.1
# How many of the last events this process remembers; at several thousand a second, a second or two.
_REMEMBERED = 5_000

_HEAD = text("SELECT event_sequence FROM stream_heads WHERE partition = :partition")
_OLDEST = text("SELECT sequence FROM events ORDER BY sequence LIMIT 1")
_NEXT = text("SELECT sequence, kind, payload FROM events WHERE sequence > :after ORDER BY sequence LIMIT :chunk")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events in order, as their messages' bytes, and the sequence up to which everything was looked at."""

    payloads: list[bytes]
    sequence: int


# A sequence, a kind, and a message's bytes.
_Told = tuple[int, str, bytes]


class _LastWritten:
    """The last events that this process wrote, without a gap: whoever follows closely needs not ask the store."""

    def __init__(self) -> None:
        self._events: list[_Told] = []
        self._first = 0

    def add(self, events: Sequence[WrittenEvent]) -> None:
        """What a batch wrote."""
        first = events[0][0]
        if first != self._first + len(self._events):
            # Another replica wrote in between.
            self._events, self._first = [], first
        self._events += [(sequence, kind, payload) for sequence, kind, _, payload in events]
        if len(self._events) > 2 * _REMEMBERED:
            del self._events[:-_REMEMBERED]
            self._first = self._events[0][0]

    def after(self, sequence: int) -> list[_Told]:
        """Some that follow on the sequence; none where the store has to be asked."""
        at = sequence + 1 - self._first
        return self._events[at : at + _CHUNK] if at >= 0 else []

    def has_few_after(self, sequence: int) -> bool:
        """Whether it is known that less than a chunk follows on the sequence."""
        return 0 <= len(self._events) - (sequence + 1 - self._first) < _CHUNK and sequence + 1 >= self._first


class EventStream:
    """One partition's events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_written = _LastWritten()
        self._written = asyncio.Event()
        self._closing = False

    def written(self, events: Sequence[WrittenEvent]) -> None:
        """This process has committed these, each with its sequence, kind, time and message's bytes."""
        if events:
            self._last_written.add(events)
            self.wake()

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
        # When something was last found, and how much.
        found_at, found = -math.inf, 0
        follows = False
        while not self._closing:
            written = self._written
            looked = clock()
            rows = self._last_written.after(reached) or await self._read(reached, follows=follows)
            follows = len(rows) < _CHUNK
            if rows:
                reached = rows[-1][0]
                found_at, found = looked, len(rows)
                payloads = [payload for _, kind, payload in rows if (not kinds or kind in kinds) and needle in payload]
                if payloads:
                    yield Chunk(payloads, reached)
                    told = reached
                    idle_since = clock()
            # What is left over from a chunk goes with what comes next, or a busy stream would have twice the messages.
            if len(rows) == _CHUNK and not self._last_written.has_few_after(reached):
                continue
            if told < reached and clock() - idle_since > _IDLE_ANSWER_S:
                yield Chunk([], reached)
                told = reached
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await written.wait()
            except TimeoutError:
                continue
            gather_s = _GATHER_MANY_S if found >= _MANY else _GATHER_S
            await asyncio.sleep(found_at + gather_s - clock())

    async def _read(self, sequence: int, *, follows: bool) -> list[_Told]:
        """`follows`: there will be few. Who replays has whole chunks, which would keep others from their looks."""
        if follows:
            rows = await self._database.look(_NEXT, after=sequence, chunk=_CHUNK)
            return [(row["sequence"], row["kind"], row["payload"]) for row in rows]
        async with self._database.read() as connection:
            found = (await connection.execute(_NEXT, {"after": sequence, "chunk": _CHUNK})).all()
        return [(row.sequence, row.kind, bytes(row.payload)) for row in found]

    async def _check(self, sequence: int) -> None:
        head = await self.head()
        if sequence > head:
            raise CursorAhead(head)
        async with self._database.read() as connection:
            oldest = (await connection.execute(_OLDEST)).scalar_one_or_none()
        if sequence < head and (oldest is None or oldest > sequence + 1):
            raise CursorTooOld(head + 1 if oldest is None else oldest)
