"""What each event says about whom."""

from __future__ import annotations

from datetime import timedelta

import pytest

from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import facts_of
from danbao_credit.testing import BUYER, SELLER, START, SYSTEM, TradeStory, good_trade, lived, payments_event

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
        "seller_released_minor_cny": 1000,
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
    assert counts["seller_orders_defective"] == counts["seller_orders_refunded"] == counts["seller_orders_closed"] == 1
    told = {"seller_orders_cancelled", "seller_orders_abandoned", "seller_orders_late"} & set(counts)
    assert told == expected
    assert all(counts[name] == 1 for name in told)
    assert counts["seller_refunded_minor_cny"] == 300


def test_goods_that_were_shipped_and_refunded_are_no_defect_of_fulfilment(catalogue: Catalogue) -> None:
    story = TradeStory().paid(START).shipped(START + DAY).refunded(START + 2 * DAY, by=SELLER)
    counts = life(catalogue, story)
    assert counts["seller_orders_refunded"] == 1
    assert "seller_orders_defective" not in counts


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


def test_events_that_say_nothing_about_credit_count_nothing(catalogue: Catalogue) -> None:
    event = payments_event("payment_captured")
    event.transaction_posted.SetInParent()
    assert facts_of(PaymentsEvent(event).read(), Source.PAYMENTS, catalogue).changes == ()
    event.ClearField("transaction_posted")
    assert facts_of(PaymentsEvent(event).read(), Source.PAYMENTS, catalogue).kind == "unknown"


@pytest.mark.parametrize("kind", ["refund_case_opened", "dispute_decided", "claim_compensated"])
def test_cases_disputes_and_claims_are_told_by_events_of_their_own_that_count_nothing_yet(
    catalogue: Catalogue, kind: str
) -> None:
    event = good_trade("1").events[-1]
    getattr(event, kind).name = "refundCases/1"
    facts = facts_of(EscrowEvent(event).read(), Source.ESCROW, catalogue)
    assert (facts.kind, facts.changes) == (kind, ())


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
    assert "out of range" in refused(lambda event: setattr(event, "amount_minor", 2**62))

    event = TradeStory().paid(START).shipped(START).events[-1]
    event.line_ids.append("nothing")
    with pytest.raises(EventMalformed):
        facts_of(EscrowEvent(event).read(), Source.ESCROW, catalogue)


def test_every_feed_names_an_event_and_a_measure_that_exist(catalogue: Catalogue) -> None:
    """Every measure that the catalogue asks for is given by some event of that kind."""
    hour = START + HOUR
    stories = [
        good_trade("1"),
        TradeStory("2").paid(START).shipped(START + 5 * DAY),
        TradeStory("3").payment_refused(START),
        *[TradeStory(f"c{by}").cancelled(hour, by=by) for by in (SELLER, BUYER, SYSTEM)],
        *[TradeStory(f"r{by}").paid(START).refunded(START + 5 * DAY, by=by) for by in (SELLER, BUYER, SYSTEM)],
        TradeStory("4", amounts=(1, 2)).paid(START).shipped(hour, "L1").released(hour, "L1").refunded(hour, "L2"),
        *[good_trade(code, currency=code) for code in catalogue.currencies],
        *[TradeStory(c, currency=c).paid(START).refunded(hour) for c in catalogue.currencies],
    ]
    blocked = TradeStory("5").paid(START)
    blocked.events.append(type(blocked.events[-1])())
    blocked.events[-1].CopyFrom(blocked.events[-2])
    blocked.events[-1].step_blocked.CopyFrom(blocked.events[-2].trade_paid)
    stories.append(blocked)
    kinds = [
        "payment_captured", "payment_refunded", "payment_expired", "payment_voided", "payment_authorized",
        "top_up_succeeded", "top_up_failed", "top_up_refund_created",
    ]  # fmt: skip
    payments = [payments_event(kind) for kind in kinds]
    for code in catalogue.currencies:
        payments.append(payments_event("top_up_succeeded"))
        payments[-1].top_up_succeeded.amount.currency = code
    fed: set[tuple[int, str]] = set()
    for source, events in (
        (Source.ESCROW, [EscrowEvent(event) for story in stories for event in story.events]),
        (Source.PAYMENTS, [PaymentsEvent(event) for event in payments]),
    ):
        for event in events:
            facts = facts_of(event.read(), source, catalogue)
            fed |= {(change.slot, f"{source}.{facts.kind}") for _, change in facts.changes}
    wanted = {
        (slot.id, feed.event): slot.name
        for slot in catalogue.slots
        for feed in slot.feeds
        if not feed.event.startswith("reports.")
    }
    assert {wanted[key] for key in set(wanted) - fed} == set()
