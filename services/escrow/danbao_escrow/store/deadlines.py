"""When does a timer have to look at which trade: a table that follows from the trades, for it to find them by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg
from sqlalchemy import Select, bindparam, select, union_all

from danbao_escrow.domain.model import Trade
from danbao_escrow.domain.reminders import next_look
from danbao_escrow.store.tables import trade_deadlines, trades

# The trades' rows are the locks.
_SAVE = """
WITH past AS (DELETE FROM trade_deadlines WHERE trade_id = ANY($1::uuid[]))
INSERT INTO trade_deadlines (trade_id, deadline_at) SELECT * FROM unnest($2::uuid[], $3::timestamptz[])
ON CONFLICT (trade_id) DO UPDATE SET deadline_at = excluded.deadline_at
    WHERE trade_deadlines.deadline_at <> excluded.deadline_at
"""


async def save(connection: asyncpg.Connection, written: Iterable[Trade]) -> None:
    """The deadlines of trades that were just written."""
    deadlines = {trade.trade_id: next_look(trade) for trade in written}
    if deadlines:
        none = [trade_id for trade_id, deadline in deadlines.items() if deadline is None]
        some = {trade_id: deadline for trade_id, deadline in deadlines.items() if deadline is not None}
        await connection.execute(_SAVE, none, list(some), list(some.values()))


def due_query() -> Select[Any]:
    """Ids of trades with a deadline at or before :now, at most :limit, the oldest first.

    A trade that a replica of the version before wrote last has its deadline in its own row; it may stand in both, and
    what stands here may be out of date then: the timer looks again, and has it written anew.
    """
    parts = [
        select(table.c.trade_id, table.c.deadline_at)
        .where(table.c.deadline_at <= bindparam("now"))
        .order_by(table.c.deadline_at)
        .limit(bindparam("limit"))
        .subquery()
        for table in (trade_deadlines, trades)
    ]
    due = union_all(*[part.select() for part in parts]).subquery()
    return select(due.c.trade_id).order_by(due.c.deadline_at).limit(bindparam("limit"))
