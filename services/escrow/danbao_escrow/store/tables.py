"""Escrow's tables. Truth in constraints: no trade ever gives out more than it took in."""

from __future__ import annotations

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()


def _time(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _later_text(name: str) -> Column[str]:
    """A column that a replica of the version before does not write."""
    return Column(name, Text, nullable=False, server_default="")


def _later_amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _later_number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


# One row a trade, its lines and held parts within it: whatever happens to a trade is one row written.
trades = Table(
    "trades",
    metadata,
    Column("trade_id", Uuid, primary_key=True),
    _text("state"),
    _text("buyer"),
    _text("seller"),
    _text("partner"),
    Column("currency", CHAR(3), nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("held", JSONB, nullable=False),
    Column("terms", JSONB, nullable=False),
    _amount("postage_minor"),
    _amount("total_minor"),
    _amount("funded_minor"),
    _amount("released_minor"),
    _amount("refunded_minor"),
    _amount("fees_minor"),
    _text("payment"),
    _number("last_step"),
    _number("pending_step"),
    Column("step_blocked", Boolean, nullable=False),
    _text("step_refusal"),
    _text("reference"),
    _number("revision"),
    _number("timeline_length"),
    _time("pay_by_time", nullable=False),
    _time("ship_by_time"),
    _time("create_time", nullable=False),
    _time("update_time", nullable=False),
    _time("pay_time"),
    _time("end_time"),
    # Of a replica of the version before; null as soon as another writes the trade: trade_deadlines has it then.
    _time("deadline_at"),
    _later_amount("buyer_fee_minor"),
    _later_amount("buyer_fee_released_minor"),
    _later_amount("buyer_fee_refunded_minor"),
    _later_number("open_cases"),
    _time("adjust_time"),
    _time("deadline_time"),
    _time("remind_time"),
    _later_amount("compensated_minor"),
    _later_text("open_claim"),
    _later_text("rail"),
    Column("payment_pending", Boolean, nullable=False, server_default="false"),
    _later_text("checkout"),
    _later_amount("charged_back_minor"),
    _later_amount("chargeback_due_minor"),
    _later_text("chargeback_due"),
    _later_text("made_by"),
    Column("made_by_partner", Boolean, nullable=False, server_default="false"),
    CheckConstraint("buyer <> seller", name="parties_differ"),
    CheckConstraint("total_minor > 0 AND postage_minor BETWEEN 0 AND total_minor", name="amounts_are_positive"),
    CheckConstraint("funded_minor IN (0, total_minor + buyer_fee_minor)", name="funded_whole_or_not"),
    CheckConstraint(
        "released_minor >= 0 AND refunded_minor >= 0 AND released_minor + refunded_minor <= funded_minor",
        name="never_gives_out_more_than_it_took_in",
    ),
    CheckConstraint(
        "fees_minor BETWEEN buyer_fee_released_minor AND released_minor", name="fees_are_part_of_what_is_released"
    ),
    CheckConstraint(
        "buyer_fee_released_minor >= 0 AND buyer_fee_refunded_minor BETWEEN 0 AND refunded_minor"
        " AND buyer_fee_released_minor + buyer_fee_refunded_minor <= buyer_fee_minor",
        name="the_buyers_fee_moves_once",
    ),
    CheckConstraint("open_cases >= 0", name="cases_are_counted"),
    CheckConstraint(
        "compensated_minor >= 0 AND compensated_minor + refunded_minor <= funded_minor",
        name="nobody_gets_back_more_than_was_paid",
    ),
    CheckConstraint(
        "state NOT IN ('COMPLETED', 'CLOSED', 'CANCELLED') OR released_minor + refunded_minor = funded_minor",
        name="nothing_is_held_at_the_end",
    ),
    CheckConstraint("pending_step IN (0, last_step)", name="only_the_last_step_is_pending"),
    CheckConstraint("charged_back_minor >= 0 AND chargeback_due_minor >= 0", name="chargebacks_are_not_negative"),
    CheckConstraint("NOT payment_pending OR (payment <> '' AND rail <> '')", name="what_is_on_its_way_has_a_name"),
    # Room to change a trade where it lies: then no index is written, for none is on what changes.
    postgresql_with={"fillfactor": 50},
)
Index("trades_by_deadline", trades.c.deadline_at, postgresql_where=trades.c.deadline_at.is_not(None))
# Lists are read newest first; an index is as good backwards.
Index("trades_by_buyer", trades.c.buyer, trades.c.create_time, trades.c.trade_id)
Index("trades_by_seller", trades.c.seller, trades.c.create_time, trades.c.trade_id)
Index("trades_by_partner", trades.c.partner, trades.c.create_time, trades.c.trade_id)
Index("trades_by_creation", trades.c.create_time, trades.c.trade_id)
Index(
    "trades_with_open_cases",
    trades.c.create_time,
    trades.c.trade_id,
    postgresql_where=trades.c.open_cases > 0,
)

# When a timer has to look at a trade next, if ever. Apart from it, because it is indexed and changes with every step.
trade_deadlines = Table(
    "trade_deadlines",
    metadata,
    Column("trade_id", Uuid, primary_key=True),
    _time("deadline_at", nullable=False),
)
Index("trade_deadlines_by_time", trade_deadlines.c.deadline_at)

steps = Table(
    "steps",
    metadata,
    Column("trade_id", Uuid, ForeignKey("trades.trade_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _number("generation"),
    _text("kind"),
    _text("state"),
    Column("line_ids", JSONB, nullable=False),
    Column("movement", JSONB, nullable=False),
    Column("cause", JSONB, nullable=False),
    # Whose request waits for the end; null when none does.
    Column("request", JSONB),
    Column("held", JSONB, nullable=False),
    _text("payer"),
    _text("beneficiary"),
    Column("currency", CHAR(3), nullable=False),
    _text("payment"),
    _number("claim"),
    # Real time from which anybody may try it.
    _time("attempt_at", nullable=False),
    _number("refusals"),
    _text("refusal"),
    _text("ledger_reference"),
    _time("create_time", nullable=False),
    _time("settle_time"),
    _later_text("subject"),
    # Who asked for a payer's money.
    _later_text("for_partner"),
    _later_text("for_subject"),
    CheckConstraint("state IN ('PENDING', 'DONE', 'REFUSED')", name="known_state"),
    CheckConstraint("(state = 'DONE') = (ledger_reference <> '')", name="done_steps_name_their_movement"),
)
Index("steps_to_attempt", steps.c.attempt_at, postgresql_where=text("state = 'PENDING'"))

timeline_entries = Table(
    "timeline_entries",
    metadata,
    Column("trade_id", Uuid, ForeignKey("trades.trade_id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _text("command"),
    _text("actor_subject"),
    _text("actor_role"),
    _text("token_subject"),
    Column("line_ids", JSONB, nullable=False),
    _text("state"),
    _text("reason"),
    _text("ledger_reference"),
    _amount("amount_minor"),
    _text("trace_id"),
    _time("create_time", nullable=False),
    _later_text("subject"),
)
