"""When a timer has to look at which trade, in a table of its own; and room to change a trade where it lies.

Every change of a trade moved its deadline, and with it the row in every index. Expands only: a replica of the version
before goes on writing `trades.deadline_at` and is looked at by it; what this one writes is null there.
"""

from alembic import context, op

from danbao_kit.migrations import grant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE trade_deadlines (
        trade_id UUID NOT NULL,
        deadline_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (trade_id)
    )
    """,
    "CREATE INDEX trade_deadlines_by_time ON trade_deadlines (deadline_at)",
    "ALTER TABLE trades SET (fillfactor = 50)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
    grant(op.get_bind(), context.config.attributes["role"], {"trade_deadlines": "SELECT, INSERT, UPDATE, DELETE"})
