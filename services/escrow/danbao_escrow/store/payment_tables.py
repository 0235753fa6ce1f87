"""Tables of checkouts, and of what payments' events told."""

from __future__ import annotations

from sqlalchemy import (
    CHAR,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from danbao_escrow.store.tables import metadata


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


checkouts = Table(
    "checkouts",
    metadata,
    Column("checkout_id", Uuid, primary_key=True),
    _text("state"),
    _text("buyer"),
    _text("partner"),
    Column("currency", CHAR(3), nullable=False),
    Column("trade_ids", JSONB, nullable=False),
    _amount("amount_minor"),
    _time("create_time"),
    _time("update_time"),
    _number("generation"),
    _number("waiting"),
    _text("payment"),
    _text("rail"),
    _text("refusal"),
    _time("end_time", nullable=True),
    _number("revision"),
    CheckConstraint("state IN ('OPEN', 'PAYING', 'PAID', 'VOID')", name="checkout_state_is_known"),
    CheckConstraint("amount_minor > 0 AND generation >= 0 AND waiting >= 0", name="checkout_counts"),
)

# What moved in trades' accounts by payments' own word; only ever added to. No reference to trades: payments might tell
# of one that nobody knows, and that is for the audit to say.
payment_movements = Table(
    "payment_movements",
    metadata,
    Column("event_sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("trade_id", Uuid, primary_key=True),
    _text("reference"),
    _text("payment"),
    _text("kind"),
    _number("step"),
    Column("currency", CHAR(3), nullable=False),
    _amount("in_minor"),
    _amount("out_minor"),
    _time("create_time"),
    CheckConstraint("in_minor >= 0 AND out_minor >= 0", name="movements_move_something"),
)
Index("payment_movements_by_trade", payment_movements.c.trade_id)

# Events that could not be understood or applied; the stream goes on without them.
parked_payment_events = Table(
    "parked_payment_events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _text("reason"),
    Column("payload", LargeBinary, nullable=False),
    _time("park_time"),
)
