"""For whom a step asks for a payer's money.

Expands only: of steps from before, and of those that a replica of the version before sets, nothing is said, and
payments takes them as it did.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "ALTER TABLE steps ADD COLUMN for_partner TEXT NOT NULL DEFAULT '',"
        " ADD COLUMN for_subject TEXT NOT NULL DEFAULT ''"
    )
