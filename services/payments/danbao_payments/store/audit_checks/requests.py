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

# What answers name, and mostly once: only those that name several are taken apart.
_NAMES = """
    SELECT reply, place, position('transactions/'::bytea IN substr(reply, place + 13)) > 0 AS again
    FROM request_records CROSS JOIN LATERAL (SELECT position('transactions/'::bytea IN reply) AS place) AS found
    WHERE state = 1 AND place > 0"""

# The answer to what was asked names its transaction. A movement's transactions name the movement, a break's posting the
# break; and time ends holds.
TRANSACTION_OF_A_REQUEST = f"""
    SELECT 'transactions/' || transactions.id AS resource, coalesce(currency, '') AS currency,
        'an answer that names it' AS expected, 'none' AS found, coalesce(amount_minor, 0) AS off
    FROM transactions
    LEFT JOIN LATERAL (
        SELECT min(transfers.currency) AS currency, sum(transfers.amount_minor) AS amount_minor,
            bool_or(transfers.kind = 'EXPIRE' OR transfers.kind = 'POST' AND on_expiry = 'CAPTURE'
                AND transfers.create_time >= expire_time) AS by_time
        FROM transfers LEFT JOIN payments ON payments.id = payment_id
        WHERE sequence BETWEEN first_sequence AND last_sequence AND transaction_id = transactions.id
    ) AS legs ON true
    WHERE NOT metadata ? 'reconciliation_item'
        AND NOT EXISTS (
            SELECT FROM (
                SELECT substr(reply, place + 13, 36) AS id FROM ({_NAMES}) AS once WHERE NOT again
                UNION ALL
                SELECT convert_to(left(behind, 36), 'UTF8') FROM ({_NAMES}) AS several
                CROSS JOIN LATERAL unnest(string_to_array(encode(reply, 'escape'), 'transactions/')) AS pieces (behind)
                WHERE again
            ) AS asked WHERE asked.id = convert_to(transactions.id::text, 'UTF8')
        )
        AND NOT EXISTS (
            SELECT FROM (
                SELECT 'topUps/' || id AS name FROM top_ups
                UNION ALL SELECT 'withdrawals/' || id FROM withdrawals
                UNION ALL SELECT 'refunds/' || id FROM rail_refunds
                UNION ALL SELECT 'payments/' || id FROM payments WHERE rail <> ''
            ) AS movement WHERE movement.name = coalesce(metadata ->> 'movement', metadata ->> 'top_up')
        )
        AND by_time IS NOT TRUE"""

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
