"""What must have no gap and no second writing: the chain of transfers, and the events."""

from __future__ import annotations

from danbao_payments.store.audit_checks.words import Rows


def events(rows: Rows) -> str:
    """Events are numbered without gaps up to the stream's head."""
    return f"""
    SELECT 'events/' || before + 1 AS resource, '' AS currency, 'an event' AS expected, 'none' AS found, 0 AS off
    FROM (
        SELECT sequence, lag(sequence, 1, {rows.last_event}) OVER (ORDER BY sequence) AS before
        FROM {rows.events} AS events
    ) AS numbered
    WHERE sequence <> before + 1
    UNION ALL
    SELECT 'events/' || event_sequence, '', 'the last event', 'events end at ' || last, 0
    FROM stream_heads
    CROSS JOIN (SELECT coalesce(max(sequence), {rows.last_event}) AS last FROM {rows.events} AS events) AS events
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


def chain(rows: Rows) -> str:
    """Every transfer is as its batch recorded it, and the batches are chained."""
    return f"""
    SELECT 'transfers/' || coalesce(number, sequence) AS resource, coalesce(currency, '') AS currency,
        coalesce(encode(recorded, 'hex'), 'a batch') AS expected,
        CASE WHEN number IS NULL THEN 'none' ELSE coalesce(encode(hashed, 'hex'), 'missing') END AS found, 0 AS off
    FROM (
        SELECT number, substr(row_hashes, ((number - first_sequence) * 16 + 1)::int, 16) AS recorded
        FROM {rows.batches} AS ledger_batches
        CROSS JOIN LATERAL generate_series(first_sequence, last_sequence) AS rows (number)
    ) AS numbered
    FULL JOIN (SELECT sequence, currency, {_ROW_HASH} AS hashed FROM {rows.transfers} AS transfers) AS transfers
        ON sequence = number
    WHERE hashed IS DISTINCT FROM recorded
    UNION ALL
    SELECT 'ledgerBatches/' || last_sequence, '', encode(linked, 'hex'), encode(hash, 'hex'), 0
    FROM (
        SELECT last_sequence, hash, sha256(coalesce(lag(hash, 1, {rows.last_hash}) OVER (ORDER BY last_sequence), '')
            || int8send(first_sequence) || int8send(last_sequence) || row_hashes) AS linked
        FROM {rows.batches} AS ledger_batches
    ) AS links WHERE linked <> hash"""
