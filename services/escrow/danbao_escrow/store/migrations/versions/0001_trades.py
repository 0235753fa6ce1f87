"""Trades with their lines, money steps, timelines, and the kit's tables."""

from alembic import context, op

from danbao_escrow.store.tables import GRANTS, metadata
from danbao_kit.migrations import create_kit_tables, grant

revision = "0001"
down_revision = None


def upgrade() -> None:
    connection = op.get_bind()
    role = context.config.attributes["role"]
    create_kit_tables(connection, role)
    metadata.create_all(connection)
    grant(connection, role, GRANTS)
