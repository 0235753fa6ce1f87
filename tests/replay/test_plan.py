"""The mapping of an order to a trade, one rule at a time, and the steps in which time moves."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from danbao_local.olist.generator import generate, write
from danbao_local.olist.orders import Item, Order, PaymentRow, Review
from danbao_local.olist.reader import read
from danbao_local.replay.odd import Odd
from danbao_local.replay.plan import Action, Plan, make_plan
from danbao_local.replay.schedule import clock_of_placing, make_steps

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)
PURCHASED = datetime(2017, 6, 1, 12, 0, tzinfo=UTC)
APPROVED = PURCHASED + 2 * HOUR
LIMIT = PURCHASED + 5 * DAY
HANDED = PURCHASED + 2 * DAY
DELIVERED = PURCHASED + 9 * DAY


def _item(
    number: int = 1, seller: str = "s1", price: int = 10_000, freight: int = 1_500, limit: datetime = LIMIT
) -> Item:
    return Item(str(number), seller, limit, price, freight)


def _paid(*amounts: int) -> tuple[PaymentRow, ...]:
    return tuple(PaymentRow(number, "voucher", minor) for number, minor in enumerate(amounts, start=1))


def _order(**changes: Any) -> Order:
    """An ordinary delivered order of one item, paid by card."""
    content: dict[str, Any] = {
        "order_id": "o1",
        "line": 2,
        "status": "delivered",
        "customer": "c1",
        "customer_known": True,
        "purchased": PURCHASED,
        "approved": APPROVED,
        "handed_to_carrier": HANDED,
        "delivered": DELIVERED,
        "estimated": PURCHASED + 20 * DAY,
        "items": (_item(),),
        "payments": _paid(11_500),
        "reviews": (),
    }
    return Order(**{**content, **changes})


def _plan(**changes: Any) -> Plan:
    return make_plan(_order(**changes))


def _events(plan: Plan) -> list[tuple[Action, datetime]]:
    return [(event.action, event.time) for event in plan.events]


def _odd(plan: Plan) -> set[Odd]:
    return {fact.kind for fact in plan.odd}


def test_an_ordinary_order_is_placed_funded_shipped_and_delivered() -> None:
    plan = _plan()
    assert _events(plan) == [
        (Action.PLACE, PURCHASED),
        (Action.FUND, APPROVED),
        (Action.SHIP, HANDED),
        (Action.DELIVER, DELIVERED),
    ]
    assert plan.odd == ()
    (trade,) = plan.trades
    assert (trade.seller_id, trade.postage_minor, trade.total_minor, trade.ship_by) == ("s1", 1_500, 11_500, LIMIT)
    assert [(line.line_id, line.amount_minor) for line in trade.lines] == [("1", 10_000)]


def test_each_seller_has_a_trade_with_its_own_lines_freight_and_limit() -> None:
    items = (_item(1), _item(2, "s2", 700, 30, LIMIT + DAY), _item(3, "s1", 5, 10, LIMIT + 2 * HOUR))
    plan = _plan(items=items, payments=_paid(12_245))
    first, second = plan.trades
    assert (first.total_minor, first.postage_minor, first.ship_by) == (11_515, 1_510, LIMIT + 2 * HOUR)
    assert (second.total_minor, second.postage_minor, second.ship_by) == (730, 30, LIMIT + DAY)
    assert _odd(plan) == {Odd.SEVERAL_SELLERS}


def test_items_for_nothing_are_no_lines_but_their_freight_counts() -> None:
    plan = _plan(items=(_item(1), _item(2, price=0)), payments=_paid(13_000))
    assert plan.trades[0].total_minor == 13_000
    assert len(plan.trades[0].lines) == 1
    assert _odd(plan) == {Odd.PRICE_ZERO}


def test_a_seller_of_nothing_but_gifts_has_no_trade_and_the_money_goes_back() -> None:
    plan = _plan(items=(_item(1, price=0),), payments=_paid(1_500))
    assert plan.trades == ()
    assert _events(plan) == [(Action.RETURN, APPROVED)]
    assert {Odd.PRICE_ZERO, Odd.NOTHING_TO_SELL} <= _odd(plan)


def test_more_than_fifty_items_are_folded_into_fifty_lines() -> None:
    items = tuple(_item(number, price=100, freight=0) for number in range(1, 64))
    (trade,) = _plan(items=items, payments=_paid(6_300)).trades
    assert len(trade.lines) == 50
    assert trade.total_minor == 6_300
    assert trade.lines[-1].amount_minor == 1_400


# --- approval -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited", "too_late", "kinds"),
    [
        (24 * HOUR, False, set()),
        (24 * HOUR + SECOND, False, {Odd.APPROVED_LATE}),
        (15 * DAY - SECOND, False, {Odd.APPROVED_LATE}),
        (15 * DAY, True, {Odd.APPROVED_LATE, Odd.APPROVED_TOO_LATE}),
        (16 * DAY, True, {Odd.APPROVED_LATE, Odd.APPROVED_TOO_LATE}),
    ],
)
def test_pay_by_is_fifteen_days_after_the_purchase(waited: timedelta, too_late: bool, kinds: set[Odd]) -> None:
    approved = PURCHASED + waited
    plan = _plan(
        approved=approved,
        items=(_item(limit=approved + 5 * DAY),),
        handed_to_carrier=approved + DAY,
        delivered=approved + 2 * DAY,
    )
    assert plan.pays_too_late is too_late
    assert _odd(plan) == kinds
    assert (Action.SHIP in [event.action for event in plan.events]) is not too_late


def test_approved_before_the_purchase_is_approved_at_the_purchase() -> None:
    plan = _plan(approved=PURCHASED - HOUR)
    assert _events(plan)[:2] == [(Action.PLACE, PURCHASED), (Action.FUND, PURCHASED)]
    assert _odd(plan) == {Odd.APPROVED_BEFORE_PURCHASE}


@pytest.mark.parametrize(("status", "looks"), [("created", True), ("canceled", False), ("unavailable", False)])
def test_never_approved_goes_back_at_the_purchase(status: str, looks: bool) -> None:
    plan = _plan(status=status, approved=None, handed_to_carrier=None, delivered=None)
    expected = [(Action.PLACE, PURCHASED), (Action.RETURN, PURCHASED)]
    assert _events(plan) == expected + ([(Action.LOOK, PURCHASED + 15 * DAY)] if looks else [])
    assert _odd(plan) == {Odd.NEVER_APPROVED}


def test_never_approved_but_delivered_counts_as_approved_when_it_was_sent() -> None:
    plan = _plan(approved=None)
    assert _events(plan)[1:3] == [(Action.FUND, HANDED), (Action.SHIP, HANDED)]
    assert _odd(plan) == {Odd.NEVER_APPROVED_BUT_SENT}


# --- shipping and delivery ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "too_late"), [(7 * DAY - SECOND, False), (7 * DAY, True), (7 * DAY + SECOND, True), (30 * DAY, True)]
)
def test_seven_days_after_the_limit_the_system_is_first(late: timedelta, too_late: bool) -> None:
    handed = LIMIT + late
    plan = _plan(handed_to_carrier=handed, delivered=handed + DAY)
    assert plan.ships_too_late(plan.trades[0]) is too_late
    assert _odd(plan) == ({Odd.SHIPPED_TOO_LATE} if too_late else set())


@pytest.mark.parametrize("handed", [APPROVED - HOUR, PURCHASED - DAY])
def test_shipped_before_it_was_paid_ships_right_after_payment(handed: datetime) -> None:
    plan = _plan(handed_to_carrier=handed)
    assert plan.shipped == APPROVED
    assert _odd(plan) == {Odd.SHIPPED_BEFORE_PAID}


def test_delivered_before_shipped_is_delivered_right_after() -> None:
    plan = _plan(delivered=HANDED - HOUR)
    assert _events(plan)[2:] == [(Action.SHIP, HANDED), (Action.DELIVER, HANDED)]
    assert _odd(plan) == {Odd.DELIVERED_BEFORE_SHIPPED}


@pytest.mark.parametrize(
    ("travelled", "kinds"),
    [
        (20 * DAY, set()),
        (20 * DAY + SECOND, {Odd.DELIVERED_SLOWLY}),
        (60 * DAY - SECOND, {Odd.DELIVERED_SLOWLY}),
        (60 * DAY, {Odd.DELIVERED_SLOWLY, Odd.DELIVERED_TOO_LATE}),
        (75 * DAY, {Odd.DELIVERED_SLOWLY, Odd.DELIVERED_TOO_LATE}),
    ],
)
def test_after_sixty_days_time_confirms_first(travelled: timedelta, kinds: set[Odd]) -> None:
    plan = _plan(delivered=HANDED + travelled)
    assert plan.delivers_too_late is (Odd.DELIVERED_TOO_LATE in kinds)
    assert _odd(plan) == kinds


@pytest.mark.parametrize(
    ("status", "kind"), [("shipped", Odd.NEVER_DELIVERED), ("delivered", Odd.DELIVERED_WITHOUT_DATE)]
)
def test_without_a_delivery_date_time_confirms(status: str, kind: Odd) -> None:
    plan = _plan(status=status, delivered=None)
    assert _events(plan)[2:] == [(Action.SHIP, HANDED), (Action.LOOK, HANDED + 60 * DAY)]
    assert _odd(plan) == {kind}


def test_delivered_without_a_carrier_date_ships_right_before() -> None:
    plan = _plan(handed_to_carrier=None)
    assert _events(plan)[2:] == [(Action.SHIP, DELIVERED), (Action.DELIVER, DELIVERED)]
    assert _odd(plan) == {Odd.SHIPPED_WITHOUT_DATE}


def test_delivered_without_any_date_ships_at_the_limit() -> None:
    plan = _plan(handed_to_carrier=None, delivered=None)
    assert _events(plan)[2] == (Action.SHIP, LIMIT)
    assert _odd(plan) == {Odd.SHIPPED_WITHOUT_DATE, Odd.DELIVERED_WITHOUT_DATE}


@pytest.mark.parametrize("status", ["created", "approved", "invoiced", "processing"])
def test_never_shipped_is_left_to_the_system(status: str) -> None:
    plan = _plan(status=status, handed_to_carrier=None, delivered=None)
    assert _events(plan)[2:] == [(Action.LOOK, LIMIT + 7 * DAY)]
    assert _odd(plan) == {Odd.NEVER_SHIPPED}


def test_dates_are_believed_more_than_the_status() -> None:
    plan = _plan(status="processing")
    assert Action.DELIVER in [event.action for event in plan.events]
    assert _odd(plan) == {Odd.STATUS_BEHIND_DATES}
    assert _odd(_plan(status="lost")) == {Odd.STATUS_UNKNOWN}


def test_an_unavailable_order_is_paid_and_cancelled_by_the_seller_at_the_limit() -> None:
    plan = _plan(status="unavailable")
    assert _events(plan) == [(Action.PLACE, PURCHASED), (Action.FUND, APPROVED), (Action.CANCEL, LIMIT)]
    assert _odd(plan) == {Odd.CANCELED_WITH_CARRIER_DATE, Odd.CANCELED_WITH_DELIVERY_DATE}


# --- money --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payments", "kind", "amount"),
    [
        (_paid(11_501), Odd.OVERPAID, 1),
        (_paid(11_499), Odd.UNDERPAID, 1),
        (_paid(), Odd.PAYMENTS_MISSING, 11_500),
        (_paid(0), Odd.PAYMENTS_MISSING, 11_500),
        (_paid(11_000, 500), Odd.SEVERAL_PAYMENTS, 0),
        (_paid(11_500, 0), Odd.PAYMENT_ZERO, 0),
    ],
)
def test_payments_that_do_not_match_are_told(payments: tuple[PaymentRow, ...], kind: Odd, amount: int) -> None:
    plan = _plan(payments=payments)
    (fact,) = [fact for fact in plan.odd if fact.kind is kind]
    assert fact.amount_minor == amount


@pytest.mark.parametrize(("approved", "at"), [(APPROVED, APPROVED), (None, PURCHASED)])
def test_an_order_without_items_only_gets_its_money_back(approved: datetime | None, at: datetime) -> None:
    plan = _plan(status="unavailable", approved=approved, items=(), delivered=None)
    assert _events(plan) == [(Action.RETURN, at)]
    assert {Odd.NO_ITEMS, Odd.NO_ITEMS_WITH_DATES} <= _odd(plan)


def test_reviews_are_told_and_low_ones_after_a_late_delivery_apart() -> None:
    reviews = (Review(1, None), Review(5, None))
    late = _plan(reviews=reviews, estimated=DELIVERED - DAY)
    assert [fact.kind for fact in late.odd] == [Odd.LOW_REVIEW_AFTER_LATE_DELIVERY, Odd.REVIEW]
    assert {fact.kind for fact in _plan(reviews=reviews).odd} == {Odd.REVIEW}


# --- steps --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    folder = tmp_path_factory.mktemp("orders")
    write(generate(250, 5), folder)
    return [make_plan(order) for order in read(folder).orders]


@pytest.mark.parametrize("hours", [1, 6, 24])
def test_every_event_is_in_one_step_and_orders_keep_their_order(plans: list[Plan], hours: int) -> None:
    longest = timedelta(hours=hours)
    steps = make_steps(plans, longest)
    assert all(earlier.clock < later.clock for earlier, later in pairwise(steps))
    done = {number: [] for number in range(len(plans))}
    for step in steps:
        for number, positions in step.work.items():
            done[number] += positions
            for position in positions:
                assert timedelta(0) <= step.clock - plans[number].events[position].time <= longest
    for number, plan in enumerate(plans):
        real = [position for position, event in enumerate(plan.events) if event.action is not Action.LOOK]
        assert done[number] == real


@pytest.mark.parametrize("hours", [0.5, 6, 24])
def test_no_step_reaches_past_a_deadline_that_an_action_meets(plans: list[Plan], hours: float) -> None:
    steps = make_steps(plans, timedelta(hours=hours))
    clock = {
        (number, position): step.clock for step in steps for number, chosen in step.work.items() for position in chosen
    }
    for number, plan in enumerate(plans):
        for position, event in enumerate(plan.events):
            if event.action is Action.LOOK:
                continue
            at = clock[number, position]
            if event.action is Action.FUND:
                assert (at >= plan.pay_by) is plan.pays_too_late
            if event.action is Action.SHIP:
                for trade in plan.trades:
                    assert (at >= trade.system_cancels) is plan.ships_too_late(trade)
                shipped_at = at
            if event.action is Action.DELIVER:
                assert (at >= shipped_at + 60 * DAY) is plan.delivers_too_late


def test_the_clock_of_placing_is_the_step_of_the_trades(plans: list[Plan]) -> None:
    steps = make_steps(plans, timedelta(hours=6))
    clocks = clock_of_placing(steps, plans)
    assert set(clocks) == {number for number, plan in enumerate(plans) if plan.trades}
    for number, clock in clocks.items():
        assert timedelta(0) <= clock - plans[number].order.purchased <= timedelta(hours=6)
