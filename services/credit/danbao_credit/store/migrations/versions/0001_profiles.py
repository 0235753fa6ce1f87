"""Profiles, what came of reading the streams, and parked events."""

import sqlalchemy as sa
from alembic import context, op

from danbao_kit.migrations import create_kit_tables, grant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    role = context.config.attributes["role"]
    create_kit_tables(connection, role)
    op.create_table(
        "subjects",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("profile", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "stream_counts",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("applied", sa.BigInteger, nullable=False),
        sa.Column("duplicates", sa.BigInteger, nullable=False),
        sa.Column("parked", sa.BigInteger, nullable=False),
        sa.Column("last_event_time", sa.DateTime(timezone=True)),
        sa.CheckConstraint("applied >= 0 AND duplicates >= 0 AND parked >= 0", name="counts_are_not_negative"),
    )
    op.create_table(
        "parked_events",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("park_time", sa.DateTime(timezone=True), nullable=False),
    )
    grant(
        connection,
        role,
        {
            "subjects": "SELECT, INSERT, UPDATE (profile)",
            "stream_counts": "SELECT, INSERT, UPDATE (applied, duplicates, parked, last_event_time)",
            "parked_events": "SELECT, INSERT",
        },
    )
