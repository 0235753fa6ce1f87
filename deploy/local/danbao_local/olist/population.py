"""Makes up a marketplace from a seed, in the Olist format: sellers and customers of varying quality, over a long time.

What somebody does follows from who they are: a seller has a carelessness that drifts, and some turn bad; a customer has
a habit of leaving orders unpaid. So the past predicts the future here, as it does elsewhere, and a scorecard can be
trained on it. The same seed gives the same orders. All of it is invented: no figure stems from real orders.
"""

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from danbao_local.olist.draft import FIRST_PURCHASE, Draft
from danbao_local.olist.generator import Tables, new_id, tables_of

ORDERS_PER_SELLER, ORDERS_PER_CUSTOMER = 50, 15
_PERIOD = timedelta(days=30)
# A share of sellers turns bad for good, as those do who sell an account or run before they are caught.
_TURNS, _TURNED = 0.07, 9.0
# Newcomers make more mistakes; after this long they have learnt.
_LEARNING = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class _Seller:
    seller_id: str
    start: datetime
    weight: float
    # By period: how much more than ordinary goes wrong.
    carelessness: tuple[float, ...]

    def carelessness_at(self, time: datetime) -> float:
        period = min((time - FIRST_PURCHASE) // _PERIOD, len(self.carelessness) - 1)
        learning = 1 + 1.8 * math.exp((self.start - time) / _LEARNING)
        return self.carelessness[period] * learning


@dataclass(frozen=True, slots=True)
class _Customer:
    person: str
    weight: float
    leaves_unpaid: float
    complains: float


def generate_population(orders: int, seed: int, *, days: int = 540) -> Tables:
    """Rows by file, `orders` orders whose purchases spread over `days`."""
    chance = random.Random(f"danbao population {seed}")
    sellers = [_seller(chance, days) for _ in range(max(4, orders // ORDERS_PER_SELLER))]
    customers = [_customer(chance) for _ in range(max(4, orders // ORDERS_PER_CUSTOMER))]
    customer_weights = list(accumulate(customer.weight for customer in customers))
    moments = sorted(chance.randrange(days * 86_400) for _ in range(orders))
    drafts: list[Draft] = []
    active: list[_Seller] = []
    waiting = sorted(sellers, key=lambda seller: (seller.start, seller.seller_id))
    weights: list[float] = []
    for moment in moments:
        purchased = FIRST_PURCHASE + timedelta(seconds=moment)
        while waiting and (waiting[0].start <= purchased or not active):
            active.append(waiting.pop(0))
            weights = list(accumulate(seller.weight for seller in active))
        seller = chance.choices(active, cum_weights=weights)[0]
        customer = chance.choices(customers, cum_weights=customer_weights)[0]
        draft = Draft.of_chance(chance, new_id(chance), customer.person, [seller.seller_id], purchased)
        _lived(draft, chance, seller, customer)
        drafts.append(draft)
    drafts.sort(key=lambda draft: (draft.purchased, draft.order_id))
    return tables_of(drafts, [seller.seller_id for seller in sellers], chance)


def _seller(chance: random.Random, days: int) -> _Seller:
    nature = chance.gauss(0, 1)
    level = 1.1 * nature
    periods = timedelta(days=days) // _PERIOD + 1
    turns = chance.randrange(2, periods) if periods > 2 and chance.random() < _TURNS else periods
    carelessness = []
    for period in range(periods):
        level += chance.gauss(-0.05 * (level - 1.1 * nature), 0.25)
        carelessness.append(math.exp(level) * (_TURNED if period >= turns else 1))
    # A third was there from the beginning; the others come one by one.
    start = chance.uniform(-days / 2, days * 0.9)
    return _Seller(
        seller_id=new_id(chance),
        start=FIRST_PURCHASE + timedelta(days=max(start, 0)),
        weight=math.exp(chance.gauss(-0.4 * nature, 0.9)),
        carelessness=tuple(carelessness),
    )


def _customer(chance: random.Random) -> _Customer:
    return _Customer(
        person=new_id(chance),
        weight=math.exp(chance.gauss(0, 0.8)),
        leaves_unpaid=min(0.012 * math.exp(chance.gauss(0, 1.5)), 0.7),
        complains=math.exp(chance.gauss(0, 0.5)),
    )


def _lived(draft: Draft, chance: random.Random, seller: _Seller, customer: _Customer) -> None:
    """Changes an ordinary order into what comes of these two."""
    careless = seller.carelessness_at(draft.purchased)
    draft.scores = []
    if chance.random() < customer.leaves_unpaid:
        # Two in five say so; the others let the time to pay run out.
        draft.status = "canceled" if chance.random() < 0.4 else "created"
        draft.approved = draft.handed = draft.delivered = None
        return
    assert draft.approved is not None
    if chance.random() < _share(0.004 * careless):
        draft.status = chance.choice(("unavailable", "canceled"))
        draft.handed = draft.delivered = None
        return
    if chance.random() < _share(0.003 * careless):
        draft.status = "processing"
        draft.handed = draft.delivered = None
        return
    hours = chance.expovariate(1 / 14) * (0.5 + 0.5 * min(careless, 4)) + 1
    draft.handed = draft.approved + timedelta(seconds=int(min(hours, 60) * 3600))
    if chance.random() < _share(0.03 * careless):
        draft.handed = draft.limit + timedelta(seconds=chance.randrange(3600, 6 * 86_400))
    draft.status = "shipped" if chance.random() < _share(0.004 * careless) else "delivered"
    travelled = timedelta(seconds=chance.randrange(86_400, 12 * 86_400))
    if chance.random() < 0.03:
        travelled += timedelta(days=chance.randrange(8, 25))
    draft.delivered = draft.handed + travelled if draft.status == "delivered" else None
    poor = _share(0.02 * careless * customer.complains)
    if draft.delivered is None:
        draft.scores = [chance.choice((1, 2))] if chance.random() < 0.7 else []
    elif chance.random() < poor:
        draft.scores = [chance.choice((1, 1, 2))]
    elif draft.delivered > draft.estimated and chance.random() < 0.4:
        draft.scores = [chance.choice((1, 2, 3))]
    elif chance.random() < 0.6:
        draft.scores = [chance.choice((5, 5, 5, 4, 4, 3))]


def _share(often: float) -> float:
    return min(often, 0.6)
