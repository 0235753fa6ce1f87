"""Debts to the platform on the pure books: what the fund gave is owed, and paid out of what comes in, in one place."""

from __future__ import annotations

from datetime import timedelta

import pytest

from danbao_kit.money import Money
from danbao_payments.domain.account import account_id
from danbao_payments.domain.account_commands import CloseAccount, FreezeAccount
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import (
    AccountKey,
    CapturePayment,
    CreatePayment,
    CreateTopUp,
    Destination,
    ExpireHolds,
    Leg,
    PostTransaction,
    RefundPayment,
    ReportRailResult,
    ReverseTransaction,
    Source,
    SpreadLeg,
)
from danbao_payments.domain.errors import InsufficientFunds, KindNotAllowed, WouldBePosted
from danbao_payments.domain.movement import RailResult
from danbao_payments.domain.payment import OnExpiry
from danbao_payments.domain.recovery import recovered
from danbao_payments.domain.splits import Part
from danbao_payments.testing.pure import CNY, ESCROW, OPERATOR, PARTNER, PureBooks, wallet

BUYER, SELLER = "subjects/buyer", "subjects/seller"
TRADE = AccountKey("trades/1", "escrow.trade")
PAYABLE = AccountKey(SELLER, "seller.payable")
DEPOSIT = AccountKey(SELLER, "guarantee.deposit")
FUND = AccountKey("platform", "guarantee.fund")
SUSPENSE = AccountKey("platform", "suspense")
GUARANTEE = AccountKey(SELLER, "receivable.guarantee")
CHARGEBACK = AccountKey(SELLER, "receivable.chargeback")
CREDIT = Caller(Party.CREDIT)


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()


@pytest.fixture
def paid(pure):
    """A trade of 100000 that its seller has been paid and has spent; a deposit of 60000, a fund of 1000000."""
    pure.fund(BUYER, 100_000)
    payment = pure.pay(BUYER, TRADE, 100_000, caller=ESCROW)
    pure.post((TRADE, wallet("subjects/gone"), 100_000), caller=ESCROW)
    pure.post((SUSPENSE, FUND, 1_000_000))
    pure.post((SUSPENSE, PAYABLE, 60_000))
    pure.post((PAYABLE, DEPOSIT, 60_000), caller=CREDIT)
    return payment


def compensate(pure, payment, minor, *sources, **others):
    """The buyer gets so much from these sources, the deposit and then the fund unless told otherwise."""
    return pure.run(
        PostTransaction((compensation(payment, minor, *(sources or (DEPOSIT, FUND))),), caller=ESCROW, **others)
    )


def compensation(payment, minor, *sources):
    return SpreadLeg(
        tuple(Source(each) for each in sources),
        (Destination(wallet(BUYER), Part()),),
        Money(CNY, minor),
        payment.id,
        "COMPENSATION",
    )


def owes(pure, debt, minor):
    """Makes a debt as no caller can: an operator's leg that only opens it."""
    pure.post((debt, SUSPENSE, minor))


def balance(pure, key):
    return pure.available(key.owner, key.kind)


def movements(pure, posted):
    """What was posted, as (debit kind, credit kind, minor units)."""
    kinds = {account.id: account.kind for account in pure.books.accounts.values()}
    return [(kinds[t.debit_account], kinds[t.credit_account], t.amount_minor) for t in posted.transfers]


# credited, there, owed → paid
SHARES = [
    (100, 100, (30, 50), (30, 50)),
    (100, 100, (30, 90), (30, 70)),
    (100, 100, (100, 1), (100, 0)),
    (100, 100, (500, 500), (100, 0)),
    (100, 40, (30, 50), (30, 10)),
    (100, 0, (30, 50), (0, 0)),
    (100, -5, (30, 50), (0, 0)),
    (10, 100, (30, 50), (10, 0)),
    (100, 100, (0, 50), (0, 50)),
    (100, 100, (0, 0), (0, 0)),
    (100, 100, (), ()),
]


@pytest.mark.parametrize(("credited", "there", "owed", "paid"), SHARES)
def test_what_each_debt_gets(credited, there, owed, paid):
    assert recovered(credited_minor=credited, there_minor=there, owed_minor=owed) == paid


# --- what the fund gave -----------------------------------------------------------------------------------------------


def test_a_compensation_takes_the_deposit_then_the_fund_which_is_owed_its_part(pure, paid):
    posted = compensate(pure, paid, 100_000)
    assert movements(pure, posted) == [
        ("guarantee.deposit", "user.available", 60_000),
        ("guarantee.fund", "user.available", 40_000),
        ("receivable.guarantee", "fund.recoverable", 40_000),
    ]
    assert [balance(pure, key) for key in (DEPOSIT, FUND, GUARANTEE, wallet(BUYER))] == [0, 960_000, 40_000, 100_000]
    assert pure.books.payments.get(paid.id).refunded_minor == 100_000


def test_the_next_credit_pays_the_fund_back(pure, paid):
    compensate(pure, paid, 100_000)
    posted = pure.post((SUSPENSE, PAYABLE, 25_000))
    assert movements(pure, posted) == [
        ("suspense", "seller.payable", 25_000),
        ("seller.payable", "receivable.guarantee", 25_000),
        ("fund.recoverable", "guarantee.fund", 25_000),
    ]
    assert [balance(pure, key) for key in (PAYABLE, FUND, GUARANTEE)] == [0, 985_000, 15_000]
    pure.post((SUSPENSE, PAYABLE, 25_000))
    assert [balance(pure, key) for key in (PAYABLE, FUND, GUARANTEE)] == [10_000, 1_000_000, 0]
    pure.post((SUSPENSE, PAYABLE, 25_000))
    assert [balance(pure, key) for key in (PAYABLE, FUND, GUARANTEE)] == [35_000, 1_000_000, 0]


def test_a_deposit_and_a_fund_with_too_little_give_nothing_in_part(pure, paid):
    pure.post((FUND, SUSPENSE, 960_001))
    with pytest.raises(InsufficientFunds) as refused:
        compensate(pure, paid, 100_000)
    assert refused.value.metadata["available_minor"] == "99999"
    assert [balance(pure, key) for key in (DEPOSIT, FUND, GUARANTEE, wallet(BUYER))] == [60_000, 39_999, 0, 0]


def test_a_compensation_that_the_deposit_meets_is_owed_by_nobody(pure, paid):
    assert len(compensate(pure, paid, 60_000).transfers) == 1
    assert not pure.has(SELLER, "receivable.guarantee")


def test_only_the_part_of_the_fund_is_owed_when_the_fund_is_named_first(pure, paid):
    compensate(pure, paid, 50_000, FUND, DEPOSIT)
    assert [balance(pure, key) for key in (DEPOSIT, FUND, GUARANTEE)] == [60_000, 950_000, 50_000]


@pytest.mark.parametrize("purpose", ["REFUND", "DISPUTE", "CHARGEBACK"])
def test_what_the_fund_gives_for_another_purpose_is_not_owed(pure, paid, purpose):
    pure.run(PostTransaction((Leg(FUND, wallet(BUYER), Money(CNY, 10), paid.id, purpose),), caller=ESCROW))
    assert not pure.has(SELLER, "receivable.guarantee")


def test_who_owes_is_told_by_the_leg_s_deposit_then_by_others_of_the_payment_then_by_the_payment(pure, paid):
    other = AccountKey("subjects/other", "guarantee.deposit")
    compensate(pure, paid, 10, other, FUND)
    assert pure.available("subjects/other", "receivable.guarantee") == 10
    fund_alone = Leg(FUND, wallet(BUYER), Money(CNY, 7), paid.id, "COMPENSATION")
    pure.run(PostTransaction((compensation(paid, 10, DEPOSIT), fund_alone), caller=ESCROW))
    assert balance(pure, GUARANTEE) == 7
    # This trade's payment names no beneficiary, and a trade owes nothing: the fund bears it.
    assert len(pure.run(PostTransaction((fund_alone,), caller=ESCROW)).transfers) == 1
    assert balance(pure, GUARANTEE) == 7


def test_who_owes_is_the_payment_s_beneficiary_or_its_payee(pure):
    pure.post((SUSPENSE, FUND, 1000))
    pure.fund(BUYER, 200)
    for number, payee in enumerate((PAYABLE, AccountKey("subjects/other", "user.available"))):
        payment = pure.pay(BUYER, payee, 100)
        leg = Leg(FUND, wallet(BUYER), Money(CNY, 30), payment.id, "COMPENSATION")
        pure.run(PostTransaction((leg,), caller=ESCROW))
        assert pure.available(payee.owner, "receivable.guarantee") == 30, number


def test_a_deposit_of_another_payment_s_leg_says_nothing(pure, paid):
    pure.fund(BUYER, 100)
    second = pure.pay(BUYER, AccountKey("subjects/other", "seller.payable"), 100)
    legs = (
        compensation(paid, 10, DEPOSIT),
        Leg(FUND, wallet(BUYER), Money(CNY, 30), second.id, "COMPENSATION"),
    )
    pure.run(PostTransaction(legs, caller=ESCROW))
    assert balance(pure, GUARANTEE) == 0
    assert pure.available("subjects/other", "receivable.guarantee") == 30


# --- paid out of what comes in ----------------------------------------------------------------------------------------


def test_the_guarantee_is_paid_before_the_chargeback_and_only_it_goes_into_the_fund(pure, paid):
    compensate(pure, paid, 70_000)
    owes(pure, CHARGEBACK, 5000)
    posted = pure.post((SUSPENSE, PAYABLE, 14_000))
    assert movements(pure, posted)[1:] == [
        ("seller.payable", "receivable.guarantee", 10_000),
        ("seller.payable", "receivable.chargeback", 4000),
        ("fund.recoverable", "guarantee.fund", 10_000),
    ]
    assert [balance(pure, key) for key in (PAYABLE, GUARANTEE, CHARGEBACK, FUND)] == [0, 0, 1000, 1_000_000]


def test_a_wallet_pays_what_its_user_owes_and_nothing_else(pure):
    for kind in ("receivable.user", "receivable.guarantee", "receivable.chargeback"):
        if kind == "receivable.guarantee":
            pure.post((SUSPENSE, FUND, 500))
        owes(pure, AccountKey(SELLER, kind), 500)
    pure.fund(SELLER, 800)
    assert pure.available(SELLER) == 300
    assert [pure.available(SELLER, f"receivable.{kind}") for kind in ("user", "guarantee", "chargeback")] == [
        0,
        500,
        500,
    ]
    pure.post((SUSPENSE, PAYABLE, 2000))
    assert [balance(pure, key) for key in (PAYABLE, GUARANTEE, CHARGEBACK)] == [1000, 0, 0]


def test_debts_of_others_and_of_other_currencies_stay(pure):
    owes(pure, AccountKey("subjects/other", "receivable.user"), 500)
    owes(pure, AccountKey(SELLER, "receivable.user"), 500)
    pure.post((SUSPENSE, wallet(SELLER), 300), currency="EUR")
    assert pure.available(SELLER, currency="EUR") == 300
    pure.fund(SELLER, 300)
    assert [pure.available(owner, "receivable.user") for owner in ("subjects/other", SELLER)] == [500, 200]


def test_what_goes_on_in_the_same_transaction_is_not_there_to_be_recovered(pure):
    owes(pure, CHARGEBACK, 500)
    pure.post((SUSPENSE, PAYABLE, 300), (PAYABLE, wallet("subjects/other"), 260))
    assert [balance(pure, key) for key in (PAYABLE, CHARGEBACK)] == [0, 460]


def test_no_more_than_was_credited_is_taken_though_more_is_there(pure):
    pure.post((SUSPENSE, PAYABLE, 1000))
    owes(pure, CHARGEBACK, 500)
    pure.post((SUSPENSE, PAYABLE, 1))
    assert [balance(pure, key) for key in (PAYABLE, CHARGEBACK)] == [1000, 499]


def test_what_is_held_is_not_there(pure):
    pure.fund(SELLER, 100)
    pure.hold(SELLER, wallet("subjects/other"), 100)
    owes(pure, AccountKey(SELLER, "receivable.user"), 500)
    pure.fund(SELLER, 30)
    assert (pure.available(SELLER), pure.available(SELLER, "receivable.user")) == (0, 470)


def test_a_freeze_of_debits_keeps_nobody_from_paying_debts(pure):
    pure.post((SUSPENSE, PAYABLE, 1))
    pure.run(FreezeAccount(account_id(SELLER, "seller.payable", CNY), "DEBITS", OPERATOR))
    owes(pure, CHARGEBACK, 500)
    pure.post((SUSPENSE, PAYABLE, 100))
    assert [balance(pure, key) for key in (PAYABLE, CHARGEBACK)] == [1, 400]


def pay_at_once(pure):
    pure.pay(BUYER, PAYABLE, 100)


def capture(pure):
    pure.run(CapturePayment(pure.hold(BUYER, PAYABLE, 100).id, caller=PARTNER))


def capture_by_time(pure):
    second = timedelta(seconds=1)
    held = pure.run(
        CreatePayment(
            BUYER, PAYABLE, "", Money(CNY, 100), "MANUAL", second, caller=PARTNER, on_expiry=OnExpiry.CAPTURE.value
        )
    )
    pure.advance(2)
    pure.run(ExpireHolds((held.id,)))


def release(pure):
    pure.pay(BUYER, TRADE, 100, caller=ESCROW)
    pure.post((TRADE, PAYABLE, 100), caller=ESCROW)


@pytest.mark.parametrize("way", [pay_at_once, capture, capture_by_time, release])
def test_whatever_credits_the_seller_pays_the_seller_s_debts(pure, way):
    pure.fund(BUYER, 100)
    owes(pure, CHARGEBACK, 60)
    way(pure)
    assert [balance(pure, key) for key in (PAYABLE, CHARGEBACK)] == [40, 0]


def refund(pure):
    pure.fund(SELLER, 100)
    payment = pure.pay(SELLER, wallet(BUYER), 100)
    owes(pure, AccountKey(SELLER, "receivable.user"), 60)
    pure.run(RefundPayment(payment.id, None, "", PARTNER))


def top_up(pure):
    owes(pure, AccountKey(SELLER, "receivable.user"), 60)
    pure.run(CreateTopUp(SELLER, Money(CNY, 100), "rails/simulated", caller=PARTNER))
    pure.run(ReportRailResult(pure.events[-1].top_up.movement, RailResult.SUCCEEDED, rail_reference="ref"))


@pytest.mark.parametrize("way", [refund, top_up])
def test_whatever_credits_a_wallet_pays_its_user_s_debts(pure, way):
    way(pure)
    assert (pure.available(SELLER), pure.available(SELLER, "receivable.user")) == (40, 0)


def test_what_would_be_recovered_is_told_and_not_done(pure):
    owes(pure, CHARGEBACK, 60)
    with pytest.raises(WouldBePosted) as told:
        pure.run(PostTransaction((Leg(SUSPENSE, PAYABLE, Money(CNY, 100)),), caller=OPERATOR, validate_only=True))
    assert [t.amount_minor for t in told.value.posted.transfers] == [100, 60]
    assert balance(pure, CHARGEBACK) == 60


# --- taken back -------------------------------------------------------------------------------------------------------


def reverse(pure, posted, caller=OPERATOR):
    return pure.run(ReverseTransaction(posted.transaction.id, caller=caller))


@pytest.fixture
def recovering(pure, paid):
    """A credit of 25000 of which all was recovered for the fund."""
    compensate(pure, paid, 100_000)
    posted = pure.post((SUSPENSE, PAYABLE, 25_000))
    pure.books.posted.load(posted.transaction.id, posted)
    return posted


def test_a_reversal_takes_back_what_was_recovered_and_the_debt_is_open_again(pure, recovering):
    undone = reverse(pure, recovering)
    assert movements(pure, undone) == [
        ("guarantee.fund", "fund.recoverable", 25_000),
        ("receivable.guarantee", "seller.payable", 25_000),
        ("seller.payable", "suspense", 25_000),
    ]
    assert [balance(pure, key) for key in (PAYABLE, FUND, GUARANTEE)] == [0, 960_000, 40_000]


def test_a_debt_that_a_reversal_opens_is_paid_by_what_came_since_as_if_the_credit_had_never_been(pure, recovering):
    pure.post((SUSPENSE, PAYABLE, 20_000))  # pays the last 15000 of the debt
    assert [balance(pure, key) for key in (PAYABLE, GUARANTEE)] == [5000, 0]
    reverse(pure, recovering)
    assert [balance(pure, key) for key in (PAYABLE, FUND, GUARANTEE)] == [0, 980_000, 20_000]


def test_a_reversal_is_refused_whole_when_the_fund_has_spent_what_it_got_back(pure, recovering):
    pure.post((FUND, SUSPENSE, 985_000))
    with pytest.raises(InsufficientFunds):
        reverse(pure, recovering)
    assert balance(pure, GUARANTEE) == 15_000


def test_what_was_recovered_is_an_operator_s_to_take_back(pure, recovering):
    with pytest.raises(KindNotAllowed):
        reverse(pure, recovering, ESCROW)


# --- written off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("receivable.guarantee", "loss.bad_debt"),
        ("receivable.user", "loss.bad_debt"),
        ("receivable.chargeback", "loss.chargeback"),
    ],
)
def test_a_debt_is_written_off_from_its_own_loss_account_alone(pure, kind, loss):
    pure.post((SUSPENSE, FUND, 500))
    debt = AccountKey(SELLER, kind)
    owes(pure, debt, 500)
    pure.post((SUSPENSE, wallet(BUYER), 500))
    losses = {"loss.bad_debt", "loss.chargeback"}
    wrong = [AccountKey("platform", each) for each in ("suspense", "goodwill", *(losses - {loss}))]
    for source in (*wrong, wallet(BUYER), AccountKey(BUYER, "receivable.user")):
        with pytest.raises(KindNotAllowed) as refused:
            pure.post((source, debt, 10))
        assert refused.value.metadata["kind"] == kind
    spread = SpreadLeg(
        (Source(AccountKey("platform", loss)), Source(SUSPENSE)), (Destination(debt, Part()),), Money(CNY, 10)
    )
    with pytest.raises(KindNotAllowed):
        pure.run(PostTransaction((spread,), caller=OPERATOR))
    pure.post((AccountKey("platform", loss), debt, 500))
    assert (balance(pure, debt), pure.available("platform", loss)) == (0, 500)


def test_a_guarantee_that_is_written_off_makes_the_fund_whole(pure, paid):
    compensate(pure, paid, 100_000)
    pure.post((AccountKey("platform", "loss.bad_debt"), GUARANTEE, 15_000))
    assert [balance(pure, key) for key in (FUND, GUARANTEE)] == [975_000, 25_000]
    assert pure.available("platform", "fund.recoverable") == 25_000


@pytest.mark.parametrize("caller", [ESCROW, CREDIT, PARTNER])
def test_only_operators_write_off(pure, paid, caller):
    compensate(pure, paid, 100_000)
    with pytest.raises(KindNotAllowed):
        pure.post((AccountKey("platform", "loss.bad_debt"), GUARANTEE, 1), caller=caller)


def test_more_than_is_owed_cannot_be_written_off(pure, paid):
    compensate(pure, paid, 100_000)
    with pytest.raises(InsufficientFunds):
        pure.post((AccountKey("platform", "loss.bad_debt"), GUARANTEE, 40_001))


@pytest.mark.parametrize("legs", [("fund.recoverable", "guarantee.fund"), ("guarantee.fund", "fund.recoverable")])
def test_nobody_moves_what_the_fund_is_owed(pure, paid, legs):
    compensate(pure, paid, 100_000)
    debit, credit = (AccountKey("platform", kind) for kind in legs)
    with pytest.raises(KindNotAllowed):
        pure.post((debit, credit, 1))


def test_where_debts_are_kept_is_never_closed(pure):
    owes(pure, CHARGEBACK, 5)
    pure.post((AccountKey("platform", "loss.chargeback"), CHARGEBACK, 5))
    with pytest.raises(KindNotAllowed):
        pure.run(CloseAccount(account_id(SELLER, "receivable.chargeback", CNY), OPERATOR))
