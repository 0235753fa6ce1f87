"""Withdrawals on the pure books: what is asked before money leaves, and in which order."""

from __future__ import annotations

import pytest

from danbao_kit.decision import DEFERRED
from danbao_kit.money import MAX_MINOR, Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import AccountKey, CreateWithdrawal, ReportRailResult, SetLimits
from danbao_payments.domain.errors import (
    AccountClosed,
    AccountFrozen,
    BalanceOverflow,
    InsufficientFunds,
    KindNotAllowed,
    LimitExceeded,
    RailUnknown,
)
from danbao_payments.domain.movement import RailResult
from danbao_payments.testing.pure import CNY, OPERATOR, PARTNER, PureBooks, wallet

OWNER = "subjects/owner"
RAIL = "rails/simulated"
STRANGER = Caller(Party.USER, "subjects/other")


@pytest.fixture
def pure():
    books = PureBooks()
    books.fund(OWNER, 1000)
    yield books
    books.check()


def ask(minor: int = 400, *, owner: str = OWNER, kind: str = "user.available", **others) -> CreateWithdrawal:
    fields = {"rail": RAIL, "caller": PARTNER} | others
    return CreateWithdrawal(owner, kind, Money(CNY, minor), **fields)


def put_state(pure: PureBooks, state: AccountState) -> None:
    account = pure.account(OWNER, "user.available")
    pure.books.accounts.put(account.id, account._replace(state=state.value))
    pure.books.accept()


def test_the_money_leaves_at_once_and_waits_for_the_rail(pure):
    assert pure.run(ask()) is DEFERRED
    assert (pure.available(OWNER), pure.available("platform", "clearing.payout")) == (600, 400)
    assert pure.kinds_of_events()[-1] == "withdrawal_created"


def test_a_seller_takes_out_what_was_released(pure):
    pure.post((wallet(OWNER), AccountKey(OWNER, "seller.payable"), 500))
    assert pure.run(ask(500, kind="seller.payable")) is DEFERRED
    made = pure.events[-1].withdrawal
    pure.run(ReportRailResult(made.movement, RailResult.FAILED, failure="no such account"))
    assert pure.available(OWNER, "seller.payable") == 500
    assert pure.answers[-1].reply.failure == "no such account"


@pytest.mark.parametrize(
    "caller", [OPERATOR, PARTNER, Caller(Party.ESCROW), Caller(Party.USER, OWNER)], ids=lambda each: each.party.value
)
def test_whoever_may_pay_may_withdraw(pure, caller):
    assert pure.run(ask(caller=caller)) is DEFERRED


@pytest.mark.parametrize(
    "caller",
    [STRANGER, Caller(Party.CREDIT), Caller(Party.ARBITER), Caller(Party.RAIL, OWNER), Caller(Party.NOBODY)],
    ids=lambda each: each.party.value,
)
def test_nobody_else_may(pure, caller):
    with pytest.raises(KindNotAllowed):
        pure.run(ask(caller=caller))
    assert pure.available(OWNER) == 1000


@pytest.mark.parametrize("kind", ["guarantee.deposit", "seller.payable_held", "escrow.trade", "suspense", "nonsense"])
def test_money_goes_out_of_wallets_and_payables_only(pure, kind):
    with pytest.raises(KindNotAllowed):
        pure.run(ask(kind=kind, caller=OPERATOR))


def test_refusals_come_in_their_order(pure):
    pure.run(SetLimits(OWNER, CNY, per_transaction_minor=5000, caller=OPERATOR))
    put_state(pure, AccountState.CLOSED)
    everything = {"minor": 6000, "rail": "rails/none", "caller": STRANGER}
    with pytest.raises(RailUnknown):
        pure.run(ask(**everything))
    with pytest.raises(KindNotAllowed):
        pure.run(ask(**everything | {"rail": RAIL}))
    with pytest.raises(AccountClosed):
        pure.run(ask(6000))
    put_state(pure, AccountState.FROZEN_DEBITS)
    with pytest.raises(AccountFrozen):
        pure.run(ask(6000))
    put_state(pure, AccountState.OPEN)
    with pytest.raises(LimitExceeded):
        pure.run(ask(6000))
    with pytest.raises(InsufficientFunds):
        pure.run(ask(1001))
    assert pure.available(OWNER) == 1000


def test_withdrawals_and_payments_count_against_the_same_limits(pure):
    pure.run(SetLimits(OWNER, CNY, per_day_minor=500, caller=OPERATOR))
    pure.run(SetLimits("limitClasses/new", CNY, per_transaction_minor=150, caller=OPERATOR))
    pure.pay(OWNER, wallet("subjects/other"), 200)
    with pytest.raises(LimitExceeded) as refused:
        pure.run(ask(301))
    assert refused.value.metadata["used_minor"] == "200"
    with pytest.raises(LimitExceeded) as refused:
        pure.run(ask(151, limit_class="new"))
    assert refused.value.metadata["scope"] == "limitClasses/new"
    pure.run(ask(300))
    with pytest.raises(LimitExceeded):
        pure.pay(OWNER, wallet("subjects/other"), 1)


def test_a_refused_withdrawal_still_counts_as_a_voided_payment_does(pure):
    pure.run(SetLimits(OWNER, CNY, per_day_minor=500, caller=OPERATOR))
    pure.run(ask(500))
    pure.run(ReportRailResult(pure.events[-1].withdrawal.movement, RailResult.FAILED))
    with pytest.raises(LimitExceeded):
        pure.run(ask(1))


def test_money_that_is_held_does_not_leave_and_a_hold_that_ran_out_does_not_keep_it(pure):
    pure.hold(OWNER, wallet("subjects/other"), 700, lifetime_s=5)
    with pytest.raises(InsufficientFunds):
        pure.run(ask(301))
    pure.advance(6)
    assert pure.run(ask(1000)) is DEFERRED


def test_what_the_rail_s_account_could_not_take_is_refused_before_the_rail_is_asked(pure):
    settled, opening = AccountKey(RAIL, "rail.settled"), AccountKey("platform", "opening")
    pure.post((opening, settled, MAX_MINOR - 700))
    pure.run(ask(400))
    with pytest.raises(BalanceOverflow):
        pure.run(ask(301))
    pure.run(ask(300))
    for made in list(pure.books.withdrawals.values()):
        pure.run(ReportRailResult(made.movement, RailResult.SUCCEEDED))
    assert pure.account(RAIL, "rail.settled").credits_posted == MAX_MINOR
