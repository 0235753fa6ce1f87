"""What a batch reads and writes of checkouts, and of payments' events with the reader's cursor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

import asyncpg

from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.checkout import Checkout, CheckoutState
from danbao_escrow.domain.commands import CreateCheckout, PayCheckout
from danbao_escrow.domain.payment_events import PAYMENTS, ApplyPaymentEvents, PaymentMovement
from danbao_escrow.store.payment_tables import checkouts, payment_movements
from danbao_escrow.store.rows import json_text, json_value
from danbao_escrow.store.statements import assignments, copy, insert, values, write
from danbao_kit.tables import PARTITION

COMMANDS = (CreateCheckout, PayCheckout, ApplyPaymentEvents)

_COLUMNS = tuple(field.name for field in fields(Checkout))
_CHANGES = ("state", "update_time", "generation", "waiting", "payment", "rail", "refusal", "end_time", "revision")
_MOVEMENT = tuple(field.name for field in fields(PaymentMovement))

_TRADES_OF = "SELECT trade_ids FROM checkouts WHERE checkout_id = ANY($1::uuid[])"
_READ = f"SELECT {', '.join(_COLUMNS)} FROM checkouts WHERE checkout_id = ANY($1::uuid[])"
_INSERT = insert(checkouts, _COLUMNS)
_UPDATE = (
    f"UPDATE checkouts SET {assignments(_CHANGES)} FROM {values(checkouts, ('checkout_id', *_CHANGES))}"
    " WHERE checkouts.checkout_id = given.checkout_id"
)
# The head's lock keeps other batches out; FOR UPDATE keeps out whoever comes without it.
_READ_CURSOR = "SELECT sequence FROM reader_cursors WHERE source = $1 AND partition = $2 FOR UPDATE"
_SAVE_CURSOR = """
INSERT INTO reader_cursors (source, partition, sequence) VALUES ($1, $2, $3)
ON CONFLICT (source, partition) DO UPDATE SET sequence = excluded.sequence
"""
_INSERT_PARKED = """
INSERT INTO parked_payment_events (sequence, reason, payload, park_time)
SELECT *, clock_timestamp() FROM unnest($1::bigint[], $2::text[], $3::bytea[])
"""


async def trade_ids(connection: asyncpg.Connection, commands: Sequence[Any]) -> set[UUID]:
    """The trades that these commands name; a checkout's never change, so they are read without a lock."""
    found: set[UUID] = set()
    named = []
    for command in commands:
        if isinstance(command, CreateCheckout):
            found.update(command.trades)
        elif isinstance(command, ApplyPaymentEvents):
            found |= command.trade_ids
        elif isinstance(command, PayCheckout):
            named.append(command.checkout)
    if named:
        for row in await connection.fetch(_TRADES_OF, named):
            found.update(UUID(trade_id) for trade_id in json_value(row["trade_ids"]))
    return found


async def load(connection: asyncpg.Connection, working: EscrowSet, commands: Sequence[Any]) -> None:
    """Checkouts of the trades that are loaded, and those named; the cursor where events are to be applied."""
    wanted = {UUID(trade.checkout.partition("/")[2]) for trade in working.trades.values() if trade.checkout}
    wanted |= {command.checkout for command in commands if isinstance(command, PayCheckout)}
    if wanted:
        for row in await connection.fetch(_READ, sorted(wanted)):
            checkout = checkout_of(dict(row))
            working.checkouts.load(checkout.name, checkout)
    if any(isinstance(command, ApplyPaymentEvents) for command in commands):
        sequence = await connection.fetchval(_READ_CURSOR, PAYMENTS, PARTITION)
        if sequence is not None:
            working.cursors.load(PAYMENTS, sequence)


async def save(connection: asyncpg.Connection, working: EscrowSet) -> None:
    """Writes what changed."""
    await write(connection, _INSERT, [_row(each, _COLUMNS) for _, each in working.checkouts.created()])
    changed = [_row(each, ("checkout_id", *_CHANGES)) for _, each in working.checkouts.updated()]
    await write(connection, _UPDATE, changed)
    for source, sequence in (*working.cursors.created(), *working.cursors.updated()):
        await connection.execute(_SAVE_CURSOR, source, PARTITION, sequence)
    moved = [tuple(getattr(each, name) for name in _MOVEMENT) for each in working.movements.accepted]
    await copy(connection, payment_movements, _MOVEMENT, moved)
    parked = [(each.sequence, each.reason, each.payload) for each in working.parked.accepted]
    await write(connection, _INSERT_PARKED, parked)


def checkout_of(row: Mapping[str, Any]) -> Checkout:
    """The checkout in a row."""
    found = {name: row[name] for name in _COLUMNS}
    found["checkout_id"] = UUID(int=row["checkout_id"].int)
    found["state"] = CheckoutState(row["state"])
    found["trade_ids"] = tuple(UUID(trade_id) for trade_id in json_value(row["trade_ids"]))
    return Checkout(**found)


def _row(checkout: Checkout, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(
        json_text(getattr(checkout, name)) if name == "trade_ids" else getattr(checkout, name) for name in names
    )
