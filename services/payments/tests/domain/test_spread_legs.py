"""Legs of several sources and destinations, effective times and reversals, on the pure books."""

from __future__ import annotations

from datetime import timedelta

import pytest

from danbao_kit.errors import FieldInvalid
from danbao_kit.money import Money
from danbao_payments.domain.commands import (
    AccountKey,
    Destination,
    Leg,
    PostTransaction,
    Source,
    SpreadLeg,
)
from danbao_payments.domain.errors import (
    InsufficientFunds,
    LegsInvalid,
    SplitNotWhole,
    WouldBePosted,
)
from danbao_payments.domain.splits import Part, share_of
from danbao_payments.testing.pure import CNY, OPERATOR, START, PureBooks, wallet

A, B, C, D = (wallet(f"subjects/{name}") for name in "abcd")
GOODWILL = AccountKey("platform", "goodwill")
REST = Part()


@pytest.fixture
def pure():
    books = PureBooks()
    for key, minor in ((A, 40), (B, 40), (C, 21)):
        books.fund(key.owner, minor)
    yield books
    books.check()


def spread(sources, destinations, minor, policy="FIRST"):
    return SpreadLeg(
        tuple(source if isinstance(source, Source) else Source(source) for source in sources),
        tuple(Destination(key, part) for key, part in destinations),
        Money(CNY, minor),
        remainder_policy=policy,
    )


def post(pure, *legs, **others):
    command = PostTransaction(tuple(legs), caller=OPERATOR, **others)
    command.check()
    return pure.run(command)


def moved(posted):
    return [transfer.amount_minor for transfer in posted.transfers]


def test_sources_give_what_they_have_in_order():
    """TigerBeetle, multiple debits single credit: 100 from 40, 40 and 21 takes 40, 40 and 20."""
    pure = PureBooks()
    for key, minor in ((A, 40), (B, 40), (C, 21)):
        pure.fund(key.owner, minor)
    assert moved(post(pure, spread([A, B, C], [(D, REST)], 100))) == [40, 40, 20]
    assert pure.available(C.owner) == 1


def test_if_the_sources_have_too_little_nothing_happens(pure):
    events = len(pure.events)
    with pytest.raises(InsufficientFunds) as refused:
        post(pure, spread([A, B, C], [(D, REST)], 102))
    assert (refused.value.metadata["available_minor"], refused.value.metadata["amount_minor"]) == ("101", "102")
    with pytest.raises(InsufficientFunds):
        post(pure, spread([Source(A, 10), Source(B, 20)], [(D, REST)], 31))
    assert len(pure.events) == events
    assert moved(post(pure, spread([Source(A, 10), Source(B, 20)], [(D, REST)], 30))) == [10, 20]


def test_sources_and_destinations_meet_piece_by_piece(pure):
    parts = [(D, Part(fixed_minor=50)), (GOODWILL, Part(share=share_of(1000))), (D, REST)]
    pure.post((GOODWILL, D, 30))
    posted = post(pure, spread([A, B], parts, 80))
    assert moved(posted) == [40, 10, 8, 22]
    assert pure.available(D.owner) == 30 + 72


def test_what_is_kept_moves_nowhere_and_need_not_be_there(pure):
    posted = post(pure, spread([A], [(D, Part(share=share_of(1000))), (None, REST)], 400))
    assert moved(posted) == [40]
    with pytest.raises(SplitNotWhole):
        post(pure, spread([A], [(None, REST)], 10))


def test_a_leg_sees_what_the_legs_before_it_left(pure):
    first = Leg(A, B, Money(CNY, 40))
    assert moved(post(pure, first, spread([A, B], [(D, REST)], 80))) == [40, 80]


@pytest.mark.parametrize(
    "leg",
    [
        spread([A], [(A, REST)], 10),
        spread([A, A], [(B, REST)], 10),
        spread([A, B], [(C, Part(fixed_minor=1)), (B, REST)], 10),
    ],
)
def test_an_account_on_both_sides_or_twice_as_a_source_is_refused(pure, leg):
    with pytest.raises(LegsInvalid):
        post(pure, leg)


def test_parts_that_are_not_the_amount_are_refused_with_their_leg(pure):
    with pytest.raises(SplitNotWhole) as refused:
        post(pure, Leg(A, B, Money(CNY, 1)), spread([A], [(B, Part(fixed_minor=9))], 10))
    assert refused.value.metadata["field"] == "legs[1]"


def test_an_effective_time_is_recorded_and_may_not_lie_far_ahead(pure):
    past = START - timedelta(days=3)
    posted = post(pure, Leg(A, B, Money(CNY, 1)), effective_time=past)
    assert posted.transaction.effective_time == posted.transfers[0].effective_time == past
    post(pure, Leg(A, B, Money(CNY, 1)), effective_time=START + timedelta(minutes=5))
    with pytest.raises(FieldInvalid):
        post(pure, Leg(A, B, Money(CNY, 1)), effective_time=START + timedelta(minutes=6))


def test_what_only_validates_moves_nothing(pure):
    with pytest.raises(WouldBePosted) as found:
        post(pure, Leg(A, B, Money(CNY, 40)), validate_only=True)
    assert moved(found.value.posted) == [40]
    with pytest.raises(InsufficientFunds):
        post(pure, Leg(A, B, Money(CNY, 41)), validate_only=True)
    assert pure.available(A.owner) == 40
