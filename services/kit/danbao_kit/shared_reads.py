"""Reads that share a statement: who asks while one is under way is read together with all others by the next.

A read costs its round trip and its plan whatever it is asked for, so under load it pays to share them; whoever is alone
is read at once. Each sees the store as it is after it has asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from danbao_kit.telemetry import now_ns, past_span

# Names in one read; who comes later begins another.
_MOST = 500
# One that takes longer may hang, with a connection that is no more; the others do not wait for it.
_PATIENCE_S = 0.05

_Answer = TypeVar("_Answer")


class _Round(Generic[_Answer]):
    """Those who are read together."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.task: asyncio.Task[_Answer] | None = None
        # The first to ask: in its trace the statement stands.
        self.leader: SpanContext | None = None


class SharedReads(Generic[_Answer]):
    """One kind of read, mostly one at a time."""

    def __init__(self, name: str, read: Callable[[Collection[str]], Awaitable[_Answer]]) -> None:
        """`read` answers for all names at once; `name` is that of the span by which the others see that they shared."""
        self._name = name
        self._read = read
        # The round that is still open, and the last that was begun.
        self._open: _Round[_Answer] | None = None
        self._last: asyncio.Task[_Answer] | None = None

    async def ask(self, names: Collection[str]) -> _Answer:
        """What `read` answers for these names, and maybe for others. Raises what it raises."""
        if len(names) > _MOST:
            # It would hold up all the others, and has little to save.
            return await self._read(names)
        asked_ns, span = now_ns(), trace.get_current_span().get_span_context()
        shared = self._open
        if shared is None or len(shared.names) + len(names) > _MOST:
            shared = self._open = _Round()
            shared.leader = span
            # Who is cancelled leaves the others undisturbed: the task is nobody's own.
            shared.task = self._last = asyncio.create_task(self._run(shared, self._last), name=self._name)
            shared.task.add_done_callback(_looked_at)
        shared.names.update(names)
        assert shared.task is not None, "a round begins with its task"
        answer = await asyncio.shield(shared.task)
        if shared.leader is not span and span.trace_flags.sampled:
            past_span(self._name, parent=span, start_ns=asked_ns, end_ns=now_ns(), linked=shared.leader)
        return answer

    async def _run(self, shared: _Round[_Answer], before: asyncio.Task[_Answer] | None) -> _Answer:
        if before is not None and not before.done():
            await asyncio.wait([before], timeout=_PATIENCE_S)
        if self._open is shared:
            self._open = None
        return await self._read(shared.names)


def _looked_at(task: asyncio.Task[_Answer]) -> None:
    """If everybody who asked has gone, nobody is left to be told of an error, and nobody has to be."""
    if not task.cancelled():
        task.exception()
