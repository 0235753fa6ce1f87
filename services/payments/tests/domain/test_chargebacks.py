"""Chargebacks on the pure books: who bears them, under one cap with refunds, up to their end."""

from __future__ import annotations

import pytest

from danbao_kit.money import Money
from danbao_payments.domain.account import account_id
from danbao_payments.domain.account_commands import CloseAccount, FreezeAccount
from danbao_payments.domain.commands import (
    AccountKey,
    CreatePayment,
    Leg,
    PostTransaction,
    RefundPayment,
    ReportRailResult,
    SplitTerm,
)
from danbao_payments.domain.errors import CurrencyMismatch, KindNotAllowed, RailResultConflicts, RefundAmountExceeded
from danbao_payments.domain.movement import RailResult
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_payment import movement_of
from danbao_payments.testing.pure import CNY, ESCROW, OPERATOR, PARTNER, PureBooks, wallet

BUYER, SELLER, OTHER, RAIL = "subjects/buyer", "subjects/seller", "subjects/other", "rails/simulated"
TRADE = AccountKey("trades/1", "escrow.trade")
PAYABLE = AccountKey(SELLER, "seller.payable")
DEBT = AccountKey(SELLER, "receivable.chargeback")
FEE = AccountKey("platform", "fee.payment")
SUSPENSE = AccountKey("platform", "suspense")
R = RailResult


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()


def bring(pure: PureBooks, minor: int, payee: AccountKey, *terms: SplitTerm, beneficiary: str = "") -> Payment:
    caller = ESCROW if payee.kind == "escrow.trade" else PARTNER
    policy = "FIRST" if terms else ""
    command = CreatePayment(
        BUYER,
        payee,
        beneficiary,
        Money(CNY, minor),
        "AUTOMATIC",
        caller=caller,
        rail=RAIL,
        splits=terms,
        remainder_policy=policy,
    )
    payment = pure.run(command)
    report(pure, payment, R.SUCCEEDED)
    return now(pure, payment)


def report(pure: PureBooks, payment: Payment, result: RailResult, minor: int | None = None) -> bool:
    amount = None if minor is None else Money(CNY, minor)
    return pure.run(ReportRailResult(movement_of(payment), result, amount)).changed


def now(pure: PureBooks, payment: Payment) -> Payment:
    return pure.books.payments.get(payment.id)


def balance(pure: PureBooks, *keys: AccountKey) -> list[int]:
    return [pure.available(key.owner, key.kind) for key in keys]


def settled(pure: PureBooks) -> int:
    return pure.available(RAIL, "rail.settled")


def last_legs(pure: PureBooks) -> list[tuple[str, str, int]]:
    """What the last transaction moved, as (debit kind, credit kind, minor units)."""
    kinds = {account.id: account.kind for account in pure.books.accounts.values()}
    last = pure.books.transactions.accepted[-1]
    return [
        (kinds[t.debit_account], kinds[t.credit_account], t.amount_minor)
        for t in pure.books.transfers.accepted
        if t.transaction_id == last.id
    ]


# In the trade, with the seller → from the trade, from the seller, owed.
BEARING = [
    (1000, 500, 1000, 0, 0),
    (600, 500, 600, 400, 0),
    (600, 100, 600, 100, 300),
    (0, 100, 0, 100, 900),
    (0, 0, 0, 0, 1000),
    (999, 0, 999, 0, 1),
]


@pytest.mark.parametrize(("in_trade", "with_seller", "trade", "seller", "owed"), BEARING)
def test_the_trade_bears_it_then_the_seller_then_it_is_owed(pure, in_trade, with_seller, trade, seller, owed):
    payment = bring(pure, 1000, TRADE, beneficiary=SELLER)
    if in_trade < 1000:
        pure.post((TRADE, wallet(OTHER), 1000 - in_trade), caller=ESCROW)
    if with_seller:
        pure.post((SUSPENSE, PAYABLE, with_seller))
    report(pure, payment, R.CHARGEBACK)
    expected = [("escrow.trade", trade), ("seller.payable", seller), ("receivable.chargeback", owed)]
    assert last_legs(pure) == [(kind, "rail.settled", minor) for kind, minor in expected if minor]
    assert balance(pure, TRADE, PAYABLE, DEBT) == [in_trade - trade, with_seller - seller, owed]
    after = now(pure, payment)
    assert (after.charged_back_minor, after.refunded_minor, after.refund_state) == (1000, 1000, "FULL")
    assert after.last_transaction == pure.books.transactions.accepted[-1].id
    assert pure.kinds_of_events()[-1] == "payment_charged_back"
    assert settled(pure) == -1000


def test_a_payee_that_is_a_seller_bears_it_from_that_account(pure):
    payment = bring(pure, 1000, PAYABLE)
    pure.post((PAYABLE, SUSPENSE, 700))
    report(pure, payment, R.CHARGEBACK, 400)
    assert balance(pure, PAYABLE, DEBT) == [0, 100]


def test_a_payee_that_is_a_wallet_bears_it_and_owes_what_a_wallet_pays(pure):
    payment = bring(pure, 1000, wallet(SELLER))
    pure.post((wallet(SELLER), SUSPENSE, 700))
    report(pure, payment, R.CHARGEBACK)
    assert balance(pure, wallet(SELLER), AccountKey(SELLER, "receivable.user"), DEBT) == [0, 700, 0]
    pure.fund(SELLER, 800)
    assert balance(pure, wallet(SELLER), AccountKey(SELLER, "receivable.user")) == [100, 0]


def test_what_the_seller_comes_to_owe_is_paid_by_the_next_credit(pure):
    payment = bring(pure, 1000, TRADE, beneficiary=SELLER)
    pure.post((TRADE, wallet(OTHER), 1000), caller=ESCROW)
    report(pure, payment, R.CHARGEBACK)
    pure.post((SUSPENSE, PAYABLE, 1200))
    assert balance(pure, PAYABLE, DEBT) == [200, 0]


def test_a_trade_without_a_beneficiary_leaves_what_lacks_to_be_explained(pure):
    payment = bring(pure, 1000, TRADE)
    pure.post((TRADE, wallet(OTHER), 400), caller=ESCROW)
    report(pure, payment, R.CHARGEBACK)
    assert balance(pure, TRADE, SUSPENSE) == [0, 400]


def test_what_is_held_is_not_taken_and_what_has_run_out_is(pure):
    payment = bring(pure, 1000, wallet(SELLER))
    pure.hold(SELLER, wallet(OTHER), 600, lifetime_s=60)
    pure.hold(SELLER, wallet(OTHER), 300, lifetime_s=10)
    pure.advance(11)
    report(pure, payment, R.CHARGEBACK)
    owed = AccountKey(SELLER, "receivable.user")
    assert balance(pure, wallet(SELLER), owed) == [0, 600]
    assert pure.account(SELLER, "user.available").debits_pending == 600


@pytest.mark.parametrize("scope", ["DEBITS", "ALL"])
def test_no_freeze_keeps_the_rail_from_taking_it(pure, scope):
    payment = bring(pure, 1000, PAYABLE)
    pure.run(FreezeAccount(account_id(SELLER, "seller.payable", CNY), scope, OPERATOR))
    report(pure, payment, R.CHARGEBACK)
    assert balance(pure, PAYABLE, DEBT) == [0, 0]


def test_every_part_bears_its_share_and_the_platform_gives_its_fee_back(pure):
    second = AccountKey("trades/2", "escrow.trade")
    terms = (
        SplitTerm(TRADE, beneficiary=SELLER),
        SplitTerm(second, fixed_minor=300, beneficiary=OTHER),
        SplitTerm(FEE, basis_points=1000),
    )
    payment = bring(pure, 1000, TRADE, *terms)
    assert balance(pure, TRADE, second, FEE) == [600, 300, 100]
    pure.post((second, wallet(BUYER), 300), (TRADE, PAYABLE, 500), caller=ESCROW)
    report(pure, payment, R.CHARGEBACK, 500)
    after = now(pure, payment)
    assert [part.charged_back_minor for part in after.parts] == [300, 150, 50]
    assert [part.refunded_minor for part in after.parts] == [300, 150, 50]
    debts = [AccountKey(owner, "receivable.chargeback") for owner in (SELLER, OTHER)]
    assert balance(pure, TRADE, second, FEE, PAYABLE, *debts) == [0, 0, 50, 300, 0, 150]


def test_a_fee_that_is_gone_is_borne_by_whom_the_payment_is_for(pure):
    payment = bring(pure, 1000, PAYABLE, SplitTerm(PAYABLE), SplitTerm(FEE, basis_points=1000))
    pure.post((FEE, SUSPENSE, 80), (PAYABLE, SUSPENSE, 850))
    report(pure, payment, R.CHARGEBACK)
    assert balance(pure, FEE, PAYABLE, DEBT) == [0, 0, 930]


# --- one cap ----------------------------------------------------------------------------------------------------------


def refund(pure: PureBooks, payment: Payment, minor: int | None = None) -> Payment:
    return pure.run(RefundPayment(payment.id, None if minor is None else Money(CNY, minor), "", PARTNER))


def test_a_full_refund_and_then_a_chargeback_take_nothing_twice(pure):
    payment = bring(pure, 1000, PAYABLE)
    refund(pure, payment)
    before, events = now(pure, payment), len(pure.events)
    for minor in (None, 1, 1000):
        with pytest.raises(RefundAmountExceeded) as refused:
            report(pure, payment, R.CHARGEBACK, minor)
        assert refused.value.metadata["refundable_minor"] == "0"
    assert (now(pure, payment), len(pure.events), balance(pure, DEBT)) == (before, events, [0])


def test_a_chargeback_and_then_a_refund_take_nothing_twice(pure):
    payment = bring(pure, 1000, PAYABLE)
    report(pure, payment, R.CHARGEBACK)
    pure.post((SUSPENSE, PAYABLE, 5000))
    with pytest.raises(RefundAmountExceeded):
        refund(pure, payment, 1)
    leg = Leg(PAYABLE, wallet(BUYER), Money(CNY, 1), payment.id, "DISPUTE")
    with pytest.raises(RefundAmountExceeded):
        pure.run(PostTransaction((leg,), caller=OPERATOR))


def test_a_chargeback_after_a_partial_refund_is_of_what_is_left(pure):
    payment = bring(pure, 1000, PAYABLE)
    refund(pure, payment, 400)
    with pytest.raises(RefundAmountExceeded):
        report(pure, payment, R.CHARGEBACK, 601)
    report(pure, payment, R.CHARGEBACK)
    after = now(pure, payment)
    assert (after.refunded_minor, after.charged_back_minor) == (1000, 600)


def test_several_partial_chargebacks_add_up_and_no_further(pure):
    payment = bring(pure, 1000, PAYABLE)
    report(pure, payment, R.CHARGEBACK, 600)
    with pytest.raises(RefundAmountExceeded) as refused:
        report(pure, payment, R.CHARGEBACK, 600)
    assert refused.value.metadata["refundable_minor"] == "400"
    report(pure, payment, R.CHARGEBACK)
    assert now(pure, payment).charged_back_minor == 1000
    # All that is left, told again, tells nothing new.
    assert not report(pure, payment, R.CHARGEBACK)
    assert not report(pure, payment, R.RETURNED)


def test_a_chargeback_in_another_currency_is_refused(pure):
    payment = bring(pure, 1000, PAYABLE)
    with pytest.raises(CurrencyMismatch):
        pure.run(ReportRailResult(movement_of(payment), R.CHARGEBACK, Money("EUR", 1)))


def test_what_a_rail_charges_back_is_reported_and_not_posted(pure):
    payment = bring(pure, 1000, PAYABLE)
    leg = Leg(AccountKey(RAIL, "rail.settled"), PAYABLE, Money(CNY, 1), payment.id, "CHARGEBACK")
    with pytest.raises(KindNotAllowed):
        pure.run(PostTransaction((leg,), caller=OPERATOR))


# --- its end ----------------------------------------------------------------------------------------------------------


def test_a_chargeback_that_stays_stays(pure):
    payment = bring(pure, 1000, PAYABLE)
    report(pure, payment, R.CHARGEBACK)
    assert not report(pure, payment, R.SUCCEEDED)
    assert report(pure, payment, R.SETTLED)
    assert (now(pure, payment).charged_back_minor, settled(pure)) == (1000, 0)


def test_a_chargeback_that_is_won_pays_the_debt_and_then_the_seller(pure):
    payment = bring(pure, 1000, TRADE, beneficiary=SELLER)
    pure.post((TRADE, PAYABLE, 1000), caller=ESCROW)
    pure.post((PAYABLE, SUSPENSE, 700))
    report(pure, payment, R.CHARGEBACK)
    assert balance(pure, PAYABLE, DEBT) == [0, 700]
    report(pure, payment, R.CHARGEBACK_REVERSED)
    assert last_legs(pure) == [
        ("rail.settled", "seller.payable", 1000),
        ("seller.payable", "receivable.chargeback", 700),
    ]
    after = now(pure, payment)
    assert (after.charged_back_minor, after.refunded_minor, after.refund_state) == (0, 0, "NONE")
    assert (balance(pure, PAYABLE, DEBT), settled(pure)) == ([300, 0], 0)
    assert pure.kinds_of_events()[-1] == "payment_chargeback_reversed"
    assert not report(pure, payment, R.CHARGEBACK_REVERSED)


def test_what_was_won_may_go_back_again_in_every_way(pure):
    payment = bring(pure, 1000, PAYABLE)
    for _ in range(2):
        report(pure, payment, R.CHARGEBACK)
        report(pure, payment, R.CHARGEBACK_REVERSED)
    refund(pure, payment)
    assert now(pure, payment).refunded_minor == 1000


def test_a_part_of_it_can_be_won(pure):
    payment = bring(pure, 1000, PAYABLE)
    report(pure, payment, R.CHARGEBACK, 600)
    report(pure, payment, R.CHARGEBACK_REVERSED, 250)
    after = now(pure, payment)
    assert (after.charged_back_minor, after.refunded_minor, balance(pure, PAYABLE)) == (350, 350, [650])
    with pytest.raises(RefundAmountExceeded) as refused:
        report(pure, payment, R.CHARGEBACK_REVERSED, 351)
    assert refused.value.metadata["refundable_minor"] == "350"
    report(pure, payment, R.CHARGEBACK_REVERSED)
    assert now(pure, payment).charged_back_minor == 0


def test_every_part_gets_its_share_of_what_is_won(pure):
    second = AccountKey("trades/2", "escrow.trade")
    terms = (
        SplitTerm(TRADE, beneficiary=SELLER),
        SplitTerm(second, fixed_minor=333, beneficiary=OTHER),
        SplitTerm(FEE, basis_points=1000),
    )
    payment = bring(pure, 999, TRADE, *terms)
    captured = [part.captured_minor for part in payment.parts]
    report(pure, payment, R.CHARGEBACK, 500)
    borne = [part.charged_back_minor for part in now(pure, payment).parts]
    report(pure, payment, R.CHARGEBACK_REVERSED, 123)
    after = [part.charged_back_minor for part in now(pure, payment).parts]
    assert sum(after) == 377
    assert all(now <= before for now, before in zip(after, borne, strict=True))
    report(pure, payment, R.CHARGEBACK_REVERSED)
    assert [part.refunded_minor for part in now(pure, payment).parts] == [0, 0, 0]
    # The trades may be over: their sellers have it, and the platform its fee.
    payables = [AccountKey(owner, "seller.payable") for owner in (SELLER, OTHER)]
    trade, second_trade, fee, *sellers = balance(pure, TRADE, second, FEE, *payables)
    assert [trade + sellers[0], second_trade + sellers[1], fee] == captured


def test_what_is_won_for_a_seller_who_has_gone_waits_to_be_explained(pure):
    payment = bring(pure, 1000, PAYABLE)
    report(pure, payment, R.CHARGEBACK)
    pure.run(CloseAccount(account_id(SELLER, "seller.payable", CNY), OPERATOR))
    report(pure, payment, R.CHARGEBACK_REVERSED)
    assert balance(pure, PAYABLE, SUSPENSE) == [0, -1000]


def test_a_seller_who_has_gone_owes_what_lacks(pure):
    payment = bring(pure, 1000, PAYABLE)
    pure.post((PAYABLE, SUSPENSE, 1000))
    pure.run(CloseAccount(account_id(SELLER, "seller.payable", CNY), OPERATOR))
    report(pure, payment, R.CHARGEBACK)
    assert balance(pure, PAYABLE, DEBT) == [0, 1000]


def test_a_reversal_of_what_was_never_charged_back_conflicts(pure):
    payment = bring(pure, 1000, PAYABLE)
    with pytest.raises(RailResultConflicts):
        report(pure, payment, R.CHARGEBACK_REVERSED)
    with pytest.raises(RailResultConflicts):
        report(pure, payment, R.CHARGEBACK_REVERSED, 5)


def test_a_chargeback_that_comes_before_success_is_booked_with_it(pure):
    payment = pure.run(CreatePayment(BUYER, PAYABLE, "", Money(CNY, 1000), "AUTOMATIC", caller=PARTNER, rail=RAIL))
    report(pure, payment, R.CHARGEBACK, 400)
    assert pure.kinds_of_events() == ["payment_pending", "payment_captured", "payment_charged_back"]
    after = now(pure, payment)
    assert (after.state, after.captured_minor, after.charged_back_minor) == ("CAPTURED", 1000, 400)
    assert len({t.transaction_id for t in pure.books.transfers.accepted}) == 1
    assert not report(pure, payment, R.SUCCEEDED)


def test_a_chargeback_of_more_than_was_asked_for_is_refused_with_its_success(pure):
    payment = pure.run(CreatePayment(BUYER, PAYABLE, "", Money(CNY, 1000), "AUTOMATIC", caller=PARTNER, rail=RAIL))
    with pytest.raises(RefundAmountExceeded):
        report(pure, payment, R.CHARGEBACK, 1001)
    assert now(pure, payment) == payment
