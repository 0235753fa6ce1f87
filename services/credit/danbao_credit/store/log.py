"""How the log of what was told is written: by COPY, in the transaction that moves the profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.log import LogRow


class EventLog:
    """The part of the store that only grows."""

    async def load(
        self,
        connection: asyncpg.Connection,
        working: CreditSet,
        commands: Sequence[Any],
        needs: Mapping[str, set[Any]],
        now: datetime,
    ) -> None:
        """Nothing: a row is written once, and what was written before decides nothing."""

    async def save(self, connection: asyncpg.Connection, working: CreditSet) -> None:
        rows = working.log_rows.accepted
        if rows:
            await connection.copy_records_to_table("event_log", columns=LogRow._fields, records=rows)
