"""What is to be done with one order, when, and what is odd about it: pure, from the files alone.

The replay's README of rules is `odd.RULES`; this module applies them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from danbao_local.olist.orders import STATUSES, Item, Order
from danbao_local.replay.complaints import LOW_SCORE, CaseAction, Complaint, complaint_about, is_late
from danbao_local.replay.odd import Odd
from danbao_local.replay.planned import POST_CONFIRMS_AFTER, PlannedLine, PlannedTrade

PAY_BY = timedelta(days=15)
"""The longest that escrow allows."""
PAY_BY_MARGIN = timedelta(milliseconds=500)
"""Taken off pay-by: escrow's times are some microseconds later than its clock, the files know whole seconds."""
LONG_APPROVAL = timedelta(hours=24)
SLOW_DELIVERY = timedelta(days=20)
MOST_LINES = 50
_ENDED_BY_SELLER = frozenset({"canceled", "unavailable"})
_SHIPS = frozenset({"shipped", "delivered"})


class Action(StrEnum):
    """What is done at one moment; each is a few calls of one order, in order."""

    PLACE = "PLACE"
    FUND = "FUND"
    RETURN = "RETURN"
    SHIP = "SHIP"
    DELIVER = "DELIVER"
    CANCEL = "CANCEL"
    LOOK = "LOOK"
    """Nothing is sent; the clock stops here so that a timer runs at its time."""


@dataclass(frozen=True, slots=True)
class Event:
    """An action and its time. `trade` is the seller it concerns; empty: all of the order's trades."""

    time: datetime
    action: Action | CaseAction
    trade: str = ""

    @property
    def sends_nothing(self) -> bool:
        """It only makes time pass."""
        return self.action in (Action.LOOK, CaseAction.LOOK)


@dataclass(frozen=True, slots=True)
class OddFact:
    """Something odd about an order, for the report."""

    kind: Odd
    detail: str
    amount_minor: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the replay does with one order. Events stand in the order in which they happen."""

    order: Order
    trades: tuple[PlannedTrade, ...]
    events: tuple[Event, ...]
    odd: tuple[OddFact, ...]
    approved: datetime | None
    shipped: datetime | None
    delivered: datetime | None
    deadlines: tuple[tuple[datetime, datetime], ...]
    """(time, deadline): what happens at `time` must find the clock before `deadline`, if it is before it."""
    pinned: tuple[datetime, ...] = ()
    """Times at which the clock must stand exactly, because a deadline counts from them."""
    complaints: tuple[Complaint, ...] = ()

    @property
    def pay_by(self) -> datetime:
        """When an unpaid trade of it ends."""
        return self.order.purchased + PAY_BY

    @property
    def pays_too_late(self) -> bool:
        """Pay-by is first."""
        return self.approved is not None and self.approved >= self.pay_by

    @property
    def never_sent(self) -> bool:
        """Ended before it was handed to a carrier, whatever other dates it has."""
        return _never_sent(self.order)

    def complaint_of(self, trade: PlannedTrade) -> Complaint | None:
        """What its buyer complains of; None: nothing."""
        return next((found for found in self.complaints if found.seller_id == trade.seller_id), None)

    def ships_too_late(self, trade: PlannedTrade) -> bool:
        """The system gives the money back first."""
        return self.shipped is not None and self.shipped >= trade.system_cancels

    @property
    def delivers_too_late(self) -> bool:
        """The trade is confirmed by time first."""
        return (
            self.shipped is not None
            and self.delivered is not None
            and self.delivered >= self.shipped + POST_CONFIRMS_AFTER
        )


def make_plan(order: Order) -> Plan:
    """The plan of an order."""
    trades, odd = _trades(order)
    approved = _approved(order)
    shipped = None if _never_sent(order) or not trades else _shipped(order, trades, approved)
    delivered = _delivered(order, shipped)
    plan = Plan(
        order=order,
        trades=trades,
        events=(),
        odd=(),
        approved=approved,
        shipped=shipped,
        delivered=delivered,
        deadlines=(),
    )
    plan = replace(plan, complaints=tuple(_complaints(plan)))
    odd += _odd_money(order, trades)
    odd += _odd_dates(plan)
    events = tuple(sorted(_events(plan), key=lambda event: event.time))
    return replace(plan, events=events, odd=tuple(odd), deadlines=tuple(_deadlines(plan, events)), pinned=_pinned(plan))


# --- trades -------------------------------------------------------------------------------------


def _trades(order: Order) -> tuple[tuple[PlannedTrade, ...], list[OddFact]]:
    by_seller: dict[str, list[Item]] = defaultdict(list)
    for item in order.items:
        by_seller[item.seller_id].append(item)
    trades: list[PlannedTrade] = []
    odd: list[OddFact] = []
    for seller_id, items in by_seller.items():
        sold = [item for item in items if item.price_minor > 0]
        for item in items:
            if item.price_minor == 0:
                odd.append(OddFact(Odd.PRICE_ZERO, f"item {item.item_id} of seller {seller_id}"))
        if not sold:
            odd.append(OddFact(Odd.NOTHING_TO_SELL, f"seller {seller_id}"))
            continue
        if len(sold) > MOST_LINES:
            odd.append(OddFact(Odd.LINES_FOLDED, f"{len(sold)} items of seller {seller_id}"))
        trades.append(
            PlannedTrade(
                seller_id=seller_id,
                lines=tuple(_lines(sold)),
                postage_minor=sum(item.freight_minor for item in items),
                ship_by=max(item.shipping_limit for item in items),
            )
        )
    return tuple(trades), odd


def _lines(items: list[Item]) -> Iterator[PlannedLine]:
    alone = items if len(items) <= MOST_LINES else items[: MOST_LINES - 1]
    for item in alone:
        yield PlannedLine(item.item_id, f"Item {item.item_id}", item.price_minor)
    rest = items[len(alone) :]
    if rest:
        total_minor = sum(item.price_minor for item in rest)
        yield PlannedLine(f"{rest[0].item_id}-and-more", f"{len(rest)} more items", total_minor)


def _never_sent(order: Order) -> bool:
    return order.status == "unavailable" or (order.status == "canceled" and order.handed_to_carrier is None)


def _complaints(plan: Plan) -> Iterator[Complaint]:
    if plan.approved is None or plan.pays_too_late:
        return
    delivered = None if plan.delivers_too_late else plan.delivered
    for trade in plan.trades:
        if plan.ships_too_late(trade):
            continue
        found = complaint_about(trade, plan.order, approved=plan.approved, shipped=plan.shipped, delivered=delivered)
        if found is not None:
            yield found


# --- times --------------------------------------------------------------------------------------


def _approved(order: Order) -> datetime | None:
    if order.approved is not None:
        return max(order.approved, order.purchased)
    if order.status in _ENDED_BY_SELLER or not order.items:
        return None
    sent = [time for time in (order.handed_to_carrier, order.delivered) if time is not None]
    return max(min(sent), order.purchased) if sent else None


def _shipped(order: Order, trades: Iterable[PlannedTrade], approved: datetime | None) -> datetime | None:
    if approved is None:
        return None
    if order.handed_to_carrier is not None:
        return max(order.handed_to_carrier, approved)
    if order.delivered is not None:
        return max(order.delivered, approved)
    if order.status in _SHIPS:
        return max(approved, *(trade.ship_by for trade in trades))
    return None


def _delivered(order: Order, shipped: datetime | None) -> datetime | None:
    if order.delivered is None or shipped is None:
        return None
    delivered = max(order.delivered, shipped)
    # At the very second of the deadline time is first: the report comes a second later, so that it surely is.
    return delivered + timedelta(seconds=1) if delivered == shipped + POST_CONFIRMS_AFTER else delivered


def _events(plan: Plan) -> Iterator[Event]:
    """In the order in which those of one moment happen."""
    order, approved = plan.order, plan.approved
    if not plan.trades:
        yield Event(approved or order.purchased, Action.RETURN)
        return
    yield Event(order.purchased, Action.PLACE)
    if approved is None:
        yield Event(order.purchased, Action.RETURN)
        if order.status not in _ENDED_BY_SELLER:
            yield Event(plan.pay_by, Action.LOOK)
        return
    yield Event(approved, Action.FUND)
    if plan.pays_too_late:
        return
    looks: list[datetime] = []
    ends: list[datetime] = []
    if plan.shipped is not None:
        yield Event(plan.shipped, Action.SHIP)
        if plan.delivered is not None:
            yield Event(plan.delivered, Action.DELIVER)
            ends.append(plan.delivered)
    for trade in plan.trades:
        complaint = plan.complaint_of(trade)
        if complaint is not None:
            for time, action in complaint.actions():
                ends.append(time)
                if action is CaseAction.LOOK:
                    looks.append(time)
                else:
                    yield Event(time, action, trade.seller_id)
        elif _never_sent(order):
            ends.append(max(approved, trade.ship_by))
            yield Event(ends[-1], Action.CANCEL, trade.seller_id)
        elif plan.shipped is None:
            looks.append(max(approved, trade.system_cancels))
        elif plan.delivered is None:
            looks.append(plan.shipped + POST_CONFIRMS_AFTER)
    if looks:
        yield Event(max(*looks, *ends) if ends else max(looks), Action.LOOK)


def _deadlines(plan: Plan, events: Iterable[Event]) -> Iterator[tuple[datetime, datetime]]:
    for event in events:
        if event.action is Action.FUND:
            yield event.time, plan.pay_by
        elif event.action in (Action.SHIP, Action.CANCEL):
            for trade in plan.trades:
                yield event.time, trade.system_cancels
                yield event.time, trade.ship_by  # nothing ends there, but credit counts who ships late
        elif event.action is Action.DELIVER and plan.shipped is not None:
            yield event.time, plan.shipped + POST_CONFIRMS_AFTER
    for complaint in plan.complaints:
        if complaint.deadline is not None:
            yield complaint.opened, complaint.deadline


def _pinned(plan: Plan) -> tuple[datetime, ...]:
    """A delivery within a day of the end of 60 d: the shipping must stand at its very time."""
    if plan.shipped is None or plan.delivered is None:
        return ()
    distance = abs(plan.delivered - plan.shipped - POST_CONFIRMS_AFTER)
    return (plan.shipped,) if distance <= timedelta(days=1) else ()


# --- what is odd --------------------------------------------------------------------------------


def _odd_money(order: Order, trades: tuple[PlannedTrade, ...]) -> list[OddFact]:
    odd = []
    paid_minor = order.paid_minor
    due_minor = sum(trade.total_minor for trade in trades)
    for row in order.payments:
        if row.amount_minor == 0:
            odd.append(OddFact(Odd.PAYMENT_ZERO, f"payment {row.number} by {row.payment_type or 'nothing named'}"))
    if len(order.payments) > 1:
        odd.append(OddFact(Odd.SEVERAL_PAYMENTS, f"{len(order.payments)} payments"))
    if len(trades) > 1:
        odd.append(OddFact(Odd.SEVERAL_SELLERS, f"{len(trades)} sellers"))
    if trades and paid_minor == 0:
        odd.append(OddFact(Odd.PAYMENTS_MISSING, f"{due_minor} minor units due", due_minor))
    elif trades and paid_minor < due_minor:
        odd.append(OddFact(Odd.UNDERPAID, f"paid {paid_minor} of {due_minor} minor units", due_minor - paid_minor))
    elif trades and paid_minor > due_minor:
        odd.append(OddFact(Odd.OVERPAID, f"paid {paid_minor} for {due_minor} minor units", paid_minor - due_minor))
    if not order.items:
        odd.append(OddFact(Odd.NO_ITEMS, f"status {order.status}, paid {paid_minor} minor units", paid_minor))
        if order.handed_to_carrier or order.delivered:
            odd.append(OddFact(Odd.NO_ITEMS_WITH_DATES, f"carrier date {order.handed_to_carrier}"))
    if not order.customer_known:
        odd.append(OddFact(Odd.CUSTOMER_UNKNOWN, order.customer))
    odd += [OddFact(Odd.SELLER_UNKNOWN, seller_id) for seller_id in order.unknown_sellers]
    return odd


def _odd_dates(plan: Plan) -> list[OddFact]:
    order = plan.order
    odd = list(_odd_approval(plan))
    if order.status not in STATUSES:
        odd.append(OddFact(Odd.STATUS_UNKNOWN, order.status or "empty"))
    for review in order.reviews:
        low = is_late(order) and review.score <= LOW_SCORE
        kind = Odd.LOW_REVIEW_AFTER_LATE_DELIVERY if low else Odd.REVIEW
        odd.append(OddFact(kind, f"score {review.score}"))
    if not plan.trades:
        return odd
    if order.delivered is not None and order.handed_to_carrier is not None:
        travelled = order.delivered - order.handed_to_carrier
        if travelled < timedelta(0):
            odd.append(OddFact(Odd.DELIVERED_BEFORE_SHIPPED, f"by {-travelled}"))
        if travelled > SLOW_DELIVERY:
            odd.append(OddFact(Odd.DELIVERED_SLOWLY, f"after {travelled}"))
    if order.status in _ENDED_BY_SELLER:
        if order.handed_to_carrier:
            odd.append(OddFact(Odd.CANCELED_WITH_CARRIER_DATE, f"{order.status}, {order.handed_to_carrier}"))
        if order.delivered:
            odd.append(OddFact(Odd.CANCELED_WITH_DELIVERY_DATE, f"{order.status}, {order.delivered}"))
    if not _never_sent(order) and plan.approved is not None and not plan.pays_too_late:
        odd += _odd_journey(plan)
    return odd


def _odd_approval(plan: Plan) -> Iterator[OddFact]:
    order = plan.order
    if order.approved is None:
        sent = plan.approved is not None
        yield OddFact(Odd.NEVER_APPROVED_BUT_SENT if sent else Odd.NEVER_APPROVED, f"status {order.status}")
        return
    waited = order.approved - order.purchased
    if waited < timedelta(0):
        yield OddFact(Odd.APPROVED_BEFORE_PURCHASE, f"by {-waited}")
    if waited > LONG_APPROVAL:
        yield OddFact(Odd.APPROVED_LATE, f"after {waited}")
    if plan.pays_too_late and plan.trades:
        yield OddFact(Odd.APPROVED_TOO_LATE, f"after {waited}")


def _odd_journey(plan: Plan) -> Iterator[OddFact]:
    """Of orders that are paid and not cancelled."""
    order, shipped, delivered = plan.order, plan.shipped, plan.delivered
    if shipped is None:
        yield OddFact(Odd.NEVER_SHIPPED, f"status {order.status}")
        return
    if order.status not in (*_SHIPS, *_ENDED_BY_SELLER) and order.status in STATUSES:
        yield OddFact(Odd.STATUS_BEHIND_DATES, f"status {order.status}")
    if order.handed_to_carrier is None:
        yield OddFact(Odd.SHIPPED_WITHOUT_DATE, f"shipped {shipped}")
    elif order.handed_to_carrier < shipped:
        yield OddFact(Odd.SHIPPED_BEFORE_PAID, f"by {shipped - order.handed_to_carrier}")
    late = [trade for trade in plan.trades if plan.ships_too_late(trade)]
    if late:
        waited = max(shipped - trade.ship_by for trade in late)
        yield OddFact(Odd.SHIPPED_TOO_LATE, f"{waited} after the last shipping limit")
    if len(late) == len(plan.trades):
        return
    if delivered is None and order.status in _ENDED_BY_SELLER:
        return
    if delivered is None:
        kind = Odd.DELIVERED_WITHOUT_DATE if order.status == "delivered" else Odd.NEVER_DELIVERED
        yield OddFact(kind, f"shipped {shipped}")
    elif plan.delivers_too_late:
        yield OddFact(Odd.DELIVERED_TOO_LATE, f"{delivered - shipped} after shipping")
