"""What payments must be: their sums, parts and holds as their transfers say."""

from __future__ import annotations

from danbao_payments.store.audit_checks.words import RAIL, Rows


def _moved(rows: Rows) -> str:
    """What each payment's transfers say: taken from the payer or brought by the rail, and what went back since.

    What a rail took from the payer, and gave there again, has no purpose: it had gone back to the payer before.
    """
    return f"""
    SELECT payments.id, payments.currency, captured_minor, refunded_minor, charged_back_minor,
        coalesce(taken, 0) AS taken, coalesce(back, 0) AS back, coalesce(charged_back, 0) AS charged_back
    FROM {rows.begun} AS payments LEFT JOIN (
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
        FROM {rows.begun} AS payments
        JOIN {rows.transfers} AS transfers ON payment_id = payments.id AND transfers.kind IN ('POSTED', 'POST')
        JOIN accounts AS debit ON debit.id = debit_account JOIN accounts AS credit ON credit.id = credit_account
        CROSS JOIN LATERAL (SELECT transfers.amount_minor::numeric) AS moved (amount)
        GROUP BY payments.id
    ) AS moved ON payment = payments.id"""


def sums(rows: Rows) -> str:
    """What a payment captured, gave back and lost to chargebacks is what its transfers moved, and never too much."""
    return f"""
    SELECT broken.rule, 'payments/' || id AS resource, currency, broken.expected, broken.found, broken.off
    FROM ({_moved(rows)}) AS moved
    CROSS JOIN LATERAL (
        VALUES ('captured', taken <> captured_minor, 'captured_minor ' || taken, 'captured_minor ' || captured_minor,
                abs(captured_minor - taken)),
            ('refunded', back <> refunded_minor OR charged_back <> charged_back_minor,
                'refunded_minor ' || back || ', charged_back_minor ' || charged_back,
                'refunded_minor ' || refunded_minor || ', charged_back_minor ' || charged_back_minor,
                greatest(abs(refunded_minor - back), abs(charged_back_minor - charged_back))),
            ('not_overpaid', back > taken, 'at most ' || taken, back || ' went back', back - taken)
    ) AS broken (rule, is_so, expected, found, off)
    WHERE (taken <> captured_minor OR back <> refunded_minor OR charged_back <> charged_back_minor OR back > taken)
        AND is_so"""


TOP_UPS_NOT_OVERPAID = """
    SELECT 'not_overpaid' AS rule, 'topUps/' || top_ups.id AS resource, top_ups.currency,
        'at most ' || top_ups.amount_minor AS expected, back + returned_minor || ' went back' AS found,
        back + returned_minor - top_ups.amount_minor AS off
    FROM top_ups JOIN (
        SELECT top_up_id, sum(amount_minor) AS back FROM rail_refunds
        WHERE state IN ('PENDING', 'UNKNOWN', 'SETTLED') GROUP BY top_up_id
    ) AS refunds ON top_up_id = top_ups.id
    WHERE back + returned_minor > top_ups.amount_minor"""


def parts(rows: Rows) -> str:
    """The parts of a split are what was captured, and give back no more."""
    return f"""
    SELECT 'payments/' || id AS resource, currency, 'parts of ' || captured_minor AS expected,
        'parts of ' || captured || ', of which ' || over || ' gave back too much' AS found,
        abs(captured - captured_minor) AS off
    FROM {rows.payments} AS payments CROSS JOIN LATERAL (
        SELECT sum((part ->> 'captured_minor')::numeric) AS captured, count(*) FILTER (
            WHERE (part ->> 'refunded_minor')::numeric > (part ->> 'captured_minor')::numeric
        ) AS over
        FROM jsonb_array_elements(parts) AS part
    ) AS sums
    WHERE parts IS NOT NULL AND (captured <> captured_minor OR over > 0)"""


def standing(rows: Rows) -> str:
    """A payment's state and sums agree with what was held for it.

    What is authorised is what was asked for, and what was first held for it; when nothing is held any more, all of it
    was captured or fell free. A rail authorises nothing until it has brought the money.
    """
    return f"""
    SELECT 'payments/' || id AS resource, currency,
        state || ' of ' || coalesce(first_held, amount_minor) || ', authorised ' || due AS expected,
        state || ' of ' || amount_minor || ', authorised ' || authorized_minor || ', captured ' || captured_minor
            || ', released ' || released_minor AS found,
        abs(coalesce(first_held, amount_minor) - amount_minor) + abs(authorized_minor - due) + abs(lost) AS off
    FROM {rows.begun} AS payments
    LEFT JOIN (
        SELECT payment_id, max(amount_minor) AS first_held FROM {rows.transfers} AS transfers
        WHERE kind = 'PENDING' GROUP BY payment_id
    ) AS holds ON payment_id = id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN rail = '' OR state = 'CAPTURED' THEN amount_minor ELSE 0 END AS due,
            CASE WHEN hold_id IS NULL THEN authorized_minor - captured_minor - released_minor ELSE 0 END AS lost,
            CASE capture_mode WHEN 'MANUAL' THEN amount_minor END AS held_due
    ) AS sums
    WHERE authorized_minor <> due OR lost <> 0 OR first_held IS DISTINCT FROM held_due
        OR (captured_minor > 0) <> (state IN ('CAPTURED', 'PARTIALLY_CAPTURED'))
        OR (hold_id IS NOT NULL) <> (state IN ('AUTHORIZED', 'PARTIALLY_CAPTURED'))"""


def holds(rows: Rows) -> str:
    """What is held on an account is what payments hold there."""
    return f"""
    SELECT 'accounts/' || accounts.id AS resource, accounts.currency,
        'debits_pending ' || coalesce(held, 0) AS expected,
        'debits_pending ' || debits_pending AS found, abs(debits_pending - coalesce(held, 0)) AS off
    FROM {rows.accounts} AS accounts LEFT JOIN (
        SELECT payer_account, sum(authorized_minor::numeric - captured_minor - released_minor) AS held FROM payments
        WHERE hold_id IS NOT NULL AND payer_account IN (SELECT id FROM {rows.accounts} AS accounts)
        GROUP BY payer_account
    ) AS holds ON payer_account = accounts.id
    WHERE debits_pending <> coalesce(held, 0)"""


def hold_of_a_payment(rows: Rows) -> str:
    """Each hold is that of one payment, and as much. A payment may have begun before the rows, and its hold too."""
    return f"""
    SELECT coalesce('payments/' || payments.id, 'transfers/' || hold.sequence) AS resource,
        coalesce(payments.currency, hold.currency) AS currency,
        coalesce('holds ' || held, 'a payment that holds it') AS expected,
        coalesce('holds ' || hold.amount_minor, 'nothing held') AS found,
        abs(coalesce(held, 0) - coalesce(hold.amount_minor, 0)) AS off
    FROM (
        SELECT id, currency, hold_id, authorized_minor::numeric - captured_minor - released_minor AS held
        FROM {rows.payments} AS payments WHERE hold_id IS NOT NULL
    ) AS payments
    FULL JOIN (
        SELECT sequence, currency, amount_minor, payment_id FROM (
            SELECT * FROM {rows.transfers} AS moved UNION ALL SELECT * FROM {rows.held} AS held
        ) AS moved
        WHERE kind = 'PENDING' AND NOT EXISTS (SELECT FROM transfers AS ending WHERE ending.pending_id = moved.sequence)
    ) AS hold ON hold.sequence = hold_id AND hold.payment_id = payments.id
    WHERE held IS DISTINCT FROM hold.amount_minor"""
