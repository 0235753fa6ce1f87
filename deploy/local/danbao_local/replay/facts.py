"""What credit is told besides the orders: pure, from the files alone.

The rule is RULES, printed by --help. Reviews are real; the rest is made up, by hashes of the subjects' names, so that a
replay that is gone on with tells the same again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from danbao_local.olist.orders import CURRENCY
from danbao_local.replay.complaints import LOW_SCORE, is_late
from danbao_local.replay.parties import buyer_of, request_id, seller_subject
from danbao_local.replay.plan import Plan

INVENTED = 24
"""Subjects that nobody of the files is: what would follow somebody around is told of them."""
_INVENTED_PREFIX = "subjects/made-up-"
_ONE_BUYER_IN = 4
_BEFORE = timedelta(days=40)
_AFTER = timedelta(days=20)

RULES = MappingProxyType(
    {
        "review_received, review_written": "every review of the files, with its rating, when it was written and not "
        "before the purchase: of each seller of the order, and by its buyer",
        "delivery_defect": f"a review of 1 to {LOW_SCORE} after a delivery later than estimated: the order is its "
        "sellers' defect",
        "all other kinds are made up": f"of every seller, and of one buyer in {_ONE_BUYER_IN}: how many of each "
        f"kind, when (from {_BEFORE.days} d before the first order to {_AFTER.days} d after the last) and with which "
        "measures follows from a hash of the subject's name. What is bad is seldom, what is owed is settled within "
        "25 d, promises are kept within 70 h",
        "fraud_confirmed, takeover_*, identity_revoked, promise_broken, obligation_overdue": f"only of {INVENTED} "
        "subjects made up for it, subjects/made-up-1 and on, who trade nothing: nobody of the files is branded",
    }
)
"""By kind: of whom it is told, and when."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One event to tell. `trade`: the order's number and seller, where it is about a trade that was made."""

    time: datetime
    kind: str
    event_id: str
    subject: str
    peer: str = ""
    about: str = ""
    trade: tuple[int, str] | None = None
    currency: str = ""
    measures: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_operator(self) -> bool:
        """Who may tell it."""
        return self.kind in OPERATORS


OPERATORS = frozenset(
    {
        "delivery_defect",
        "fraud_confirmed",
        "obligation_due",
        "obligation_settled",
        "policy_penalty",
        "takeover_cleared",
    }
)


@dataclass(frozen=True, slots=True)
class _End:
    """What ends it, at most so many hours later: early enough that no rule of credit binds."""

    name: str
    hours: int
    measures: Callable[["_Dice"], dict[str, int]] = lambda _dice: {}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How many are told at most of a seller, a buyer and an invented subject, of one in how many of them."""

    name: str
    seller: int = 0
    buyer: int = 0
    invented: int = 4
    one_in: int = 1
    with_peer: bool = False
    measures: Callable[["_Dice"], dict[str, int]] = lambda _dice: {}
    ends: _End | None = None


class _Dice:
    """Whole numbers that follow from a name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thrown = 0

    def below(self, bound: int) -> int:
        """From 0 on."""
        self._thrown += 1
        digest = hashlib.blake2b(f"{self._name}/{self._thrown}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) % bound


def _login(dice: _Dice) -> dict[str, int]:
    return {"new_device": int(dice.below(4) == 0), "failed": int(dice.below(6) == 0)}


def _days_late(dice: _Dice) -> dict[str, int]:
    return {"days_late": max(dice.below(12) - 8, 0)}


_MADE_UP = (
    _Kind("identity_verified", 2, 2, measures=lambda dice: {"level": 1 + dice.below(3)}),
    _Kind("contact_verified", 2, 2),
    _Kind("address_verified", 2, 1),
    _Kind("business_licence_verified", 1),
    _Kind("login", 4, 4, measures=_login),
    _Kind("password_changed", 2, 1, one_in=3),
    _Kind("device_seen", 3, 2, measures=lambda dice: {"device": 1 + dice.below(3)}),
    _Kind("suspicious_login", 1, 1, one_in=20),
    _Kind("message_answered", 3, 1, with_peer=True, measures=lambda dice: {"reply_minutes": 5 + dice.below(40) ** 2}),
    _Kind("message_unanswered", 1, 1, one_in=4, with_peer=True),
    _Kind("listing_created", 4),
    _Kind("listing_removed_for_cause", 1, one_in=15),
    _Kind("complaint_received", 1, 1, one_in=12, with_peer=True),
    _Kind("policy_warning", 1, 1, one_in=16),
    _Kind("policy_penalty", 1, 1, one_in=25, measures=lambda dice: {"amount_minor": 500 + 100 * dice.below(90)}),
    _Kind("obligation_due", 2, 1, one_in=2, ends=_End("obligation_settled", 24 * 25, _days_late)),
    _Kind("promise_made", 2, 1, one_in=3, ends=_End("promise_kept", 70)),
    _Kind("tax_document_filed", 2, one_in=2),
    _Kind("support_contact", 2, 2, one_in=3),
    _Kind("identity_revoked", one_in=3),
    _Kind("takeover_suspected", one_in=3),
    _Kind("takeover_cleared", one_in=4),
    _Kind("promise_broken", one_in=2, with_peer=True, measures=lambda dice: {"hours_late": dice.below(150)}),
    _Kind("obligation_overdue", one_in=2, measures=lambda dice: {"days_overdue": 1 + dice.below(60)}),
    _Kind("fraud_confirmed", invented=1, one_in=8),
)
_ABOUT = MappingProxyType(
    {
        "obligation_due": "obligations",
        "obligation_overdue": "obligations",
        "promise_made": "promises",
        "promise_broken": "promises",
        "fraud_confirmed": "cases",
    }
)
_ENDS_UNLESS = 3
"""Of what invented subjects owe, one in so many stays unpaid."""


def facts_about(plans: Sequence[Plan], until: datetime) -> list[Fact]:
    """Everything to tell, by time. What is made up happens before `until`; reviews may be later."""
    found = [*_reviews(plans), *_made_up(plans, until)]
    return sorted(found, key=lambda fact: (fact.time, fact.event_id))


def _reviews(plans: Sequence[Plan]) -> Iterator[Fact]:
    for number, plan in enumerate(plans):
        order, buyer = plan.order, buyer_of(plan.order)
        for position, review in enumerate(order.reviews):
            if review.created is None:
                continue
            time = max(review.created, order.purchased)
            for trade in plan.trades:
                seller = seller_subject(trade.seller_id)

                def told(
                    kind: str, subject: str, peer: str, measures: Mapping[str, int], *, whose: str = trade.seller_id,
                    name: str = f"{order.order_id}/{position}", time: datetime = time, number: int = number,
                ) -> Fact:  # fmt: skip
                    event_id = request_id(name, whose, kind)
                    return Fact(time, kind, event_id, subject, peer, trade=(number, whose), measures=measures)

                yield told("review_received", seller, buyer, {"rating": review.score})
                yield told("review_written", buyer, seller, {"rating": review.score})
                if is_late(order) and review.score <= LOW_SCORE:
                    yield told("delivery_defect", seller, "", {})


def _made_up(plans: Sequence[Plan], until: datetime) -> Iterator[Fact]:
    met: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    sellers: set[str] = set()
    for plan in plans:
        buyer = buyer_of(plan.order)
        for trade in plan.trades:
            seller = seller_subject(trade.seller_id)
            sellers.add(seller)
            met[seller].append((plan.order.purchased, buyer))
            met[buyer].append((plan.order.purchased, seller))
    if not met:
        return
    first = min(plan.order.purchased for plan in plans)
    for subject, meetings in sorted(met.items()):
        if subject not in sellers and _Dice(subject).below(_ONE_BUYER_IN):
            continue
        times = [time for time, _ in meetings]
        peers = sorted({peer for _, peer in meetings if peer != subject})
        begin, end = min(times) - _BEFORE, min(max(times) + _AFTER, until)
        for kind in _MADE_UP:
            most = kind.seller if subject in sellers else kind.buyer
            yield from _of_kind(kind, subject, most, kind.one_in, peers, begin, end)
    for number in range(1, INVENTED + 1):
        subject = f"{_INVENTED_PREFIX}{number}"
        peers = [f"{_INVENTED_PREFIX}{number % INVENTED + 1}"]
        for kind in _MADE_UP:
            # What is seldom with others is not with them, or there would be none of it.
            one_in = kind.one_in if not (kind.seller or kind.buyer) else min(kind.one_in, 2)
            yield from _of_kind(kind, subject, kind.invented, one_in, peers, first - _BEFORE, until)


def _of_kind(
    kind: _Kind, subject: str, most: int, one_in: int, peers: Sequence[str], begin: datetime, end: datetime
) -> Iterator[Fact]:
    dice = _Dice(f"{subject}/{kind.name}")
    is_invented = subject.startswith(_INVENTED_PREFIX)
    seconds = int((end - begin).total_seconds())
    if most == 0 or dice.below(one_in) or seconds <= 0:
        return
    for number in range(dice.below(most + 1) if one_in == 1 else 1 + dice.below(most)):
        about = f"{_ABOUT[kind.name]}/{request_id('', subject, f'{number}')}" if kind.name in _ABOUT else ""
        begun = Fact(
            time=begin + timedelta(seconds=dice.below(seconds)),
            kind=kind.name,
            event_id=request_id("", subject, f"{kind.name}-{number}"),
            subject=subject,
            peer=peers[dice.below(len(peers))] if kind.with_peer and peers else "",
            about=about,
            currency=CURRENCY if kind.name == "policy_penalty" else "",
            measures=kind.measures(dice),
        )
        yield begun
        if kind.ends is not None and not (is_invented and dice.below(_ENDS_UNLESS) == 0):
            yield replace(
                begun,
                time=begun.time + timedelta(hours=1 + dice.below(kind.ends.hours)),
                kind=kind.ends.name,
                event_id=request_id("", subject, f"{kind.ends.name}-{number}"),
                measures=kind.ends.measures(dice),
            )
