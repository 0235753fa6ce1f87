"""How much was left out because whom it told of took no part in it. Expands only: a replica of the version before
leaves it as it is."""

import sqlalchemy as sa
from alembic import context, op

from danbao_kit.migrations import grant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("stream_counts", sa.Column("hearsay", sa.BigInteger, nullable=False, server_default="0"))
    op.create_check_constraint("hearsay_is_not_negative", "stream_counts", "hearsay >= 0")
    grant(op.get_bind(), context.config.attributes["role"], {"stream_counts": "UPDATE (hearsay)"})


def downgrade() -> None:
    op.drop_column("stream_counts", "hearsay")
