"""A buyer's fee, lines that settle in parts, what a step and a timeline's entry are about, and lists of trades.

Expands only: a replica of the version before still writes its rows, with the defaults in the new columns.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("trades", "buyer_fee_minor", "BIGINT NOT NULL DEFAULT 0"),
    ("trades", "buyer_fee_released_minor", "BIGINT NOT NULL DEFAULT 0"),
    ("trades", "buyer_fee_refunded_minor", "BIGINT NOT NULL DEFAULT 0"),
    ("trades", "open_cases", "INTEGER NOT NULL DEFAULT 0"),
    ("trades", "adjust_time", "TIMESTAMP WITH TIME ZONE"),
    ("trades", "deadline_time", "TIMESTAMP WITH TIME ZONE"),
    ("trades", "remind_time", "TIMESTAMP WITH TIME ZONE"),
    ("steps", "subject", "TEXT NOT NULL DEFAULT ''"),
    ("timeline_entries", "subject", "TEXT NOT NULL DEFAULT ''"),
)

# The first two replace those of the same name: without a buyer's fee they say the same.
_RENEWED = ("funded_whole_or_not", "fees_are_part_of_what_is_released")
_CHECKS = {
    "funded_whole_or_not": "funded_minor IN (0, total_minor + buyer_fee_minor)",
    "fees_are_part_of_what_is_released": "fees_minor BETWEEN buyer_fee_released_minor AND released_minor",
    "the_buyers_fee_moves_once": (
        "buyer_fee_released_minor >= 0 AND buyer_fee_refunded_minor BETWEEN 0 AND refunded_minor"
        " AND buyer_fee_released_minor + buyer_fee_refunded_minor <= buyer_fee_minor"
    ),
    "cases_are_counted": "open_cases >= 0",
}

_INDEXES = (
    ("trades_by_buyer", "(buyer, create_time, trade_id)"),
    ("trades_by_seller", "(seller, create_time, trade_id)"),
    ("trades_by_partner", "(partner, create_time, trade_id)"),
    ("trades_by_creation", "(create_time, trade_id)"),
    ("trades_with_open_cases", "(create_time, trade_id) WHERE open_cases > 0"),
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, column, definition in _COLUMNS:
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")
    for name in _RENEWED:
        op.execute(f"ALTER TABLE trades DROP CONSTRAINT {name}")
    for name, condition in _CHECKS.items():
        op.execute(f"ALTER TABLE trades ADD CONSTRAINT {name} CHECK ({condition})")
    for name, columns in _INDEXES:
        op.execute(f"CREATE INDEX {name} ON trades {columns}")
    # Near enough until the trade is next written: what is kept back is counted too.
    op.execute("UPDATE trades SET deadline_time = deadline_at WHERE deadline_at IS NOT NULL")
