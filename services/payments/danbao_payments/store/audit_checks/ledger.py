"""What the ledger must be: accounts, transfers, transactions."""

from __future__ import annotations

from danbao_payments.domain.chart import CHART
from danbao_payments.store.audit_checks.words import Rows

_CHART = ", ".join(f"('{kind.name}', '{kind.rule.value}')" for kind in CHART.values())


def _moved(rows: Rows) -> str:
    """What rows do to both their accounts' totals. A row that ends a hold frees all of it."""
    return f"""
    SELECT moved.*,
        CASE WHEN moved.kind IN ('POSTED', 'POST') THEN moved.amount_minor ELSE 0 END AS posted_step,
        CASE moved.kind WHEN 'PENDING' THEN moved.amount_minor WHEN 'POSTED' THEN 0
            ELSE -coalesce(hold.amount_minor, 0) END AS pending_step
    FROM {rows.transfers} AS moved LEFT JOIN transfers AS hold ON hold.sequence = moved.pending_id"""


def balanced(rows: Rows) -> str:
    """Debits equal credits in each currency: of all accounts in all, of some in what was added to them."""
    return f"""
    SELECT 'currencies/' || currency AS resource, currency, 'credits_' || what || ' ' || debits AS expected,
        'credits_' || what || ' ' || credits AS found, abs(debits - credits) AS off
    FROM (
        SELECT currency, sum(debits_posted - coalesce(debits_before, 0)) AS debits_posted,
            sum(credits_posted - coalesce(credits_before, 0)) AS credits_posted,
            sum(debits_pending - coalesce(debits_held_before, 0)) AS debits_pending,
            sum(credits_pending - coalesce(credits_held_before, 0)) AS credits_pending
        FROM {rows.accounts} AS accounts LEFT JOIN {rows.before} AS before ON before.account = accounts.id
        GROUP BY currency
    ) AS sums
    CROSS JOIN LATERAL (
        VALUES ('posted', debits_posted, credits_posted), ('pending', debits_pending, credits_pending)
    ) AS side (what, debits, credits)
    WHERE debits <> credits"""


def two_sides(rows: Rows) -> str:
    """A transfer moves something between two accounts of its currency."""
    return f"""
    SELECT 'transfers/' || sequence AS resource, transfers.currency,
        'more than 0 between two accounts of ' || transfers.currency AS expected,
        amount_minor || ' from one of ' || coalesce(debit.currency, 'nobody') || ' to one of '
            || coalesce(credit.currency, 'nobody') AS found,
        abs(amount_minor) AS off
    FROM {rows.transfers} AS transfers
    LEFT JOIN accounts AS debit ON debit.id = debit_account
    LEFT JOIN accounts AS credit ON credit.id = credit_account
    WHERE debit.currency IS DISTINCT FROM transfers.currency OR credit.currency IS DISTINCT FROM transfers.currency
        OR debit_account = credit_account OR amount_minor <= 0"""


def totals(rows: Rows) -> str:
    """An account's totals are those before the rows, and the sums of them."""
    return f"""
    SELECT 'accounts/' || id AS resource, currency, what || ' ' || due AS expected, what || ' ' || stated AS found,
        abs(stated - due) AS off
    FROM {rows.accounts} AS accounts
    LEFT JOIN {rows.before} AS before ON before.account = accounts.id
    LEFT JOIN (
        SELECT account, sum(debits_posted) AS debits, sum(credits_posted) AS credits,
            sum(debits_pending) AS debits_held, sum(credits_pending) AS credits_held
        FROM (
            SELECT debit_account AS account, posted_step AS debits_posted, pending_step AS debits_pending,
                0 AS credits_posted, 0 AS credits_pending
            FROM ({_moved(rows)}) AS debited
            UNION ALL
            SELECT credit_account, 0, 0, posted_step, pending_step FROM ({_moved(rows)}) AS credited
        ) AS sides GROUP BY account
    ) AS sums ON sums.account = id
    CROSS JOIN LATERAL (
        VALUES ('debits_posted', debits_posted, debits_before, debits),
            ('credits_posted', credits_posted, credits_before, credits),
            ('debits_pending', debits_pending, debits_held_before, debits_held),
            ('credits_pending', credits_pending, credits_held_before, credits_held)
    ) AS total (what, stated, before, moved)
    CROSS JOIN LATERAL (SELECT coalesce(before, 0) + coalesce(moved, 0) AS due) AS sum
    WHERE stated <> due"""


def steps(rows: Rows) -> str:
    """Each transfer records the totals that the one before it left, moved by it."""
    return f"""
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
            FROM ({_moved(rows)}) AS debited
            UNION ALL
            SELECT sequence, currency, credit_account, 0, 0, posted_step, pending_step, credit_debits_pending,
                credit_debits_posted, credit_credits_pending, credit_credits_posted
            FROM ({_moved(rows)}) AS credited
            UNION ALL
            SELECT NULL, '', account, 0, 0, 0, 0, debits_held_before, debits_before, credits_held_before, credits_before
            FROM {rows.before} AS before
        ) AS sides
        WINDOW account AS (PARTITION BY account ORDER BY sequence NULLS FIRST)
    ) AS steps
    CROSS JOIN LATERAL (
        VALUES ('debits_posted', debits, debit, debits_posted), ('credits_posted', credits, credit, credits_posted),
            ('debits_pending', debits_held, debit_held, debits_pending),
            ('credits_pending', credits_held, credit_held, credits_pending)
    ) AS total (what, before, step, after)
    WHERE before + step <> after AND sequence IS NOT NULL
        AND (debits + debit <> debits_posted OR credits + credit <> credits_posted
            OR debits_held + debit_held <> debits_pending OR credits_held + credit_held <> credits_pending)"""


def rules(rows: Rows) -> str:
    """No account breaks the rule of its kind."""
    return f"""
    SELECT 'accounts/' || id AS resource, currency,
        'never below 0 by ' || coalesce(chart.rule, 'no such kind') AS expected,
        coalesce(available, 0) || ' by ' || accounts.rule AS found, greatest(-available, 0) AS off
    FROM {rows.accounts} AS accounts LEFT JOIN (VALUES {_CHART}) AS chart (kind, rule) USING (kind)
    CROSS JOIN LATERAL (
        SELECT CASE chart.rule
            WHEN 'CREDITS_COVER_DEBITS' THEN credits_posted::numeric - debits_posted - debits_pending
            WHEN 'DEBITS_COVER_CREDITS' THEN debits_posted::numeric - credits_posted - credits_pending
            ELSE 0 END AS available
    ) AS rest
    WHERE available < 0 OR accounts.rule IS DISTINCT FROM chart.rule
        OR least(debits_posted, credits_posted, debits_pending, credits_pending) < 0"""


def closed(rows: Rows) -> str:
    """A closed account has nothing."""
    return f"""
    SELECT 'accounts/' || id AS resource, currency, 'nothing, for it is closed' AS expected,
        credits_posted - debits_posted || ', pending ' || debits_pending + credits_pending AS found,
        abs(credits_posted - debits_posted) AS off
    FROM {rows.accounts} AS accounts
    WHERE state = 'CLOSED' AND (credits_posted <> debits_posted OR debits_pending > 0 OR credits_pending > 0)"""


def owners(rows: Rows) -> str:
    """An account of a subject is the partner's that has brought it, and nobody else's is of any but a trade's."""
    return f"""
    SELECT 'accounts/' || id AS resource, currency, 'of ' || coalesce(nullif(brought, ''), 'nobody') AS expected,
        'of ' || coalesce(nullif(stated, ''), 'nobody') AS found, 0 AS off
    FROM (
        SELECT id, currency, accounts.partner AS stated, coalesce(owners.partner, '') AS brought
        FROM {rows.accounts} AS accounts LEFT JOIN owners ON owners.owner = accounts.owner
        WHERE accounts.owner NOT LIKE 'trades/%'
    ) AS both_sides WHERE stated <> brought"""


def nothing_left(rows: Rows) -> str:
    """Nothing is left in clearing.capture."""
    return f"""
    SELECT 'accounts/' || id AS resource, currency, '0' AS expected, credits_posted - debits_posted || '' AS found,
        abs(credits_posted - debits_posted) AS off
    FROM {rows.accounts} AS accounts WHERE kind = 'clearing.capture' AND credits_posted <> debits_posted"""


def whole_transactions(rows: Rows) -> str:
    """A transaction is all transfers from its first to its last."""
    return f"""
    SELECT 'transactions/' || coalesce(transactions.id, transaction_id) AS resource, coalesce(currency, '') AS currency,
        coalesce('transfers ' || first_sequence || ' to ' || last_sequence, 'a transaction') AS expected,
        coalesce('transfers ' || first || ' to ' || last || ', ' || rows || ' in all', 'no transfers') AS found,
        coalesce(amount_minor, 0) AS off
    FROM {rows.transactions} AS transactions FULL JOIN (
        SELECT transaction_id, min(sequence) AS first, max(sequence) AS last, count(*) AS rows,
            min(currency) AS currency, sum(amount_minor) AS amount_minor
        FROM {rows.transfers} AS transfers GROUP BY transaction_id
    ) AS legs ON transaction_id = transactions.id
    WHERE first IS DISTINCT FROM first_sequence OR last IS DISTINCT FROM last_sequence
        OR rows <> last_sequence - first_sequence + 1"""
