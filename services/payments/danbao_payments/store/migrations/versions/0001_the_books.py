"""The books: accounts, transactions, transfers, payments, top-ups, and the kit's tables."""

from alembic import context, op

from danbao_kit.migrations import create_kit_tables, grant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The ledger is written once: nobody who serves may change or remove a row of it.
_GRANTS = {
    "accounts": "SELECT, INSERT, UPDATE",
    "transactions": "SELECT, INSERT",
    "transfers": "SELECT, INSERT",
    "ledger_batches": "SELECT, INSERT",
    "payments": "SELECT, INSERT, UPDATE",
    "limits": "SELECT, INSERT, UPDATE",
    "limit_usage": "SELECT, INSERT, UPDATE",
    "top_ups": "SELECT, INSERT, UPDATE",
    "top_up_refunds": "SELECT, INSERT, UPDATE",
}

_STATEMENTS = (
    """
    CREATE TABLE accounts (
        id UUID NOT NULL,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        state TEXT NOT NULL,
        rule TEXT NOT NULL,
        debits_pending BIGINT NOT NULL,
        debits_posted BIGINT NOT NULL,
        credits_pending BIGINT NOT NULL,
        credits_posted BIGINT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_account_per_owner_kind_currency UNIQUE (owner, kind, currency),
        CONSTRAINT account_state_is_known CHECK (state IN ('CLOSED', 'FROZEN_ALL', 'FROZEN_DEBITS', 'OPEN')),
        CONSTRAINT account_rule_is_known CHECK (rule IN ('CREDITS_COVER_DEBITS', 'DEBITS_COVER_CREDITS', 'NONE')),
        CONSTRAINT totals_are_not_negative
            CHECK (debits_pending >= 0 AND debits_posted >= 0 AND credits_pending >= 0 AND credits_posted >= 0),
        CONSTRAINT credits_cover_debits
            CHECK (rule <> 'CREDITS_COVER_DEBITS' OR credits_posted - debits_posted - debits_pending >= 0),
        CONSTRAINT debits_cover_credits
            CHECK (rule <> 'DEBITS_COVER_CREDITS' OR debits_posted - credits_posted - credits_pending >= 0)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE payments (
        id UUID NOT NULL,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        payer TEXT NOT NULL,
        payee_owner TEXT NOT NULL,
        payee_kind TEXT NOT NULL,
        beneficiary TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        capture_mode TEXT NOT NULL,
        authorized_minor BIGINT NOT NULL,
        captured_minor BIGINT NOT NULL,
        released_minor BIGINT NOT NULL,
        refunded_minor BIGINT NOT NULL,
        payer_account UUID NOT NULL,
        payee_account UUID NOT NULL,
        hold_id BIGINT,
        expire_time TIMESTAMP WITH TIME ZONE,
        metadata JSONB NOT NULL,
        description TEXT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        last_transaction UUID NOT NULL,
        on_expiry TEXT NOT NULL,
        remainder_policy TEXT NOT NULL,
        parts JSONB,
        PRIMARY KEY (id),
        CONSTRAINT payment_state_is_known
            CHECK (state IN ('PENDING', 'AUTHORIZED', 'PARTIALLY_CAPTURED', 'CAPTURED', 'VOIDED', 'EXPIRED',
                'DECLINED')),
        CONSTRAINT capture_mode_is_known CHECK (capture_mode IN ('AUTOMATIC', 'MANUAL')),
        CONSTRAINT on_expiry_is_known CHECK (on_expiry IN ('CANCEL', 'CAPTURE')),
        CONSTRAINT a_split_says_how_it_rounds
            CHECK ((parts IS NULL) = (remainder_policy = '')
                AND remainder_policy IN ('', 'FIRST', 'LARGEST_REMAINDER')),
        CONSTRAINT a_payment_moves_something CHECK (amount_minor > 0),
        CONSTRAINT refunds_stay_within_the_capture CHECK (refunded_minor BETWEEN 0 AND captured_minor),
        CONSTRAINT captures_stay_within_the_hold
            CHECK (captured_minor >= 0 AND released_minor >= 0
                AND captured_minor + released_minor <= authorized_minor),
        CONSTRAINT only_a_holding_state_has_a_hold
            CHECK ((state IN ('AUTHORIZED', 'PARTIALLY_CAPTURED')) = (hold_id IS NOT NULL))
    )
    """,
    """
    CREATE INDEX payments_by_payer ON payments (payer, id)
    """,
    """
    CREATE INDEX payments_by_payee ON payments (payee_owner, id)
    """,
    """
    CREATE TABLE limits (
        scope TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        per_transaction_minor BIGINT,
        per_day_minor BIGINT,
        per_month_minor BIGINT,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (scope, currency),
        CONSTRAINT limits_are_not_negative
            CHECK (per_transaction_minor >= 0 AND per_day_minor >= 0 AND per_month_minor >= 0)
    )
    """,
    """
    CREATE TABLE limit_usage (
        subject TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        day DATE NOT NULL,
        day_minor BIGINT NOT NULL,
        month_minor BIGINT NOT NULL,
        PRIMARY KEY (subject, currency),
        CONSTRAINT a_month_has_its_days CHECK (0 <= day_minor AND day_minor <= month_minor)
    )
    """,
    """
    CREATE INDEX held_payments_by_account ON payments (payer_account, expire_time) WHERE hold_id IS NOT NULL
    """,
    """
    CREATE INDEX held_payments_by_expiry ON payments (expire_time) WHERE hold_id IS NOT NULL
    """,
    """
    CREATE TABLE top_up_refunds (
        id UUID NOT NULL,
        top_up_id UUID NOT NULL,
        state TEXT NOT NULL,
        amount_minor BIGINT NOT NULL,
        rail_reference TEXT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        request_caller TEXT NOT NULL,
        request_method TEXT NOT NULL,
        request_id TEXT NOT NULL,
        traceparent TEXT NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT top_up_refund_state_is_known CHECK (state IN ('PENDING', 'SETTLED')),
        CONSTRAINT a_top_up_refund_moves_something CHECK (amount_minor > 0)
    )
    """,
    """
    CREATE INDEX pending_top_up_refunds ON top_up_refunds (recorded_at) WHERE state = 'PENDING'
    """,
    """
    CREATE TABLE top_ups (
        id UUID NOT NULL,
        state TEXT NOT NULL,
        owner TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        rail TEXT NOT NULL,
        instrument TEXT NOT NULL,
        rail_reference TEXT NOT NULL,
        failure TEXT NOT NULL,
        refunded_minor BIGINT NOT NULL,
        refunds_settled_minor BIGINT NOT NULL,
        metadata JSONB NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        request_caller TEXT NOT NULL,
        request_method TEXT NOT NULL,
        request_id TEXT NOT NULL,
        traceparent TEXT NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT top_up_state_is_known CHECK (state IN ('FAILED', 'PENDING', 'RETURNED', 'SUCCEEDED', 'UNKNOWN')),
        CONSTRAINT a_top_up_moves_something CHECK (amount_minor > 0),
        CONSTRAINT top_up_refunds_stay_within_the_top_up
            CHECK (0 <= refunds_settled_minor AND refunds_settled_minor <= refunded_minor
                AND refunded_minor <= amount_minor)
    )
    """,
    """
    CREATE INDEX pending_top_ups ON top_ups (recorded_at) WHERE state = 'PENDING'
    """,
    """
    CREATE TABLE transactions (
        id UUID NOT NULL,
        first_sequence BIGINT NOT NULL,
        last_sequence BIGINT NOT NULL,
        description TEXT NOT NULL,
        metadata JSONB NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        effective_time TIMESTAMP WITH TIME ZONE,
        reverses UUID,
        PRIMARY KEY (id),
        CONSTRAINT a_transaction_has_transfers CHECK (first_sequence <= last_sequence)
    )
    """,
    """
    CREATE UNIQUE INDEX a_transaction_is_reversed_once ON transactions (reverses) WHERE reverses IS NOT NULL
    """,
    """
    CREATE INDEX transactions_by_time ON transactions (create_time, last_sequence)
    """,
    """
    CREATE TABLE transfers (
        sequence BIGINT NOT NULL,
        transaction_id UUID NOT NULL,
        kind TEXT NOT NULL,
        debit_account UUID NOT NULL,
        credit_account UUID NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        pending_id BIGINT,
        payment_id UUID,
        purpose TEXT NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        debit_debits_pending BIGINT NOT NULL,
        debit_debits_posted BIGINT NOT NULL,
        debit_credits_pending BIGINT NOT NULL,
        debit_credits_posted BIGINT NOT NULL,
        credit_debits_pending BIGINT NOT NULL,
        credit_debits_posted BIGINT NOT NULL,
        credit_credits_pending BIGINT NOT NULL,
        credit_credits_posted BIGINT NOT NULL,
        effective_time TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (sequence),
        CONSTRAINT a_transfer_moves_something CHECK (amount_minor > 0),
        CONSTRAINT a_transfer_has_two_sides CHECK (debit_account <> credit_account),
        CONSTRAINT transfer_kind_is_known CHECK (kind IN ('EXPIRE', 'PENDING', 'POST', 'POSTED', 'VOID')),
        CONSTRAINT transfer_purpose_is_known
            CHECK (purpose IN ('', 'CHARGEBACK', 'COMPENSATION', 'DISPUTE', 'REFUND')),
        CONSTRAINT what_ends_a_hold_names_it CHECK ((kind IN ('POST', 'VOID', 'EXPIRE')) = (pending_id IS NOT NULL))
    )
    """,
    """
    CREATE UNIQUE INDEX a_hold_ends_once ON transfers (pending_id) WHERE pending_id IS NOT NULL
    """,
    """
    CREATE INDEX transfers_by_credit_account ON transfers (credit_account, sequence)
    """,
    """
    CREATE INDEX dated_transfers_by_credit_account ON transfers (credit_account, effective_time, sequence)
        WHERE effective_time IS NOT NULL
    """,
    """
    CREATE INDEX dated_transfers_by_debit_account ON transfers (debit_account, effective_time, sequence)
        WHERE effective_time IS NOT NULL
    """,
    """
    CREATE TABLE ledger_batches (
        last_sequence BIGINT NOT NULL,
        first_sequence BIGINT NOT NULL,
        row_hashes BYTEA NOT NULL,
        hash BYTEA NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (last_sequence),
        CONSTRAINT a_batch_has_transfers CHECK (first_sequence <= last_sequence)
    )
    """,
    """
    CREATE INDEX transfers_by_debit_account ON transfers (debit_account, sequence)
    """,
)


def upgrade() -> None:
    connection = op.get_bind()
    role = context.config.attributes["role"]
    create_kit_tables(connection, role)
    for statement in _STATEMENTS:
        op.execute(statement)
    grant(connection, role, _GRANTS)
