"""Bounds: the times that a posting may count at. PostgreSQL knows times that no reader of the books can show."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_WITHIN = "CHECK (effective_time >= '1970-01-01T00:00:00Z' AND effective_time < '3000-01-01T00:00:00Z') NOT VALID"

# NOT VALID: every row written from now on is bound, and no old row is read under the table's lock.
_STATEMENTS = (
    "SET LOCAL lock_timeout = '5s'",
    f"ALTER TABLE transactions ADD CONSTRAINT a_transaction_counts_at_a_time_that_is_one {_WITHIN}",
    f"ALTER TABLE transfers ADD CONSTRAINT a_transfer_counts_at_a_time_that_is_one {_WITHIN}",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
