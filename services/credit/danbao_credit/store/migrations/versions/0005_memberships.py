"""Memberships, deposits with their movements and money steps, and counts of claims."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from danbao_kit.migrations import grant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memberships",
        sa.Column("membership_id", sa.Uuid, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("partner", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("currencies", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("required_minor", postgresql.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("causes", postgresql.JSONB, nullable=False),
        sa.Column("notice_end_time", sa.DateTime(timezone=True)),
        sa.Column("join_time", sa.DateTime(timezone=True)),
        sa.Column("leave_time", sa.DateTime(timezone=True)),
        sa.Column("last_step", sa.Integer, nullable=False),
        sa.Column("pending_step", sa.Integer, nullable=False),
        sa.Column("step_refusal", sa.Text, nullable=False),
        sa.Column("look_time", sa.DateTime(timezone=True)),
        sa.Column("look_cause", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state IN ('AWAITING_DEPOSIT', 'ACTIVE', 'NOTICE', 'SUSPENDED', 'LEAVING', 'LEFT')", name="known_state"
        ),
        sa.CheckConstraint("cardinality(currencies) = cardinality(required_minor)", name="a_requirement_a_currency"),
        sa.CheckConstraint("(state = 'NOTICE') = (notice_end_time IS NOT NULL)", name="a_notice_has_an_end"),
        sa.CheckConstraint("state <> 'ACTIVE' OR join_time IS NOT NULL", name="the_active_have_joined"),
        sa.CheckConstraint("state <> 'LEFT' OR pending_step = 0", name="who_left_has_no_money_under_way"),
    )
    going_on = sa.text("state <> 'LEFT'")
    op.create_index("memberships_subject", "memberships", ["subject"], unique=True, postgresql_where=going_on)
    op.create_index(
        "memberships_look_time", "memberships", ["look_time"], postgresql_where=sa.text("look_time IS NOT NULL")
    )
    op.create_index("memberships_create_time", "memberships", ["create_time", "membership_id"])
    op.create_table(
        "deposits",
        sa.Column("account", sa.Uuid, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("balance_minor", sa.BigInteger, nullable=False),
    )
    op.create_index("deposits_subject", "deposits", ["subject"])
    op.create_table(
        "deposit_movements",
        sa.Column("account", sa.Uuid, primary_key=True),
        sa.Column("transaction_id", sa.Uuid, primary_key=True),
        sa.Column("credited_minor", sa.BigInteger, nullable=False),
        sa.Column("debited_minor", sa.BigInteger, nullable=False),
        sa.CheckConstraint("credited_minor >= 0 AND debited_minor >= 0", name="amounts_have_no_sign"),
    )
    op.create_table(
        "claim_counts",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("opened", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger, nullable=False),
        sa.Column("last_end_time", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "deposit_steps",
        sa.Column("membership_id", sa.Uuid, sa.ForeignKey("memberships.membership_id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("counter_kind", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("claim", sa.Integer, nullable=False),
        sa.Column("refusals", sa.Integer, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False),
        sa.Column("transaction", sa.Text, nullable=False),
        # Whose request waits for the end; null when none does.
        sa.Column("request", postgresql.JSONB),
        sa.Column("traceparent", sa.Text, nullable=False),
        # Real time from which anybody may try it.
        sa.Column("attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settle_time", sa.DateTime(timezone=True)),
        sa.CheckConstraint("state IN ('PENDING', 'DONE', 'REFUSED')", name="known_state"),
        sa.CheckConstraint("amount_minor > 0", name="something_moves"),
        sa.CheckConstraint("(state = 'DONE') = (transaction <> '')", name="done_steps_name_their_transaction"),
    )
    pending = sa.text("state = 'PENDING'")
    op.create_index("deposit_steps_to_attempt", "deposit_steps", ["attempt_at"], postgresql_where=pending)
    changes = (
        "state, required_minor, causes, notice_end_time, join_time, leave_time, last_step, pending_step, step_refusal,"
        " look_time, look_cause, update_time, revision"
    )
    step_changes = "state, generation, claim, amount_minor, refusals, refusal, transaction, settle_time, attempt_at"
    grant(
        op.get_bind(),
        context.config.attributes["role"],
        {
            "memberships": f"SELECT, INSERT, UPDATE ({changes})",
            "deposits": "SELECT, INSERT, UPDATE (balance_minor)",
            "deposit_movements": "SELECT, INSERT",
            "claim_counts": "SELECT, INSERT, UPDATE (opened, ended, last_end_time)",
            "deposit_steps": f"SELECT, INSERT, UPDATE ({step_changes})",
        },
    )
