"""What the write path loads and saves: the parts of the store, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from danbao_credit.application.working_set import CreditSet
from danbao_credit.store.log import EventLog
from danbao_credit.store.memberships import Memberships
from danbao_credit.store.models import Models
from danbao_credit.store.removal import Removals
from danbao_credit.store.reports import Reports
from danbao_credit.store.rights import Rights
from danbao_credit.store.standing import Standing
from danbao_credit.store.streams import Streams
from danbao_credit.store.tombstones import Tombstones


class Part(Protocol):
    """The tables of one concern. Set-based, and without a statement where a batch does not concern it."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        """Locks and reads every row of it that the commands (and `needs`) may touch."""
        ...

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        """Writes what accepted commands changed of it."""
        ...


# Rows are locked in this order: whom a reversal concerns is known from the reports.
_PARTS: tuple[Part, ...] = (
    Reports(),
    Streams(),
    Tombstones(),
    EventLog(),
    Standing(),
    Memberships(),
    Models(),
    Rights(),
)


class CreditStore:
    """One partition, as the group commit writes it.

    `blank_event` writes an event of which nothing is left; whoever has none erases nobody. `erasure_secret` is that of
    the tombstones.
    """

    def __init__(
        self, blank_event: Callable[[int, datetime], bytes] | None = None, *, erasure_secret: bytes = b""
    ) -> None:
        parts = (Tombstones(erasure_secret) if isinstance(part, Tombstones) else part for part in _PARTS)
        # What takes a subject out of every table comes last.
        self._parts: tuple[Part, ...] = (*parts, Removals(blank_event))

    async def load(
        self, connection: asyncpg.Connection, commands: Sequence[Any], needs: Mapping[str, set[Any]], now: datetime
    ) -> CreditSet:
        working = CreditSet()
        for part in self._parts:
            await part.load(connection, working, commands, needs, now)
        return working

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        for part in self._parts:
            await part.save(connection, working)
