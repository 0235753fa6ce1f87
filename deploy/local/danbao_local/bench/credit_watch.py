"""How fast credit applies events: while a load runs, and afterwards until it has read everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from danbao_local.bench.databases import Databases, Reading
from danbao_local.bench.figures import Figure, Observation
from danbao_local.bench.orders import LoadReport

_WORTH_TIMING_S = 0.3


@dataclass(frozen=True, slots=True)
class Lag:
    """After one load: how many events credit was behind, and what was left after how long."""

    after: str
    behind: int
    seconds: float
    left: int

    def to_json(self) -> dict[str, Any]:
        """For bench.json."""
        return {
            "after": self.after,
            "events_behind": self.behind,
            "seconds": round(self.seconds, 3),
            "events_left": self.left,
        }


class CreditWatch:
    """Follows credit's cursors from one load to the next. It never waits longer than `most_seconds`."""

    def __init__(self, databases: Databases, most_seconds: float) -> None:
        self._databases = databases
        self._most_seconds = most_seconds
        self._at: dict[str, Reading] = {}
        self.figures: dict[str, Figure] = {}
        self.lags: list[Lag] = []

    async def mark(self, event: str) -> None:
        """The measured time "begins" or "ends"."""
        self._at[event] = await self._databases.reading()

    def during(self, key: str, title: str, report: LoadReport) -> None:
        """Notes what credit applied within the load's measured time."""
        applied = self._at["ends"].applied - self._at["begins"].applied
        figure = self._figure(f"credit_during_{key}", f"events applied by credit during {title}")
        figure.observations.append(Observation(applied / report.seconds, report.seconds))

    async def let_it_read(self, key: str) -> None:
        """Waits for credit after a load, so that the next one has the machine to itself."""
        end = await self._databases.reading()
        seconds, reached = await self._databases.until_read(self._most_seconds)
        self.lags.append(Lag(after=key, behind=end.behind, seconds=seconds, left=max(0, reached.behind)))
        if seconds >= _WORTH_TIMING_S:
            figure = self._figure("credit_catching_up", "events applied by credit while catching up")
            figure.observations.append(Observation((reached.applied - end.applied) / seconds, seconds))

    def _figure(self, key: str, title: str) -> Figure:
        return self.figures.setdefault(key, Figure(key, title, "events/s"))
