"""Payments over rails, chargebacks, checkouts, and what payments' events told.

Expands only: a replica of the version before knows none of it and writes its trades with the defaults.
"""

from alembic import context, op

from danbao_kit.migrations import grant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_GRANTS = {
    "checkouts": "SELECT, INSERT, UPDATE",
    "payment_movements": "SELECT, INSERT",
    "parked_payment_events": "SELECT, INSERT",
}

_STATEMENTS = (
    "ALTER TABLE trades ADD COLUMN rail TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE trades ADD COLUMN payment_pending BOOLEAN NOT NULL DEFAULT false",
    "ALTER TABLE trades ADD COLUMN checkout TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE trades ADD COLUMN charged_back_minor BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE trades ADD COLUMN chargeback_due_minor BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE trades ADD COLUMN chargeback_due TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE trades ADD CONSTRAINT chargebacks_are_not_negative"
    " CHECK (charged_back_minor >= 0 AND chargeback_due_minor >= 0)",
    "ALTER TABLE trades ADD CONSTRAINT what_is_on_its_way_has_a_name"
    " CHECK (NOT payment_pending OR (payment <> '' AND rail <> ''))",
    """
    CREATE TABLE checkouts (
        checkout_id UUID NOT NULL,
        state TEXT NOT NULL,
        buyer TEXT NOT NULL,
        partner TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        trade_ids JSONB NOT NULL,
        amount_minor BIGINT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        generation INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        payment TEXT NOT NULL,
        rail TEXT NOT NULL,
        refusal TEXT NOT NULL,
        end_time TIMESTAMP WITH TIME ZONE,
        revision INTEGER NOT NULL,
        PRIMARY KEY (checkout_id),
        CONSTRAINT checkout_state_is_known CHECK (state IN ('OPEN', 'PAYING', 'PAID', 'VOID')),
        CONSTRAINT checkout_counts CHECK (amount_minor > 0 AND generation >= 0 AND waiting >= 0)
    )
    """,
    """
    CREATE TABLE payment_movements (
        event_sequence BIGINT NOT NULL,
        trade_id UUID NOT NULL,
        reference TEXT NOT NULL,
        payment TEXT NOT NULL,
        kind TEXT NOT NULL,
        step INTEGER NOT NULL,
        currency CHAR(3) NOT NULL,
        in_minor BIGINT NOT NULL,
        out_minor BIGINT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (event_sequence, trade_id),
        CONSTRAINT movements_move_something CHECK (in_minor >= 0 AND out_minor >= 0)
    )
    """,
    "CREATE INDEX payment_movements_by_trade ON payment_movements (trade_id)",
    """
    CREATE TABLE parked_payment_events (
        sequence BIGINT NOT NULL,
        reason TEXT NOT NULL,
        payload BYTEA NOT NULL,
        park_time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (sequence)
    )
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
    grant(op.get_bind(), context.config.attributes["role"], _GRANTS)
