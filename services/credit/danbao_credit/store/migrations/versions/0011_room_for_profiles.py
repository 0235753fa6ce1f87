"""Room on each page of profiles for their next version, which then needs no entry in the index.

Nine of ten profiles used to move to another page with each chunk of events, because new pages were filled to the brim.
Nothing else changes: a replica of the version before does not notice. What is there keeps its pages until it changes.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE subjects SET (fillfactor = 50)")
    op.execute("ALTER TABLE scores SET (fillfactor = 70)")
