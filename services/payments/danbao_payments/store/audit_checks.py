"""What the books must be, as queries that find what is not: no row, no violation.

Each gives resource, currency, expected, found and off (minor units). They read the books only, never a number that is
kept to answer them, and are written apart from the code that writes the books: what that gets wrong they must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from danbao_payments.domain.audit import Rule, Term
from danbao_payments.domain.chart import CHART


class Check(NamedTuple):
    """A rule and the query that finds where it is broken."""

    rule: Rule
    query: str


# What the rows of a movement do to both their accounts' totals. A row that ends a hold frees all of it.
_MOVED = """
    SELECT moved.*,
        CASE WHEN moved.kind IN ('POSTED', 'POST') THEN moved.amount_minor ELSE 0 END AS posted_step,
        CASE moved.kind WHEN 'PENDING' THEN moved.amount_minor WHEN 'POSTED' THEN 0
            ELSE -coalesce(hold.amount_minor, 0) END AS pending_step
    FROM transfers AS moved LEFT JOIN transfers AS hold ON hold.sequence = moved.pending_id"""

# The accounts in which money comes from outside and goes there.
_RAIL = "('rail.in_transit', 'rail.settled')"

_CHART = ", ".join(f"('{kind.name}', '{kind.rule.value}')" for kind in CHART.values())

# The first field of every recorded answer that shows a resource is its name.
_ANSWERED = """
    SELECT caller, method, request_id, reply,
        encode(substring(reply FROM 3 FOR get_byte(reply, 1)), 'escape') AS name
    FROM request_records WHERE state = 1 AND length(reply) > 2 AND get_byte(reply, 0) = 10"""

_BALANCED = """
    SELECT 'currencies/' || currency AS resource, currency, 'credits_' || what || ' ' || debits AS expected,
        'credits_' || what || ' ' || credits AS found, abs(debits - credits) AS off
    FROM (
        SELECT currency, sum(debits_posted) AS debits_posted, sum(credits_posted) AS credits_posted,
            sum(debits_pending) AS debits_pending, sum(credits_pending) AS credits_pending
        FROM accounts GROUP BY currency
    ) AS sums
    CROSS JOIN LATERAL (
        VALUES ('posted', debits_posted, credits_posted), ('pending', debits_pending, credits_pending)
    ) AS side (what, debits, credits)
    WHERE debits <> credits"""

_TWO_SIDES = """
    SELECT 'transfers/' || sequence AS resource, transfers.currency,
        'more than 0 between two accounts of ' || transfers.currency AS expected,
        amount_minor || ' from one of ' || coalesce(debit.currency, 'nobody') || ' to one of '
            || coalesce(credit.currency, 'nobody') AS found,
        abs(amount_minor) AS off
    FROM transfers
    LEFT JOIN accounts AS debit ON debit.id = debit_account
    LEFT JOIN accounts AS credit ON credit.id = credit_account
    WHERE debit.currency IS DISTINCT FROM transfers.currency OR credit.currency IS DISTINCT FROM transfers.currency
        OR debit_account = credit_account OR amount_minor <= 0"""

_TOTALS = f"""
    SELECT 'accounts/' || id AS resource, currency, what || ' ' || coalesce(moved, 0) AS expected,
        what || ' ' || stated AS found, abs(stated - coalesce(moved, 0)) AS off
    FROM accounts LEFT JOIN (
        SELECT account, sum(debits_posted) AS debits, sum(credits_posted) AS credits,
            sum(debits_pending) AS debits_held, sum(credits_pending) AS credits_held
        FROM (
            SELECT debit_account AS account, posted_step AS debits_posted, pending_step AS debits_pending,
                0 AS credits_posted, 0 AS credits_pending
            FROM ({_MOVED}) AS debited
            UNION ALL
            SELECT credit_account, 0, 0, posted_step, pending_step FROM ({_MOVED}) AS credited
        ) AS sides GROUP BY account
    ) AS sums ON sums.account = id
    CROSS JOIN LATERAL (
        VALUES ('debits_posted', debits_posted, debits), ('credits_posted', credits_posted, credits),
            ('debits_pending', debits_pending, debits_held), ('credits_pending', credits_pending, credits_held)
    ) AS total (what, stated, moved)
    WHERE stated <> coalesce(moved, 0)"""

_STEPS = f"""
    SELECT 'transfers/' || sequence AS resource, currency,
        what || ' ' || before + step || ' of accounts/' || account AS expected, what || ' ' || after AS found,
        abs(after - before - step) AS off
    FROM (
        SELECT *, lag(debits_pending, 1, 0::bigint) OVER account AS debits_held,
            lag(debits_posted, 1, 0::bigint) OVER account AS debits,
            lag(credits_pending, 1, 0::bigint) OVER account AS credits_held,
            lag(credits_posted, 1, 0::bigint) OVER account AS credits
        FROM (
            SELECT sequence, currency, debit_account AS account, posted_step AS debit, pending_step AS debit_held,
                0::bigint AS credit, 0::bigint AS credit_held, debit_debits_pending AS debits_pending,
                debit_debits_posted AS debits_posted, debit_credits_pending AS credits_pending,
                debit_credits_posted AS credits_posted
            FROM ({_MOVED}) AS debited
            UNION ALL
            SELECT sequence, currency, credit_account, 0, 0, posted_step, pending_step, credit_debits_pending,
                credit_debits_posted, credit_credits_pending, credit_credits_posted
            FROM ({_MOVED}) AS credited
        ) AS sides
        WINDOW account AS (PARTITION BY account ORDER BY sequence)
    ) AS steps
    CROSS JOIN LATERAL (
        VALUES ('debits_posted', debits, debit, debits_posted), ('credits_posted', credits, credit, credits_posted),
            ('debits_pending', debits_held, debit_held, debits_pending),
            ('credits_pending', credits_held, credit_held, credits_pending)
    ) AS total (what, before, step, after)
    WHERE before + step <> after"""

_RULES = f"""
    SELECT 'accounts/' || id AS resource, currency,
        'never below 0 by ' || coalesce(chart.rule, 'no such kind') AS expected,
        coalesce(available, 0) || ' by ' || accounts.rule AS found, greatest(-available, 0) AS off
    FROM accounts LEFT JOIN (VALUES {_CHART}) AS chart (kind, rule) USING (kind)
    CROSS JOIN LATERAL (
        SELECT CASE chart.rule
            WHEN 'CREDITS_COVER_DEBITS' THEN credits_posted::numeric - debits_posted - debits_pending
            WHEN 'DEBITS_COVER_CREDITS' THEN debits_posted::numeric - credits_posted - credits_pending
            ELSE 0 END AS available
    ) AS rest
    WHERE available < 0 OR accounts.rule IS DISTINCT FROM chart.rule
        OR least(debits_posted, credits_posted, debits_pending, credits_pending) < 0"""

_ONE_RECORD = """
    SELECT 'requests/' || caller || '/' || method || '/' || request_id AS resource, '' AS currency,
        '1 record' AS expected, count(*) || ' records' AS found, 0 AS off
    FROM request_records GROUP BY caller, method, request_id HAVING count(*) > 1"""

_PAYMENT_OF_A_REQUEST = f"""
    SELECT 'payments/' || id AS resource, currency, '1 answered request' AS expected,
        coalesce(requests, 0) || ' answered requests' AS found, captured_minor AS off
    FROM payments LEFT JOIN (
        SELECT name, count(*) AS requests FROM ({_ANSWERED}) AS answered WHERE method = 'CreatePayment' GROUP BY name
    ) AS made ON made.name = 'payments/' || id
    WHERE coalesce(requests, 0) <> 1"""

# The answer to what was asked names its transaction. A movement's transactions name the movement, a break's posting the
# break; and time ends holds.
_TRANSACTION_OF_A_REQUEST = """
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

_MOVEMENT_ONCE = """
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

# What crossed the border to a rail, by the movement that the transaction names; what only passes between a rail's own
# accounts does not count. Refunds of before movements were named cannot be told apart.
_BOOKED_ONCE = f"""
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
    ) AS movements
    LEFT JOIN (
        SELECT
            coalesce(metadata ->> 'movement', CASE WHEN debit.kind = 'rail.in_transit' THEN metadata ->> 'top_up' END)
                AS name,
            sum(amount_minor) FILTER (
                WHERE debit.kind = 'rail.in_transit' AND credit.kind NOT IN {_RAIL}
                    OR debit.kind IN ('clearing.payout', 'clearing.refund') AND credit.kind = 'rail.settled'
            ) AS booked
        FROM transactions JOIN transfers ON transaction_id = transactions.id AND transfers.kind = 'POSTED'
        JOIN accounts AS debit ON debit.id = debit_account JOIN accounts AS credit ON credit.id = credit_account
        WHERE metadata ?| ARRAY['movement', 'top_up'] GROUP BY 1
    ) AS bookings ON bookings.name = movement
    WHERE due <> coalesce(booked, 0) AND (bookings.name IS NOT NULL OR movement NOT LIKE 'refunds/%')"""

_ANSWERS_STAND = f"""
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

# What each payment's transfers say: taken from the payer or brought by the rail, and what went back since.
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
                WHEN debit.kind = 'rail.settled' AND credit.kind NOT IN {_RAIL} THEN -amount
                WHEN debit.kind LIKE 'clearing.%' OR debit.kind IN {_RAIL} THEN 0
                WHEN purpose <> '' OR credit_account = payer_account THEN amount
                ELSE 0 END) AS back,
            sum(CASE
                WHEN debit.kind = 'rail.settled' AND credit.kind NOT IN {_RAIL} THEN -amount
                WHEN purpose = 'CHARGEBACK' AND credit.kind = 'rail.settled' THEN amount
                ELSE 0 END) AS charged_back
        FROM payments JOIN transfers ON payment_id = payments.id AND transfers.kind IN ('POSTED', 'POST')
        JOIN accounts AS debit ON debit.id = debit_account JOIN accounts AS credit ON credit.id = credit_account
        CROSS JOIN LATERAL (SELECT transfers.amount_minor::numeric) AS moved (amount)
        GROUP BY payments.id
    ) AS moved ON payment = payments.id"""

_CAPTURED = f"""
    SELECT 'payments/' || id AS resource, currency, 'captured_minor ' || taken AS expected,
        'captured_minor ' || captured_minor AS found, abs(captured_minor - taken) AS off
    FROM ({_MOVED_OF_PAYMENTS}) AS moved WHERE taken <> captured_minor"""

_REFUNDED = f"""
    SELECT 'payments/' || id AS resource, currency, 'refunded_minor ' || back || ', charged_back_minor ' || charged_back
            AS expected,
        'refunded_minor ' || refunded_minor || ', charged_back_minor ' || charged_back_minor AS found,
        greatest(abs(refunded_minor - back), abs(charged_back_minor - charged_back)) AS off
    FROM ({_MOVED_OF_PAYMENTS}) AS moved WHERE back <> refunded_minor OR charged_back <> charged_back_minor"""

_NOT_OVERPAID = f"""
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

_PARTS = """
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

_HOLDS = """
    SELECT 'accounts/' || accounts.id AS resource, accounts.currency,
        'debits_pending ' || coalesce(held, 0) AS expected,
        'debits_pending ' || debits_pending AS found, abs(debits_pending - coalesce(held, 0)) AS off
    FROM accounts LEFT JOIN (
        SELECT payer_account, sum(authorized_minor::numeric - captured_minor - released_minor) AS held FROM payments
        WHERE hold_id IS NOT NULL GROUP BY payer_account
    ) AS holds ON payer_account = accounts.id
    WHERE debits_pending <> coalesce(held, 0)"""

_HOLD_OF_A_PAYMENT = """
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

_NOTHING_LEFT = """
    SELECT 'accounts/' || id AS resource, currency, '0' AS expected, credits_posted - debits_posted || '' AS found,
        abs(credits_posted - debits_posted) AS off
    FROM accounts WHERE kind = 'clearing.capture' AND credits_posted <> debits_posted"""

# What left a wallet for a rail and is not there yet; by currency, for the clearing accounts are the platform's.
_ON_ITS_WAY = """
    SELECT coalesce('accounts/' || accounts.id, 'currencies/' || way.currency) AS resource,
        coalesce(accounts.currency, way.currency) AS currency, coalesce(accounts.kind, way.kind) || ' '
            || coalesce(minor, 0) AS expected,
        coalesce(credits_posted - debits_posted, 0) || '' AS found,
        abs(coalesce(credits_posted - debits_posted, 0) - coalesce(minor, 0)) AS off
    FROM (SELECT * FROM accounts WHERE kind IN ('clearing.refund', 'clearing.payout')) AS accounts
    FULL JOIN (
        SELECT 'clearing.refund' AS kind, currency, sum(amount_minor) AS minor FROM rail_refunds
        WHERE state IN ('PENDING', 'UNKNOWN') GROUP BY currency
        UNION ALL
        SELECT 'clearing.payout', currency, sum(amount_minor) FROM withdrawals
        WHERE state IN ('PENDING', 'UNKNOWN') GROUP BY currency
    ) AS way ON way.kind = accounts.kind AND way.currency = accounts.currency
    WHERE coalesce(credits_posted - debits_posted, 0) <> coalesce(minor, 0)"""

_REFUNDS_OVER_RAILS = """
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

_RETURNED = f"""
    SELECT 'topUps/' || top_ups.id AS resource, top_ups.currency, 'returned ' || coalesce(taken, 0) AS expected,
        'returned ' || returned_minor AS found, abs(returned_minor - coalesce(taken, 0)) AS off
    FROM top_ups LEFT JOIN (
        SELECT metadata ->> 'movement' AS name, sum(transfers.amount_minor) AS taken
        FROM transactions JOIN transfers ON transaction_id = transactions.id AND transfers.kind = 'POSTED'
        JOIN accounts AS debit ON debit.id = debit_account AND debit.kind NOT IN {_RAIL}
        JOIN accounts AS credit ON credit.id = credit_account AND credit.kind IN {_RAIL}
        WHERE metadata ->> 'movement' LIKE 'topUps/%' GROUP BY 1
    ) AS returns ON returns.name = 'topUps/' || top_ups.id
    WHERE coalesce(taken, 0) <> returned_minor"""

_FUND = """
    SELECT coalesce('accounts/' || max(id::text) FILTER (WHERE kind = 'fund.recoverable'), 'currencies/' || currency)
            AS resource,
        currency, coalesce(sum(debits_posted::numeric - credits_posted) FILTER (WHERE kind <> 'fund.recoverable'), 0)
            || '' AS expected,
        coalesce(sum(credits_posted::numeric - debits_posted) FILTER (WHERE kind = 'fund.recoverable'), 0) || ''
            AS found,
        abs(sum(debits_posted::numeric - credits_posted)) AS off
    FROM accounts WHERE kind IN ('receivable.guarantee', 'fund.recoverable') GROUP BY currency
    HAVING sum(debits_posted) <> sum(credits_posted)"""

_WHOLE_TRANSACTIONS = """
    SELECT 'transactions/' || coalesce(transactions.id, transaction_id) AS resource, coalesce(currency, '') AS currency,
        coalesce('transfers ' || first_sequence || ' to ' || last_sequence, 'a transaction') AS expected,
        coalesce('transfers ' || first || ' to ' || last || ', ' || rows || ' in all', 'no transfers') AS found,
        coalesce(amount_minor, 0) AS off
    FROM transactions FULL JOIN (
        SELECT transaction_id, min(sequence) AS first, max(sequence) AS last, count(*) AS rows,
            min(currency) AS currency, sum(amount_minor) AS amount_minor
        FROM transfers GROUP BY transaction_id
    ) AS legs ON transaction_id = transactions.id
    WHERE first IS DISTINCT FROM first_sequence OR last IS DISTINCT FROM last_sequence
        OR rows <> last_sequence - first_sequence + 1"""

_EVENTS = """
    SELECT 'events/' || before + 1 AS resource, '' AS currency, 'an event' AS expected, 'none' AS found, 0 AS off
    FROM (SELECT sequence, lag(sequence) OVER (ORDER BY sequence) AS before FROM events) AS numbered
    WHERE sequence <> before + 1
    UNION ALL
    SELECT 'events/' || event_sequence, '', 'the last event', 'events end at ' || last, 0
    FROM stream_heads CROSS JOIN (SELECT max(sequence) AS last FROM events) AS events
    WHERE last <> event_sequence"""

# An infinite time is none that was ever hashed.
_MICROS = "int8send(CASE WHEN isfinite({0}) THEN (extract(epoch FROM {0}) * 1000000)::bigint ELSE -2 END)"

# As domain/chain.py says, once more.
_ROW_HASH = f"""
    substr(sha256(
        int8send(sequence) || int8send(amount_minor) || int8send(coalesce(pending_id, -1))
        || {_MICROS.format("create_time")}
        || CASE WHEN effective_time IS NULL THEN int8send(-1) ELSE {_MICROS.format("effective_time")} END
        || int8send(debit_debits_pending) || int8send(debit_debits_posted)
        || int8send(debit_credits_pending) || int8send(debit_credits_posted)
        || int8send(credit_debits_pending) || int8send(credit_debits_posted)
        || int8send(credit_credits_pending) || int8send(credit_credits_posted)
        || uuid_send(transaction_id) || uuid_send(debit_account) || uuid_send(credit_account)
        || coalesce(uuid_send(payment_id), decode(repeat('00', 16), 'hex'))
        || convert_to(kind || '|' || currency || '|' || purpose, 'UTF8')
    ), 1, 16)"""

_CHAIN = f"""
    SELECT 'transfers/' || numbered.number AS resource, coalesce(currency, '') AS currency,
        encode(recorded, 'hex') AS expected, coalesce(encode({_ROW_HASH}, 'hex'), 'missing') AS found, 0 AS off
    FROM (
        SELECT number, substr(row_hashes, ((number - first_sequence) * 16 + 1)::int, 16) AS recorded
        FROM ledger_batches CROSS JOIN LATERAL generate_series(first_sequence, last_sequence) AS rows (number)
    ) AS numbered LEFT JOIN transfers ON sequence = number
    WHERE {_ROW_HASH} IS DISTINCT FROM recorded
    UNION ALL
    SELECT 'ledgerBatches/' || last_sequence, '', encode(linked, 'hex'), encode(hash, 'hex'), 0
    FROM (
        SELECT last_sequence, hash, sha256(coalesce(lag(hash) OVER (ORDER BY last_sequence), '')
            || int8send(first_sequence) || int8send(last_sequence) || row_hashes) AS linked
        FROM ledger_batches
    ) AS links WHERE linked <> hash
    UNION ALL
    SELECT 'transfers/' || sequence, currency, 'a batch', 'none', 0
    FROM transfers LEFT JOIN (
        SELECT number FROM ledger_batches CROSS JOIN LATERAL generate_series(first_sequence, last_sequence)
            AS rows (number)
    ) AS numbered ON number = sequence
    WHERE number IS NULL"""

CHECKS: Sequence[Check] = (
    Check(Rule(1, "balanced", "debits equal credits in each currency", Term.UNBALANCED), _BALANCED),
    Check(Rule(2, "two_sides", "a transfer moves something between two accounts of its currency"), _TWO_SIDES),
    Check(
        Rule(3, "totals", "an account's totals are the sums of its transfers, posted and pending", Term.MISMATCHED),
        _TOTALS,
    ),
    Check(Rule(3, "steps", "each transfer records the totals that the one before it left, moved by it"), _STEPS),
    Check(Rule(4, "never_negative", "no account breaks the rule of its kind"), _RULES),
    Check(Rule(8, "one_record", "a request has one record"), _ONE_RECORD),
    Check(
        Rule(8, "payment_of_a_request", "a payment is the answer to one request", Term.DUPLICATED),
        _PAYMENT_OF_A_REQUEST,
    ),
    Check(
        Rule(
            8,
            "transaction_of_a_request",
            "a transaction was asked for, or is a movement's, or time's",
            Term.DUPLICATED,
        ),
        _TRANSACTION_OF_A_REQUEST,
    ),
    Check(Rule(8, "movement_once", "a request makes one movement over a rail", Term.DUPLICATED), _MOVEMENT_ONCE),
    Check(
        Rule(8, "booked_once", "what a rail moved is booked once, and nothing that it did not move", Term.DUPLICATED),
        _BOOKED_ONCE,
    ),
    Check(Rule(10, "events_gapless", "events are numbered without gaps up to the stream's head"), _EVENTS),
    Check(Rule(13, "answers_stand", "what was answered as done is there", Term.MISSING), _ANSWERS_STAND),
    Check(Rule(18, "chain", "every transfer is as its batch recorded it, and the batches are chained"), _CHAIN),
    Check(
        Rule(0, "whole_transactions", "a transaction is all transfers from its first to its last"), _WHOLE_TRANSACTIONS
    ),
    Check(Rule(0, "captured", "what a payment captured is what its transfers took"), _CAPTURED),
    Check(Rule(0, "refunded", "what a payment gave back is what its transfers gave back"), _REFUNDED),
    Check(Rule(0, "not_overpaid", "nothing gives back more than it took", Term.OVERPAID), _NOT_OVERPAID),
    Check(Rule(0, "parts", "the parts of a split are what was captured, and give back no more"), _PARTS),
    Check(Rule(0, "holds", "what is held on an account is what payments hold there", Term.HELD), _HOLDS),
    Check(Rule(0, "hold_of_a_payment", "each hold is that of one payment, and as much"), _HOLD_OF_A_PAYMENT),
    Check(Rule(0, "nothing_left", "nothing is left in clearing.capture", Term.HELD), _NOTHING_LEFT),
    Check(
        Rule(0, "on_its_way", "clearing.refund and clearing.payout are what rails still owe", Term.HELD), _ON_ITS_WAY
    ),
    Check(Rule(0, "refunds_over_rails", "what went back over a rail is its refunds"), _REFUNDS_OVER_RAILS),
    Check(Rule(0, "returned", "what a rail took back of a top-up is what its transfers took"), _RETURNED),
    Check(Rule(0, "fund", "fund.recoverable is the sum of receivable.guarantee"), _FUND),
)

# $1 and $2: the window; $3: business time.
FLOWS = f"""
    SELECT currency, sum(settled) AS settled_minor, sum(limbo) AS limbo_minor, count(limbo) AS limbo_count,
        sum(fraud) AS fraud_minor
    FROM (
        SELECT transfers.currency,
            CASE WHEN (debit.kind IN {_RAIL}) <> (credit.kind IN {_RAIL}) THEN amount_minor END AS settled,
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
        WHERE transfers.kind IN ('POSTED', 'POST') AND ($1::timestamptz IS NULL OR transfers.create_time >= $1)
            AND ($2::timestamptz IS NULL OR transfers.create_time < $2)
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
        WHERE state = 'PENDING' AND recorded_at < now() - interval '30 s'
        UNION ALL
        SELECT currency, NULL, authorized_minor - captured_minor - released_minor, NULL FROM payments
        WHERE hold_id IS NOT NULL AND expire_time < $3::timestamptz - interval '30 s'
    ) AS moves GROUP BY currency"""
