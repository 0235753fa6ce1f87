"""Top-ups on the pure books: money comes in when the rail says so, and only once."""

from __future__ import annotations

from uuid import uuid4

import pytest

from danbao_kit.decision import DEFERRED
from danbao_kit.money import MAX_MINOR, Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import AccountKey, CreateTopUp, RefundTopUp, ReportRailResult
from danbao_payments.domain.errors import (
    AccountFrozen,
    BalanceOverflow,
    CurrencyMismatch,
    InsufficientFunds,
    KindNotAllowed,
    RailUnknown,
    RefundAmountExceeded,
    TopUpNotFound,
    TopUpStateInvalid,
)
from danbao_payments.domain.movement import RailResult
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.top_up import TopUp, TopUpState
from danbao_payments.testing.pure import CNY, PARTNER, PureBooks, wallet

OWNER = "subjects/owner"
RAIL = "rails/simulated"


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()


def report(of: TopUp | RailRefund, result: RailResult, reference: str = "", failure: str = "") -> ReportRailResult:
    return ReportRailResult(of.movement, result, rail_reference=reference, failure=failure)


def create(pure: PureBooks, minor: int = 1000, *, rail: str = RAIL, caller: Caller = PARTNER) -> TopUp:
    assert pure.run(CreateTopUp(OWNER, Money(CNY, minor), rail, caller=caller)) is DEFERRED
    return pure.events[-1].top_up


def succeeded(pure: PureBooks, minor: int = 1000) -> TopUp:
    top_up = create(pure, minor)
    pure.run(report(top_up, RailResult.SUCCEEDED, "ref"))
    return pure.books.top_ups.get(top_up.id)


def top_up_in(pure: PureBooks, state: TopUpState) -> TopUp:
    top_up = succeeded(pure) if state in (TopUpState.SUCCEEDED, TopUpState.RETURNED) else create(pure)
    if state is TopUpState.FAILED:
        pure.run(report(top_up, RailResult.FAILED, failure="no"))
    elif state in (TopUpState.UNKNOWN, TopUpState.RETURNED):
        pure.books.top_ups.put(top_up.id, top_up._replace(state=state.value))
        pure.books.accept()
    return pure.books.top_ups.get(top_up.id)


def send_back(pure: PureBooks, top_up: TopUp, minor: int | None = None, **others):
    amount = None if minor is None else Money(CNY, minor)
    assert pure.run(RefundTopUp(top_up.id, amount, others.get("caller", PARTNER))) is DEFERRED
    return next(r for r in reversed(list(pure.books.rail_refunds.values())) if r.state == "PENDING")


def test_a_top_up_moves_nothing_until_the_rail_answers(pure):
    top_up = create(pure)
    assert top_up.state == "PENDING"
    assert pure.available(OWNER) == 0
    pure.run(report(top_up, RailResult.SUCCEEDED, "ref"))
    assert pure.available(OWNER) == 1000
    assert pure.account(RAIL, "rail.in_transit").debits_posted == 1000
    assert pure.kinds_of_events() == ["top_up_created", "top_up_succeeded"]


def test_the_request_is_answered_when_the_rail_has_answered(pure):
    top_up = create(pure)
    pure.run(report(top_up, RailResult.SUCCEEDED, "ref"))
    answer = pure.answers[0]
    assert (answer.request.caller, answer.request.method) == ("test", "CreateTopUp")
    assert answer.reply.state == "SUCCEEDED"
    assert answer.reply.rail_reference == "ref"


def test_a_declined_top_up_moves_nothing_and_says_why(pure):
    top_up = create(pure)
    pure.run(report(top_up, RailResult.FAILED, failure="no cover"))
    told = pure.books.top_ups.get(top_up.id)
    assert (told.state, told.failure) == ("FAILED", "no cover")
    assert not pure.has(OWNER, "user.available")
    assert pure.kinds_of_events()[-1] == "top_up_failed"


@pytest.mark.parametrize("state", list(TopUpState))
def test_a_refund_in_every_state(pure, state):
    top_up = top_up_in(pure, state)
    if state is TopUpState.SUCCEEDED:
        send_back(pure, top_up, 400)
        return
    with pytest.raises(TopUpStateInvalid) as refused:
        pure.run(RefundTopUp(top_up.id, Money(CNY, 400), PARTNER))
    assert refused.value.metadata["state"] == state


def test_a_refund_leaves_the_wallet_at_once_and_arrives_when_the_rail_has_paid(pure):
    top_up = succeeded(pure)
    refund = send_back(pure, top_up, 400)
    assert pure.available(OWNER) == 600
    assert pure.available("platform", "clearing.refund") == 400
    pure.run(report(refund, RailResult.SUCCEEDED, "paid"))
    assert pure.available("platform", "clearing.refund") == 0
    assert pure.account(RAIL, "rail.settled").credits_posted == 400
    told = pure.books.top_ups.get(top_up.id)
    assert (told.refunded_minor, told.refunds_settled_minor) == (400, 400)
    assert pure.kinds_of_events()[-2:] == ["top_up_refund_created", "top_up_refund_settled"]
    pure.run(report(refund, RailResult.SUCCEEDED, "paid"))
    assert pure.account(RAIL, "rail.settled").credits_posted == 400


def test_refunds_of_a_top_up_never_exceed_it(pure):
    top_up = succeeded(pure)
    pure.fund(OWNER, 5000)
    send_back(pure, top_up, 400)
    with pytest.raises(RefundAmountExceeded) as refused:
        pure.run(RefundTopUp(top_up.id, Money(CNY, 601), PARTNER))
    assert refused.value.metadata["refundable_minor"] == "600"
    send_back(pure, top_up)
    with pytest.raises(RefundAmountExceeded):
        pure.run(RefundTopUp(top_up.id, None, PARTNER))
    assert pure.available(OWNER) == 5000


def test_what_was_spent_cannot_be_sent_back(pure):
    top_up = succeeded(pure)
    pure.pay(OWNER, wallet("subjects/other"), 700)
    with pytest.raises(InsufficientFunds):
        pure.run(RefundTopUp(top_up.id, None, PARTNER))


def test_refusals_of_a_top_up(pure):
    with pytest.raises(RailUnknown):
        pure.run(CreateTopUp(OWNER, Money(CNY, 1), "rails/none", caller=Caller(Party.USER, "subjects/other")))
    with pytest.raises(KindNotAllowed):
        pure.run(CreateTopUp(OWNER, Money(CNY, 1), RAIL, caller=Caller(Party.USER, "subjects/other")))
    top_up = succeeded(pure)
    with pytest.raises(CurrencyMismatch):
        pure.run(RefundTopUp(top_up.id, Money("EUR", 1), PARTNER))
    with pytest.raises(TopUpNotFound):
        pure.run(RefundTopUp(uuid4(), None, PARTNER))
    with pytest.raises(TopUpNotFound):
        pure.run(RefundTopUp(top_up.id, None, Caller(Party.USER, "subjects/other")))
    with pytest.raises(BalanceOverflow):
        pure.run(CreateTopUp(OWNER, Money(CNY, MAX_MINOR), RAIL, caller=PARTNER))


def test_a_frozen_wallet_is_not_topped_up_but_gets_what_has_come(pure):
    top_up = create(pure)
    pure.fund(OWNER, 1)
    account = pure.account(OWNER, "user.available")
    pure.books.accounts.put(account.id, account._replace(state=AccountState.FROZEN_ALL.value))
    pure.books.accept()
    with pytest.raises(AccountFrozen):
        pure.run(CreateTopUp(OWNER, Money(CNY, 1), RAIL, caller=PARTNER))
    pure.run(report(top_up, RailResult.SUCCEEDED, "ref"))
    assert pure.available(OWNER) == 1001


def top_up_of(pure: PureBooks, owner: str, minor: int) -> TopUp:
    assert pure.run(CreateTopUp(owner, Money(CNY, minor), RAIL, caller=PARTNER)) is DEFERRED
    return pure.events[-1].top_up


def test_a_top_up_that_the_rail_s_account_could_not_take_is_refused_before_the_rail_is_asked(pure):
    first = top_up_of(pure, "subjects/whale", MAX_MINOR - 10)
    pure.run(report(first, RailResult.SUCCEEDED, "ref"))
    with pytest.raises(BalanceOverflow):
        create(pure, 11)
    last = create(pure, 10)
    pure.run(report(last, RailResult.SUCCEEDED, "ref"))
    assert pure.available(OWNER) == 10


def test_pending_top_ups_take_their_room_until_the_rail_has_answered(pure):
    pending = top_up_of(pure, "subjects/whale", MAX_MINOR)
    with pytest.raises(BalanceOverflow):
        create(pure, 1)
    pure.run(report(pending, RailResult.FAILED, failure="no"))
    create(pure, 1)


def test_a_refund_that_could_not_be_settled_is_refused_before_the_rail_is_asked(pure):
    settled, opening = AccountKey(RAIL, "rail.settled"), AccountKey("platform", "opening")
    top_up = succeeded(pure, 100)
    pure.post((opening, settled, MAX_MINOR - 60))
    refund = send_back(pure, top_up, 40)
    with pytest.raises(BalanceOverflow):
        pure.run(RefundTopUp(top_up.id, Money(CNY, 21), PARTNER))
    pure.run(report(refund, RailResult.SUCCEEDED, "paid"))
    pure.run(report(send_back(pure, top_up, 20), RailResult.SUCCEEDED, "paid"))
    with pytest.raises(BalanceOverflow):
        create(pure, 1)
