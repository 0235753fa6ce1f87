"""What must be true of money over rails, and of the fund's debts."""

from __future__ import annotations

from danbao_payments.store.audit_checks.words import RAIL, Rows

# What crossed the border to a rail, by the movement that the transaction names; what only passes between a rail's own
# accounts does not count. Refunds of before movements were named cannot be told apart.
BOOKED_ONCE = f"""
    SELECT movement AS resource, currency, 'booked ' || due AS expected, 'booked ' || coalesce(booked, 0) AS found,
        abs(due - coalesce(booked, 0)) AS off
    FROM (
        SELECT 'topUps/' || id AS movement, currency,
            CASE WHEN state IN ('SUCCEEDED', 'RETURNED') THEN amount_minor ELSE 0 END AS due
        FROM top_ups
        UNION ALL
        SELECT 'withdrawals/' || id, currency,
            CASE WHEN state IN ('SUCCEEDED', 'RETURNED') THEN amount_minor ELSE 0 END
        FROM withdrawals
        UNION ALL
        SELECT 'refunds/' || id, currency, CASE WHEN state IN ('SETTLED', 'RETURNED') THEN amount_minor ELSE 0 END
        FROM rail_refunds
        UNION ALL
        SELECT 'payments/' || id, currency, CASE WHEN last_transaction IS NULL THEN 0 ELSE amount_minor END
        FROM payments WHERE rail <> ''
    ) AS movements
    LEFT JOIN (
        SELECT
            coalesce(metadata ->> 'movement', CASE WHEN debit.kind = 'rail.in_transit' THEN metadata ->> 'top_up' END)
                AS name,
            sum(amount_minor) FILTER (
                WHERE debit.kind = 'rail.in_transit' AND credit.kind NOT IN {RAIL}
                    OR debit.kind IN ('clearing.payout', 'clearing.refund') AND credit.kind = 'rail.settled'
                        AND metadata ->> 'movement' NOT LIKE 'payments/%'
            ) AS booked
        FROM transactions JOIN transfers ON transaction_id = transactions.id AND transfers.kind = 'POSTED'
        JOIN accounts AS debit ON debit.id = debit_account JOIN accounts AS credit ON credit.id = credit_account
        WHERE metadata ?| ARRAY['movement', 'top_up'] GROUP BY 1
    ) AS bookings ON bookings.name = movement
    WHERE due <> coalesce(booked, 0) AND (bookings.name IS NOT NULL OR movement NOT LIKE 'refunds/%')"""

# The other legs of a withdrawal: what left its account, what the rail refused, what came back of what it had paid.
WITHDRAWN = f"""
    SELECT name AS resource, currency, what || ' ' || due AS expected, what || ' ' || coalesce(moved, 0) AS found,
        abs(due - coalesce(moved, 0)) AS off
    FROM (SELECT 'withdrawals/' || id AS name, currency, state, amount_minor FROM withdrawals) AS withdrawals
    LEFT JOIN (
        SELECT metadata ->> 'movement' AS movement,
            sum(amount_minor) FILTER (WHERE credit.kind = 'clearing.payout') AS gone,
            sum(amount_minor) FILTER (WHERE debit.kind = 'clearing.payout' AND credit.kind NOT IN {RAIL}) AS refused,
            sum(amount_minor) FILTER (WHERE debit.kind = 'rail.settled' AND credit.kind NOT IN {RAIL}) AS returned
        FROM transactions JOIN transfers ON transaction_id = transactions.id AND transfers.kind = 'POSTED'
        JOIN accounts AS debit ON debit.id = debit_account JOIN accounts AS credit ON credit.id = credit_account
        WHERE metadata ->> 'movement' LIKE 'withdrawals/%' GROUP BY 1
    ) AS legs ON movement = name
    CROSS JOIN LATERAL (
        VALUES ('gone', amount_minor, gone),
            ('refused', CASE state WHEN 'FAILED' THEN amount_minor ELSE 0 END, refused),
            ('returned', CASE state WHEN 'RETURNED' THEN amount_minor ELSE 0 END, returned)
    ) AS leg (what, due, moved)
    WHERE due <> coalesce(moved, 0)"""

SETTLED = """
    SELECT name AS resource, currency, 'settled ' || due AS expected, 'settled ' || coalesce(moved, 0) AS found,
        abs(due - coalesce(moved, 0)) AS off
    FROM (
        SELECT 'topUps/' || id AS name, currency, CASE WHEN settle_time IS NULL THEN 0 ELSE amount_minor END AS due
        FROM top_ups
        UNION ALL
        SELECT 'payments/' || id, currency, CASE WHEN settle_time IS NULL THEN 0 ELSE amount_minor END FROM payments
    ) AS settled
    LEFT JOIN (
        SELECT metadata ->> 'movement' AS movement, sum(amount_minor) AS moved
        FROM transactions JOIN transfers ON transaction_id = transactions.id AND transfers.kind = 'POSTED'
        JOIN accounts AS debit ON debit.id = debit_account AND debit.kind = 'rail.settled'
        JOIN accounts AS credit ON credit.id = credit_account AND credit.kind = 'rail.in_transit'
        WHERE metadata ? 'movement' GROUP BY 1
    ) AS legs ON movement = name
    WHERE due <> coalesce(moved, 0)"""


def on_its_way(rows: Rows) -> str:
    """What left a wallet for a rail and is not there yet; by currency, for the clearing accounts are the platform's."""
    return f"""
    SELECT coalesce('accounts/' || accounts.id, 'currencies/' || way.currency) AS resource,
        coalesce(accounts.currency, way.currency) AS currency, coalesce(accounts.kind, way.kind) || ' '
            || coalesce(minor, 0) AS expected,
        coalesce(credits_posted - debits_posted, 0) || '' AS found,
        abs(coalesce(credits_posted - debits_posted, 0) - coalesce(minor, 0)) AS off
    FROM (SELECT * FROM {rows.platforms} AS platforms WHERE kind IN ('clearing.refund', 'clearing.payout')) AS accounts
    FULL JOIN (
        SELECT 'clearing.refund' AS kind, currency, sum(amount_minor) AS minor FROM rail_refunds
        WHERE state IN ('PENDING', 'UNKNOWN') GROUP BY currency
        UNION ALL
        SELECT 'clearing.payout', currency, sum(amount_minor) FROM withdrawals
        WHERE state IN ('PENDING', 'UNKNOWN') GROUP BY currency
    ) AS way ON way.kind = accounts.kind AND way.currency = accounts.currency
    WHERE coalesce(credits_posted - debits_posted, 0) <> coalesce(minor, 0)"""


REFUNDS_OVER_RAILS = """
    SELECT 'topUps/' || top_ups.id AS resource, top_ups.currency,
        'back ' || coalesce(back, 0) || ', settled ' || coalesce(settled, 0) AS expected,
        'back ' || refunded_minor || ', settled ' || refunds_settled_minor AS found,
        abs(refunded_minor - coalesce(back, 0)) + abs(refunds_settled_minor - coalesce(settled, 0)) AS off
    FROM top_ups LEFT JOIN (
        SELECT top_up_id, sum(amount_minor) FILTER (WHERE state IN ('PENDING', 'UNKNOWN', 'SETTLED')) AS back,
            sum(amount_minor) FILTER (WHERE state = 'SETTLED') AS settled
        FROM rail_refunds GROUP BY top_up_id
    ) AS refunds ON top_up_id = top_ups.id
    WHERE coalesce(back, 0) <> refunded_minor OR coalesce(settled, 0) <> refunds_settled_minor
    UNION ALL
    SELECT 'payments/' || payments.id, payments.currency, 'settled ' || coalesce(settled, 0),
        'settled ' || refunds_settled_minor, abs(refunds_settled_minor - coalesce(settled, 0))
    FROM payments LEFT JOIN (
        SELECT payment_id, sum(amount_minor) AS settled FROM rail_refunds WHERE state = 'SETTLED' GROUP BY payment_id
    ) AS refunds ON payment_id = payments.id
    WHERE coalesce(settled, 0) <> refunds_settled_minor"""

RETURNED = f"""
    SELECT 'topUps/' || top_ups.id AS resource, top_ups.currency, 'returned ' || coalesce(taken, 0) AS expected,
        'returned ' || returned_minor AS found, abs(returned_minor - coalesce(taken, 0)) AS off
    FROM top_ups LEFT JOIN (
        SELECT metadata ->> 'movement' AS name, sum(transfers.amount_minor) AS taken
        FROM transactions JOIN transfers ON transaction_id = transactions.id AND transfers.kind = 'POSTED'
        JOIN accounts AS debit ON debit.id = debit_account AND debit.kind NOT IN {RAIL}
        JOIN accounts AS credit ON credit.id = credit_account AND credit.kind IN {RAIL}
        WHERE metadata ->> 'movement' LIKE 'topUps/%' GROUP BY 1
    ) AS returns ON returns.name = 'topUps/' || top_ups.id
    WHERE coalesce(taken, 0) <> returned_minor"""

FUND = """
    SELECT coalesce('accounts/' || max(id::text) FILTER (WHERE kind = 'fund.recoverable'), 'currencies/' || currency)
            AS resource,
        currency, coalesce(sum(debits_posted::numeric - credits_posted) FILTER (WHERE kind <> 'fund.recoverable'), 0)
            || '' AS expected,
        coalesce(sum(credits_posted::numeric - debits_posted) FILTER (WHERE kind = 'fund.recoverable'), 0) || ''
            AS found,
        abs(sum(debits_posted::numeric - credits_posted)) AS off
    FROM accounts WHERE kind IN ('receivable.guarantee', 'fund.recoverable') GROUP BY currency
    HAVING sum(debits_posted) <> sum(credits_posted)"""
