"""The log of privileged actions: who did what by a privilege, upon what and why, chained by hashes.

Expands only: a replica of the version before writes no entries; the log begins with the first of this one.
"""

from alembic import context, op

from danbao_kit.action_tables import create_action_tables

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    connection, role = op.get_bind(), context.config.attributes["role"]
    create_action_tables(connection, role)
