"""Marks, scores and their history; and a version of each profile, so that a score knows from which one it was made.

Expands only: a replica of the version before writes profiles without counting their version; whoever scores finds those
subjects again within a day of business time.
"""

import sqlalchemy as sa
from alembic import context, op

from danbao_kit.migrations import grant

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("subjects", sa.Column("version", sa.BigInteger, nullable=False, server_default="1"))
    op.create_table(
        "marks",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("reference", sa.Text, primary_key=True),
        sa.Column("begins", sa.Text, nullable=False),
        sa.Column("ends", sa.Text, nullable=False),
        sa.Column("grade", sa.Text),
    )
    op.create_table(
        "scores",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("score", sa.Integer, nullable=False),
        sa.Column("grade", sa.Text, nullable=False),
        sa.Column("blocked", sa.Boolean, nullable=False),
        sa.Column("sub_scores", sa.Text, nullable=False),
        sa.Column("reason_codes", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("look_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("profile_version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("score BETWEEN 350 AND 950", name="scores_are_on_the_scale"),
    )
    op.create_index("scores_look_time", "scores", ["look_time"])
    op.create_table(
        "score_history",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("create_time", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("score", sa.Integer, nullable=False),
        sa.Column("grade", sa.Text, nullable=False),
        sa.Column("blocked", sa.Boolean, nullable=False),
        sa.Column("previous_score", sa.Integer),
        sa.Column("previous_grade", sa.Text),
        sa.Column("previously_blocked", sa.Boolean),
        sa.Column("sub_scores", sa.Text, nullable=False),
        sa.Column("reason_codes", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
    )
    # In the order in which it was recorded, for whoever watches.
    op.create_index("score_history_create_time", "score_history", ["create_time", "subject", "kind"])
    grant(
        op.get_bind(),
        context.config.attributes["role"],
        {
            "subjects": "UPDATE (version)",
            # What was told of a mark is kept; it goes with an erased subject.
            "marks": "SELECT, INSERT, DELETE, UPDATE (begins, ends, grade)",
            "scores": "SELECT, INSERT, UPDATE, DELETE",
            # Append-only; only an erased subject's goes.
            "score_history": "SELECT, INSERT, DELETE",
        },
    )
