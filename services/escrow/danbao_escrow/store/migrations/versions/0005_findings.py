"""What the arbiter of a claim found.

Expands only: a replica of the version before does not know the column and writes its claims with the default, which
counts as fraud where something was awarded, as it did before.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE claims ADD COLUMN finding TEXT NOT NULL DEFAULT 'UNSPECIFIED'",
    "ALTER TABLE claims ADD CONSTRAINT claim_finding_is_known CHECK (finding IN ('UNSPECIFIED', 'FRAUD', 'NOT_FRAUD'))",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
