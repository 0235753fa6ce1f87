"""Refund cases, disputes and claims.

Expands only: a replica of the version before knows none of them and writes its trades with the defaults.
"""

from alembic import context, op

from danbao_kit.migrations import grant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_GRANTS = {
    "refund_cases": "SELECT, INSERT, UPDATE",
    "disputes": "SELECT, INSERT, UPDATE",
    "claims": "SELECT, INSERT, UPDATE",
}

_STATEMENTS = (
    "ALTER TABLE trades ADD COLUMN compensated_minor BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE trades ADD COLUMN open_claim TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE trades ADD CONSTRAINT nobody_gets_back_more_than_was_paid"
    " CHECK (compensated_minor >= 0 AND compensated_minor + refunded_minor <= funded_minor)",
    """
    CREATE TABLE refund_cases (
        case_id UUID NOT NULL,
        state TEXT NOT NULL,
        trade_id UUID NOT NULL,
        line_id TEXT NOT NULL,
        buyer TEXT NOT NULL,
        seller TEXT NOT NULL,
        partner TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        postage_minor BIGINT NOT NULL,
        claims_postage BOOLEAN NOT NULL,
        with_return BOOLEAN NOT NULL,
        reason_code TEXT NOT NULL,
        reason TEXT NOT NULL,
        evidence JSONB NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        reject_reason TEXT NOT NULL,
        return_carrier TEXT NOT NULL,
        return_tracking TEXT NOT NULL,
        dispute TEXT NOT NULL,
        refunded_minor BIGINT NOT NULL,
        deadline_time TIMESTAMP WITH TIME ZONE,
        remind_time TIMESTAMP WITH TIME ZONE,
        end_time TIMESTAMP WITH TIME ZONE,
        step_pending BOOLEAN NOT NULL,
        step_blocked BOOLEAN NOT NULL,
        step_refusal TEXT NOT NULL,
        revision INTEGER NOT NULL,
        deadline_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (case_id),
        CONSTRAINT case_amounts CHECK (amount_minor > 0 AND postage_minor >= 0 AND refunded_minor >= 0),
        CONSTRAINT case_state_is_known CHECK (
            state IN (
                'REQUESTED', 'AWAITING_RETURN', 'AWAITING_RECEIPT', 'REJECTED', 'SUCCEEDED', 'WITHDRAWN', 'DISPUTED'
            )
        ),
        CONSTRAINT ended_cases_are_over CHECK (state NOT IN ('SUCCEEDED', 'WITHDRAWN') OR end_time IS NOT NULL),
        CONSTRAINT over_cases_wait_for_none CHECK (end_time IS NULL OR (deadline_at IS NULL AND NOT step_pending)),
        FOREIGN KEY(trade_id) REFERENCES trades (trade_id)
    )
    """,
    "CREATE UNIQUE INDEX one_open_case_a_line ON refund_cases (trade_id, line_id) WHERE end_time IS NULL",
    "CREATE INDEX refund_cases_by_buyer ON refund_cases (buyer, create_time, case_id)",
    "CREATE INDEX refund_cases_by_creation ON refund_cases (create_time, case_id)",
    "CREATE INDEX refund_cases_by_deadline ON refund_cases (deadline_at) WHERE deadline_at IS NOT NULL",
    "CREATE INDEX refund_cases_by_partner ON refund_cases (partner, create_time, case_id)",
    "CREATE INDEX refund_cases_by_seller ON refund_cases (seller, create_time, case_id)",
    "CREATE INDEX refund_cases_by_trade ON refund_cases (trade_id)",
    """
    CREATE TABLE disputes (
        dispute_id UUID NOT NULL,
        state TEXT NOT NULL,
        case_id UUID NOT NULL,
        trade_id UUID NOT NULL,
        line_id TEXT NOT NULL,
        buyer TEXT NOT NULL,
        seller TEXT NOT NULL,
        partner TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        frozen_minor BIGINT NOT NULL,
        reason TEXT NOT NULL,
        evidence JSONB NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        offer JSONB,
        decision JSONB,
        appealed_by JSONB,
        appeal_reason TEXT NOT NULL,
        arbiter_needed BOOLEAN NOT NULL,
        deadline_time TIMESTAMP WITH TIME ZONE,
        remind_time TIMESTAMP WITH TIME ZONE,
        end_time TIMESTAMP WITH TIME ZONE,
        step_pending BOOLEAN NOT NULL,
        step_blocked BOOLEAN NOT NULL,
        step_refusal TEXT NOT NULL,
        revision INTEGER NOT NULL,
        deadline_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (dispute_id),
        CONSTRAINT something_is_frozen CHECK (frozen_minor > 0),
        CONSTRAINT dispute_state_is_known
            CHECK (state IN ('OPEN', 'OFFERED', 'SETTLED', 'DECIDED', 'APPEALED', 'CLOSED')),
        CONSTRAINT closed_disputes_are_over CHECK ((state = 'CLOSED') = (end_time IS NOT NULL)),
        CONSTRAINT over_disputes_wait_for_none CHECK (end_time IS NULL OR (deadline_at IS NULL AND NOT step_pending)),
        UNIQUE (case_id),
        FOREIGN KEY(case_id) REFERENCES refund_cases (case_id),
        FOREIGN KEY(trade_id) REFERENCES trades (trade_id)
    )
    """,
    "CREATE INDEX disputes_by_buyer ON disputes (buyer, create_time, dispute_id)",
    "CREATE INDEX disputes_by_creation ON disputes (create_time, dispute_id)",
    "CREATE INDEX disputes_by_deadline ON disputes (deadline_at) WHERE deadline_at IS NOT NULL",
    "CREATE INDEX disputes_by_partner ON disputes (partner, create_time, dispute_id)",
    "CREATE INDEX disputes_by_seller ON disputes (seller, create_time, dispute_id)",
    "CREATE INDEX disputes_by_trade ON disputes (trade_id)",
    """
    CREATE TABLE claims (
        claim_id UUID NOT NULL,
        state TEXT NOT NULL,
        trade_id UUID NOT NULL,
        buyer TEXT NOT NULL,
        seller TEXT NOT NULL,
        partner TEXT NOT NULL,
        currency CHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        reason TEXT NOT NULL,
        evidence JSONB NOT NULL,
        create_time TIMESTAMP WITH TIME ZONE NOT NULL,
        update_time TIMESTAMP WITH TIME ZONE NOT NULL,
        compensated_minor BIGINT NOT NULL,
        decided_by JSONB,
        decision_reason TEXT NOT NULL,
        ledger_reference TEXT NOT NULL,
        end_time TIMESTAMP WITH TIME ZONE,
        step_pending BOOLEAN NOT NULL,
        step_refusal TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (claim_id),
        CONSTRAINT claim_amounts CHECK (amount_minor > 0 AND compensated_minor BETWEEN 0 AND amount_minor),
        CONSTRAINT claim_state_is_known CHECK (state IN ('OPEN', 'COMPENSATED', 'REJECTED')),
        CONSTRAINT decided_claims_are_over CHECK ((state = 'OPEN') = (end_time IS NULL)),
        CONSTRAINT compensated_claims_were_paid CHECK ((state = 'COMPENSATED') = (compensated_minor > 0)),
        CONSTRAINT compensations_name_their_movement CHECK ((state = 'COMPENSATED') = (ledger_reference <> '')),
        FOREIGN KEY(trade_id) REFERENCES trades (trade_id)
    )
    """,
    "CREATE INDEX claims_by_buyer ON claims (buyer, create_time, claim_id)",
    "CREATE INDEX claims_by_creation ON claims (create_time, claim_id)",
    "CREATE INDEX claims_by_partner ON claims (partner, create_time, claim_id)",
    "CREATE INDEX claims_by_seller ON claims (seller, create_time, claim_id)",
    "CREATE INDEX claims_by_trade ON claims (trade_id)",
    "CREATE UNIQUE INDEX one_open_claim_a_trade ON claims (trade_id) WHERE end_time IS NULL",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
    grant(op.get_bind(), context.config.attributes["role"], _GRANTS)
