"""What a payer may pay per transaction, day and month: on the pure books."""

from __future__ import annotations

import pytest

from danbao_kit.money import MAX_MINOR, Money
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import CreatePayment, SetLimits, VoidPayment
from danbao_payments.domain.errors import InsufficientFunds, KindNotAllowed, LimitExceeded
from danbao_payments.testing.pure import CNY, OPERATOR, PARTNER, PureBooks, wallet

BUYER, SELLER = "subjects/buyer", "subjects/seller"
DAY_S = 86_400


@pytest.fixture
def pure():
    books = PureBooks()
    books.fund(BUYER, 100_000)
    yield books
    books.check()


def pay(pure: PureBooks, minor: int, *, limit_class: str = "", mode: str = "AUTOMATIC", currency: str = CNY):
    amount = Money(currency, minor)
    return pure.run(CreatePayment(BUYER, wallet(SELLER), "", amount, mode, caller=PARTNER, limit_class=limit_class))


def limit(pure: PureBooks, scope: str = BUYER, **limits: int | None) -> None:
    pure.run(SetLimits(scope, CNY, caller=OPERATOR, **{f"per_{name}_minor": minor for name, minor in limits.items()}))


def refused(pure: PureBooks, minor: int, **others) -> dict[str, str]:
    with pytest.raises(LimitExceeded) as error:
        pay(pure, minor, **others)
    return error.value.metadata


def test_one_payment_may_be_as_much_as_the_limit_and_no_more(pure):
    limit(pure, transaction=100)
    pay(pure, 100)
    told = refused(pure, 101)
    assert (told["period"], told["limit_minor"], told["scope"]) == ("transaction", "100", BUYER)


def test_a_day_is_full_until_the_next_begins(pure):
    limit(pure, day=100)
    pay(pure, 60)
    pay(pure, 40, mode="MANUAL")
    told = refused(pure, 1)
    assert (told["period"], told["used_minor"]) == ("day", "100")
    pure.advance(DAY_S)
    pay(pure, 100)


def test_a_month_is_full_until_the_next_begins(pure):
    limit(pure, month=150)
    pay(pure, 100)
    pure.advance(15 * DAY_S)
    pay(pure, 50)
    assert refused(pure, 1)["period"] == "month"
    pure.advance(16 * DAY_S)
    pay(pure, 150)


def test_what_was_refused_does_not_count(pure):
    limit(pure, day=200_000, transaction=150_000)
    for _ in range(3):
        with pytest.raises(InsufficientFunds):
            pay(pure, 100_001)
    refused(pure, 150_001)
    pay(pure, 100_000)


def test_a_limit_is_told_before_a_lack_of_money(pure):
    limit(pure, transaction=10)
    refused(pure, 200_000)


def test_a_class_limits_whoever_pays_under_it(pure):
    limit(pure, "limitClasses/new", day=100)
    pay(pure, 5000)  # not under it, so neither limited nor counted
    pay(pure, 70, limit_class="new")
    assert refused(pure, 31, limit_class="new")["scope"] == "limitClasses/new"
    pay(pure, 31, limit_class="nothing-is-set-for-it")


def test_the_own_limits_and_those_of_the_class_both_apply(pure):
    limit(pure, "limitClasses/new", day=100)
    limit(pure, day=50)
    assert refused(pure, 60, limit_class="new")["scope"] == BUYER
    pay(pure, 50, limit_class="new")


def test_other_currencies_and_other_payers_are_not_limited(pure):
    limit(pure, transaction=1)
    limit(pure, SELLER, transaction=0)
    pure.fund(BUYER, 500, "EUR")
    pay(pure, 500, currency="EUR")


def test_limits_are_replaced_and_lifted(pure):
    limit(pure, day=10)
    refused(pure, 11)
    limit(pure, transaction=11)
    pay(pure, 11)
    limit(pure)
    pay(pure, 5000)


@pytest.mark.parametrize("party", [each for each in Party if each is not Party.OPERATOR])
def test_only_operators_set_limits(pure, party):
    with pytest.raises(KindNotAllowed):
        pure.run(SetLimits(BUYER, CNY, caller=Caller(party, BUYER)))


def test_what_is_counted_never_outgrows_the_store(pure):
    pure.fund(BUYER, MAX_MINOR - 100_000)
    limit(pure, transaction=MAX_MINOR)
    for _ in range(2):
        pure.run(VoidPayment(pay(pure, MAX_MINOR, mode="MANUAL").id, PARTNER))
    used = pure.books.usage.get((BUYER, CNY))
    assert (used.day_minor, used.month_minor) == (MAX_MINOR, MAX_MINOR)
