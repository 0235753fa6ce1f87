"""Reconciliation: statements of rails, what they were matched with, and the breaks between them and the books."""

from alembic import context, op

from danbao_kit.migrations import grant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What a rail said, and what it was matched with, is written once; whether a break is explained changes.
_GRANTS = {
    "reconciliations": "SELECT, INSERT, UPDATE",
    "statement_lines": "SELECT, INSERT",
    "reconciled_movements": "SELECT, INSERT",
    "reconciliation_items": "SELECT, INSERT, UPDATE",
}

_STATEMENTS = (
    "SET LOCAL lock_timeout = '5s'",
    """
    CREATE TABLE reconciliations (
        id UUID NOT NULL,
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        rail TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        start_time TIMESTAMP WITH TIME ZONE NOT NULL,
        end_time TIMESTAMP WITH TIME ZONE NOT NULL,
        source TEXT NOT NULL,
        movements_from TIMESTAMP WITH TIME ZONE NOT NULL,
        movements_until TIMESTAMP WITH TIME ZONE NOT NULL,
        ledger_sequence BIGINT NOT NULL,
        lines INTEGER NOT NULL,
        in_minor BIGINT NOT NULL,
        out_minor BIGINT NOT NULL,
        matched_lines INTEGER NOT NULL,
        matched_movements INTEGER NOT NULL,
        matched_minor BIGINT NOT NULL,
        breaks JSONB NOT NULL,
        open_items INTEGER NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT a_rail_s_statements_come_one_by_one UNIQUE (rail, number),
        CONSTRAINT reconciliation_state_is_known CHECK (state IN ('OPEN', 'RESOLVED')),
        CONSTRAINT an_open_reconciliation_has_open_items
            CHECK (open_items >= 0 AND (state = 'OPEN') = (open_items > 0)),
        CONSTRAINT a_statement_has_a_time CHECK (start_time < end_time AND movements_from <= movements_until),
        CONSTRAINT matched_lines_are_lines
            CHECK (0 <= matched_lines AND matched_lines <= lines AND matched_minor <= in_minor + out_minor)
    )
    """,
    """
    CREATE TABLE statement_lines (
        reconciliation_id UUID NOT NULL,
        position INTEGER NOT NULL,
        rail TEXT NOT NULL,
        external_id TEXT NOT NULL,
        direction TEXT NOT NULL,
        amount_minor BIGINT NOT NULL,
        booking_date DATE NOT NULL,
        reference TEXT NOT NULL,
        description TEXT NOT NULL,
        match_number INTEGER,
        item_number INTEGER,
        PRIMARY KEY (reconciliation_id, position),
        CONSTRAINT statement_direction_is_known CHECK (direction IN ('IN', 'OUT')),
        CONSTRAINT a_line_moves_something CHECK (amount_minor > 0),
        CONSTRAINT a_line_is_matched_or_an_item_s CHECK ((match_number IS NULL) <> (item_number IS NULL))
    )
    """,
    """
    CREATE INDEX statement_lines_by_external_id ON statement_lines (rail, external_id)
    """,
    """
    CREATE INDEX matched_lines_by_reference ON statement_lines (rail, reference) WHERE match_number IS NOT NULL
    """,
    # Matched, or in an item; what is in an item may still be matched by a later statement.
    """
    CREATE TABLE reconciled_movements (
        reconciliation_id UUID NOT NULL,
        transaction_id UUID NOT NULL,
        direction TEXT NOT NULL,
        name TEXT NOT NULL,
        amount_minor BIGINT NOT NULL,
        match_number INTEGER,
        item_number INTEGER,
        PRIMARY KEY (reconciliation_id, transaction_id, direction),
        CONSTRAINT movement_direction_is_known CHECK (direction IN ('IN', 'OUT')),
        CONSTRAINT a_movement_is_matched_or_an_item_s CHECK ((match_number IS NULL) <> (item_number IS NULL))
    )
    """,
    """
    CREATE UNIQUE INDEX a_movement_is_matched_once ON reconciled_movements (transaction_id, direction)
        WHERE match_number IS NOT NULL
    """,
    """
    CREATE INDEX movements_of_items ON reconciled_movements (transaction_id, direction) WHERE item_number IS NOT NULL
    """,
    """
    CREATE TABLE reconciliation_items (
        reconciliation_id UUID NOT NULL,
        number INTEGER NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        direction TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        lines_minor BIGINT NOT NULL,
        movements_minor BIGINT NOT NULL,
        lines JSONB NOT NULL,
        line_count INTEGER NOT NULL,
        movements JSONB NOT NULL,
        movement_count INTEGER NOT NULL,
        transaction_id UUID,
        reason TEXT NOT NULL,
        resolved_by TEXT NOT NULL,
        resolve_time TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (reconciliation_id, number),
        CONSTRAINT item_state_is_known CHECK (state IN ('OPEN', 'RESOLVED')),
        CONSTRAINT item_kind_is_known
            CHECK (kind IN ('AMOUNT_DIFFERS', 'DUPLICATE', 'MISSING_HERE', 'MISSING_THERE')),
        CONSTRAINT item_direction_is_known CHECK (direction IN ('IN', 'OUT')),
        CONSTRAINT what_is_resolved_says_how
            CHECK ((state = 'RESOLVED') = (resolve_time IS NOT NULL)
                AND (state = 'RESOLVED') = (transaction_id IS NOT NULL OR reason <> ''))
    )
    """,
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in _STATEMENTS:
        op.execute(statement)
    grant(connection, context.config.attributes["role"], _GRANTS)
