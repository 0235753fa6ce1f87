"""What a batch of commands reads and writes: a few statements, however many trades are in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, get_args

import asyncpg

from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.case_commands import CaseCommand
from danbao_escrow.domain.commands import CreateTrade
from danbao_escrow.domain.model import Trade
from danbao_escrow.store import case_store, deadlines, payment_store, rows
from danbao_escrow.store.statements import assignments, copy, values, write
from danbao_escrow.store.tables import steps, timeline_entries, trades

# What stands on a trade for good.
_FROZEN = frozenset(
    {"trade_id", "buyer", "seller", "partner", "currency", "terms", "reference", "create_time", "made_by",
     "made_by_partner"}
)  # fmt: skip
TRADE_CHANGES = tuple(name for name in rows.TRADE_COLUMNS if name not in _FROZEN)
# A trade is written five times in its life, and each column costs on both sides: mostly it is a step that begins, or
# lines that move on.
_CHANGES_OF_A_STEP = (
    "last_step", "pending_step", "step_blocked", "step_refusal", "revision", "update_time", "deadline_time",
)  # fmt: skip
_CHANGES_OF_LINES = (
    *_CHANGES_OF_A_STEP, "state", "lines", "funded_minor", "released_minor", "refunded_minor", "fees_minor", "payment",
    "timeline_length", "pay_time", "ship_by_time", "end_time", "held",
)  # fmt: skip
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


class _TradeUpdate:
    """A statement that writes these columns of changed trades."""

    def __init__(self, changes: Sequence[str]) -> None:
        self.names = ("trade_id", *changes)
        self.statement = (
            f"UPDATE trades SET {assignments(changes)}, deadline_at = NULL"
            f" FROM {values(trades, self.names)} WHERE trades.trade_id = given.trade_id"
        )
        left_out = [name for name in TRADE_CHANGES if name not in changes]
        self._left_out = attrgetter(*left_out) if left_out else None

    def suffices(self, before: Trade, after: Trade) -> bool:
        """Whether nothing else differs."""
        return self._left_out is None or bool(self._left_out(before) == self._left_out(after))


TRADE_UPDATES = tuple(_TradeUpdate(changes) for changes in (_CHANGES_OF_A_STEP, _CHANGES_OF_LINES, TRADE_CHANGES))
"""The narrowest first; the last writes all that ever changes."""

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
        new = [columns(trade, rows.TRADE_COLUMNS) for trade in created]
        await copy(connection, trades, rows.TRADE_COLUMNS, new)
        changed = [trade for _, trade in working.trades.updated()]
        for update, written in _by_update(working, changed).items():
            await write(connection, update.statement, [columns(trade, update.names) for trade in written])
        await deadlines.save(connection, (*created, *changed))
        begun = [columns(step, (*rows.STEP_COLUMNS, "attempt_in_ms")) for _, step in working.steps.created()]
        await write(connection, _INSERT_STEPS, begun)
        names = ("trade_id", "number", *_STEP_CHANGES, "attempt_in_ms")
        await write(connection, _UPDATE_STEPS, [columns(step, names) for _, step in working.steps.updated()])
        entries = [rows.timeline_row(entry) for entry in working.timeline.accepted]
        await copy(connection, timeline_entries, rows.TIMELINE_COLUMNS, entries)
        await case_store.save(connection, working)
        await payment_store.save(connection, working)


def _by_update(working: EscrowSet, changed: Iterable[Trade]) -> dict[_TradeUpdate, list[Trade]]:
    """The narrowest statement that suffices, for each of the trades."""
    chosen: dict[_TradeUpdate, list[Trade]] = {update: [] for update in TRADE_UPDATES}
    for trade in changed:
        before = working.trades.loaded(trade.trade_id)
        chosen[next(update for update in TRADE_UPDATES if update.suffices(before, trade))].append(trade)
    return chosen


def _trade_id(command: Any) -> Any:
    return command.trade_id if hasattr(command, "trade_id") else command.name
