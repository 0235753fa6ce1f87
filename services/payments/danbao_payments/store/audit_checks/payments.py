"""What payments must be: their sums, parts and holds as their transfers say."""

from __future__ import annotations

from danbao_payments.store.audit_checks.words import RAIL

# What each payment's transfers say: taken from the payer or brought by the rail, and what went back since. What a rail
# took from the payer, and gave there again, has no purpose: it had gone back to the payer before.
_MOVED_OF_PAYMENTS = f"""
    SELECT payments.id, payments.currency, captured_minor, refunded_minor, charged_back_minor,
        coalesce(taken, 0) AS taken, coalesce(back, 0) AS back, coalesce(charged_back, 0) AS charged_back
    FROM payments LEFT JOIN (
        SELECT payments.id AS payment,
            sum(amount) FILTER (
                WHERE transfers.kind = 'POST'
                    OR payments.rail = '' AND purpose = '' AND debit_account = payer_account
                        AND transfers.create_time = payments.create_time
                    OR payments.rail <> '' AND debit.kind = 'rail.in_transit'
                        AND credit.kind NOT IN ('rail.in_transit', 'rail.settled', 'clearing.refund')
            ) AS taken,
            sum(CASE
                WHEN debit.kind = 'rail.settled' AND credit.kind NOT IN {RAIL} AND purpose <> '' THEN -amount
                WHEN debit.kind LIKE 'clearing.%' OR debit.kind IN {RAIL} THEN 0
                WHEN purpose <> '' OR credit_account = payer_account THEN amount
                ELSE 0 END) AS back,
            sum(CASE
                WHEN debit.kind = 'rail.settled' AND credit.kind NOT IN {RAIL} THEN -amount
                WHEN purpose IN ('', 'CHARGEBACK') AND credit.kind = 'rail.settled' AND debit.kind NOT LIKE 'clearing.%'
                    AND debit.kind NOT IN {RAIL} THEN amount
                ELSE 0 END) AS charged_back
        FROM payments JOIN transfers ON payment_id = payments.id AND transfers.kind IN ('POSTED', 'POST')
        JOIN accounts AS debit ON debit.id = debit_account JOIN accounts AS credit ON credit.id = credit_account
        CROSS JOIN LATERAL (SELECT transfers.amount_minor::numeric) AS moved (amount)
        GROUP BY payments.id
    ) AS moved ON payment = payments.id"""

CAPTURED = f"""
    SELECT 'payments/' || id AS resource, currency, 'captured_minor ' || taken AS expected,
        'captured_minor ' || captured_minor AS found, abs(captured_minor - taken) AS off
    FROM ({_MOVED_OF_PAYMENTS}) AS moved WHERE taken <> captured_minor"""

REFUNDED = f"""
    SELECT 'payments/' || id AS resource, currency, 'refunded_minor ' || back || ', charged_back_minor ' || charged_back
            AS expected,
        'refunded_minor ' || refunded_minor || ', charged_back_minor ' || charged_back_minor AS found,
        greatest(abs(refunded_minor - back), abs(charged_back_minor - charged_back)) AS off
    FROM ({_MOVED_OF_PAYMENTS}) AS moved WHERE back <> refunded_minor OR charged_back <> charged_back_minor"""

NOT_OVERPAID = f"""
    SELECT 'payments/' || id AS resource, currency, 'at most ' || taken AS expected, back || ' went back' AS found,
        back - taken AS off
    FROM ({_MOVED_OF_PAYMENTS}) AS moved WHERE back > taken
    UNION ALL
    SELECT 'topUps/' || top_ups.id, top_ups.currency, 'at most ' || top_ups.amount_minor,
        back + returned_minor || ' went back', back + returned_minor - top_ups.amount_minor
    FROM top_ups JOIN (
        SELECT top_up_id, sum(amount_minor) AS back FROM rail_refunds
        WHERE state IN ('PENDING', 'UNKNOWN', 'SETTLED') GROUP BY top_up_id
    ) AS refunds ON top_up_id = top_ups.id
    WHERE back + returned_minor > top_ups.amount_minor"""

PARTS = """
    SELECT 'payments/' || id AS resource, currency, 'parts of ' || captured_minor AS expected,
        'parts of ' || captured || ', of which ' || over || ' gave back too much' AS found,
        abs(captured - captured_minor) AS off
    FROM payments CROSS JOIN LATERAL (
        SELECT sum((part ->> 'captured_minor')::numeric) AS captured, count(*) FILTER (
            WHERE (part ->> 'refunded_minor')::numeric > (part ->> 'captured_minor')::numeric
        ) AS over
        FROM jsonb_array_elements(parts) AS part
    ) AS sums
    WHERE parts IS NOT NULL AND (captured <> captured_minor OR over > 0)"""

# What is authorised is what was asked for, and what was first held for it; when nothing is held any more, all of it was
# captured or fell free. A rail authorises nothing until it has brought the money.
STANDING = """
    SELECT 'payments/' || id AS resource, currency,
        state || ' of ' || coalesce(first_held, amount_minor) || ', authorised ' || due AS expected,
        state || ' of ' || amount_minor || ', authorised ' || authorized_minor || ', captured ' || captured_minor
            || ', released ' || released_minor AS found,
        abs(coalesce(first_held, amount_minor) - amount_minor) + abs(authorized_minor - due) + abs(lost) AS off
    FROM payments
    LEFT JOIN (
        SELECT payment_id, max(amount_minor) AS first_held FROM transfers WHERE kind = 'PENDING' GROUP BY payment_id
    ) AS holds ON payment_id = id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN rail = '' OR state = 'CAPTURED' THEN amount_minor ELSE 0 END AS due,
            CASE WHEN hold_id IS NULL THEN authorized_minor - captured_minor - released_minor ELSE 0 END AS lost,
            CASE capture_mode WHEN 'MANUAL' THEN amount_minor END AS held_due
    ) AS sums
    WHERE authorized_minor <> due OR lost <> 0 OR first_held IS DISTINCT FROM held_due
        OR (captured_minor > 0) <> (state IN ('CAPTURED', 'PARTIALLY_CAPTURED'))
        OR (hold_id IS NOT NULL) <> (state IN ('AUTHORIZED', 'PARTIALLY_CAPTURED'))"""

HOLDS = """
    SELECT 'accounts/' || accounts.id AS resource, accounts.currency,
        'debits_pending ' || coalesce(held, 0) AS expected,
        'debits_pending ' || debits_pending AS found, abs(debits_pending - coalesce(held, 0)) AS off
    FROM accounts LEFT JOIN (
        SELECT payer_account, sum(authorized_minor::numeric - captured_minor - released_minor) AS held FROM payments
        WHERE hold_id IS NOT NULL GROUP BY payer_account
    ) AS holds ON payer_account = accounts.id
    WHERE debits_pending <> coalesce(held, 0)"""

HOLD_OF_A_PAYMENT = """
    SELECT coalesce('payments/' || payments.id, 'transfers/' || hold.sequence) AS resource,
        coalesce(payments.currency, hold.currency) AS currency,
        coalesce('holds ' || held, 'a payment that holds it') AS expected,
        coalesce('holds ' || hold.amount_minor, 'nothing held') AS found,
        abs(coalesce(held, 0) - coalesce(hold.amount_minor, 0)) AS off
    FROM (
        SELECT id, currency, hold_id, authorized_minor::numeric - captured_minor - released_minor AS held FROM payments
        WHERE hold_id IS NOT NULL
    ) AS payments
    FULL JOIN (
        SELECT sequence, currency, amount_minor, payment_id FROM transfers WHERE kind = 'PENDING'
            AND NOT EXISTS (SELECT FROM transfers AS ending WHERE ending.pending_id = transfers.sequence)
    ) AS hold ON hold.sequence = hold_id AND hold.payment_id = payments.id
    WHERE held IS DISTINCT FROM hold.amount_minor"""

NOTHING_LEFT = """
    SELECT 'accounts/' || id AS resource, currency, '0' AS expected, credits_posted - debits_posted || '' AS found,
        abs(credits_posted - debits_posted) AS off
    FROM accounts WHERE kind = 'clearing.capture' AND credits_posted <> debits_posted"""
