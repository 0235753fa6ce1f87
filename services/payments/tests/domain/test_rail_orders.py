"""In whatever order a rail's reports come: its accounts hold what the rail holds, and the same reports end the same."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest

from danbao_kit.errors import DanbaoError
from danbao_kit.money import Money
from danbao_payments.domain.commands import (
    AccountKey,
    CreatePayment,
    CreateTopUp,
    RefundPayment,
    RefundTopUp,
    ReportRailResult,
    VoidPayment,
)
from danbao_payments.domain.movement import RailResult
from danbao_payments.domain.rail_payment import movement_of
from danbao_payments.testing.pure import CNY, OPERATOR, PARTNER, PureBooks

BUYER, SELLER, RAIL = "subjects/buyer", "subjects/seller", "rails/simulated"
PAYABLE = AccountKey(SELLER, "seller.payable")
R = RailResult
VOID, REFUND_PAID, REFUND_REFUSED, REFUND_RETURNED = "VOID", "REFUND_PAID", "REFUND_REFUSED", "REFUND_RETURNED"


def held(pure: PureBooks) -> int:
    """What the books say that the rail has of ours."""
    return pure.available(RAIL, "rail.in_transit") + pure.available(RAIL, "rail.settled")


def pay_over_rail(pure: PureBooks) -> Any:
    return pure.run(CreatePayment(BUYER, PAYABLE, "", Money(CNY, 100), "AUTOMATIC", caller=PARTNER, rail=RAIL))


class Reckoning:
    """What a rail that says such things holds of ours: nothing of it knows of the service's tables."""

    def __init__(self) -> None:
        self.came = self.charged_back = self.gone = False
        self.sent_back = self.came_back = False

    def say(self, what: Any) -> None:
        if what in (R.SUCCEEDED, R.SETTLED, R.RETURNED, R.CHARGEBACK):
            self.came = True
        if what is R.RETURNED:
            self.gone = True
        elif what is R.CHARGEBACK:
            self.charged_back = True
        elif what is R.CHARGEBACK_REVERSED:
            self.charged_back = self.gone = False
        elif what == REFUND_PAID:
            self.sent_back = True
        elif what == REFUND_RETURNED:
            self.came_back = True

    def holds(self) -> int:
        sent_back = self.sent_back and not self.came_back
        return 100 if self.came and not (self.charged_back or self.gone or sent_back) else 0


SAID = (VOID, R.SUCCEEDED, R.FAILED, R.SETTLED, R.RETURNED, R.CHARGEBACK, R.CHARGEBACK_REVERSED)
OF_REFUND = {REFUND_PAID: R.SUCCEEDED, REFUND_REFUSED: R.FAILED, REFUND_RETURNED: R.RETURNED}


def tell(pure: PureBooks, payment: Any, what: Any) -> bool:
    """Whether it was accepted."""
    try:
        if what == VOID:
            pure.run(VoidPayment(payment.id, PARTNER))
        elif what in OF_REFUND:
            refunds = list(pure.books.rail_refunds.values())
            if not refunds:
                return False
            pure.run(ReportRailResult(refunds[-1].movement, OF_REFUND[what]))
        else:
            pure.run(ReportRailResult(movement_of(payment), what))
    except DanbaoError:
        return False
    return True


@pytest.mark.parametrize("first", [*SAID, *OF_REFUND])
def test_a_rail_s_accounts_hold_what_it_holds_whatever_is_said_of_a_payment(first: Any):
    for rest in product((*SAID, *OF_REFUND), repeat=3):
        pure, reckoning = PureBooks(), Reckoning()
        payment = pay_over_rail(pure)
        for what in (first, *rest):
            before = held(pure)
            if tell(pure, payment, what):
                reckoning.say(what)
            else:
                assert held(pure) == before, (first, rest)
            # What the rail has taken back while it is asked to send it back is its own already.
            on_its_way = pure.available("platform", "clearing.refund") if reckoning.gone else 0
            assert held(pure) - on_its_way == reckoning.holds(), (first, rest, what)
            pure.check()
        refunds = list(pure.books.rail_refunds.values())
        assert len(refunds) <= 1, (first, rest)


# --- the same reports, whatever their order ---------------------------------------------------------------------------

# What is told of the source, and of a refund of 40 of its 100.
STORIES = [
    [("source", R.RETURNED), ("refund", R.FAILED)],
    [("source", R.RETURNED), ("refund", R.SUCCEEDED), ("refund", R.RETURNED)],
    [("source", R.RETURNED), ("source", R.SETTLED), ("refund", R.FAILED)],
    [("source", R.RETURNED), ("source", R.SETTLED), ("refund", R.SUCCEEDED)],
    [("source", R.RETURNED), ("source", R.SETTLED), ("refund", R.SUCCEEDED), ("refund", R.RETURNED)],
    [("source", R.RETURNED), ("source", R.RETURNED), ("refund", R.FAILED), ("refund", R.FAILED)],
]


def ends(pure: PureBooks, made: Any, story: Any) -> tuple[Any, ...]:
    refund = next(iter(pure.books.rail_refunds.values()))
    for which, result in story:
        movement = (movement_of(made) if hasattr(made, "payer") else made.movement) if which == "source" else None
        pure.run(ReportRailResult(movement or refund.movement, result))
        pure.check()
    owed = pure.available(BUYER, "receivable.user"), pure.available(SELLER, "receivable.chargeback")
    rail = pure.available(RAIL, "rail.in_transit"), pure.available(RAIL, "rail.settled")
    return pure.available(BUYER), pure.available(SELLER, "seller.payable"), owed, rail


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("minor", [40, 100])
@pytest.mark.parametrize("spent", [False, True])
def test_the_same_reports_of_a_top_up_and_its_refund_end_the_same(story: Any, minor: int, spent: bool):
    found = set()
    for order in permutations(story):
        pure = PureBooks()
        pure.run(CreateTopUp(BUYER, Money(CNY, 100), RAIL, caller=PARTNER))
        top_up = pure.events[-1].top_up
        pure.run(ReportRailResult(top_up.movement, R.SUCCEEDED))
        pure.run(RefundTopUp(top_up.id, Money(CNY, minor), PARTNER))
        if spent and minor < 100:
            pure.pay(BUYER, PAYABLE, 100 - minor)
        end = ends(pure, top_up, order)
        now = pure.books.top_ups.get(top_up.id)
        assert now.refunded_minor + now.returned_minor == 100
        paid = minor if now.refunds_settled_minor else 0
        assert now.refunds_settled_minor == paid
        # Everything that came is gone: what was not paid back was taken back.
        assert (now.state, now.returned_minor, held(pure)) == ("RETURNED", 100 - paid, 0)
        found.add((end, now._replace(id=None, create_time=None, update_time=None, settle_time=None)[:15]))
    assert len({end for end, _ in found}) == 1, found


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("minor", [40, 100])
def test_the_same_reports_of_a_payment_and_its_refund_end_the_same(story: Any, minor: int):
    found = set()
    for order in permutations(story):
        pure = PureBooks()
        payment = pay_over_rail(pure)
        pure.run(ReportRailResult(movement_of(payment), R.SUCCEEDED))
        pure.run(RefundPayment(payment.id, Money(CNY, minor), "", PARTNER))
        end = ends(pure, payment, order)
        now = pure.books.payments.get(payment.id)
        counted = now.refunded_minor, now.charged_back_minor, now.refunds_settled_minor
        assert now.charged_back_minor == 100 - now.refunds_settled_minor
        assert sum(minor for _, _, minor in now.chargeback_from.borne) == now.charged_back_minor
        assert held(pure) == 0
        found.add((end, counted))
    assert len(found) == 1, found


def test_what_the_payer_gave_of_a_returned_payment_is_the_payer_s_when_it_is_won():
    pure = PureBooks()
    payment = pay_over_rail(pure)
    for result in (R.SUCCEEDED, R.SETTLED):
        pure.run(ReportRailResult(movement_of(payment), result))
    pure.run(RefundPayment(payment.id, Money(CNY, 40), "", PARTNER))
    pure.run(ReportRailResult(movement_of(payment), R.RETURNED))
    pure.run(ReportRailResult(next(iter(pure.books.rail_refunds.values())).movement, R.FAILED))
    assert (pure.available(BUYER), held(pure)) == (0, 0)
    pure.run(ReportRailResult(movement_of(payment), R.CHARGEBACK_REVERSED, Money(CNY, 70)))
    assert (pure.available(SELLER, "seller.payable"), pure.available(BUYER)) == (60, 10)
    pure.run(ReportRailResult(movement_of(payment), R.CHARGEBACK_REVERSED))
    now = pure.books.payments.get(payment.id)
    assert (pure.available(BUYER), now.charged_back_minor, now.refunded_minor) == (40, 0, 40)
    # Nothing is taken back any more: what a later refund gives back is the payer's again.
    pure.run(RefundPayment(payment.id, Money(CNY, 60), "", PARTNER))
    pure.run(ReportRailResult(list(pure.books.rail_refunds.values())[-1].movement, R.FAILED))
    assert (pure.available(BUYER), held(pure)) == (100, 100)
    pure.check()


def test_a_refund_of_what_was_won_in_part_is_the_payer_s_when_the_rail_refuses_it():
    pure = PureBooks()
    payment = pay_over_rail(pure)
    for result, minor in ((R.SUCCEEDED, None), (R.RETURNED, None), (R.CHARGEBACK_REVERSED, 30)):
        pure.run(ReportRailResult(movement_of(payment), result, None if minor is None else Money(CNY, minor)))
    pure.run(RefundPayment(payment.id, Money(CNY, 30), "", PARTNER))
    pure.run(ReportRailResult(next(iter(pure.books.rail_refunds.values())).movement, R.FAILED))
    assert (pure.available(BUYER), held(pure)) == (30, 30)


def test_what_the_payer_has_spent_of_a_refused_refund_is_owed_when_the_payment_is_returned():
    pure = PureBooks()
    payment = pay_over_rail(pure)
    pure.run(ReportRailResult(movement_of(payment), R.SUCCEEDED))
    pure.run(RefundPayment(payment.id, Money(CNY, 40), "", PARTNER))
    pure.run(ReportRailResult(next(iter(pure.books.rail_refunds.values())).movement, R.FAILED))
    pure.post((AccountKey(BUYER, "user.available"), AccountKey("platform", "suspense"), 25), caller=OPERATOR)
    pure.run(ReportRailResult(movement_of(payment), R.RETURNED, rail_reference="return-9"))
    assert (pure.available(BUYER), pure.available(BUYER, "receivable.user"), held(pure)) == (0, 25, 0)
    pure.check()
