"""Refunds, releases, chargebacks and their ends in whatever order: no unit goes back twice, and none is lost."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_kit.errors import DanbaoError
from danbao_kit.money import Money
from danbao_payments.domain.commands import (
    AccountKey,
    Command,
    CreatePayment,
    Leg,
    PostTransaction,
    RefundPayment,
    ReportRailResult,
    SplitTerm,
    VoidPayment,
)
from danbao_payments.domain.movement import RailResult
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_payment import movement_of
from danbao_payments.testing.pure import CNY, ESCROW, OPERATOR, PureBooks, wallet

BUYER, RAIL = "subjects/buyer", "rails/simulated"
SELLERS = ("subjects/one", "subjects/two")
TRADES = tuple(AccountKey(f"trades/{number}", "escrow.trade") for number in (1, 2))
PAYABLES = tuple(AccountKey(seller, "seller.payable") for seller in SELLERS)
SUSPENSE = AccountKey("platform", "suspense")
CLEARING = AccountKey("platform", "clearing.refund")
R = RailResult

amounts = st.one_of(st.none(), st.integers(1, 40), st.integers(1, 1200))
seller = st.integers(0, 1)
# Of a payment of 1000: the second trade's part, the platform's in basis points.
orders = st.tuples(st.integers(1, 400), st.integers(1, 2000))
actions = st.one_of(
    st.tuples(st.just("refund"), amounts, st.booleans()),
    st.tuples(st.just("give back by legs"), amounts, st.booleans(), seller),
    st.tuples(st.just("release"), amounts, seller),
    st.tuples(st.just("spend"), amounts, seller),
    st.tuples(st.just("earn"), amounts, seller),
    st.tuples(st.just("void")),
    st.tuples(st.just("refund's report"), st.sampled_from([R.SUCCEEDED, R.FAILED, R.RETURNED])),
    *[st.tuples(st.just("report"), st.sampled_from(list(R)), amounts) for _ in range(4)],
)


def command_of(pure: PureBooks, payment: Payment, action: tuple[Any, ...]) -> Command | None:
    kind, *details = action
    amount = None if not details or not isinstance(details[0], int) else Money(CNY, details[0])
    some = amount or Money(CNY, 7)
    if kind == "refund":
        return RefundPayment(payment.id, amount, "", ESCROW, fee_refund="PROPORTIONAL" if details[1] else "NONE")
    if kind == "give back by legs":
        target = CLEARING if details[1] else wallet(BUYER)
        return PostTransaction((Leg(TRADES[details[2]], target, some, payment.id, "DISPUTE"),), caller=ESCROW)
    if kind == "release":
        return PostTransaction((Leg(TRADES[details[1]], PAYABLES[details[1]], some, payment.id),), caller=ESCROW)
    if kind == "spend":
        return PostTransaction((Leg(PAYABLES[details[1]], SUSPENSE, some),), caller=OPERATOR)
    if kind == "earn":
        return PostTransaction((Leg(SUSPENSE, PAYABLES[details[1]], some),), caller=OPERATOR)
    if kind == "void":
        return VoidPayment(payment.id, ESCROW)
    if kind == "refund's report":
        refunds = list(pure.books.rail_refunds.values())
        return ReportRailResult(refunds[-1].movement, details[0]) if refunds else None
    part = Money(CNY, details[1]) if details[1] and details[0] in (R.CHARGEBACK, R.CHARGEBACK_REVERSED) else None
    return ReportRailResult(movement_of(payment), details[0], part)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(order=orders, story=st.lists(actions, min_size=1, max_size=40), first=st.booleans())
def test_no_unit_goes_back_twice_and_none_is_lost(order: Any, story: list[Any], first: bool) -> None:
    pure = PureBooks()
    second, fee = order
    terms = (
        SplitTerm(TRADES[0], beneficiary=SELLERS[0]),
        SplitTerm(TRADES[1], fixed_minor=second, beneficiary=SELLERS[1]),
        SplitTerm(AccountKey("platform", "fee.payment"), basis_points=fee),
    )
    asked = CreatePayment(
        BUYER,
        TRADES[0],
        "",
        Money(CNY, 1000),
        "AUTOMATIC",
        caller=ESCROW,
        rail=RAIL,
        splits=terms,
        remainder_policy="LARGEST_REMAINDER",
    )
    payment = pure.run(asked)
    if first:
        pure.run(ReportRailResult(movement_of(payment), R.SUCCEEDED))
    for action in story:
        command = command_of(pure, payment, action)
        if command is None:
            continue
        with suppress(DanbaoError):
            command.check()
            pure.run(command)
        look(pure, pure.books.payments.get(payment.id))


def look(pure: PureBooks, payment: Payment | None) -> None:
    assert payment is not None
    pure.check()
    refunds = list(pure.books.rail_refunds.values())
    on_its_way = sum(each.amount_minor for each in refunds if each.state == "PENDING")
    assert pure.available("platform", "clearing.refund") == on_its_way
    paid = sum(each.amount_minor for each in refunds if each.state == "SETTLED")
    assert payment.refunds_settled_minor == paid
    assert 0 <= payment.charged_back_minor <= payment.refunded_minor <= payment.captured_minor
    for part in payment.parts:
        assert 0 <= part.charged_back_minor <= part.refunded_minor <= part.captured_minor
    for total, of_parts in (
        (payment.captured_minor, [part.captured_minor for part in payment.parts]),
        (payment.refunded_minor, [part.refunded_minor for part in payment.parts]),
    ):
        assert total == sum(of_parts)
    taken = payment.chargeback_from
    captured = payment.state == "CAPTURED"
    if captured:
        of_parts = sum(part.charged_back_minor for part in payment.parts)
        assert payment.charged_back_minor == of_parts + taken.payer_minor
        assert payment.charged_back_minor == sum(minor for _, _, minor in taken.borne)
    assert all(minor >= 0 for _, _, minor in taken.borne)
    # What the rail brought is with us, except for what it has paid back and taken back.
    came = 0 if payment.last_transaction is None or taken.at_once else 1000
    rail = pure.available(RAIL, "rail.in_transit") + pure.available(RAIL, "rail.settled")
    assert rail == came - paid - (payment.charged_back_minor if captured else taken.payer_minor)
