"""What the write path loads and saves: the parts of the store, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from danbao_credit.application.working_set import CreditSet
from danbao_credit.store.models import Models
from danbao_credit.store.streams import Streams


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


# Rows are locked in this order.
_PARTS: tuple[Part, ...] = (Streams(), Models())


class CreditStore:
    """One partition, as the group commit writes it."""

    async def load(
        self, connection: asyncpg.Connection, commands: Sequence[Any], needs: Mapping[str, set[Any]], now: datetime
    ) -> CreditSet:
        working = CreditSet()
        for part in _PARTS:
            await part.load(connection, working, commands, needs, now)
        return working

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        for part in _PARTS:
            await part.save(connection, working)
