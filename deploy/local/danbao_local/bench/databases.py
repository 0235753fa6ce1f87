"""What the services' databases say: what a load wrote, and how far credit has read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import asyncpg

_SOURCES = ("payments", "escrow")
_LOOK_EVERY_S = 0.025


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the streams go, and how far credit has read them."""

    heads: int
    applied: int

    @property
    def behind(self) -> int:
        """Events that credit has not applied yet."""
        return self.heads - self.applied


class Databases:
    """Connections to the services' databases, each with the service's own role."""

    def __init__(self, dsns: Mapping[str, str]) -> None:
        self._dsns = dsns
        self._connections: dict[str, asyncpg.Connection] = {}

    async def __aenter__(self) -> Self:
        for name, dsn in self._dsns.items():
            self._connections[name] = await asyncpg.connect(dsn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            await connection.close()

    async def written(self, service: str, id_prefix: str) -> dict[str, int]:
        """Answered request records by method, of the requests whose id begins so."""
        rows = await self._connections[service].fetch(
            "SELECT method, count(*) FROM request_records WHERE starts_with(request_id, $1) AND state = 1"
            " GROUP BY method",
            id_prefix,
        )
        return {row["method"]: row["count"] for row in rows}

    async def reading(self) -> Reading:
        """Where the streams are, and credit."""
        heads = [
            await self._connections[source].fetchval("SELECT max(event_sequence) FROM stream_heads")
            for source in _SOURCES
        ]
        applied = await self._connections["credit"].fetchval("SELECT coalesce(sum(sequence), 0) FROM reader_cursors")
        return Reading(heads=sum(heads), applied=int(applied))

    async def postgres_version(self) -> str:
        """The server's."""
        return str(await self._connections["payments"].fetchval("SHOW server_version"))

    async def until_read(self, limit_s: float) -> tuple[float, Reading]:
        """Waits until credit has read everything, at most so long: seconds it took, and what was reached."""
        started = time.perf_counter()
        while True:
            reading = await self.reading()
            seconds = time.perf_counter() - started
            if reading.behind <= 0 or seconds > limit_s:
                return seconds, reading
            await asyncio.sleep(_LOOK_EVERY_S)
