"""What requests must be: one record each, one effect each, and what was answered is there."""

from __future__ import annotations

# The first field of every recorded answer that shows a resource is its name.
_ANSWERED = """
    SELECT caller, method, request_id, reply,
        encode(substring(reply FROM 3 FOR get_byte(reply, 1)), 'escape') AS name
    FROM request_records WHERE state = 1 AND length(reply) > 2 AND get_byte(reply, 0) = 10"""

ONE_RECORD = """
    SELECT 'requests/' || caller || '/' || method || '/' || request_id AS resource, '' AS currency,
        '1 record' AS expected, count(*) || ' records' AS found, 0 AS off
    FROM request_records GROUP BY caller, method, request_id HAVING count(*) > 1"""

PAYMENT_OF_A_REQUEST = f"""
    SELECT 'payments/' || id AS resource, currency, '1 answered request' AS expected,
        coalesce(requests, 0) || ' answered requests' AS found, captured_minor AS off
    FROM payments LEFT JOIN (
        SELECT name, count(*) AS requests FROM ({_ANSWERED}) AS answered WHERE method = 'CreatePayment' GROUP BY name
    ) AS made ON made.name = 'payments/' || id
    WHERE coalesce(requests, 0) <> 1"""

# The answer to what was asked names its transaction. A movement's transactions name the movement, a break's posting the
# break; and time ends holds.
TRANSACTION_OF_A_REQUEST = """
    SELECT 'transactions/' || transactions.id AS resource, coalesce(currency, '') AS currency,
        'an answer that names it' AS expected, 'none' AS found, coalesce(amount_minor, 0) AS off
    FROM transactions
    LEFT JOIN (
        SELECT transaction_id, min(transfers.currency) AS currency, sum(transfers.amount_minor) AS amount_minor,
            bool_or(transfers.kind = 'EXPIRE' OR transfers.kind = 'POST' AND on_expiry = 'CAPTURE'
                AND transfers.create_time >= expire_time) AS by_time
        FROM transfers LEFT JOIN payments ON payments.id = payment_id GROUP BY transaction_id
    ) AS legs ON transaction_id = transactions.id
    LEFT JOIN (
        SELECT DISTINCT left(behind, 36) AS id FROM request_records
        CROSS JOIN LATERAL unnest(string_to_array(encode(reply, 'escape'), 'transactions/')) AS pieces (behind)
        WHERE state = 1
    ) AS asked ON asked.id = transactions.id::text
    LEFT JOIN (
        SELECT 'topUps/' || id AS name FROM top_ups
        UNION ALL SELECT 'withdrawals/' || id FROM withdrawals
        UNION ALL SELECT 'refunds/' || id FROM rail_refunds
        UNION ALL SELECT 'payments/' || id FROM payments WHERE rail <> ''
    ) AS movement ON movement.name = coalesce(metadata ->> 'movement', metadata ->> 'top_up')
    WHERE asked.id IS NULL AND by_time IS NOT TRUE AND movement.name IS NULL AND NOT metadata ? 'reconciliation_item'"""

MOVEMENT_ONCE = """
    SELECT name AS resource, currency, 'the only one of its request' AS expected, 'number ' || place AS found,
        amount_minor AS off
    FROM (
        SELECT *, row_number() OVER (
            PARTITION BY request_caller, request_method, request_id ORDER BY create_time, name
        ) AS place
        FROM (
            SELECT 'topUps/' || id AS name, currency, amount_minor, create_time, request_caller, request_method,
                request_id
            FROM top_ups
            UNION ALL
            SELECT 'withdrawals/' || id, currency, amount_minor, create_time, request_caller, request_method, request_id
            FROM withdrawals
        ) AS movements
    ) AS asked WHERE place > 1"""

ANSWERS_STAND = f"""
    SELECT 'requests/' || caller || '/' || method || '/' || request_id AS resource, '' AS currency,
        answered.name AS expected, 'nothing' AS found, 0 AS off, method, reply
    FROM ({_ANSWERED}) AS answered LEFT JOIN (
        SELECT 'payments/' || id AS name FROM payments
        UNION ALL SELECT 'transactions/' || id FROM transactions
        UNION ALL SELECT 'topUps/' || id FROM top_ups
        UNION ALL SELECT 'withdrawals/' || id FROM withdrawals
        UNION ALL SELECT 'accounts/' || id FROM accounts
    ) AS there ON there.name = answered.name
    WHERE there.name IS NULL AND length(split_part(answered.name, '/', 2)) = 36
        AND split_part(answered.name, '/', 1) IN ('payments', 'transactions', 'topUps', 'withdrawals', 'accounts')"""
