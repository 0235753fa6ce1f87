"""For whom a deposit is funded. Expands only: a replica of the version before leaves it empty, and payments takes its
steps as it did."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COLUMNS = ("for_partner", "for_subject")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _COLUMNS:
        op.add_column("deposit_steps", sa.Column(name, sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("deposit_steps", name)
