"""What can be odd about an order, each as a change to an ordinary one; and lines that cannot be used at all."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from danbao_local.olist.draft import Draft
from danbao_local.olist.files import CUSTOMERS, ITEMS, ORDERS, PAYMENTS, REVIEWS

Make = Callable[[Draft, random.Random], None]
Rows = dict[str, list[dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Oddity:
    """One way to be odd."""

    name: str
    make: Make


def _status(name: str, *, handed: bool = False, delivered: bool = False) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        draft.status = name
        draft.handed = draft.handed if handed else None
        draft.delivered = draft.delivered if delivered else None

    return make


def _without_items(status: str, *, approved: bool, handed: bool = False) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        _status(status, handed=handed)(draft, chance)
        draft.items = []
        draft.approved = draft.approved if approved else None

    return make


def _several_sellers(status: str) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        for seller in chance.sample(draft.sellers, 3):
            draft.add_item(chance, seller, draft.limit + timedelta(hours=5))
        draft.payments = [("credit_card", draft.due_minor)]
        if status == "canceled":
            _status("canceled")(draft, chance)

    return make


def _paid_by(*types: str) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        due, parts = draft.due_minor, len(types)
        amounts = [due // parts] * (parts - 1)
        draft.payments = list(zip(types, [*amounts, due - sum(amounts)], strict=True))

    return make


def _pays(difference_minor: int) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        first = min(100, draft.due_minor // 2)
        draft.payments = [("voucher", first), ("credit_card", draft.due_minor - first + difference_minor)]

    return make


def _approved_after(status: str, **after: float) -> Make:
    """Approval that late; everything later moves with it, as far as the status has it."""

    def make(draft: Draft, chance: random.Random) -> None:
        assert draft.approved
        late = draft.purchased + timedelta(**after) - draft.approved
        draft.approved += late
        for item in draft.items:
            item.shipping_limit += late
        draft.handed = draft.handed and draft.handed + late
        draft.delivered = draft.delivered and draft.delivered + late
        _status(status, handed=status == "delivered", delivered=status == "delivered")(draft, chance)

    return make


def _handed_after_limit(status: str, **after: float) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        draft.handed = draft.limit + timedelta(**after)
        draft.delivered = draft.handed + timedelta(days=4)
        _status(status, handed=True, delivered=status == "delivered")(draft, chance)

    return make


def _delivered_after(**after: float) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        assert draft.handed
        draft.delivered = draft.handed + timedelta(**after)
        draft.scores = [chance.choice((1, 2))]

    return make


def _handed_before_approval(draft: Draft, chance: random.Random) -> None:
    assert draft.approved
    draft.handed = draft.approved - timedelta(minutes=30)


def _handed_before_purchase(draft: Draft, chance: random.Random) -> None:
    draft.handed = draft.purchased - timedelta(days=2)


def _approved_before_purchase(draft: Draft, chance: random.Random) -> None:
    draft.approved = draft.purchased - timedelta(minutes=5)


def _delivered_before_handed(draft: Draft, chance: random.Random) -> None:
    assert draft.handed
    draft.delivered = draft.handed - timedelta(hours=3)


def _never_approved(status: str) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        delivered = status == "delivered"
        _status(status, handed=delivered, delivered=delivered)(draft, chance)
        draft.approved = None

    return make


def _delivered_without_carrier_date(draft: Draft, chance: random.Random) -> None:
    draft.handed = None


def _no_payments(draft: Draft, chance: random.Random) -> None:
    draft.payments = []


def _no_items_no_money(draft: Draft, chance: random.Random) -> None:
    _without_items("canceled", approved=False)(draft, chance)
    draft.payments = [("not_defined", 0)]


def _zero_payment(draft: Draft, chance: random.Random) -> None:
    draft.payments.insert(0, ("voucher", 0))


def _free_item(draft: Draft, chance: random.Random) -> None:
    draft.add_item(chance, draft.items[0].seller_id, draft.limit)
    draft.items[-1].price_minor = 0
    draft.payments = [("credit_card", draft.due_minor)]


def _only_free_items(draft: Draft, chance: random.Random) -> None:
    for item in draft.items:
        item.price_minor = 0
    draft.payments = [("credit_card", draft.due_minor)]


def _sixty_items(draft: Draft, chance: random.Random) -> None:
    while len(draft.items) < 60:
        draft.add_item(chance, draft.items[0].seller_id, draft.limit)
        draft.items[-1].price_minor = 100 + len(draft.items)
    draft.payments = [("credit_card", draft.due_minor)]


def _above_every_limit(draft: Draft, chance: random.Random) -> None:
    draft.items[0].price_minor = 90_000_000
    draft.payments = [("credit_card", draft.due_minor)]


def _unknown_customer(draft: Draft, chance: random.Random) -> None:
    draft.customer = None


def _unknown_seller(draft: Draft, chance: random.Random) -> None:
    for item in draft.items:
        item.seller_id = f"stranger-{draft.order_id[:8]}"


def _reviews(*scores: int) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        draft.scores = list(scores)

    return make


def _late(score: int, **after: float) -> Make:
    """Delivered that much later than estimated."""

    def make(draft: Draft, chance: random.Random) -> None:
        assert draft.delivered
        draft.estimated = draft.delivered - timedelta(**after)
        draft.scores = [score]

    return make


def _in_time(score: int, *, items: int) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        del draft.items[1:]
        for _ in range(items - 1):
            draft.add_item(chance, draft.items[0].seller_id, draft.limit)
        draft.payments = [("credit_card", draft.due_minor)]
        draft.scores = [score]

    return make


def _ended(status: str, score: int | None, *, handed: bool = False, delivered: bool = False) -> Make:
    def make(draft: Draft, chance: random.Random) -> None:
        _status(status, handed=handed, delivered=delivered)(draft, chance)
        draft.scores = [] if score is None else [score]

    return make


_VOUCHERS = ("voucher",) * 7

ODDITIES: tuple[Oddity, ...] = (
    Oddity("created", _status("created")),
    Oddity("approved", _status("approved")),
    Oddity("invoiced", _status("invoiced")),
    Oddity("processing", _status("processing")),
    Oddity("shipped, never delivered", _status("shipped", handed=True)),
    Oddity("unavailable", _status("unavailable")),
    Oddity("canceled", _status("canceled")),
    Oddity("canceled after the carrier had it", _status("canceled", handed=True)),
    Oddity("canceled after delivery", _status("canceled", handed=True, delivered=True)),
    Oddity("a status nobody knows", _status("lost in space")),
    Oddity("processing with a carrier date", _status("processing", handed=True)),
    Oddity("no items: unavailable", _without_items("unavailable", approved=True)),
    Oddity("no items: canceled, never approved", _without_items("canceled", approved=False)),
    Oddity("no items: shipped", _without_items("shipped", approved=True, handed=True)),
    Oddity("no items, no money", _no_items_no_money),
    Oddity("several sellers", _several_sellers("delivered")),
    Oddity("several sellers, canceled", _several_sellers("canceled")),
    Oddity("card and voucher", _paid_by("credit_card", "voucher")),
    Oddity("seven vouchers", _paid_by(*_VOUCHERS)),
    Oddity("paid too much", _pays(1_234)),
    Oddity("paid too little", _pays(-42)),
    Oddity("a payment of zero", _zero_payment),
    Oddity("no payments", _no_payments),
    Oddity("approved after 26 hours", _approved_after("delivered", hours=26)),
    Oddity("approved after 14 days 23 hours", _approved_after("delivered", days=14, hours=23)),
    Oddity("approved after 15 days", _approved_after("delivered", days=15)),
    Oddity("approved after 15 days 2 hours", _approved_after("processing", days=15, hours=2)),
    Oddity("approved before the purchase", _approved_before_purchase),
    Oddity("never approved, created", _never_approved("created")),
    Oddity("never approved, canceled", _never_approved("canceled")),
    Oddity("never approved, delivered all the same", _never_approved("delivered")),
    Oddity("handed over 6 d 23 h after the limit", _handed_after_limit("delivered", days=6, hours=23)),
    Oddity("handed over 7 d after the limit", _handed_after_limit("delivered", days=7)),
    Oddity("handed over 7 d 1 h after the limit", _handed_after_limit("shipped", days=7, hours=1)),
    Oddity("handed over before approval", _handed_before_approval),
    Oddity("handed over before the purchase", _handed_before_purchase),
    Oddity("delivered before handed over", _delivered_before_handed),
    Oddity("delivered without a date", _status("delivered", handed=True)),
    Oddity("delivered without a carrier date", _delivered_without_carrier_date),
    Oddity("delivered without any date", _status("delivered")),
    Oddity("delivered after 21 days", _delivered_after(days=21)),
    Oddity("delivered after 59 d 23 h", _delivered_after(days=59, hours=23)),
    Oddity("delivered after 60 d", _delivered_after(days=60)),
    Oddity("delivered after 60 d 1 h", _delivered_after(days=60, hours=1)),
    Oddity("delivered after 70 d", _delivered_after(days=70)),
    Oddity("an item for nothing", _free_item),
    Oddity("only items for nothing", _only_free_items),
    Oddity("sixty items of one seller", _sixty_items),
    Oddity("above every limit", _above_every_limit),
    Oddity("a customer nobody knows", _unknown_customer),
    Oddity("a seller nobody knows", _unknown_seller),
    Oddity("five reviews", _reviews(1, 2, 3, 4, 5)),
    Oddity("canceled after the carrier had it, sent back", _ended("canceled", 4, handed=True)),
    Oddity("canceled after the carrier had it, no answer", _ended("canceled", 1, handed=True)),
    Oddity("canceled, delivered all the same", _ended("canceled", None, handed=True, delivered=True)),
    Oddity("never shipped, a bad review", _ended("processing", 1)),
    Oddity("never delivered, a review of 1", _ended("shipped", 1, handed=True)),
    Oddity("never delivered, a review of 2", _ended("shipped", 2, handed=True)),
    Oddity("late, a review of 2", _late(2, days=1)),
    Oddity("3 days late, a review of 1", _late(1, days=3)),
    Oddity("4 days late, a review of 1", _late(1, days=4)),
    Oddity("14 days late, a review of 1", _late(1, days=14)),
    Oddity("in time, a review of 1, one item", _in_time(1, items=1)),
    Oddity("in time, a review of 1, three items", _in_time(1, items=3)),
    Oddity("in time, a review of 2", _in_time(2, items=2)),
)


# --- lines that cannot be used ------------------------------------------------------------------


def _changed_copy(rows: list[dict[str, str]], chance: random.Random, **changes: str) -> None:
    rows.insert(chance.randrange(len(rows) + 1), {**chance.choice(rows), **changes})


def _order_without_purchase_time(tables: Rows, chance: random.Random) -> None:
    lost = "0" * 31 + "1"
    _changed_copy(tables[ORDERS], chance, order_id=lost, order_purchase_timestamp="yesterday")
    _changed_copy(tables[PAYMENTS], chance, order_id=lost)


def _order_twice(tables: Rows, chance: random.Random) -> None:
    tables[ORDERS].append(dict(chance.choice(tables[ORDERS][:20])))


def _approval_unreadable(tables: Rows, chance: random.Random) -> None:
    row = next(row for row in tables[ORDERS] if not row["order_approved_at"])
    row["order_approved_at"] = "0000-00-00 00:00:00"


def _item_without_price(tables: Rows, chance: random.Random) -> None:
    _changed_copy(tables[ITEMS], chance, order_item_id="90", price="n/a")


def _item_twice(tables: Rows, chance: random.Random) -> None:
    tables[ITEMS].append(dict(chance.choice(tables[ITEMS])))


def _item_of_no_order(tables: Rows, chance: random.Random) -> None:
    _changed_copy(tables[ITEMS], chance, order_id="f" * 32)


def _payment_too_fine(tables: Rows, chance: random.Random) -> None:
    _changed_copy(tables[PAYMENTS], chance, payment_sequential="91", payment_value="1.005")


def _payment_below_zero(tables: Rows, chance: random.Random) -> None:
    _changed_copy(tables[PAYMENTS], chance, payment_sequential="92", payment_value="-5.00")


def _review_of_six(tables: Rows, chance: random.Random) -> None:
    _changed_copy(tables[REVIEWS], chance, review_score="6")


def _customer_without_person(tables: Rows, chance: random.Random) -> None:
    tables[CUSTOMERS].append({"customer_id": "e" * 32, "customer_unique_id": ""})


BROKEN_ROWS: tuple[Callable[[Rows, random.Random], None], ...] = (
    _order_without_purchase_time,
    _order_twice,
    _approval_unreadable,
    _item_without_price,
    _item_twice,
    _item_of_no_order,
    _payment_too_fine,
    _payment_below_zero,
    _review_of_six,
    _customer_without_person,
)
