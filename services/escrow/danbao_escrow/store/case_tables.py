"""Tables of refund cases, disputes and claims, beside the trades that they belong to."""

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
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from danbao_escrow.store.tables import metadata


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _time(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, JSONB, nullable=nullable)


def _trade_id() -> Column[object]:
    return Column("trade_id", Uuid, ForeignKey("trades.trade_id"), nullable=False)


def _indexes(table: Table, name: str, key: str) -> None:
    """Lists by party and trade, and what is open of a trade."""
    columns = table.c
    for party in ("buyer", "seller", "partner"):
        Index(f"{name}_by_{party}", columns[party], columns.create_time, columns[key])
    Index(f"{name}_by_creation", columns.create_time, columns[key])
    Index(f"{name}_by_trade", columns.trade_id)


def _deadline_index(table: Table, name: str) -> None:
    Index(f"{name}_by_deadline", table.c.deadline_at, postgresql_where=table.c.deadline_at.is_not(None))


refund_cases = Table(
    "refund_cases",
    metadata,
    Column("case_id", Uuid, primary_key=True),
    _text("state"),
    _trade_id(),
    _text("line_id"),
    _text("buyer"),
    _text("seller"),
    _text("partner"),
    Column("currency", CHAR(3), nullable=False),
    _amount("amount_minor"),
    _amount("postage_minor"),
    _flag("claims_postage"),
    _flag("with_return"),
    _text("reason_code"),
    _text("reason"),
    _json("evidence"),
    _time("create_time", nullable=False),
    _time("update_time", nullable=False),
    _text("reject_reason"),
    _text("return_carrier"),
    _text("return_tracking"),
    _text("dispute"),
    _amount("refunded_minor"),
    _time("deadline_time"),
    _time("remind_time"),
    _time("end_time"),
    _flag("step_pending"),
    _flag("step_blocked"),
    _text("step_refusal"),
    Column("revision", Integer, nullable=False),
    _time("deadline_at"),
    CheckConstraint("amount_minor > 0 AND postage_minor >= 0 AND refunded_minor >= 0", name="case_amounts"),
    CheckConstraint(
        "state IN ('REQUESTED', 'AWAITING_RETURN', 'AWAITING_RECEIPT', 'REJECTED', 'SUCCEEDED', 'WITHDRAWN',"
        " 'DISPUTED')",
        name="case_state_is_known",
    ),
    CheckConstraint("state NOT IN ('SUCCEEDED', 'WITHDRAWN') OR end_time IS NOT NULL", name="ended_cases_are_over"),
    CheckConstraint("end_time IS NULL OR (deadline_at IS NULL AND NOT step_pending)", name="over_cases_wait_for_none"),
)
_indexes(refund_cases, "refund_cases", "case_id")
_deadline_index(refund_cases, "refund_cases")
Index(
    "one_open_case_a_line",
    refund_cases.c.trade_id,
    refund_cases.c.line_id,
    unique=True,
    postgresql_where=text("end_time IS NULL"),
)

disputes = Table(
    "disputes",
    metadata,
    Column("dispute_id", Uuid, primary_key=True),
    _text("state"),
    Column("case_id", Uuid, ForeignKey("refund_cases.case_id"), nullable=False, unique=True),
    _trade_id(),
    _text("line_id"),
    _text("buyer"),
    _text("seller"),
    _text("partner"),
    Column("currency", CHAR(3), nullable=False),
    _amount("frozen_minor"),
    _text("reason"),
    _json("evidence"),
    _time("create_time", nullable=False),
    _time("update_time", nullable=False),
    _json("offer", nullable=True),
    _json("decision", nullable=True),
    _json("appealed_by", nullable=True),
    _text("appeal_reason"),
    _flag("arbiter_needed"),
    _time("deadline_time"),
    _time("remind_time"),
    _time("end_time"),
    _flag("step_pending"),
    _flag("step_blocked"),
    _text("step_refusal"),
    Column("revision", Integer, nullable=False),
    _time("deadline_at"),
    CheckConstraint("frozen_minor > 0", name="something_is_frozen"),
    CheckConstraint(
        "state IN ('OPEN', 'OFFERED', 'SETTLED', 'DECIDED', 'APPEALED', 'CLOSED')", name="dispute_state_is_known"
    ),
    CheckConstraint("(state = 'CLOSED') = (end_time IS NOT NULL)", name="closed_disputes_are_over"),
    CheckConstraint(
        "end_time IS NULL OR (deadline_at IS NULL AND NOT step_pending)", name="over_disputes_wait_for_none"
    ),
)
_indexes(disputes, "disputes", "dispute_id")
_deadline_index(disputes, "disputes")

claims = Table(
    "claims",
    metadata,
    Column("claim_id", Uuid, primary_key=True),
    _text("state"),
    _trade_id(),
    _text("buyer"),
    _text("seller"),
    _text("partner"),
    Column("currency", CHAR(3), nullable=False),
    _amount("amount_minor"),
    _text("reason"),
    _json("evidence"),
    _time("create_time", nullable=False),
    _time("update_time", nullable=False),
    _amount("compensated_minor"),
    _json("decided_by", nullable=True),
    _text("decision_reason"),
    _text("ledger_reference"),
    _time("end_time"),
    _flag("step_pending"),
    _text("step_refusal"),
    _text("finding"),
    Column("revision", Integer, nullable=False),
    CheckConstraint("amount_minor > 0 AND compensated_minor BETWEEN 0 AND amount_minor", name="claim_amounts"),
    CheckConstraint("state IN ('OPEN', 'COMPENSATED', 'REJECTED')", name="claim_state_is_known"),
    CheckConstraint("(state = 'OPEN') = (end_time IS NULL)", name="decided_claims_are_over"),
    CheckConstraint("finding IN ('UNSPECIFIED', 'FRAUD', 'NOT_FRAUD')", name="claim_finding_is_known"),
    CheckConstraint("(state = 'COMPENSATED') = (compensated_minor > 0)", name="compensated_claims_were_paid"),
    CheckConstraint("(state = 'COMPENSATED') = (ledger_reference <> '')", name="compensations_name_their_movement"),
)
_indexes(claims, "claims", "claim_id")
Index("one_open_claim_a_trade", claims.c.trade_id, unique=True, postgresql_where=text("end_time IS NULL"))
