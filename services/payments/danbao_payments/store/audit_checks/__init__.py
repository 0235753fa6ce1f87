"""What the books must be, as queries that find what is not: no row, no violation.

Each gives resource, currency, expected, found and off (minor units), and which rule where several share it. They read
the books only, never a number that is kept to answer them, and are written apart from the code that writes the books:
what that gets wrong they must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from danbao_payments.domain.audit import Rule, Term
from danbao_payments.store.audit_checks import ledger, payments, rails, requests, streams
from danbao_payments.store.audit_checks.flows import FLOWS, NEW_FLOWS
from danbao_payments.store.audit_checks.words import ALL, NEW

__all__ = ["CHECKS", "FLOWS", "NEW_CHECKS", "NEW_FLOWS", "Check", "Of"]


class Of(Enum):
    """What $1 and $2 of a query number: the last that was seen, and the last that there is. NOTHING: it has neither."""

    NOTHING = auto()
    TRANSFERS = auto()
    EVENTS = auto()


class Check(NamedTuple):
    """A rule and the query that finds where it is broken; `shared` with other rules, and then its rows name theirs."""

    rule: Rule
    query: str
    shared: bool = False
    of: Of = Of.NOTHING


_SUMS = f"{payments.sums(ALL)} UNION ALL {payments.TOP_UPS_NOT_OVERPAID}"

CHECKS: Sequence[Check] = (
    Check(Rule(1, "balanced", "debits equal credits in each currency", Term.UNBALANCED), ledger.balanced(ALL)),
    Check(
        Rule(2, "two_sides", "a transfer moves something between two accounts of its currency"), ledger.two_sides(ALL)
    ),
    Check(
        Rule(3, "totals", "an account's totals are the sums of its transfers, posted and pending", Term.MISMATCHED),
        ledger.totals(ALL),
    ),
    Check(
        Rule(3, "steps", "each transfer records the totals that the one before it left, moved by it"), ledger.steps(ALL)
    ),
    Check(Rule(4, "never_negative", "no account breaks the rule of its kind"), ledger.rules(ALL)),
    Check(Rule(8, "one_record", "a request has one record"), requests.ONE_RECORD),
    Check(
        Rule(8, "payment_of_a_request", "a payment is the answer to one request", Term.DUPLICATED),
        requests.PAYMENT_OF_A_REQUEST,
    ),
    Check(
        Rule(
            8,
            "transaction_of_a_request",
            "a transaction was asked for, or is a movement's, or time's",
            Term.DUPLICATED,
        ),
        requests.TRANSACTION_OF_A_REQUEST,
    ),
    Check(
        Rule(8, "movement_once", "a request makes one movement over a rail", Term.DUPLICATED), requests.MOVEMENT_ONCE
    ),
    Check(
        Rule(8, "booked_once", "what a rail moved is booked once, and nothing that it did not move", Term.DUPLICATED),
        rails.BOOKED_ONCE,
    ),
    Check(Rule(10, "events_gapless", "events are numbered without gaps up to the stream's head"), streams.events(ALL)),
    Check(Rule(13, "answers_stand", "what was answered as done is there", Term.MISSING), requests.ANSWERS_STAND),
    Check(
        Rule(18, "chain", "every transfer is as its batch recorded it, and the batches are chained"), streams.chain(ALL)
    ),
    Check(
        Rule(0, "whole_transactions", "a transaction is all transfers from its first to its last"),
        ledger.whole_transactions(ALL),
    ),
    Check(Rule(0, "closed", "a closed account has nothing"), ledger.closed(ALL)),
    Check(Rule(0, "owners", "an account is the partner's that has brought its owner"), ledger.owners(ALL)),
    Check(Rule(0, "standing", "a payment's state and sums agree with what was held for it"), payments.standing(ALL)),
    Check(Rule(0, "captured", "what a payment captured is what its transfers took"), _SUMS, shared=True),
    Check(Rule(0, "refunded", "what a payment gave back is what its transfers gave back"), _SUMS, shared=True),
    Check(Rule(0, "not_overpaid", "nothing gives back more than it took", Term.OVERPAID), _SUMS, shared=True),
    Check(Rule(0, "parts", "the parts of a split are what was captured, and give back no more"), payments.parts(ALL)),
    Check(Rule(0, "holds", "what is held on an account is what payments hold there", Term.HELD), payments.holds(ALL)),
    Check(
        Rule(0, "hold_of_a_payment", "each hold is that of one payment, and as much"), payments.hold_of_a_payment(ALL)
    ),
    Check(Rule(0, "nothing_left", "nothing is left in clearing.capture", Term.HELD), ledger.nothing_left(ALL)),
    Check(
        Rule(0, "on_its_way", "clearing.refund and clearing.payout are what rails still owe", Term.HELD),
        rails.on_its_way(ALL),
    ),
    Check(Rule(0, "withdrawn", "what left for a withdrawal, and came back, is as its state says"), rails.WITHDRAWN),
    Check(Rule(0, "settled", "what is said to be settled was settled, once"), rails.SETTLED),
    Check(Rule(0, "refunds_over_rails", "what went back over a rail is its refunds"), rails.REFUNDS_OVER_RAILS),
    Check(Rule(0, "returned", "what a rail took back of a top-up is what its transfers took"), rails.RETURNED),
    Check(Rule(0, "fund", "fund.recoverable is the sum of receivable.guarantee"), rails.FUND),
)

_RULES = {check.rule.name: check.rule for check in CHECKS}
_NEW_SUMS = payments.sums(NEW)
# What accounts had before is looked up once for the three.
_LOOKED_UP = NEW._replace(before="looked_up")
_NEW_TOTALS = f"""
    WITH looked_up AS MATERIALIZED {NEW.before}
    SELECT 'balanced' AS rule, found.* FROM ({ledger.balanced(_LOOKED_UP)}) AS found
    UNION ALL SELECT 'totals', found.* FROM ({ledger.totals(_LOOKED_UP)}) AS found
    UNION ALL SELECT 'steps', found.* FROM ({ledger.steps(_LOOKED_UP)}) AS found"""
# Of what is new. What a check of these does not see, such as an old row that was changed, its namesake above does.
NEW_CHECKS: Sequence[Check] = (
    Check(_RULES["balanced"], _NEW_TOTALS, shared=True, of=Of.TRANSFERS),
    Check(_RULES["two_sides"], ledger.two_sides(NEW), of=Of.TRANSFERS),
    Check(_RULES["totals"], _NEW_TOTALS, shared=True, of=Of.TRANSFERS),
    Check(_RULES["steps"], _NEW_TOTALS, shared=True, of=Of.TRANSFERS),
    Check(_RULES["never_negative"], ledger.rules(NEW), of=Of.TRANSFERS),
    Check(_RULES["events_gapless"], streams.events(NEW), of=Of.EVENTS),
    Check(_RULES["chain"], streams.chain(NEW), of=Of.TRANSFERS),
    Check(_RULES["whole_transactions"], ledger.whole_transactions(NEW), of=Of.TRANSFERS),
    Check(_RULES["closed"], ledger.closed(NEW), of=Of.TRANSFERS),
    Check(_RULES["owners"], ledger.owners(NEW), of=Of.TRANSFERS),
    Check(_RULES["standing"], payments.standing(NEW), of=Of.TRANSFERS),
    Check(_RULES["captured"], _NEW_SUMS, shared=True, of=Of.TRANSFERS),
    Check(_RULES["refunded"], _NEW_SUMS, shared=True, of=Of.TRANSFERS),
    Check(_RULES["not_overpaid"], _NEW_SUMS, shared=True, of=Of.TRANSFERS),
    Check(_RULES["parts"], payments.parts(NEW), of=Of.TRANSFERS),
    Check(_RULES["holds"], payments.holds(NEW), of=Of.TRANSFERS),
    Check(_RULES["hold_of_a_payment"], payments.hold_of_a_payment(NEW), of=Of.TRANSFERS),
    Check(_RULES["nothing_left"], ledger.nothing_left(NEW), of=Of.TRANSFERS),
    Check(_RULES["on_its_way"], rails.on_its_way(NEW)),
)
