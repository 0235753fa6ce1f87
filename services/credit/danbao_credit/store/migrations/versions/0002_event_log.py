"""The log of what was told, checkpoints, reports of other teams, and who was erased.

Profiles that were lived before the log become checkpoints, so that checkpoint and log give every profile.
"""

import sqlalchemy as sa
from alembic import context, op

from danbao_kit.migrations import grant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    op.create_table(
        "event_log",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("measures", sa.Text, nullable=False),
        sa.Column("sign", sa.SmallInteger, nullable=False),
        sa.CheckConstraint("sign IN (-1, 1)", name="a_row_adds_or_takes_back"),
        sa.CheckConstraint("at_us >= 0", name="time_begins_with_the_epoch"),
    )
    # Rows come about in the order of time: a few bytes a hundred pages find the old ones.
    op.execute("CREATE INDEX event_log_at_us ON event_log USING brin (at_us) WITH (autosummarize = on)")
    op.create_table(
        "checkpoints",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("profile", sa.LargeBinary, nullable=False),
        sa.Column("through_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("peer", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("measures", sa.Text, nullable=False),
        sa.Column("reverses", sa.BigInteger),
        sa.Column("reversed_by", sa.BigInteger),
    )
    for party in ("subject", "peer"):
        op.create_index(f"reports_{party}", "reports", [party], postgresql_where=sa.text(f"{party} IS NOT NULL"))
    op.create_table(
        "tombstones",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("erase_us", sa.BigInteger, nullable=False),
        sa.Column("payments_sequence", sa.BigInteger, nullable=False),
        sa.Column("escrow_sequence", sa.BigInteger, nullable=False),
        sa.Column("reports_number", sa.BigInteger, nullable=False),
    )
    op.add_column("stream_counts", sa.Column("erased", sa.BigInteger, nullable=False, server_default="0"))
    op.create_check_constraint("erased_is_not_negative", "stream_counts", "erased >= 0")
    op.execute(
        "INSERT INTO checkpoints (subject, profile, through_us) SELECT subject, profile, coalesce("
        "(SELECT (extract(epoch FROM max(last_event_time)) * 1000000)::bigint FROM stream_counts), 0) FROM subjects"
    )
    grant(
        connection,
        context.config.attributes["role"],
        {
            # Rows are never changed. They go when they are folded into a checkpoint, or with an erased subject.
            "event_log": "SELECT, INSERT, DELETE",
            "checkpoints": "SELECT, INSERT, DELETE, UPDATE (profile, through_us)",
            # A report is kept for good, so that its id stays taken; of an erased subject only that.
            "reports": "SELECT, INSERT, UPDATE (subject, peer, about, measures, reversed_by)",
            "tombstones": "SELECT, INSERT, UPDATE (erase_us, payments_sequence, escrow_sequence, reports_number)",
            "subjects": "DELETE",
            "stream_counts": "UPDATE (erased)",
        },
    )
