"""Words that several checks use: what is a rail's, and which rows a check is about."""

from __future__ import annotations

from typing import NamedTuple

# The accounts in which money comes from outside and goes there.
RAIL = "('rail.in_transit', 'rail.settled')"


class Rows(NamedTuple):
    """Which rows a check is about: of each table the table itself, or a subquery in its place."""

    transfers: str
    transactions: str
    accounts: str
    # What accounts had before the transfers, as the last one before them recorded it: account, debits_before, …
    before: str
    payments: str
    # The payments all of whose transfers are among the transfers.
    begun: str
    # Holds of these payments from before the transfers.
    held: str
    # Where the platform's own accounts are among.
    platforms: str
    batches: str
    last_hash: str
    events: str
    last_event: str


_NOTHING_BEFORE = """(
    SELECT NULL::uuid AS account, 0::bigint AS debits_held_before, 0::bigint AS debits_before,
        0::bigint AS credits_held_before, 0::bigint AS credits_before WHERE false
)"""
ALL = Rows(
    "transfers",
    "transactions",
    "accounts",
    _NOTHING_BEFORE,
    "payments",
    "payments",
    "(SELECT * FROM transfers WHERE false)",
    "accounts",
    "ledger_batches",
    "''",
    "events",
    "NULL",
)

# What is new: $1 and $2 are the last number that was seen and the last that there is, of transfers or of events. With
# transfers go the accounts and payments that they touched and the transactions that were recorded with them.
_NEW = "(SELECT {} FROM transfers WHERE sequence > $1 AND sequence <= $2)"
_TOUCHED = f"({_NEW.format('debit_account AS id')} UNION {_NEW.format('credit_account')})"
_TOTALS = "{0}_debits_pending, {0}_debits_posted, {0}_credits_pending, {0}_credits_posted"
_LAST = "(SELECT sequence, {} FROM transfers WHERE {}_account = touched.id AND sequence <= $1 ORDER BY 1 DESC LIMIT 1)"
_LAST_OF_ACCOUNTS = f"""(
    SELECT touched.id AS account, last.* FROM {_TOUCHED} AS touched CROSS JOIN LATERAL (
        SELECT debits_held_before, debits_before, credits_held_before, credits_before FROM (
            {_LAST.format(_TOTALS.format("debit"), "debit")}
            UNION ALL {_LAST.format(_TOTALS.format("credit"), "credit")}
        ) AS sides (sequence, debits_held_before, debits_before, credits_held_before, credits_before)
        ORDER BY sequence DESC LIMIT 1
    ) AS last
)"""
# When the last transfer before them was recorded: numbers and times of recording go the same way.
_SINCE = (
    "coalesce((SELECT create_time FROM transfers WHERE sequence <= $1 ORDER BY sequence DESC LIMIT 1), '-infinity')"
)
_PAYMENTS = f"(SELECT * FROM payments WHERE id IN {_NEW.format('payment_id')})"
NEW = Rows(
    _NEW.format("*"),
    f"(SELECT * FROM transactions WHERE create_time > {_SINCE})",
    f"(SELECT * FROM accounts WHERE id IN {_TOUCHED})",
    _LAST_OF_ACCOUNTS,
    _PAYMENTS,
    f"(SELECT * FROM payments WHERE id IN {_NEW.format('payment_id')} AND create_time > {_SINCE})",
    f"(SELECT * FROM transfers WHERE sequence <= $1 AND sequence IN (SELECT hold_id FROM {_PAYMENTS} AS payments))",
    "(SELECT * FROM accounts WHERE owner = 'platform')",
    "(SELECT * FROM ledger_batches WHERE last_sequence > $1 AND last_sequence <= $2)",
    "(SELECT hash FROM ledger_batches WHERE last_sequence <= $1 ORDER BY last_sequence DESC LIMIT 1)",
    "(SELECT * FROM events WHERE sequence > $1 AND sequence <= $2)",
    "$1",
)
