"""Payments shared out among several, and gathered in again: on the pure books."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_kit.errors import DanbaoError, FieldInvalid
from danbao_kit.money import Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import (
    AccountKey,
    CapturePayment,
    CreatePayment,
    Leg,
    PostTransaction,
    RefundPayment,
    SplitTerm,
)
from danbao_payments.domain.errors import (
    AccountClosed,
    AccountFrozen,
    InsufficientFunds,
    KindNotAllowed,
    RefundAmountExceeded,
    SplitNotWhole,
)
from danbao_payments.domain.payment import Payment
from danbao_payments.testing.pure import CNY, ESCROW, OPERATOR, PARTNER, PureBooks, wallet

BUYER, SELLER, OTHER = "subjects/buyer", "subjects/seller", "subjects/other"
FEE, TAX = AccountKey("platform", "fee.payment"), AccountKey("platform", "tax.payable")
TEN_PERCENT = (SplitTerm(FEE, basis_points=1000), SplitTerm(wallet(SELLER)))


@pytest.fixture
def pure():
    books = PureBooks()
    books.fund(BUYER, 100_000)
    yield books
    books.check()


def command(minor: int, splits, *, mode="AUTOMATIC", policy="LARGEST_REMAINDER", payee=None, caller=PARTNER):
    to = payee or wallet(SELLER)
    made = CreatePayment(
        BUYER, to, "", Money(CNY, minor), mode, caller=caller, splits=tuple(splits), remainder_policy=policy
    )
    made.check()
    return made


def pay(pure: PureBooks, minor: int, splits, **others) -> Payment:
    return pure.run(command(minor, splits, **others))


def capture(pure: PureBooks, payment: Payment, minor: int, *, final: bool = False) -> Payment:
    return pure.run(CapturePayment(payment.id, Money(CNY, minor), PARTNER, final))


def refund(pure: PureBooks, payment: Payment, minor: int | None, *, caller=PARTNER, fees_back=True) -> Payment:
    amount = None if minor is None else Money(CNY, minor)
    fee_refund = "PROPORTIONAL" if fees_back else "NONE"
    return pure.run(RefundPayment(payment.id, amount, "", caller, fee_refund))


def captured(payment: Payment) -> list[int]:
    return [part.captured_minor for part in payment.parts]


def refunded(payment: Payment) -> list[int]:
    return [part.refunded_minor for part in payment.parts]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_fee_of_ten_percent_is_700_of_7000_and_comes_back_in_proportion(pure):
    held = pay(pure, 10_000, TEN_PERCENT, mode="MANUAL")
    taken = capture(pure, held, 7000, final=True)
    assert captured(taken) == [700, 6300]
    assert pure.available(BUYER) == 93_000
    assert pure.available("platform", "fee.payment") == 700
    assert refunded(refund(pure, held, 2500)) == [250, 2250]
    assert refunded(refund(pure, held, 4500)) == [700, 6300]
    with pytest.raises(RefundAmountExceeded):
        refund(pure, held, 1)
    assert pure.available(BUYER) == 100_000


def test_three_captures_of_333_at_two_and_a_half_percent_take_8_9_8(pure):
    splits = (SplitTerm(FEE, basis_points=250), SplitTerm(wallet(SELLER)))
    held = pay(pure, 1000, splits, mode="MANUAL")
    fees = [captured(capture(pure, held, 333))[0] for _ in range(3)]
    assert fees == [8, 17, 25]


def test_the_first_gets_what_rounding_leaves_if_the_payment_says_so(pure):
    splits = (SplitTerm(wallet(SELLER), basis_points=5000), SplitTerm(wallet(OTHER), basis_points=5000))
    assert captured(pay(pure, 101, splits, policy="FIRST")) == [51, 50]


def test_fixed_parts_shares_caps_and_the_rest_come_to_the_amount(pure):
    splits = (
        SplitTerm(FEE, basis_points=1000, cap_minor=50),
        SplitTerm(TAX, fixed_minor=30),
        SplitTerm(wallet(OTHER), cap_minor=100),
        SplitTerm(AccountKey(SELLER, "seller.payable")),
    )
    paid = pay(pure, 1000, splits, payee=AccountKey(SELLER, "seller.payable"))
    assert captured(paid) == [50, 30, 100, 820]
    assert pure.available(SELLER, "seller.payable") == 820
    assert pure.available("platform", "tax.payable") == 30


def test_of_less_than_the_amount_fixed_parts_get_what_shares_leave(pure):
    splits = (SplitTerm(FEE, fixed_minor=100), SplitTerm(wallet(SELLER), basis_points=9000))
    held = pay(pure, 1000, splits, mode="MANUAL")
    assert captured(capture(pure, held, 500)) == [50, 450]
    assert captured(capture(pure, held, 500)) == [100, 900]


def test_the_platform_keeps_its_fee_where_the_refund_says_so(pure):
    paid = pay(pure, 1000, TEN_PERCENT)
    assert refunded(refund(pure, paid, 500, fees_back=False)) == [0, 500]
    with pytest.raises(RefundAmountExceeded) as refused:
        refund(pure, paid, 401, fees_back=False)
    assert refused.value.metadata["refundable_minor"] == "400"
    # In proportion to all that went back so far: 100 of 1000 in the end.
    assert refunded(refund(pure, paid, 500)) == [100, 900]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "splits",
    [
        (SplitTerm(wallet(SELLER), fixed_minor=99),),
        (SplitTerm(wallet(SELLER), fixed_minor=101),),
        (SplitTerm(wallet(SELLER), basis_points=9999),),
        (SplitTerm(wallet(SELLER), basis_points=9999), SplitTerm(FEE, basis_points=2)),
        (SplitTerm(wallet(SELLER), basis_points=9000, cap_minor=5), SplitTerm(FEE, basis_points=9000, cap_minor=95)),
        (SplitTerm(wallet(SELLER), cap_minor=99),),
        (SplitTerm(wallet(SELLER)), SplitTerm(FEE, fixed_minor=101)),
    ],
)
def test_parts_that_are_not_the_amount_are_refused(splits):
    with pytest.raises(SplitNotWhole) as refused:
        command(100, splits)
    assert refused.value.metadata["field"] == "splits"


@pytest.mark.parametrize(
    ("splits", "policy", "field"),
    [
        ((SplitTerm(wallet(SELLER)),), "", "remainder_policy"),
        ((), "FIRST", "remainder_policy"),
        ((SplitTerm(wallet(OTHER)),), "FIRST", "splits"),
        ((SplitTerm(wallet(SELLER)), SplitTerm(wallet(SELLER), fixed_minor=1)), "FIRST", "splits[1].destination"),
        ((SplitTerm(wallet(SELLER)), SplitTerm(wallet(BUYER), fixed_minor=1)), "FIRST", "splits[1].destination"),
        ((SplitTerm(wallet(SELLER), fixed_minor=100, cap_minor=1),), "FIRST", "splits[0].cap_minor"),
    ],
)
def test_splits_that_make_no_sense_name_their_field(splits, policy, field):
    with pytest.raises(FieldInvalid) as refused:
        command(100, splits, policy=policy)
    assert field in [violation.field for violation in refused.value.fields]


@pytest.mark.parametrize(
    "destination",
    [
        AccountKey("platform", "guarantee.fund"),
        AccountKey("platform", "fee.escrow"),
        AccountKey(SELLER, "fee.payment"),
        AccountKey("platform", "no.such.kind"),
        AccountKey("trades/1", "escrow.trade"),
        AccountKey("platform", "clearing.capture"),
    ],
)
def test_a_split_reaches_only_who_may_be_paid(pure, destination):
    with pytest.raises(KindNotAllowed):
        pay(pure, 100, (SplitTerm(wallet(SELLER)), SplitTerm(destination, fixed_minor=1)))
    assert pure.available(BUYER) == 100_000


def test_escrow_splits_into_its_trades_accounts(pure):
    trade = AccountKey("trades/1", "escrow.trade")
    splits = (SplitTerm(trade), SplitTerm(FEE, fixed_minor=5))
    paid = pay(pure, 100, splits, payee=trade, caller=ESCROW)
    assert pure.available("trades/1", "escrow.trade") == 95
    with pytest.raises(KindNotAllowed):
        refund(pure, paid, 10)
    refund(pure, paid, None, caller=ESCROW)
    assert pure.account("trades/1", "escrow.trade").state == "CLOSED"


@pytest.mark.parametrize(
    ("state", "error"), [(AccountState.CLOSED, AccountClosed), (AccountState.FROZEN_ALL, AccountFrozen)]
)
def test_one_destination_that_cannot_receive_refuses_it_all(pure, state, error):
    held = pay(pure, 100, (SplitTerm(wallet(SELLER)), SplitTerm(wallet(OTHER), fixed_minor=1)), mode="MANUAL")
    pure.fund(OTHER, 1)
    account = pure.account(OTHER, "user.available")
    pure.books.accounts.put(account.id, account._replace(state=state.value))
    pure.books.accept()
    with pytest.raises(error):
        capture(pure, held, 50)
    assert pure.available(SELLER) == 0


def test_a_part_that_was_spent_keeps_the_whole_refund_back(pure):
    paid = pay(pure, 100, (SplitTerm(wallet(SELLER)), SplitTerm(wallet(OTHER), fixed_minor=50)))
    pure.pay(OTHER, wallet(BUYER), 50)
    with pytest.raises(InsufficientFunds):
        refund(pure, paid, 10)
    assert pure.available(SELLER) == 50


def test_a_user_gives_back_only_what_all_is_the_own(pure):
    seller = Caller(Party.USER, SELLER)
    shared = pay(pure, 100, (SplitTerm(wallet(SELLER)), SplitTerm(wallet(OTHER), fixed_minor=50)))
    with pytest.raises(KindNotAllowed):
        refund(pure, shared, 10, caller=seller)
    assert refunded(refund(pure, pay(pure, 100, TEN_PERCENT), 10, caller=seller)) == [1, 9]


def test_legs_that_name_the_payment_count_under_the_same_caps(pure):
    paid = pay(pure, 1000, TEN_PERCENT)

    def give_back(source: AccountKey, minor: int) -> None:
        leg = Leg(source, wallet(BUYER), Money(CNY, minor), paid.id, "DISPUTE")
        pure.run(PostTransaction((leg,), caller=OPERATOR))

    give_back(FEE, 60)
    pure.fund(SELLER, 1000)
    with pytest.raises(RefundAmountExceeded):
        give_back(FEE, 41)
    with pytest.raises(RefundAmountExceeded):
        give_back(wallet(SELLER), 901)
    give_back(wallet(SELLER), 900)
    assert refunded(refund(pure, paid, None)) == [100, 900]


# --- whatever is asked ------------------------------------------------------------------------------------------------

terms = st.builds(
    lambda kind, value, cap: {
        "fixed": {"fixed_minor": value},
        "share": {"basis_points": value * 10, "cap_minor": cap},
        "rest": {"cap_minor": cap},
    }[kind],
    st.sampled_from(["fixed", "share", "rest"]),
    st.integers(1, 300),
    st.none() | st.integers(1, 300),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.lists(terms, max_size=3),
    policy=st.sampled_from(["FIRST", "LARGEST_REMAINDER"]),
    amount=st.integers(300, 2000),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 700), st.booleans()), min_size=1, max_size=10),
)
def test_no_unit_is_lost_whatever_is_captured_and_refunded(shape, policy, amount, steps):
    pure = PureBooks()
    pure.fund(BUYER, amount)
    owners = [FEE, TAX, wallet(OTHER)][: len(shape)]
    splits = [SplitTerm(owner, **term) for owner, term in zip(owners, shape, strict=True)]
    try:
        held = pay(pure, amount, [*splits, SplitTerm(wallet(SELLER))], mode="MANUAL", policy=policy)
    except SplitNotWhole:
        return
    refusals = set()
    for captures, minor, fees_back in steps:
        before = pure.books.payments.get(held.id)
        try:
            after = capture(pure, held, minor) if captures else refund(pure, held, minor, fees_back=fees_back)
        except DanbaoError as error:
            refusals.add(error.reason)
            continue
        assert sum(captured(after)) == after.captured_minor
        assert sum(refunded(after)) == after.refunded_minor
        for old, new in zip(before.parts, after.parts, strict=True):
            assert 0 <= old.refunded_minor <= new.refunded_minor <= new.captured_minor
            assert old.captured_minor <= new.captured_minor
        for part in after.parts:
            assert pure.available(part.owner, part.kind) == part.captured_minor - part.refunded_minor
    pure.check()
    assert refusals <= {
        "CAPTURE_AMOUNT_EXCEEDED",
        "REFUND_AMOUNT_EXCEEDED",
        "PAYMENT_STATE_INVALID",
        "HOLD_ALREADY_CAPTURED",
    }
