"""Which partner told a report. Expands only: a replica of the version before leaves it empty, as an officer's is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("reports", sa.Column("teller", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("reports", "teller")
