"""What the ledger must be: accounts, transfers, transactions, their chain, and the events."""

from __future__ import annotations

from danbao_payments.domain.chart import CHART

# What the rows of a movement do to both their accounts' totals. A row that ends a hold frees all of it.
_MOVED = """
    SELECT moved.*,
        CASE WHEN moved.kind IN ('POSTED', 'POST') THEN moved.amount_minor ELSE 0 END AS posted_step,
        CASE moved.kind WHEN 'PENDING' THEN moved.amount_minor WHEN 'POSTED' THEN 0
            ELSE -coalesce(hold.amount_minor, 0) END AS pending_step
    FROM transfers AS moved LEFT JOIN transfers AS hold ON hold.sequence = moved.pending_id"""

_CHART = ", ".join(f"('{kind.name}', '{kind.rule.value}')" for kind in CHART.values())

BALANCED = """
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

TWO_SIDES = """
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

TOTALS = f"""
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

STEPS = f"""
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

RULES = f"""
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

CLOSED = """
    SELECT 'accounts/' || id AS resource, currency, 'nothing, for it is closed' AS expected,
        credits_posted - debits_posted || ', pending ' || debits_pending + credits_pending AS found,
        abs(credits_posted - debits_posted) AS off
    FROM accounts
    WHERE state = 'CLOSED' AND (credits_posted <> debits_posted OR debits_pending > 0 OR credits_pending > 0)"""

WHOLE_TRANSACTIONS = """
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

EVENTS = """
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

CHAIN = f"""
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
