"""Numbers that must come out: defects that count once, volume that brushing cannot multiply."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from danbao_credit.clients.decoding import EscrowEvent
from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.events import ReportedEvent, Source
from danbao_credit.domain.expression import Value
from danbao_credit.domain.facts import facts_of
from danbao_credit.domain.profile import Change, Profile
from danbao_credit.testing.stories import OPERATOR, SELLER, START, TradeStory, good_trade

DAY = timedelta(days=1)
EPOCH_S = int(START.timestamp())
SHOP = "subjects/seller"


def changes_by_event(
    catalogue: Catalogue, events: list[Any], reports: tuple[ReportedEvent, ...] = (), of: str = SHOP
) -> list[list[tuple[int, Change]]]:
    """What each event changes of one subject."""
    all_facts = [facts_of(EscrowEvent(event).read(), Source.ESCROW, catalogue) for event in events]
    all_facts += [facts_of(report, Source.REPORTS, catalogue) for report in reports]
    return [[(facts.at_us, change) for subject, change in facts.changes if subject == of] for facts in all_facts]


def profile_of(changes: list[list[tuple[int, Change]]]) -> Profile:
    return Profile.empty().with_changes(change for event in changes for change in event)


def value(judge: Judge, profile: Profile, name: str, at: datetime) -> Value:
    return judge.catalogue.by_name[name].value(judge.facts(profile, int(at.timestamp())))


def proceeding(kind: str, at: datetime, trade: str, **fields: Any) -> Any:
    event = good_trade("1").events[0]
    payload = getattr(event, kind)
    payload.name, payload.trade, payload.currency = f"things/{trade}", trade, "CNY"
    payload.buyer, payload.seller = "subjects/buyer", SHOP
    payload.create_time.FromDatetime(at - DAY)
    for name, given in fields.items():
        part, _, field = name.partition("__")
        setattr(getattr(payload, part) if field else payload, field or part, given)
    event.create_time.FromDatetime(at)
    event.actor.role, event.amount_minor = OPERATOR, 1000
    return event


def lost(at: datetime, trade: str) -> Any:
    return proceeding("dispute_closed", at, trade, decision__buyer_minor=900, decision__seller_minor=100)


def history_of_200_orders() -> tuple[list[Any], tuple[ReportedEvent, ...]]:
    """Three orders are defective: one never shipped, one lost in a dispute, one compensated and reported besides."""
    events: list[Any] = []
    for number in range(200):
        at = START + number * DAY / 8
        if number == 50:
            events += TradeStory("50", at=at).paid(at).refunded(at + DAY, by=SELLER).events
            continue
        events += good_trade(str(number), at, buyer=f"subjects/b{number % 90}").events
    events.append(lost(START + 26 * DAY, "trades/60"))
    events.append(proceeding("claim_compensated", START + 27 * DAY, "trades/70", compensated_minor=1000))
    at_us = (EPOCH_S + 20 * 86_400) * 1_000_000
    return events, (ReportedEvent(1, "delivery_defect", at_us, "", SHOP, "", "trades/70", "", {}),)


def test_three_defective_orders_of_200_are_a_rate_of_exactly_0_015_and_cap_the_score(judge: Judge) -> None:
    profile = profile_of(changes_by_event(judge.catalogue, *history_of_200_orders()))
    at = START + 28 * DAY
    assert value(judge, profile, "order_defect_rate_60d", at) == 0.015
    assert value(judge, profile, "order_defect_rate_life", at) == 0.015
    assert value(judge, profile, "defective_orders_60d", at) == 3
    evaluation = judge.evaluate(profile, kind=SubjectKind.MERCHANT, as_of_s=int(at.timestamp()))
    assert evaluation.score <= 649
    assert "ORDER_DEFECTS" in {item.code for item in evaluation.adjustments}


@pytest.mark.parametrize(("orders", "is_capped"), [(49, False), (50, True)])
def test_the_cap_of_defects_begins_at_50_orders(judge: Judge, orders: int, is_capped: bool) -> None:
    events = [e for n in range(orders) for e in good_trade(str(n), START, buyer=f"subjects/b{n}").events]
    events.append(lost(START + 9 * DAY, "trades/1"))
    facts = judge.facts(profile_of(changes_by_event(judge.catalogue, events)), int((START + 10 * DAY).timestamp()))
    cap = next(cap for cap in judge.model.scorecards[SubjectKind.MERCHANT].caps if cap.code == "ORDER_DEFECTS")
    assert judge.catalogue.by_name["order_defect_rate_60d"].value(facts) == 1 / orders
    assert cap.applies(facts) is is_capped


def test_20_permutations_of_one_history_give_one_state_and_one_rate(judge: Judge) -> None:
    changes = changes_by_event(judge.catalogue, *history_of_200_orders())
    dice = random.Random(2)
    states, rates = set(), set()
    for _ in range(20):
        dice.shuffle(changes)
        profile = Profile.empty()
        for start in range(0, len(changes), 97):
            profile = profile.with_changes(change for event in changes[start : start + 97] for change in event)
        states.add(profile.to_bytes())
        rates.add(value(judge, profile, "order_defect_rate_60d", START + 28 * DAY))
    assert len(states) == 1
    assert rates == {0.015}


def test_a_defect_leaves_the_window_by_its_own_day(judge: Judge) -> None:
    profile = profile_of(
        changes_by_event(judge.catalogue, [*good_trade("1").events, lost(START + 9 * DAY, "trades/1")])
    )
    assert value(judge, profile, "defective_orders_30d", START + 38 * DAY) == 1
    assert value(judge, profile, "defective_orders_30d", START + 39 * DAY) == 0


@pytest.mark.parametrize(("total", "counted"), [(999, 0), (1000, 1)])
def test_tiny_orders_do_not_count_as_credible_volume(judge: Judge, total: int, counted: int) -> None:
    events = good_trade("1", amounts=(total,)).events
    profile = profile_of(changes_by_event(judge.catalogue, events))
    bought = profile_of(changes_by_event(judge.catalogue, events, of="subjects/buyer"))
    at = START + 9 * DAY
    assert value(judge, profile, "orders_completed_life", at) == 1
    assert value(judge, profile, "credible_orders_completed_life", at) == counted
    assert value(judge, profile, "credible_buyers_life", at) == (counted or None)
    assert value(judge, profile, "credible_confirmations_life", at) == counted
    assert value(judge, bought, "credible_purchases_completed_life", at) == counted


def test_a_pair_counts_at_most_six_times_a_month(judge: Judge) -> None:
    """Forty orders of one friend within a week, and one each of ten others."""
    events = [e for n in range(40) for e in good_trade(f"f{n}", START + n * DAY / 6).events]
    profile = profile_of(changes_by_event(judge.catalogue, events))
    at = START + 29 * DAY
    brushed = value(judge, profile, "credible_orders_completed_life", at)
    assert value(judge, profile, "orders_completed_life", at) == 40
    assert brushed in (6, 12), "one month, or two where the turn of a month lies between"
    evaluation = judge.evaluate(profile, kind=SubjectKind.MERCHANT, as_of_s=int(at.timestamp()))
    assert evaluation.score <= 699
    events += [e for n in range(10) for e in good_trade(f"o{n}", START, buyer=f"subjects/o{n}").events]
    profile = profile_of(changes_by_event(judge.catalogue, events))
    assert value(judge, profile, "credible_orders_completed_life", at) == brushed + 10
    assert value(judge, profile, "top_buyer_share_life", at) == 40 / 50


def test_trades_both_ways_are_mutual(judge: Judge) -> None:
    events = [*good_trade("1").events, *good_trade("2", buyer=SHOP, seller="subjects/buyer").events]
    events += good_trade("3", buyer="subjects/other").events
    profile = profile_of(changes_by_event(judge.catalogue, events))
    assert value(judge, profile, "mutual_buyer_share_life", START + 9 * DAY) == 0.5
    assert value(judge, profile, "mutual_buyers_90d", START + 9 * DAY) == 1


def test_buyers_who_come_again_are_a_share_of_all(judge: Judge) -> None:
    events = [e for n in range(5) for e in good_trade(str(n), buyer=f"subjects/b{n % 4}").events]
    profile = profile_of(changes_by_event(judge.catalogue, events))
    assert value(judge, profile, "repeat_buyer_rate_30d", START + 9 * DAY) == 0.25


def test_what_an_order_costs_spreads_by_its_deviation(judge: Judge) -> None:
    events = [
        e
        for n, hundreds in enumerate((2, 4, 4, 4, 5, 5, 7, 9))
        for e in good_trade(str(n), amounts=(100 * hundreds,)).events
    ]
    profile = profile_of(changes_by_event(judge.catalogue, events))
    assert value(judge, profile, "order_spread_cny_life", START + 9 * DAY) == pytest.approx(0.4)
    assert value(judge, profile, "average_order_cny_life", START + 9 * DAY) == 5.0
    assert value(judge, profile, "average_order_usd_life", START + 9 * DAY) is None


def test_the_largest_orders_do_not_overflow(judge: Judge) -> None:
    """Squares of amounts are bounded: nine million of the dearest orders stay within 64 bits."""
    story = TradeStory("1", amounts=(10**14,)).paid(START)
    changes = changes_by_event(judge.catalogue, story.events[-1:])[0]
    squared = next(slot.id for slot in judge.catalogue.slots if slot.name == "seller_hundreds_squared_cny")
    amount = next(change.amount for _, change in changes if change.slot == squared)
    assert amount * 9_000_000 < 2**63
