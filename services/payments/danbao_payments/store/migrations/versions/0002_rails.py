"""Rails: withdrawals, refunds over rails of any source, settlement, and payments that a rail brings.

`top_up_refunds` is copied into `rail_refunds` and then no longer used; a later migration drops it. The service loses
its right to write it: a version that still did would book what this one books from the copy, a second time. While both
run, RefundTopUp fails at the old one, moves nothing there, and succeeds at the new one under the same request id.
"""

from alembic import context, op

from danbao_kit.migrations import grant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_GRANTS = {
    "withdrawals": "SELECT, INSERT, UPDATE",
    "rail_refunds": "SELECT, INSERT, UPDATE",
}

_STATEMENTS = (
    "SET LOCAL lock_timeout = '5s'",
    """
    CREATE TABLE withdrawals (
        id UUID NOT NULL,
        state TEXT NOT NULL,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        rail TEXT NOT NULL,
        instrument TEXT NOT NULL,
        rail_reference TEXT NOT NULL,
        failure TEXT NOT NULL,
        metadata JSONB NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        request_caller TEXT NOT NULL,
        request_method TEXT NOT NULL,
        request_id TEXT NOT NULL,
        traceparent TEXT NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT withdrawal_state_is_known
            CHECK (state IN ('FAILED', 'PENDING', 'RETURNED', 'SUCCEEDED', 'UNKNOWN')),
        CONSTRAINT withdrawal_kind_is_known CHECK (kind IN ('seller.payable', 'user.available')),
        CONSTRAINT a_withdrawal_moves_something CHECK (amount_minor > 0)
    )
    """,
    """
    CREATE INDEX unanswered_withdrawals ON withdrawals (recorded_at) WHERE state IN ('PENDING', 'UNKNOWN')
    """,
    """
    CREATE TABLE rail_refunds (
        id UUID NOT NULL,
        top_up_id UUID,
        payment_id UUID,
        state TEXT NOT NULL,
        owner TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        rail TEXT NOT NULL,
        instrument TEXT NOT NULL,
        charge_reference TEXT NOT NULL,
        rail_reference TEXT NOT NULL,
        failure TEXT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        request_caller TEXT NOT NULL,
        request_method TEXT NOT NULL,
        request_id TEXT NOT NULL,
        traceparent TEXT NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT rail_refund_state_is_known
            CHECK (state IN ('PENDING', 'REFUSED', 'RETURNED', 'SETTLED', 'UNKNOWN')),
        CONSTRAINT a_rail_refund_has_one_source CHECK ((top_up_id IS NULL) <> (payment_id IS NULL)),
        CONSTRAINT a_rail_refund_moves_something CHECK (amount_minor > 0)
    )
    """,
    """
    CREATE INDEX unanswered_rail_refunds ON rail_refunds (recorded_at) WHERE state IN ('PENDING', 'UNKNOWN')
    """,
    """
    CREATE INDEX rail_refunds_by_payment ON rail_refunds (payment_id, id) WHERE payment_id IS NOT NULL
    """,
    """
    LOCK TABLE top_up_refunds IN SHARE MODE
    """,
    """
    INSERT INTO rail_refunds (id, top_up_id, state, owner, currency, amount_minor, rail, instrument, charge_reference,
        rail_reference, failure, create_time, update_time, request_caller, request_method, request_id, traceparent,
        recorded_at)
    SELECT back.id, top_up_id, back.state, owner, currency, back.amount_minor, rail, instrument, top_ups.rail_reference,
        back.rail_reference, '', back.create_time, back.update_time, back.request_caller, back.request_method,
        back.request_id, back.traceparent, back.recorded_at
    FROM top_up_refunds AS back JOIN top_ups ON top_ups.id = top_up_id
    """,
    """
    ALTER TABLE top_ups
        ADD COLUMN settle_time TIMESTAMP WITH TIME ZONE,
        ADD COLUMN returned_minor BIGINT NOT NULL DEFAULT 0,
        ADD CONSTRAINT returns_stay_within_the_top_up CHECK (returned_minor BETWEEN 0 AND amount_minor) NOT VALID
    """,
    """
    CREATE INDEX unanswered_top_ups ON top_ups (recorded_at) WHERE state IN ('PENDING', 'UNKNOWN')
    """,
    """
    ALTER TABLE payments
        ADD COLUMN rail TEXT NOT NULL DEFAULT '',
        ADD COLUMN instrument TEXT NOT NULL DEFAULT '',
        ADD COLUMN rail_reference TEXT NOT NULL DEFAULT '',
        ADD COLUMN failure TEXT NOT NULL DEFAULT '',
        ADD COLUMN charged_back_minor BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN refunds_settled_minor BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN settle_time TIMESTAMP WITH TIME ZONE,
        ADD COLUMN chargeback_from JSONB,
        ADD COLUMN traceparent TEXT NOT NULL DEFAULT '',
        ADD COLUMN recorded_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),
        ALTER COLUMN last_transaction DROP NOT NULL,
        ADD CONSTRAINT a_payment_that_moved_has_a_transaction
            CHECK (state IN ('PENDING', 'DECLINED', 'VOIDED') OR last_transaction IS NOT NULL) NOT VALID,
        ADD CONSTRAINT only_a_rail_leaves_a_payment_pending
            CHECK (state NOT IN ('PENDING', 'DECLINED') OR rail <> '') NOT VALID,
        ADD CONSTRAINT chargebacks_stay_within_the_capture
            CHECK (charged_back_minor BETWEEN 0 AND captured_minor) NOT VALID,
        ADD CONSTRAINT settled_refunds_stay_within_the_payment
            CHECK (refunds_settled_minor BETWEEN 0 AND amount_minor) NOT VALID
    """,
    """
    CREATE INDEX unanswered_payments ON payments (recorded_at)
        WHERE rail <> '' AND last_transaction IS NULL AND failure = ''
    """,
)
# Constraints are NOT VALID: they bind every row written from now on, and no old row is read under the table's lock.
# None of them could break one: there were no rails for payments before.


def upgrade() -> None:
    role = context.config.attributes["role"]
    for statement in _STATEMENTS:
        op.execute(statement)
    op.execute(f'REVOKE INSERT, UPDATE ON top_up_refunds FROM "{role}"')
    grant(op.get_bind(), role, _GRANTS)
