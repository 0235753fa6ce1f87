"""What moved, and what waits: sums beside the checks. $3: business time."""

from __future__ import annotations

from danbao_payments.store.audit_checks.words import RAIL

_FLOWS = f"""
    SELECT currency, sum(settled) AS settled_minor, sum(limbo) AS limbo_minor, count(limbo) AS limbo_count,
        sum(fraud) AS fraud_minor
    FROM (
        SELECT transfers.currency,
            CASE WHEN (debit.kind IN {RAIL}) <> (credit.kind IN {RAIL}) THEN amount_minor END AS settled,
            NULL::bigint AS limbo,
            CASE
                WHEN debit.kind = 'guarantee.fund' AND purpose = 'COMPENSATION' THEN amount_minor
                WHEN debit.kind = 'guarantee.fund' AND credit.kind = 'fund.recoverable' THEN amount_minor
                WHEN debit.kind = 'fund.recoverable' AND credit.kind = 'guarantee.fund' THEN -amount_minor
                WHEN debit.kind IN ('loss.chargeback', 'loss.bad_debt') THEN amount_minor
                WHEN credit.kind IN ('loss.chargeback', 'loss.bad_debt') THEN -amount_minor
            END AS fraud
        FROM transfers JOIN accounts AS debit ON debit.id = debit_account
        JOIN accounts AS credit ON credit.id = credit_account
        WHERE transfers.kind IN ('POSTED', 'POST') AND {{moved}}
        UNION ALL
        SELECT currency, NULL, amount_minor, NULL FROM top_ups
        WHERE state IN ('PENDING', 'UNKNOWN') AND recorded_at < now() - interval '30 s'
        UNION ALL
        SELECT currency, NULL, amount_minor, NULL FROM withdrawals
        WHERE state IN ('PENDING', 'UNKNOWN') AND recorded_at < now() - interval '30 s'
        UNION ALL
        SELECT currency, NULL, amount_minor, NULL FROM rail_refunds
        WHERE state IN ('PENDING', 'UNKNOWN') AND recorded_at < now() - interval '30 s'
        UNION ALL
        SELECT currency, NULL, amount_minor, NULL FROM payments
        WHERE rail <> '' AND last_transaction IS NULL AND failure = '' AND recorded_at < now() - interval '30 s'
        UNION ALL
        SELECT currency, NULL, authorized_minor - captured_minor - released_minor, NULL FROM payments
        WHERE hold_id IS NOT NULL AND expire_time < $3::timestamptz - interval '30 s'
    ) AS moves GROUP BY currency"""
# $1 and $2: the window's times, or the last transfer that was seen and the last that there is.
FLOWS = _FLOWS.format(
    moved="($1::timestamptz IS NULL OR transfers.create_time >= $1)"
    " AND ($2::timestamptz IS NULL OR transfers.create_time < $2)"
)
NEW_FLOWS = _FLOWS.format(moved="sequence > $1 AND sequence <= $2")
