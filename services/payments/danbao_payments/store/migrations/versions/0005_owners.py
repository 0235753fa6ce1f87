"""Owners: which partner has brought a subject, kept once; beside each account, and whose each payment is.

Expands only. What was there before is nobody's: open to every partner until one acts for it, or an operator says whose.
"""

from alembic import context, op

from danbao_kit.migrations import grant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Owners never change hands.
_GRANTS = {"owners": "SELECT, INSERT"}

_STATEMENTS = (
    "SET LOCAL lock_timeout = '5s'",
    """
    CREATE TABLE owners (
        owner TEXT NOT NULL,
        partner TEXT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        brought_by TEXT NOT NULL,
        PRIMARY KEY (owner),
        CONSTRAINT only_subjects_are_brought CHECK (owner LIKE 'subjects/%'),
        CONSTRAINT somebody_brings_an_owner CHECK (partner <> '')
    )
    """,
    # A default that is a constant is no rewrite, and the version before writes rows without it.
    "ALTER TABLE accounts ADD COLUMN partner TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE payments ADD COLUMN partner TEXT NOT NULL DEFAULT ''",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    grant(op.get_bind(), context.config.attributes["role"], _GRANTS)
