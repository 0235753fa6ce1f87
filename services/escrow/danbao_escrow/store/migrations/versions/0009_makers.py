"""On whose behalf a trade was made, and whether by its partner.

Expands only: of trades from before, and of those that a replica of the version before makes, nothing is said, and they
count as made by their partner for the buyer, as nearly all are.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "ALTER TABLE trades ADD COLUMN made_by TEXT NOT NULL DEFAULT '',"
        " ADD COLUMN made_by_partner BOOLEAN NOT NULL DEFAULT false"
    )
