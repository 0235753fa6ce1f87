"""What the books must be, as queries that find what is not: no row, no violation.

Each gives resource, currency, expected, found and off (minor units). They read the books only, never a number that is
kept to answer them, and are written apart from the code that writes the books: what that gets wrong they must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from danbao_payments.domain.audit import Rule, Term
from danbao_payments.store.audit_checks import ledger, payments, rails, requests
from danbao_payments.store.audit_checks.flows import FLOWS

__all__ = ["CHECKS", "FLOWS", "Check"]


class Check(NamedTuple):
    """A rule and the query that finds where it is broken."""

    rule: Rule
    query: str


CHECKS: Sequence[Check] = (
    Check(Rule(1, "balanced", "debits equal credits in each currency", Term.UNBALANCED), ledger.BALANCED),
    Check(Rule(2, "two_sides", "a transfer moves something between two accounts of its currency"), ledger.TWO_SIDES),
    Check(
        Rule(3, "totals", "an account's totals are the sums of its transfers, posted and pending", Term.MISMATCHED),
        ledger.TOTALS,
    ),
    Check(Rule(3, "steps", "each transfer records the totals that the one before it left, moved by it"), ledger.STEPS),
    Check(Rule(4, "never_negative", "no account breaks the rule of its kind"), ledger.RULES),
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
    Check(Rule(10, "events_gapless", "events are numbered without gaps up to the stream's head"), ledger.EVENTS),
    Check(Rule(13, "answers_stand", "what was answered as done is there", Term.MISSING), requests.ANSWERS_STAND),
    Check(Rule(18, "chain", "every transfer is as its batch recorded it, and the batches are chained"), ledger.CHAIN),
    Check(
        Rule(0, "whole_transactions", "a transaction is all transfers from its first to its last"),
        ledger.WHOLE_TRANSACTIONS,
    ),
    Check(Rule(0, "closed", "a closed account has nothing"), ledger.CLOSED),
    Check(Rule(0, "standing", "a payment's state and sums agree with what was held for it"), payments.STANDING),
    Check(Rule(0, "captured", "what a payment captured is what its transfers took"), payments.CAPTURED),
    Check(Rule(0, "refunded", "what a payment gave back is what its transfers gave back"), payments.REFUNDED),
    Check(Rule(0, "not_overpaid", "nothing gives back more than it took", Term.OVERPAID), payments.NOT_OVERPAID),
    Check(Rule(0, "parts", "the parts of a split are what was captured, and give back no more"), payments.PARTS),
    Check(Rule(0, "holds", "what is held on an account is what payments hold there", Term.HELD), payments.HOLDS),
    Check(Rule(0, "hold_of_a_payment", "each hold is that of one payment, and as much"), payments.HOLD_OF_A_PAYMENT),
    Check(Rule(0, "nothing_left", "nothing is left in clearing.capture", Term.HELD), payments.NOTHING_LEFT),
    Check(
        Rule(0, "on_its_way", "clearing.refund and clearing.payout are what rails still owe", Term.HELD),
        rails.ON_ITS_WAY,
    ),
    Check(Rule(0, "withdrawn", "what left for a withdrawal, and came back, is as its state says"), rails.WITHDRAWN),
    Check(Rule(0, "settled", "what is said to be settled was settled, once"), rails.SETTLED),
    Check(Rule(0, "refunds_over_rails", "what went back over a rail is its refunds"), rails.REFUNDS_OVER_RAILS),
    Check(Rule(0, "returned", "what a rail took back of a top-up is what its transfers took"), rails.RETURNED),
    Check(Rule(0, "fund", "fund.recoverable is the sum of receivable.guarantee"), rails.FUND),
)
