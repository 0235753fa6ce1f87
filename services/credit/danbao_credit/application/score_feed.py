"""How changes of scores are followed: what history holds after a place, then whatever is added to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from danbao_credit.application.ports import ChangePosition, RecordedChange, ScoreReader

_CHUNK = 200
# Another replica's commits wake nobody here; this is how late they are seen at the most.
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Changes:
    """Some changes in the order in which they were recorded, and the place of the last of them."""

    changes: Sequence[RecordedChange]
    position: ChangePosition


class ScoreFeed:
    """One partition's changes. One look at the store serves all who wait: they read when there is something new."""

    def __init__(self, reader: ScoreReader) -> None:
        self._reader = reader
        self._recorded = asyncio.Event()
        self._watched = asyncio.Event()
        self._watchers = 0
        self._closing = False

    def wake(self) -> None:
        """This process has committed changes."""
        self._recorded.set()
        self._recorded = asyncio.Event()

    def close(self) -> None:
        """Ends every watch, so that the server can drain."""
        self._closing = True
        self.wake()

    async def look(self) -> None:
        """Looks for changes that other replicas recorded, as long as anybody watches, until cancelled."""
        known: ChangePosition | None = None
        while True:
            if not self._watchers:
                known = None
                self._watched.clear()
                await self._watched.wait()
            newest = await self._reader.newest_change()
            if newest != known:
                known = newest
                self.wake()
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def watch(self, subjects: Sequence[str], position: ChangePosition | None) -> AsyncIterator[Changes]:
        """Every change after a position, of these subjects or of all, until the caller stops or the service closes."""
        self._watchers += 1
        self._watched.set()
        try:
            while not self._closing:
                recorded = self._recorded
                found = await self._reader.changes_after(position, subjects, _CHUNK)
                if found:
                    position = found[-1].position
                    yield Changes(found, position)
                if len(found) == _CHUNK:
                    continue
                # Looks again by itself, too: between the first read and the look of somebody else lies a moment.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S * 50):
                        await recorded.wait()
        finally:
            self._watchers -= 1
