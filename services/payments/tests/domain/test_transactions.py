"""Transactions of several legs on the pure books: all or none, who may, and the cap that refunds share."""

from __future__ import annotations

from uuid import uuid4

import pytest

from danbao_kit.errors import FieldInvalid
from danbao_kit.money import AmountNotPositive, CurrencyUnknown, Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.chart import CHART, Rule, Side
from danbao_payments.domain.commands import AccountKey, Leg, PostTransaction, RefundPayment
from danbao_payments.domain.errors import (
    CurrencyMismatch,
    InsufficientFunds,
    KindNotAllowed,
    LegsInvalid,
    PaymentNotFound,
    PaymentStateInvalid,
    RefundAmountExceeded,
)
from danbao_payments.testing.pure import CNY, ESCROW, OPERATOR, PARTNER, PureBooks, wallet

BUYER, SELLER = "subjects/buyer", "subjects/seller"
TRADE = AccountKey("trades/1", "escrow.trade")
PAYABLE = AccountKey(SELLER, "seller.payable")
FEE = AccountKey("platform", "fee.escrow")


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()


@pytest.fixture
def funded(pure):
    """A trade whose buyer has paid 10000 into it."""
    pure.fund(BUYER, 10_000)
    return pure.pay(BUYER, TRADE, 10_000, caller=ESCROW)


def leg(debit, credit, minor, *, payment=None, purpose="", currency=CNY):
    return Leg(debit, credit, Money(currency, minor), payment, purpose)


def post(pure, *legs, caller=ESCROW):
    return pure.run(PostTransaction(tuple(legs), caller=caller))


def test_a_release_pays_the_seller_and_the_fee_at_once(pure, funded):
    posted = post(pure, leg(TRADE, PAYABLE, 9900, payment=funded.id), leg(TRADE, FEE, 100, payment=funded.id))
    assert (pure.available(SELLER, "seller.payable"), pure.available("platform", "fee.escrow")) == (9900, 100)
    assert [t.sequence for t in posted.transfers] == list(
        range(posted.transaction.first_sequence, posted.transaction.last_sequence + 1)
    )
    assert pure.account("trades/1", "escrow.trade").state == AccountState.CLOSED
    assert pure.kinds_of_events()[-1] == "transaction_posted"


def test_all_legs_or_none(pure, funded):
    before = len(pure.events)
    with pytest.raises(InsufficientFunds) as refused:
        post(pure, leg(TRADE, PAYABLE, 9900), leg(TRADE, FEE, 101))
    assert refused.value.metadata["available_minor"] == "100"
    assert pure.available("trades/1", "escrow.trade") == 10_000
    assert pure.available(SELLER, "seller.payable") == 0
    assert len(pure.events) == before


def test_a_leg_may_use_what_the_leg_before_it_brought(pure, funded):
    back = AccountKey("trades/2", "escrow.trade")
    post(pure, leg(TRADE, back, 10_000), leg(back, PAYABLE, 10_000))
    assert pure.available(SELLER, "seller.payable") == 10_000
    with pytest.raises(InsufficientFunds):
        post(pure, leg(AccountKey("trades/3", "escrow.trade"), PAYABLE, 1))


def test_refunds_by_both_ways_share_one_cap(pure, funded):
    back = leg(TRADE, wallet(BUYER), 6000, payment=funded.id, purpose="REFUND")
    post(pure, back)
    assert pure.books.payments.get(funded.id).refunded_minor == 6000
    assert pure.kinds_of_events()[-2:] == ["payment_refunded", "transaction_posted"]
    pure.fund(BUYER, 10_000)
    with pytest.raises(RefundAmountExceeded) as refused:
        post(pure, leg(TRADE, wallet(BUYER), 4001, payment=funded.id, purpose="DISPUTE"))
    assert refused.value.metadata["refundable_minor"] == "4000"
    with pytest.raises(RefundAmountExceeded):
        pure.run(RefundPayment(funded.id, Money(CNY, 4001), "", ESCROW))
    pure.run(RefundPayment(funded.id, Money(CNY, 4000), "", ESCROW))


def test_legs_of_one_transaction_count_together_under_the_cap(pure, funded):
    fund = AccountKey("platform", "guarantee.fund")
    pure.post((AccountKey("platform", "suspense"), fund, 10_000))
    with pytest.raises(RefundAmountExceeded):
        post(
            pure,
            leg(TRADE, wallet(BUYER), 6000, payment=funded.id, purpose="DISPUTE"),
            leg(fund, wallet(BUYER), 4001, payment=funded.id, purpose="COMPENSATION"),
        )


def test_a_leg_back_to_the_payer_counts_even_if_it_does_not_say_so(pure, funded):
    post(pure, leg(TRADE, wallet(BUYER), 1, payment=funded.id))
    assert pure.books.payments.get(funded.id).refunded_minor == 1


def test_nothing_goes_back_before_something_was_captured(pure):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, wallet(SELLER), 100)
    suspense = AccountKey("platform", "suspense")
    with pytest.raises(PaymentStateInvalid) as refused:
        post(pure, leg(suspense, wallet(BUYER), 1, payment=held.id, purpose="REFUND"), caller=OPERATOR)
    assert refused.value.metadata["state"] == "AUTHORIZED"


def test_a_leg_in_another_currency_than_its_payment_is_refused(pure, funded):
    with pytest.raises(CurrencyMismatch):
        post(pure, leg(TRADE, wallet(BUYER), 1, payment=funded.id, purpose="REFUND", currency="EUR"))


def test_a_payment_that_does_not_exist_comes_before_everything_else(pure):
    with pytest.raises(PaymentNotFound):
        post(pure, leg(AccountKey("platform", "nonsense"), wallet(BUYER), 1, payment=uuid4(), purpose="REFUND"))


@pytest.mark.parametrize(
    ("debit", "credit", "caller"),
    [
        (TRADE, PAYABLE, OPERATOR),
        (TRADE, PAYABLE, Caller(Party.CREDIT)),
        (wallet(BUYER), PAYABLE, ESCROW),
        (AccountKey("platform", "suspense"), wallet(BUYER), ESCROW),
        (AccountKey("platform", "suspense"), wallet(BUYER), PARTNER),
        (AccountKey("platform", "suspense"), wallet(BUYER), Caller(Party.USER, BUYER)),
        (AccountKey("platform", "clearing.capture"), wallet(BUYER), OPERATOR),
        (wallet(BUYER), AccountKey("platform", "clearing.refund"), OPERATOR),
        (wallet(BUYER), TRADE, OPERATOR),
        (AccountKey("platform", "no.such"), wallet(BUYER), OPERATOR),
        (AccountKey(SELLER, "suspense"), wallet(BUYER), OPERATOR),
        (AccountKey("trades/1", "user.available"), wallet(BUYER), OPERATOR),
    ],
)
def test_who_may_not_move_what(pure, funded, debit, credit, caller):
    with pytest.raises(KindNotAllowed):
        post(pure, leg(debit, credit, 1), caller=caller)


def test_operators_put_money_from_suspense_into_wallets(pure):
    pure.fund(BUYER, 4711)
    assert pure.available(BUYER) == 4711
    assert pure.available("platform", "suspense") == 4711  # suspense grows by debits


def test_an_asset_that_is_not_there_cannot_be_credited(pure):
    pure.fund(BUYER, 10)
    loss = AccountKey("platform", "loss.bad_debt")
    with pytest.raises(InsufficientFunds):
        post(pure, leg(loss, AccountKey(BUYER, "receivable.user"), 5), caller=OPERATOR)


@pytest.mark.parametrize("minor", [0, -1])
def test_an_amount_must_be_above_zero(minor):
    with pytest.raises(AmountNotPositive) as refused:
        PostTransaction((leg(TRADE, PAYABLE, 1), leg(TRADE, PAYABLE, minor))).check()
    assert refused.value.metadata["field"] == "legs[1].amount.amount_minor"


@pytest.mark.parametrize("currency", ["", "XXX", "cny", "CN", "BTC"])
def test_a_currency_must_exist(currency):
    with pytest.raises(CurrencyUnknown):
        PostTransaction((leg(TRADE, PAYABLE, 1, currency=currency),)).check()


def test_checks_of_the_message_come_in_their_order():
    bad_amount, bad_currency, same = leg(TRADE, PAYABLE, 0), leg(TRADE, PAYABLE, 1, currency="?"), leg(TRADE, TRADE, 1)
    no_payment = leg(TRADE, PAYABLE, 1, purpose="REFUND")
    with pytest.raises(FieldInvalid):
        PostTransaction((same, bad_currency, bad_amount, no_payment)).check()
    with pytest.raises(AmountNotPositive):
        PostTransaction((same, bad_currency, bad_amount)).check()
    with pytest.raises(CurrencyUnknown):
        PostTransaction((same, bad_currency)).check()
    with pytest.raises(LegsInvalid) as refused:
        PostTransaction((leg(TRADE, PAYABLE, 1), same)).check()
    assert refused.value.metadata["leg"] == "1"


def test_the_chart_says_what_each_kind_is():
    assert len(CHART) == 25
    for kind in CHART.values():
        grows_by_debits = kind.account_class in ("ASSET", "EXPENSE")
        assert kind.normal_side is (Side.DEBIT if grows_by_debits else Side.CREDIT)
        if kind.name in ("rail.settled", "rail.in_transit", "suspense", "opening"):
            assert kind.rule is Rule.NONE
        else:
            assert kind.rule is (Rule.DEBITS_COVER_CREDITS if grows_by_debits else Rule.CREDITS_COVER_DEBITS)
    assert not CHART["clearing.capture"].debited_by | CHART["clearing.capture"].credited_by
    assert CHART["escrow.trade"].debited_by == {Party.ESCROW}


@pytest.mark.parametrize("key", ["movement", "top_up", "rail_reference"])
def test_nobody_else_names_a_movement_over_a_rail(key):
    leg = Leg(AccountKey("platform", "suspense"), AccountKey("platform", "opening"), Money(CNY, 1))
    with pytest.raises(FieldInvalid) as refused:
        PostTransaction((leg,), metadata=((key, "x"), ("mine", "y"))).check()
    assert refused.value.fields[0].field == "metadata"
    PostTransaction((leg,), metadata=(("mine", "y"),)).check()
