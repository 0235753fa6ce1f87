"""Consents, appeals and accesses; and what the service's role needs to forget a subject."""

import sqlalchemy as sa
from alembic import context, op

from danbao_kit.migrations import grant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "consents",
        sa.Column("consent_id", sa.Uuid, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("partner", sa.Text, nullable=False),
        sa.Column("grant_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True)),
        sa.Column("granted_by", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("revoke_time", sa.DateTime(timezone=True)),
        sa.Column("revoked_by", sa.Text, nullable=False),
        sa.CheckConstraint("expire_time > grant_time", name="a_consent_lasts"),
        sa.CheckConstraint("revoke_time >= grant_time", name="a_consent_ends_after_it_began"),
        sa.CheckConstraint("(revoke_time IS NULL) = (revoked_by = '')", name="who_ends_a_consent_is_known"),
    )
    op.create_index("consents_subject", "consents", ["subject", "consent_id"])
    op.create_index(
        "one_consent_stands",
        "consents",
        ["subject", "purpose", "partner"],
        unique=True,
        postgresql_where=sa.text("revoke_time IS NULL"),
    )
    op.create_table(
        "appeals",
        sa.Column("appeal_id", sa.Uuid, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("target_kind", sa.Text, nullable=False),
        sa.Column("target_code", sa.Text, nullable=False),
        sa.Column("target_reference", sa.Text, nullable=False),
        sa.Column("target_source", sa.Text),
        sa.Column("target_number", sa.BigInteger),
        sa.Column("statement", sa.Text, nullable=False),
        # JSON: uri, sha256, size_bytes, media_type and note of each.
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("filed_by", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        # JSON: source and number of each.
        sa.Column("reversed_events", sa.Text, nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.CheckConstraint("state IN ('FILED', 'UPHELD', 'DISMISSED', 'WITHDRAWN')", name="state_is_known"),
        sa.CheckConstraint("(state = 'FILED') = (end_time IS NULL)", name="only_a_filed_appeal_is_open"),
        sa.CheckConstraint("(target_kind = 'event') = (target_number IS NOT NULL)", name="an_event_has_a_number"),
    )
    op.create_index("appeals_subject", "appeals", ["subject", "appeal_id"])
    op.create_index("appeals_filed_by", "appeals", ["filed_by", "appeal_id"])
    op.create_table(
        "score_accesses",
        sa.Column("access_id", sa.Uuid, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("trace_id", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("score_accesses_subject", "score_accesses", ["subject", "access_id"])
    # Why somebody was erased, and under which secret its hash was made.
    op.add_column("tombstones", sa.Column("reason", sa.Text, nullable=False, server_default=""))
    op.add_column("tombstones", sa.Column("secret_mark", sa.LargeBinary, nullable=False, server_default=""))
    # What was recorded while somebody looked for a name is looked through under the lock.
    op.create_index("request_records_create_time", "request_records", ["create_time"])
    grant(
        op.get_bind(),
        context.config.attributes["role"],
        {
            # A consent is written once and ended once; rows go with their subject only.
            "consents": "SELECT, INSERT, UPDATE (revoke_time, revoked_by), DELETE",
            "appeals": "SELECT, INSERT, UPDATE (state, decided_by, decision, reversed_events, end_time), DELETE",
            "score_accesses": "SELECT, INSERT, DELETE",
            # Of an erased subject: what was answered and told, and what could not be understood, loses its words.
            "tombstones": "UPDATE (reason)",
            "memberships": "DELETE",
            "deposit_steps": "DELETE",
            "deposits": "DELETE",
            "deposit_movements": "DELETE",
            "claim_counts": "DELETE",
            "request_records": "UPDATE (caller, request_id)",
            "events": "UPDATE (kind, payload)",
            "parked_events": "UPDATE (reason, payload)",
        },
    )
