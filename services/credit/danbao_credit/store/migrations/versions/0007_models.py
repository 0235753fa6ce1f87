"""Model versions and what became of them."""

import sqlalchemy as sa
from alembic import context, op

from danbao_kit.migrations import grant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATES = "('DRAFT', 'VALIDATED', 'CHALLENGER', 'CHAMPION', 'RETIRED', 'REJECTED')"


def upgrade() -> None:
    op.create_table(
        "model_versions",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("artefact", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("change_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("findings", sa.dialects.postgresql.JSONB, nullable=False),
        sa.Column("former", sa.Text, nullable=False),
        sa.CheckConstraint(f"state IN {_STATES}", name="a_state_of_the_table"),
    )
    # One champion, one challenger.
    op.create_index(
        "model_versions_alone",
        "model_versions",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state IN ('CHAMPION', 'CHALLENGER')"),
    )
    op.create_table(
        "model_changes",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("change_time", sa.DateTime(timezone=True), primary_key=True),
        # A shipped model takes several steps at one moment.
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    grant(
        op.get_bind(),
        context.config.attributes["role"],
        {
            # Never the artefact: it does not change.
            "model_versions": "SELECT, INSERT, UPDATE (state, change_time, findings, former)",
            "model_changes": "SELECT, INSERT",
        },
    )
