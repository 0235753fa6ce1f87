"""What a batch of commands reads and writes: a few statements, however many trades are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

import asyncpg

from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.case_commands import CaseCommand
from danbao_escrow.domain.commands import CreateTrade
from danbao_escrow.store import case_store, deadlines, payment_store, rows
from danbao_escrow.store.statements import assignments, copy, values, write
from danbao_escrow.store.tables import steps, timeline_entries, trades

# What stands on a trade for good.
_FROZEN = frozenset(
    {"trade_id", "buyer", "seller", "partner", "currency", "terms", "reference", "create_time"}
)  # fmt: skip
TRADE_CHANGES = tuple(name for name in rows.TRADE_COLUMNS if name not in _FROZEN)
_STEP_CHANGES = (
    "generation", "state", "request", "claim", "refusals", "refusal", "ledger_reference", "settle_time",
)  # fmt: skip

# A batch may hold a thousand commands, and most are of trades.
_OF_CASES = frozenset(get_args(CaseCommand))
_OF_PAYMENTS = frozenset(payment_store.COMMANDS)
_OF_NO_TRADE = _OF_CASES | _OF_PAYMENTS | {CreateTrade}

_LOCK_TRADES = "SELECT trade_id FROM trades WHERE trade_id = ANY($1::uuid[]) ORDER BY trade_id FOR UPDATE"
_READ_TRADES = f"SELECT {', '.join(rows.TRADE_COLUMNS)} FROM trades WHERE trade_id = ANY($1::uuid[])"
_READ_STEPS = f"SELECT {', '.join(rows.STEP_COLUMNS)} FROM steps WHERE trade_id = ANY($1::uuid[]) AND state = 'PENDING'"
_UPDATE_TRADES = (
    f"UPDATE trades SET {assignments(TRADE_CHANGES)}, deadline_at = NULL"
    f" FROM {values(trades, ('trade_id', *TRADE_CHANGES))} WHERE trades.trade_id = given.trade_id"
)
# Leases are real time, and the database's, so that replicas need not agree on theirs.
_ATTEMPT_AT = "clock_timestamp() + given.attempt_in_ms * interval '1 millisecond'"
_INSERT_STEPS = (
    f"INSERT INTO steps ({', '.join(rows.STEP_COLUMNS)}, attempt_at)"
    f" SELECT {', '.join(f'given.{name}' for name in rows.STEP_COLUMNS)}, {_ATTEMPT_AT}"
    f" FROM {values(steps, (*rows.STEP_COLUMNS, 'attempt_in_ms'))}"
)
_UPDATE_STEPS = (
    f"UPDATE steps SET {assignments(_STEP_CHANGES)}, attempt_at = {_ATTEMPT_AT}"
    f" FROM {values(steps, ('trade_id', 'number', *_STEP_CHANGES, 'attempt_in_ms'))}"
    " WHERE steps.trade_id = given.trade_id AND steps.number = given.number"
)


class EscrowStore:
    """Loads and saves batches."""

    async def load(
        self, connection: asyncpg.Connection, commands: Sequence[Any], needs: Mapping[str, set[Any]], now: datetime
    ) -> EscrowSet:
        """The trades that the commands name, locked, with their pending steps, open cases and claims."""
        working = EscrowSet()
        named = case_store.Named([command for command in commands if type(command) in _OF_CASES])
        others = [command for command in commands if type(command) not in _OF_NO_TRADE]
        of_payments = [command for command in commands if type(command) in _OF_PAYMENTS]
        ids = {_trade_id(command) for command in others} | await named.trade_ids(connection)
        if of_payments:
            ids |= await payment_store.trade_ids(connection, of_payments)
        if not ids and not of_payments:
            return working
        keys = sorted(ids)
        await connection.execute(_LOCK_TRADES, keys)
        for row in await connection.fetch(_READ_TRADES, keys):
            trade = rows.trade_of(dict(row))
            working.trades.load(trade.trade_id, trade)
        if any(trade.is_pending for trade in working.trades.values()):
            for row in await connection.fetch(_READ_STEPS, keys):
                step = rows.step_of(dict(row))
                working.steps.load((step.trade_id, step.number), step)
        await case_store.load(connection, working, keys, named)
        await payment_store.load(connection, working, of_payments)
        return working

    async def save(self, connection: asyncpg.Connection, working: EscrowSet) -> None:
        """Writes what changed."""
        columns = rows.columns_of
        created = [trade for _, trade in working.trades.created()]
        changed = [trade for _, trade in working.trades.updated()]
        new = [columns(trade, rows.TRADE_COLUMNS) for trade in created]
        await copy(connection, trades, rows.TRADE_COLUMNS, new)
        await write(connection, _UPDATE_TRADES, [columns(trade, ("trade_id", *TRADE_CHANGES)) for trade in changed])
        await deadlines.save(connection, (*created, *changed))
        begun = [columns(step, (*rows.STEP_COLUMNS, "attempt_in_ms")) for _, step in working.steps.created()]
        await write(connection, _INSERT_STEPS, begun)
        names = ("trade_id", "number", *_STEP_CHANGES, "attempt_in_ms")
        await write(connection, _UPDATE_STEPS, [columns(step, names) for _, step in working.steps.updated()])
        entries = [rows.timeline_row(entry) for entry in working.timeline.accepted]
        await copy(connection, timeline_entries, rows.TIMELINE_COLUMNS, entries)
        await case_store.save(connection, working)
        await payment_store.save(connection, working)


def _trade_id(command: Any) -> Any:
    return command.trade_id if hasattr(command, "trade_id") else command.name
