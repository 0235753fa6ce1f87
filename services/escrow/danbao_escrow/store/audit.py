"""What an audit reads of escrow's own store: one statement a rule, and what trades should hold page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import text

from danbao_escrow.application.auditing import Held
from danbao_escrow.domain import audit
from danbao_escrow.domain.audit import Counts, Rule, Violation
from danbao_escrow.domain.payment_events import PAYMENTS
from danbao_kit.database import Database

_MOST = 1000

_OUT = "('RELEASE', 'REFUND', 'SETTLE', 'RETURN')"
_SETTLED = f"""
    SELECT trade_id, sum((movement ->> 'released_minor')::bigint) AS released,
        sum((movement ->> 'refunded_minor')::bigint) AS refunded, sum((movement ->> 'fee_minor')::bigint) AS fees
    FROM steps WHERE state = 'DONE' AND kind IN {_OUT} GROUP BY trade_id"""
# What each done step should have moved in its trade's account, and which movements tell of it.
_STEP_MOVED = f"""
    SELECT steps.trade_id, number, kind, ledger_reference,
        CASE WHEN kind = 'PAY' THEN (movement #>> '{{legs,0,amount_minor}}')::bigint ELSE 0 END AS in_minor,
        CASE WHEN kind IN {_OUT} THEN (movement ->> 'released_minor')::bigint + (movement ->> 'refunded_minor')::bigint
            ELSE 0 END AS out_minor
    FROM steps JOIN trades USING (trade_id)
    WHERE steps.state = 'DONE' AND kind <> 'VOID'
        AND (kind <> 'PAY' OR coalesce(movement ->> 'rail', '') = ''
            OR (ledger_reference = trades.payment AND funded_minor > 0 AND trades.state <> 'CANCELLED'))"""
_TELLS_OF = """moved.trade_id = asked.trade_id AND CASE WHEN asked.kind = 'PAY'
        THEN moved.kind = 'payment_captured' AND moved.payment = asked.ledger_reference
        ELSE moved.kind = 'transaction_posted' AND moved.reference = asked.ledger_reference END"""

# A line that was written before lines settled in parts does not say which postage it took along.
_LINES = """
    SELECT line, released, refunded,
        (line ->> 'amount_minor')::bigint - released - refunded + coalesce((line ->> 'postage_minor')::bigint,
            greatest(0, released + refunded - (line ->> 'amount_minor')::bigint)) AS unsettled
    FROM (SELECT line, (line ->> 'released_minor')::bigint AS released, (line ->> 'refunded_minor')::bigint AS refunded
        FROM jsonb_array_elements(lines) AS line) AS amounts"""

# resource, expected, found, off
QUERIES: Mapping[Rule, str] = MappingProxyType(
    {
        audit.COUNTERS: f"""
            SELECT 'trades/' || trade_id, concat_ws('/', want_released, want_refunded, want_fees),
                concat_ws('/', released_minor, refunded_minor, fees_minor),
                abs(released_minor - want_released) + abs(refunded_minor - want_refunded)
            FROM (SELECT trades.*, coalesce(released, 0) AS want_released, coalesce(fees, 0) AS want_fees,
                    CASE WHEN funded_minor = 0 THEN 0 ELSE coalesce(refunded, 0) + charged_back_minor END
                        AS want_refunded
                FROM trades LEFT JOIN ({_SETTLED}) AS settled USING (trade_id)) AS compared
            WHERE (released_minor, refunded_minor, fees_minor) <> (want_released, want_refunded, want_fees)""",
        audit.FUNDED_ONCE: """
            SELECT 'trades/' || trades.trade_id, '1', count(number)::text, funded_minor FROM trades
            LEFT JOIN steps ON steps.trade_id = trades.trade_id AND kind = 'PAY' AND steps.state = 'DONE'
                AND ledger_reference = trades.payment
            WHERE funded_minor > 0 GROUP BY trades.trade_id HAVING count(number) <> 1""",
        audit.ENDED_EMPTY: """
            SELECT 'trades/' || trade_id, '0', (funded_minor - released_minor - refunded_minor)::text,
                funded_minor - released_minor - refunded_minor
            FROM trades WHERE state IN ('COMPLETED', 'CLOSED', 'CANCELLED')
                AND funded_minor <> released_minor + refunded_minor""",
        audit.NEVER_MORE: """
            SELECT 'trades/' || trade_id, 'at most ' || funded_minor, (released_minor + refunded_minor)::text,
                released_minor + refunded_minor - funded_minor
            FROM trades WHERE released_minor + refunded_minor > funded_minor
                OR least(released_minor, refunded_minor, fees_minor, funded_minor) < 0""",
        audit.PARTIES: """
            SELECT 'trades/' || trade_id || '/steps/' || number, concat_ws(' ', buyer, seller, trades.currency),
                concat_ws(' ', payer, beneficiary, steps.currency), 0
            FROM steps JOIN trades USING (trade_id)
            WHERE (payer, beneficiary, steps.currency) <> (buyer, seller, trades.currency)""",
        audit.TIMELINE: """
            SELECT 'trades/' || trade_id, timeline_length::text, concat_ws(' up to ', entries, last), 0
            FROM trades LEFT JOIN (
                SELECT trade_id, count(*) AS entries, max(position) AS last FROM timeline_entries GROUP BY trade_id
            ) AS told USING (trade_id)
            WHERE (coalesce(entries, 0), coalesce(last, 0)) <> (timeline_length, timeline_length)""",
        audit.STEP_ENTRIES: """
            SELECT 'trades/' || steps.trade_id || '/steps/' || number, '1 entry', count(position)::text, 0
            FROM steps LEFT JOIN timeline_entries AS told ON told.trade_id = steps.trade_id
                AND told.ledger_reference = steps.ledger_reference AND told.command = steps.cause ->> 'command'
            WHERE steps.state = 'DONE' GROUP BY steps.trade_id, number HAVING count(position) <> 1""",
        audit.EVENTS: """
            SELECT 'events/' || kind, sum(transitions)::text, sum(told)::text, 0 FROM (
                SELECT 'trade_created' AS kind, count(*) AS transitions, 0 AS told FROM trades
                UNION ALL SELECT 'trade_paid', count(*), 0 FROM trades WHERE pay_time IS NOT NULL
                UNION ALL SELECT 'trade_cancelled', count(*), 0 FROM trades WHERE state = 'CANCELLED'
                UNION ALL SELECT 'lines_released', count(*), 0 FROM steps WHERE state = 'DONE' AND kind = 'RELEASE'
                UNION ALL SELECT 'lines_refunded', count(*), 0 FROM steps WHERE state = 'DONE' AND kind = 'REFUND'
                UNION ALL SELECT 'lines_settled', count(*), 0 FROM steps WHERE state = 'DONE' AND kind = 'SETTLE'
                UNION ALL SELECT 'held_released', count(*), 0 FROM steps WHERE state = 'DONE' AND kind = 'PAYOUT_HELD'
                UNION ALL SELECT kind, 0, count(*) FROM events WHERE kind IN ('trade_created', 'trade_paid',
                    'trade_cancelled', 'lines_released', 'lines_refunded', 'lines_settled', 'held_released')
                GROUP BY kind) AS both_sides
            GROUP BY kind HAVING sum(transitions) <> sum(told)""",
        audit.STATES: f"""
            SELECT 'trades/' || trade_id, want || ', lines with what is left of them, sums ' || concat_ws('/', released,
                    refunded),
                state || ', ' || odd || ' lines that are not, sums ' || concat_ws('/', sum_released, sum_refunded),
                abs(sum_released - released) + abs(sum_refunded - refunded)
            FROM (SELECT trade_id, state, odd, coalesce(sum_released, 0) AS sum_released,
                    coalesce(sum_refunded, 0) AS sum_refunded,
                    CASE WHEN state = 'CANCELLED' THEN 0 ELSE released_minor - buyer_fee_released_minor END AS released,
                    CASE WHEN state = 'CANCELLED' THEN 0 ELSE refunded_minor - buyer_fee_refunded_minor END AS refunded,
                    CASE WHEN 'UNPAID' = ANY(states) THEN 'PENDING_PAYMENT'
                        WHEN 'CANCELLED' = ALL(states) THEN 'CANCELLED'
                        WHEN NOT states && ARRAY['PAID', 'SHIPPED'] AND sum_released > 0 THEN 'COMPLETED'
                        WHEN NOT states && ARRAY['PAID', 'SHIPPED'] THEN 'CLOSED'
                        WHEN NOT 'PAID' = ANY(states) THEN 'AWAITING_CONFIRMATION'
                        WHEN states && ARRAY['SHIPPED', 'RELEASED'] THEN 'PARTIALLY_SHIPPED'
                        ELSE 'AWAITING_SHIPMENT' END AS want
                FROM trades CROSS JOIN LATERAL (
                    SELECT array_agg(line ->> 'state') AS states, sum(released) AS sum_released,
                        sum(refunded) AS sum_refunded,
                        count(*) FILTER (WHERE line ->> 'state' IN ('PAID', 'SHIPPED') AND unsettled <= 0
                            OR line ->> 'state' IN ('RELEASED', 'REFUNDED') AND unsettled <> 0) AS odd
                    FROM ({_LINES}) AS each) AS all_lines) AS compared
            WHERE state <> want OR odd > 0 OR (sum_released, sum_refunded) <> (released, refunded)""",
        audit.STEPS_MATCH: f"""
            SELECT 'trades/' || asked.trade_id || '/steps/' || number,
                '1 of ' || concat_ws(' in, ', asked.in_minor, asked.out_minor) || ' out by '
                    || min(asked.ledger_reference),
                count(moved.reference) || ' of ' || concat_ws(' in, ', coalesce(sum(moved.in_minor), 0),
                    coalesce(sum(moved.out_minor), 0)) || ' out',
                abs(coalesce(sum(moved.in_minor), 0) - asked.in_minor)
                    + abs(coalesce(sum(moved.out_minor), 0) - asked.out_minor)
            FROM ({_STEP_MOVED}) AS asked LEFT JOIN payment_movements AS moved ON {_TELLS_OF}
            GROUP BY asked.trade_id, number, asked.in_minor, asked.out_minor
            HAVING count(moved.reference) <> 1 OR sum(moved.in_minor) <> asked.in_minor
                OR sum(moved.out_minor) <> asked.out_minor""",
        audit.MOVEMENTS_MATCH: """
            SELECT reference, '1 step of trades/' || trade_id, '0', in_minor + out_minor FROM payment_movements AS moved
            WHERE kind = 'transaction_posted' AND NOT EXISTS (SELECT FROM steps WHERE steps.trade_id = moved.trade_id
                    AND state = 'DONE' AND kind <> 'PAY' AND ledger_reference = moved.reference)
                OR kind = 'payment_captured' AND NOT EXISTS (SELECT FROM steps WHERE steps.trade_id = moved.trade_id
                    AND state = 'DONE' AND kind = 'PAY' AND ledger_reference = moved.payment)""",
        audit.CHARGEBACKS_MATCH: """
            SELECT 'trades/' || trade_id, coalesce(taken, 0)::text,
                (coalesce(charged_back_minor, 0) + coalesce(chargeback_due_minor, 0))::text,
                abs(coalesce(taken, 0) - coalesce(charged_back_minor, 0) - coalesce(chargeback_due_minor, 0))
            FROM trades FULL JOIN (
                SELECT trade_id, sum(out_minor) AS taken FROM payment_movements WHERE kind = 'payment_charged_back'
                GROUP BY trade_id) AS told USING (trade_id)
            WHERE coalesce(taken, 0) <> coalesce(charged_back_minor, 0) + coalesce(chargeback_due_minor, 0)""",
        audit.TOLD: """
            SELECT 'trades/' || trade_id, (funded_minor - released_minor - refunded_minor)::text,
                coalesce(balance, 0)::text,
                abs(coalesce(balance, 0) - (funded_minor - released_minor - refunded_minor))
            FROM trades LEFT JOIN (
                SELECT trade_id, sum(in_minor - out_minor) AS balance FROM payment_movements GROUP BY trade_id
            ) AS told USING (trade_id)
            WHERE pending_step = 0 AND coalesce(balance, 0) <> funded_minor - released_minor - refunded_minor""",
    }
)
_COUNTS = text(
    "SELECT (SELECT count(*) FROM trades) AS trades, (SELECT count(*) FROM steps) AS steps,"
    " (SELECT count(*) FROM payment_movements) AS movements, (SELECT count(*) FROM parked_payment_events) AS parked,"
    " coalesce((SELECT max(sequence) FROM reader_cursors WHERE source = :source), 0) AS payments_sequence"
)
_HELD = text(
    "SELECT trade_id, currency, funded_minor - released_minor - refunded_minor AS minor, pending_step <> 0 AS pending"
    " FROM trades WHERE trade_id > :after AND (funded_minor <> released_minor + refunded_minor OR pending_step <> 0)"
    " ORDER BY trade_id LIMIT :limit"
)
_KNOWN = text("SELECT trade_id FROM trades WHERE trade_id = ANY(:trade_ids)")
_REFERENCES = text("SELECT reference FROM payment_movements WHERE trade_id = :trade_id")
_NONE = UUID(int=0)


class AuditReads:
    """Reads of one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> Counts:
        """What there is to look at."""
        async with self._database.read() as connection:
            row = (await connection.execute(_COUNTS, {"source": PAYMENTS})).one()
        return Counts(row.trades, row.steps, row.movements, row.parked, row.payments_sequence)

    async def broken(self, rule: Rule) -> list[Violation]:
        """What breaks one of the rules that a statement tells; the first thousand."""
        async with self._database.read() as connection:
            found = (await connection.execute(text(f"{QUERIES[rule]} LIMIT {_MOST}"))).all()
        return [Violation(rule, resource, expected, shown, int(off)) for resource, expected, shown, off in found]

    async def held(self) -> AsyncIterator[list[Held]]:
        """What trades' accounts should hold, of those that should hold something or have a step pending."""
        after = _NONE
        while True:
            async with self._database.read() as connection:
                found = (await connection.execute(_HELD, {"after": after, "limit": _MOST})).all()
            page = [Held(f"trades/{row.trade_id}", row.currency, row.minor, row.pending) for row in found]
            if page:
                yield page
            if len(page) < _MOST:
                return
            after = found[-1].trade_id

    async def known(self, trades: Iterable[str]) -> set[str]:
        """Those of them that there are."""
        wanted = [each for trade in trades if (each := _id_of(trade)) is not None]
        async with self._database.read() as connection:
            rows = await connection.execute(_KNOWN, {"trade_ids": wanted})
            return {f"trades/{trade_id}" for trade_id in rows.scalars()}

    async def references(self, trade: str) -> set[str]:
        """The transactions that payments' events told of a trade."""
        async with self._database.read() as connection:
            found = await connection.execute(_REFERENCES, {"trade_id": UUID(trade.removeprefix("trades/"))})
            return set(found.scalars())


def _id_of(trade: str) -> UUID | None:
    """None: nothing of ours is called so."""
    try:
        return UUID(trade.removeprefix("trades/"))
    except ValueError:
        return None
