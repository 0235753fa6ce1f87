"""What each event says about whom."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from danbao.escrow.v1 import refund_pb2
from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import facts_of, telling_of
from danbao_credit.domain.telling import LARGEST_MINOR
from danbao_credit.testing.population import Population
from danbao_credit.testing.stories import (
    BUYER,
    OPERATOR,
    SELLER,
    START,
    SYSTEM,
    TradeStory,
    good_trade,
    lived,
    payments_event,
)

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def life(catalogue: Catalogue, *stories: TradeStory, of: str = "subjects/seller", **others: object) -> dict[str, int]:
    """Life totals above zero by slot name."""
    profile = lived(catalogue, *stories, **others)[of]
    totals = profile.totals(hop_s=0, tiles=0, as_of_s=0, slots=catalogue.slot_ids)
    return {slot.name: totals[slot.id] for slot in catalogue.slots if totals[slot.id]}


def test_a_good_trade_as_its_seller_sees_it(catalogue: Catalogue) -> None:
    assert life(catalogue, good_trade("1")) == {
        "seller_trades_created": 1,
        "seller_orders_paid": 1,
        "seller_orders_shipped": 1,
        "seller_lines_shipped": 1,
        "seller_ship_hours": 23,
        "seller_orders_delivered": 1,
        "seller_transit_hours": 48,
        "seller_orders_completed": 1,
        "seller_orders_confirmed": 1,
        "seller_confirm_hours": 8,
        "seller_quick_confirmations": 1,
        "seller_cycle_hours": 79,
        "seller_door_hours": 71,
        "seller_orders_in_week": 1,
        "seller_ship_hours_squared": 23**2,
        "seller_orders_within_day": 1,
        "seller_orders_whole": 1,
        "seller_orders_small": 1,
        "seller_orders_single": 1,
        "seller_lines_paid": 1,
        "seller_pay_minutes": 10,
        "seller_quick_payments": 1,
        "seller_released_minor_cny": 1000,
        "seller_orders_cny": 1,
        "seller_hundreds_cny": 10,
        "seller_hundreds_squared_cny": 100,
    }


def test_a_good_trade_as_its_buyer_sees_it(catalogue: Catalogue) -> None:
    assert life(catalogue, good_trade("1"), of="subjects/buyer") == {
        "buyer_trades_created": 1,
        "buyer_orders_paid": 1,
        "buyer_pay_minutes": 10,
        "buyer_paid_minor_cny": 1000,
        "buyer_orders_cny": 1,
        "buyer_orders_completed": 1,
        "buyer_orders_confirmed": 1,
        "buyer_confirm_hours": 8,
        "buyer_quick_confirmations": 1,
        "buyer_quick_payments": 1,
        "buyer_cycle_hours": 79,
        "buyer_door_hours": 71,
        "buyer_ship_hours": 23,
        "buyer_transit_hours": 48,
        "buyer_orders_shipped": 1,
        "buyer_lines_shipped": 1,
        "buyer_orders_whole": 1,
        "buyer_orders_delivered": 1,
        "buyer_orders_in_week": 1,
        "buyer_orders_small": 1,
        "buyer_orders_single": 1,
        "buyer_lines_paid": 1,
        "buyer_hundreds_cny": 10,
        "buyer_hundreds_squared_cny": 100,
    }


def test_an_order_counts_once_however_many_lines_it_has(catalogue: Catalogue) -> None:
    story = TradeStory(amounts=(100, 200, 300)).paid(START + HOUR)
    story.shipped(START + 1 * DAY, "L1").shipped(START + 5 * DAY, "L2").shipped(START + 6 * DAY, "L3")
    story.delivered(START + 7 * DAY, "L1").delivered(START + 8 * DAY, "L2", "L3")
    story.released(START + 9 * DAY, "L1").released(START + 9 * DAY, "L2", "L3", by=SYSTEM)
    counts = life(catalogue, story)
    assert counts["seller_orders_shipped"] == counts["seller_orders_late"] == counts["seller_orders_delivered"] == 1
    assert counts["seller_lines_shipped"] == 3
    assert counts["seller_orders_completed"] == 1
    assert "seller_orders_confirmed" not in counts  # its last lines were confirmed by time
    assert counts["seller_released_minor_cny"] == 600


def test_shipping_is_late_from_the_first_microsecond_after_ship_by(catalogue: Catalogue) -> None:
    ship_by = START + HOUR + 3 * DAY
    in_time = TradeStory("1").paid(START + HOUR).shipped(ship_by)
    late = TradeStory("2").paid(START + HOUR).shipped(ship_by + timedelta(microseconds=1))
    assert "seller_orders_late" not in life(catalogue, in_time)
    assert life(catalogue, in_time, late)["seller_orders_late"] == 1


@pytest.mark.parametrize(
    ("by", "days", "expected"),
    [
        (SELLER, 1, {"seller_orders_cancelled"}),
        (SELLER, 5, {"seller_orders_cancelled", "seller_orders_late"}),
        (BUYER, 5, {"seller_orders_abandoned", "seller_orders_late"}),
        (SYSTEM, 11, {"seller_orders_abandoned", "seller_orders_late"}),
    ],
)
def test_an_order_never_shipped_is_the_sellers_defect(
    catalogue: Catalogue, by: int, days: int, expected: set[str]
) -> None:
    story = TradeStory(amounts=(100, 200)).paid(START).refunded(START + days * DAY, "L1", by=by)
    story.refunded(START + days * DAY + HOUR, "L2", by=by)
    counts = life(catalogue, story)
    assert counts["seller_orders_unshipped"] == counts["seller_orders_refunded"] == counts["seller_orders_closed"] == 1
    told = {"seller_orders_cancelled", "seller_orders_abandoned", "seller_orders_late"} & set(counts)
    assert told == expected
    assert all(counts[name] == 1 for name in told)
    assert counts["seller_refunded_minor_cny"] == 300


def test_goods_that_were_shipped_and_refunded_are_no_defect_of_fulfilment(catalogue: Catalogue) -> None:
    story = TradeStory().paid(START).shipped(START + DAY).refunded(START + 2 * DAY, by=SELLER)
    counts = life(catalogue, story)
    assert counts["seller_orders_refunded"] == 1
    assert counts["seller_refunds_shipped"] == 1
    assert "seller_orders_unshipped" not in counts


def test_an_unpaid_trade_is_its_buyers_unless_the_seller_ended_it(catalogue: Catalogue) -> None:
    stories = [TradeStory(str(n)).cancelled(START + DAY, by=by) for n, by in enumerate((SYSTEM, BUYER, SELLER))]
    assert life(catalogue, *stories, of="subjects/buyer")["buyer_trades_unpaid"] == 2
    assert life(catalogue, *stories)["seller_trades_withdrawn"] == 1


def test_amounts_of_different_currencies_are_never_added(catalogue: Catalogue) -> None:
    stories = [good_trade(code, currency=code) for code in ("CNY", "BRL", "JPY")]
    counts = life(catalogue, *stories)
    assert counts["seller_released_minor_cny"] == counts["seller_released_minor_brl"] == 1000
    assert counts["seller_orders_completed"] == 3
    assert not any(name.endswith("jpy") for name in counts)


def test_payments_and_top_ups(catalogue: Catalogue) -> None:
    kinds = ("top_up_succeeded", "top_up_failed", "payment_captured", "payment_refunded", "payment_expired")
    counts = life(catalogue, payments=[payments_event(kind) for kind in kinds], of="subjects/buyer")
    assert counts == {
        "top_ups_succeeded": 1,
        "top_ups_failed": 1,
        "top_up_minor_cny": 1000,
        "payments_captured": 1,
        "payments_refunded": 1,
        "payments_expired": 1,
    }


def test_the_payee_of_a_payment_is_told_only_if_it_is_somebody(catalogue: Catalogue) -> None:
    direct, of_a_trade = payments_event("payment_captured"), payments_event("payment_captured")
    direct.payment_captured.payee.owner = "subjects/shop"
    of_a_trade.payment_captured.payee.owner = "trades/1"
    profiles = lived(catalogue, payments=[direct, of_a_trade])
    assert set(profiles) == {"subjects/buyer", "subjects/shop"}
    assert life(catalogue, payments=[direct, of_a_trade], of="subjects/shop") == {"payments_received": 1}


def test_withdrawals_refunds_over_rails_and_frozen_accounts(catalogue: Catalogue) -> None:
    events = []
    for kind in ("withdrawal_created", "withdrawal_succeeded", "withdrawal_returned", "rail_refund_refused"):
        event = payments_event("payment_captured")
        payload = getattr(event, kind)
        payload.owner, payload.amount.currency, payload.amount.amount_minor = "subjects/shop", "CNY", 700
        if kind.startswith("withdrawal"):
            payload.create_time.FromDatetime(START - 5 * HOUR)
        events.append(event)
    for owner in ("subjects/shop", "trades/1"):
        event = payments_event("payment_captured")
        event.account_frozen.owner = owner
        events.append(event)
    profiles = lived(catalogue, payments=events)
    assert set(profiles) == {"subjects/shop"}
    assert life(catalogue, payments=events, of="subjects/shop") == {
        "withdrawals_created": 1,
        "withdrawals_paid": 1,
        "withdrawal_hours": 5,
        "withdrawn_minor_cny": 700,
        "withdrawals_returned": 1,
        "rail_refunds_refused": 1,
        "accounts_frozen": 1,
    }


def test_events_that_say_nothing_about_credit_count_nothing(catalogue: Catalogue) -> None:
    event = payments_event("payment_captured")
    event.transaction_posted.SetInParent()
    assert facts_of(PaymentsEvent(event).read(), Source.PAYMENTS, catalogue).changes == ()
    event.ClearField("transaction_posted")
    assert facts_of(PaymentsEvent(event).read(), Source.PAYMENTS, catalogue).kind == "unknown"


def proceedings(kind: str, at: datetime, role: int = BUYER, moved: int = 0, **fields: object) -> Any:
    """An event about a case, dispute or claim that was opened at START over trades/1 of 1,000 CNY minor units."""
    event = good_trade("1").events[0]
    payload = getattr(event, kind)
    payload.name, payload.trade, payload.currency = "things/1", "trades/1", "CNY"
    payload.buyer, payload.seller = "subjects/buyer", "subjects/seller"
    payload.create_time.FromDatetime(START)
    for name, value in fields.items():
        part, _, field = name.partition("__")
        setattr(getattr(payload, part) if field else payload, field or part, value)
    event.create_time.FromDatetime(at)
    event.actor.role, event.amount_minor = role, moved
    return event


def story_of(*events: Any) -> TradeStory:
    story = TradeStory()
    story.events = list(events)
    return story


def test_a_refund_case_answered_by_its_seller(catalogue: Catalogue) -> None:
    case = {"amount_minor": 1000, "reason_code": refund_pb2.REFUND_REASON_DAMAGED, "with_return": True}
    sent = case | {"return_tracking": "T1"}
    story = story_of(
        proceedings("refund_case_opened", START, **case),
        proceedings("refund_case_accepted", START + 3 * HOUR, SELLER, **case),
        proceedings("return_submitted", START + 9 * HOUR, BUYER, **sent),
        proceedings("refund_case_succeeded", START + 50 * HOUR, SELLER, 1000, **sent),
    )
    assert life(catalogue, story) == {
        "seller_cases": 1,
        "seller_cases_faulty": 1,
        "seller_cases_with_return": 1,
        "seller_cases_replied": 1,
        "seller_case_reply_hours": 3,
        "seller_cases_quick": 1,
        "seller_cases_returned": 1,
        "seller_cases_succeeded": 1,
        "seller_case_hours": 50,
    }
    assert life(catalogue, story, of="subjects/buyer") == {
        "buyer_cases": 1,
        "buyer_cases_faulty": 1,
        "buyer_cases_with_return": 1,
        "buyer_cases_returned": 1,
        "buyer_cases_succeeded": 1,
        "buyer_case_hours": 50,
    }


def test_a_refund_case_that_time_accepted_was_not_answered(catalogue: Catalogue) -> None:
    case = {"amount_minor": 1000, "reason_code": refund_pb2.REFUND_REASON_LATE}
    counts = life(
        catalogue,
        story_of(
            proceedings("refund_case_opened", START, **case),
            proceedings("refund_case_succeeded", START + 5 * DAY, SYSTEM, 1000, **case),
        ),
    )
    assert counts["seller_cases_unanswered"] == counts["seller_cases_undelivered"] == 1
    assert "seller_cases_replied" not in counts


@pytest.mark.parametrize(
    ("to_buyer", "decided", "moved", "lost", "won"),
    [
        (501, True, 1000, "subjects/seller", "subjects/buyer"),
        (499, True, 1000, "subjects/buyer", "subjects/seller"),
        (500, True, 1000, None, None),
        (900, False, 1000, None, None),  # an agreement has no loser
        (900, True, 0, None, None),  # a chargeback ended it
    ],
)
def test_who_gets_less_than_half_by_a_decision_has_lost(
    catalogue: Catalogue, to_buyer: int, decided: bool, moved: int, lost: str | None, won: str | None
) -> None:
    part = "decision" if decided else "offer"
    fields = {f"{part}__buyer_minor": to_buyer, f"{part}__seller_minor": 1000 - to_buyer, "frozen_minor": 1000}
    story = story_of(
        proceedings("dispute_opened", START),
        proceedings("dispute_closed", START + 30 * HOUR, OPERATOR, moved, **fields),
    )
    for subject in ("subjects/seller", "subjects/buyer"):
        counts = life(catalogue, story, of=subject)
        assert counts["disputes_opened"] == counts["disputes_ended"] == 1
        assert counts["dispute_hours"] == 30
        assert counts.get("disputes_lost", 0) == int(subject == lost)
        assert counts.get("disputes_won", 0) == int(subject == won)
        assert counts.get("disputes_settled", 0) == int(not decided and moved > 0)


def test_claims_count_for_both_sides(catalogue: Catalogue) -> None:
    story = story_of(
        proceedings("claim_opened", START, amount_minor=900),
        proceedings("claim_compensated", START + 7 * HOUR, OPERATOR, 800, amount_minor=900, compensated_minor=800),
    )
    assert life(catalogue, story) == {
        "claims_received": 1,
        "claims_compensated": 1,
        "claim_hours": 7,
        "seller_compensated_minor_cny": 800,
    }
    assert life(catalogue, story, of="subjects/buyer") == {
        "claims_opened": 1,
        "buyer_claims_compensated": 1,
        "buyer_claim_hours": 7,
    }


def test_a_part_refund_of_goods_not_yet_shipped_is_no_defect(catalogue: Catalogue) -> None:
    story = TradeStory(amounts=(1000,)).paid(START)
    event = type(story.events[-1])()
    event.CopyFrom(story.events[-1])
    trade = event.trade_paid
    trade.refunded_minor = event.amount_minor = 300
    event.lines_refunded.CopyFrom(trade)
    story.events.append(event)
    counts = life(catalogue, story)
    assert counts["seller_orders_refunded"] == 1
    assert "seller_orders_unshipped" not in counts


def test_an_order_refunded_twice_was_refunded_once(catalogue: Catalogue) -> None:
    story = TradeStory(amounts=(600, 400)).paid(START).shipped(START + DAY)
    story.refunded(START + 2 * DAY, "L1").refunded(START + 3 * DAY, "L2")
    assert life(catalogue, story)["seller_orders_refunded"] == 1


@pytest.mark.parametrize("told", [10**15, 10**15 + 1, 2**63 - 1])
def test_an_amount_beyond_every_order_counts_as_the_largest_there_is(told: int) -> None:
    """Payments takes it, so its event keeps its contract: parked, it would be missing in its payer's life."""
    event = TradeStory().paid(START).events[-1]
    event.amount_minor = told
    assert telling_of(EscrowEvent(event).read()).measures["amount_minor"] == LARGEST_MINOR


def test_an_event_that_breaks_its_contract_is_refused(catalogue: Catalogue) -> None:
    def refused(change: object) -> str:
        event = TradeStory().paid(START).events[-1]
        change(event)  # type: ignore[operator]
        with pytest.raises(EventMalformed) as raised:
            facts_of(EscrowEvent(event).read(), Source.ESCROW, catalogue)
        return str(raised.value)

    assert "create_time" in refused(lambda event: event.ClearField("create_time"))
    assert "actor" in refused(lambda event: event.ClearField("actor"))
    assert "not a subject" in refused(lambda event: setattr(event.trade_paid, "buyer", ""))
    assert "out of range" in refused(lambda event: setattr(event, "amount_minor", -1))

    event = TradeStory().paid(START).shipped(START).events[-1]
    event.line_ids.append("nothing")
    with pytest.raises(EventMalformed):
        facts_of(EscrowEvent(event).read(), Source.ESCROW, catalogue)


def test_every_slot_is_fed_by_each_of_its_feeds_in_a_varied_population(catalogue: Catalogue) -> None:
    """Every event and measure that the catalogue asks for is given by somebody."""
    fed: set[tuple[int, str]] = set()
    for item in Population().told():
        facts = facts_of(item.event, item.source, catalogue)
        fed |= {(change.slot, f"{item.source.value}.{facts.kind}") for _, change in facts.changes}
    wanted = {(slot.id, feed.event): slot.name for slot in catalogue.slots for feed in slot.feeds}
    assert {wanted[key] for key in set(wanted) - fed} == set()
