"""What a batch reads and writes of refund cases, disputes and claims; their trades' rows are the locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.case_commands import (
    DecideClaim,
    DisputeCommand,
    OpenClaim,
    OpenDispute,
    OpenRefundCase,
    RefundCaseCommand,
)
from danbao_escrow.domain.case_model import Claim, Dispute, RefundCase
from danbao_escrow.store import case_rows
from danbao_escrow.store.case_rows import KINDS, Kind
from danbao_escrow.store.statements import assignments, insert, values, write


class Named:
    """What commands name besides trades: ids by type."""

    def __init__(self, commands: Sequence[Any]) -> None:
        self.ids: dict[type, set[UUID]] = {}
        self._trades: set[UUID] = set()
        for command in commands:
            if isinstance(command, OpenRefundCase | OpenClaim):
                self._trades.add(command.trade)
            elif isinstance(command, RefundCaseCommand):
                self.ids.setdefault(RefundCase, set()).add(command.name)
            elif isinstance(command, OpenDispute):
                self.ids.setdefault(RefundCase, set()).add(command.refund_case)
            elif isinstance(command, DisputeCommand):
                self.ids.setdefault(Dispute, set()).add(command.name)
            elif isinstance(command, DecideClaim):
                self.ids.setdefault(Claim, set()).add(command.name)

    async def trade_ids(self, connection: asyncpg.Connection) -> set[UUID]:
        """The trades that all of it belongs to; that never changes, so it is read without a lock."""
        found = set(self._trades)
        for of, ids in self.ids.items():
            kind = KINDS[of]
            query = f"SELECT trade_id FROM {kind.table.name} WHERE {kind.key} = ANY($1::uuid[])"
            found |= {row["trade_id"] for row in await connection.fetch(query, sorted(ids))}
        return found


async def load(connection: asyncpg.Connection, working: EscrowSet, trade_ids: Sequence[UUID], named: Named) -> None:
    """What is open of the trades, and what was named."""
    has_cases = any(trade.open_cases for trade in working.trades.values())
    has_claims = any(trade.open_claim for trade in working.trades.values())
    for of, kind in KINDS.items():
        ids = named.ids.get(of, set())
        if ids or (has_claims if of is Claim else has_cases):
            for row in await connection.fetch(_READ[of], trade_ids, sorted(ids)):
                thing = case_rows.thing_of(kind, dict(row))
                working.proceedings.load(thing.name, thing)


async def save(connection: asyncpg.Connection, working: EscrowSet) -> None:
    """Writes what changed. What is over first, for a line has one open case; cases before the disputes over them."""
    created, updated = working.proceedings.created(), working.proceedings.updated()
    if not created and not updated:
        return
    for of, kind in KINDS.items():
        names = (kind.key, *kind.changes)
        changed = [case_rows.columns_of(thing, names) for _, thing in updated if type(thing) is of]
        await write(connection, _UPDATE[of], changed)
    for of, kind in KINDS.items():
        new = [case_rows.columns_of(thing, kind.columns) for _, thing in created if type(thing) is of]
        await write(connection, _INSERT[of], new)


def _read(kind: Kind) -> str:
    return (
        f"SELECT {', '.join(kind.columns)} FROM {kind.table.name}"
        f" WHERE trade_id = ANY($1::uuid[]) AND end_time IS NULL OR {kind.key} = ANY($2::uuid[])"
    )


def _update(kind: Kind) -> str:
    given = values(kind.table, (kind.key, *kind.changes))
    return (
        f"UPDATE {kind.table.name} SET {assignments(kind.changes)} FROM {given}"
        f" WHERE {kind.table.name}.{kind.key} = given.{kind.key}"
    )


_READ = {of: _read(kind) for of, kind in KINDS.items()}
_INSERT = {of: insert(kind.table, kind.columns) for of, kind in KINDS.items()}
_UPDATE = {of: _update(kind) for of, kind in KINDS.items()}
