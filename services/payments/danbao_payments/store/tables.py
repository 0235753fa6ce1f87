"""Which tables the books are, for reads. The migrations make them, with their constraints; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _minor(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _facts() -> Column[object]:
    return Column("metadata", JSONB, nullable=False)


def _request() -> tuple[Column[str], ...]:
    """The request that waits for the rail's answer, and its trace."""
    return _text("request_caller"), _text("request_method"), _text("request_id"), _text("traceparent")


def _recorded() -> Column[object]:
    # Real time, whatever the service's clock shows: how long a rail has been owing an answer.
    return Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now())


accounts = Table(
    "accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("owner"),
    _text("kind"),
    Column("currency", CHAR(3), nullable=False),
    _text("state"),
    # What the totals must obey, taken from the chart of accounts when the account was opened.
    _text("rule"),
    _minor("debits_pending"),
    _minor("debits_posted"),
    _minor("credits_pending"),
    _minor("credits_posted"),
    _time("create_time"),
    _time("update_time"),
    # As the owner's row says, so that nobody need look there; of a trade's account, the trade's.
    _text("partner"),
)

# Written once: which partner has brought a subject, and on whose request.
owners = Table(
    "owners",
    metadata,
    Column("owner", Text, primary_key=True),
    _text("partner"),
    _time("create_time"),
    _text("brought_by"),
)

transactions = Table(
    "transactions",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Its transfers are those from first to last: numbers are given to one transaction at a time.
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    _text("description"),
    _facts(),
    _time("create_time"),
    _time("effective_time", nullable=True),
    Column("reverses", Uuid),
)

transfers = Table(
    "transfers",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("transaction_id", Uuid, nullable=False),
    _text("kind"),
    Column("debit_account", Uuid, nullable=False),
    Column("credit_account", Uuid, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    _minor("amount_minor"),
    Column("pending_id", BigInteger),
    Column("payment_id", Uuid),
    _text("purpose"),
    _time("create_time"),
    _minor("debit_debits_pending"),
    _minor("debit_debits_posted"),
    _minor("debit_credits_pending"),
    _minor("debit_credits_posted"),
    _minor("credit_debits_pending"),
    _minor("credit_debits_posted"),
    _minor("credit_credits_pending"),
    _minor("credit_credits_posted"),
    _time("effective_time", nullable=True),
)

# One row a committed batch that moved something: what its transfers were, chained to the batch before.
ledger_batches = Table(
    "ledger_batches",
    metadata,
    Column("last_sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("row_hashes", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    _time("create_time"),
)

payments = Table(
    "payments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    _text("state"),
    _text("payer"),
    _text("payee_owner"),
    _text("payee_kind"),
    _text("beneficiary"),
    Column("currency", CHAR(3), nullable=False),
    _minor("amount_minor"),
    _text("capture_mode"),
    _minor("authorized_minor"),
    _minor("captured_minor"),
    _minor("released_minor"),
    _minor("refunded_minor"),
    Column("payer_account", Uuid, nullable=False),
    Column("payee_account", Uuid, nullable=False),
    # The pending transfer while money is held.
    Column("hold_id", BigInteger),
    _time("expire_time", nullable=True),
    _facts(),
    _text("description"),
    _time("create_time"),
    _time("update_time"),
    # None while a rail that is to bring the money has not answered.
    Column("last_transaction", Uuid),
    _text("on_expiry"),
    _text("remainder_policy"),
    # The destinations of a split with what moved so far; null without one.
    Column("parts", JSONB, nullable=True),
    # Whose it is: who made it or whose trade it is, or else who has brought the payer; empty: nobody.
    _text("partner"),
    # Of a payment that a rail brings; empty when the payer's wallet pays.
    _text("rail"),
    _text("instrument"),
    _text("rail_reference"),
    _text("failure"),
    _minor("charged_back_minor"),
    _minor("refunds_settled_minor"),
    _time("settle_time", nullable=True),
    # Which accounts bore what of its chargebacks; null without one.
    Column("chargeback_from", JSONB, nullable=True),
    _text("traceparent"),
    _recorded(),
)


def _limit(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=True)


limits = Table(
    "limits",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("currency", CHAR(3), primary_key=True),
    _limit("per_transaction_minor"),
    _limit("per_day_minor"),
    _limit("per_month_minor"),
    _time("update_time"),
)

limit_usage = Table(
    "limit_usage",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("currency", CHAR(3), primary_key=True),
    Column("day", Date, nullable=False),
    _minor("day_minor"),
    # Of the month in which the day is.
    _minor("month_minor"),
)


top_ups = Table(
    "top_ups",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("state"),
    _text("owner"),
    Column("currency", CHAR(3), nullable=False),
    _minor("amount_minor"),
    _text("rail"),
    _text("instrument"),
    _text("rail_reference"),
    _text("failure"),
    _minor("refunded_minor"),
    _minor("refunds_settled_minor"),
    _facts(),
    _time("create_time"),
    _time("update_time"),
    *_request(),
    _recorded(),
    _time("settle_time", nullable=True),
    _minor("returned_minor"),
)

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Uuid, primary_key=True),
    _text("state"),
    _text("owner"),
    _text("kind"),
    Column("currency", CHAR(3), nullable=False),
    _minor("amount_minor"),
    _text("rail"),
    _text("instrument"),
    _text("rail_reference"),
    _text("failure"),
    _facts(),
    _time("create_time"),
    _time("update_time"),
    *_request(),
    _recorded(),
)

rail_refunds = Table(
    "rail_refunds",
    metadata,
    Column("id", Uuid, primary_key=True),
    # One of the two: what goes back.
    Column("top_up_id", Uuid),
    Column("payment_id", Uuid),
    _text("state"),
    _text("owner"),
    Column("currency", CHAR(3), nullable=False),
    _minor("amount_minor"),
    _text("rail"),
    _text("instrument"),
    _text("charge_reference"),
    _text("rail_reference"),
    _text("failure"),
    _time("create_time"),
    _time("update_time"),
    *_request(),
    _recorded(),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Counts the statements of the rail.
    Column("number", Integer, nullable=False),
    _text("state"),
    _text("rail"),
    Column("currency", CHAR(3), nullable=False),
    _time("start_time"),
    _time("end_time"),
    _text("source"),
    _time("movements_from"),
    _time("movements_until"),
    Column("ledger_sequence", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    _minor("in_minor"),
    _minor("out_minor"),
    Column("matched_lines", Integer, nullable=False),
    Column("matched_movements", Integer, nullable=False),
    _minor("matched_minor"),
    # By kind: how many, and what they come to.
    Column("breaks", JSONB, nullable=False),
    Column("open_items", Integer, nullable=False),
    _time("create_time"),
    _time("update_time"),
)

# Written once. A line is matched, or an item's; those with the same match number are one match.
statement_lines = Table(
    "statement_lines",
    metadata,
    Column("reconciliation_id", Uuid, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _text("rail"),
    _text("external_id"),
    _text("direction"),
    _minor("amount_minor"),
    Column("booking_date", Date, nullable=False),
    _text("reference"),
    _text("description"),
    Column("match_number", Integer),
    Column("item_number", Integer),
)

# Written once: which movements were matched, or are an item's; these a later statement may match.
reconciled_movements = Table(
    "reconciled_movements",
    metadata,
    Column("reconciliation_id", Uuid, primary_key=True),
    Column("transaction_id", Uuid, primary_key=True),
    Column("direction", Text, primary_key=True),
    _text("name"),
    _minor("amount_minor"),
    Column("match_number", Integer),
    Column("item_number", Integer),
)

reconciliation_items = Table(
    "reconciliation_items",
    metadata,
    Column("reconciliation_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("kind"),
    _text("state"),
    _text("direction"),
    Column("currency", CHAR(3), nullable=False),
    _minor("lines_minor"),
    _minor("movements_minor"),
    # The first of its lines, and of its movements.
    Column("lines", JSONB, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("movements", JSONB, nullable=False),
    Column("movement_count", Integer, nullable=False),
    Column("transaction_id", Uuid),
    _text("reason"),
    _text("resolved_by"),
    _time("resolve_time", nullable=True),
)
