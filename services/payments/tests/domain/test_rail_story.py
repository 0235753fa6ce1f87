"""Whatever rails report in whatever order, their accounts show what the movements say, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_kit.errors import DanbaoError
from danbao_kit.money import Money
from danbao_payments.domain.commands import CreateTopUp, CreateWithdrawal, RefundTopUp, ReportRailResult
from danbao_payments.domain.movement import RESULTS
from danbao_payments.testing.pure import CNY, PARTNER, PureBooks, wallet

OWNERS = ("subjects/a", "subjects/b")
RAIL = "rails/simulated"

much, little = st.integers(200, 300), st.integers(1, 60)
which = st.integers(0, 9)
action = st.one_of(
    st.tuples(st.just("top up"), st.sampled_from(OWNERS), much),
    st.tuples(st.just("send back"), which, little),
    st.tuples(st.just("withdraw"), st.sampled_from(OWNERS), little),
    st.tuples(st.just("pay"), st.sampled_from(OWNERS), much),
    *[st.tuples(st.just("report"), which, st.sampled_from(RESULTS)) for _ in range(6)],
)


def movements(pure: PureBooks) -> list[Any]:
    books = pure.books
    return [*books.top_ups.values(), *books.withdrawals.values(), *books.rail_refunds.values()]


def act(pure: PureBooks, what: str, whom: Any, how: Any) -> None:
    if what == "top up":
        pure.run(CreateTopUp(whom, Money(CNY, how), RAIL, caller=PARTNER))
    elif what == "withdraw":
        pure.run(CreateWithdrawal(whom, "user.available", Money(CNY, how), RAIL, caller=PARTNER))
    elif what == "pay":
        other = OWNERS[1 - OWNERS.index(whom)]
        pure.pay(whom, wallet(other), how)
    elif what == "send back" and (top_ups := list(pure.books.top_ups.values())):
        pure.run(RefundTopUp(top_ups[whom % len(top_ups)].id, Money(CNY, how), PARTNER))
    elif what == "report" and (known := movements(pure)):
        pure.run(ReportRailResult(known[whom % len(known)].movement, how, rail_reference="ref"))


def check(pure: PureBooks) -> None:
    pure.check()
    top_ups = [each for each in pure.books.top_ups.values() if each.state in ("SUCCEEDED", "RETURNED")]
    in_transit = sum(each.amount_minor - each.returned_minor for each in top_ups if each.settle_time is None)
    at_bank = sum(each.amount_minor - each.returned_minor for each in top_ups if each.settle_time is not None)
    at_bank -= sum(each.amount_minor for each in pure.books.withdrawals.values() if each.state == "SUCCEEDED")
    at_bank -= sum(each.amount_minor for each in pure.books.rail_refunds.values() if each.state == "SETTLED")
    assert pure.available(RAIL, "rail.in_transit") == in_transit
    assert pure.available(RAIL, "rail.settled") == at_bank
    for top_up in pure.books.top_ups.values():
        back = [each for each in pure.books.rail_refunds.values() if each.top_up_id == top_up.id]
        asked = sum(each.amount_minor for each in back if each.state in ("PENDING", "UNKNOWN", "SETTLED"))
        paid = sum(each.amount_minor for each in back if each.state == "SETTLED")
        assert (top_up.refunded_minor, top_up.refunds_settled_minor) == (asked, paid)
        assert asked + top_up.returned_minor <= top_up.amount_minor


@settings(max_examples=100, deadline=None)
@given(st.lists(action, min_size=30, max_size=60))
def test_a_rail_s_accounts_are_what_its_movements_say(story: list[tuple[str, Any, Any]]):
    pure = PureBooks()
    for what, whom, how in story:
        before = list(pure.books.accounts.values())
        try:
            act(pure, what, whom, how)
        except DanbaoError:
            assert list(pure.books.accounts.values()) == before, "a refusal moves nothing"
        check(pure)
    # Every request that was left open is answered once, when its movement has ended.
    answered = [answer.request for answer in pure.answers]
    assert len(answered) == len(set(answered))
    ended = [each for each in movements(pure) if each.state not in ("PENDING", "UNKNOWN")]
    assert len(answered) == len(ended)
