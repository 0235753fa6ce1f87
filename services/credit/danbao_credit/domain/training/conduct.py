"""Which indicators may be scored at all: none that a good trade can make worse, or a slip better.

That a good trade never lowers a score is a promise to those who are scored, so it is tried out: stories of good and of
bad trades are played upon different pasts, event by event, and every indicator is watched. An average of hours, the
share of the most frequent buyer or a quotient of what is still under way moves the wrong way sooner or later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from danbao_credit.domain.catalogue import Catalogue, Indicator, SubjectFacts, SubjectKind
from danbao_credit.domain.events import (
    DisputeEvent,
    Event,
    Line,
    PaymentEvent,
    Role,
    Source,
    TopUpEvent,
    TradeEvent,
    TradeState,
)
from danbao_credit.domain.expression import Value
from danbao_credit.domain.facts import facts_of
from danbao_credit.domain.profile import Change, Profile

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_START_US = 20_000 * _DAY_US
# Neither tiny nor large.
_AMOUNT_MINOR = 20_000
SELLER, BUYER = "subjects/tried-seller", "subjects/tried-buyer"


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a story. `slips`: who has done something bad by it."""

    source: Source
    event: Event
    slips: tuple[SubjectKind, ...] = ()


def unfair(catalogue: Catalogue, kind: SubjectKind) -> dict[str, str]:
    """By name of a directed indicator: how it moves the wrong way. What is not in it may be scored."""
    watched = [item for item in catalogue.listed(category="", kind=kind) if item.better != "none"]
    subject = SELLER if kind is SubjectKind.MERCHANT else BUYER
    found: dict[str, str] = {}
    for past in _pasts():
        for story in (*_good_stories(), *_slips()):
            profile = _after(catalogue, Profile.empty(), subject, past)
            for told in story:
                changes = _changes(catalogue, subject, told)
                if not changes:
                    continue
                moved = profile.with_changes(changes)
                as_of_s = told.event.at_us // 1_000_000
                before = SubjectFacts(profile, as_of_s=as_of_s, slots=catalogue.slot_ids)
                after = SubjectFacts(moved, as_of_s=as_of_s, slots=catalogue.slot_ids)
                slip = kind in told.slips
                for indicator in watched:
                    if indicator.name in found:
                        continue
                    if _wrong(indicator, indicator.value(before), indicator.value(after), slip=slip):
                        what = "a slip makes it better" if slip else "a good trade makes it worse"
                        found[indicator.name] = f"{what} ({told.event.kind})"
                profile = moved
    return found


def _wrong(indicator: Indicator, before: Value, after: Value, *, slip: bool) -> bool:
    if after is None:
        return before is not None
    if before is None:
        # Nothing to judge by is worth no more than the worst where more is better, and no more than the best elsewhere:
        # the first good trade must be among the best, the first slip must not be anything at all where more is better.
        return after > 0 and (slip if indicator.better == "high" else not slip)
    worse = after > before if indicator.better == "low" else after < before
    better = after < before if indicator.better == "low" else after > before
    return better if slip else worse


def _after(catalogue: Catalogue, profile: Profile, subject: str, told: Iterable[Told]) -> Profile:
    changes = [change for item in told for change in _changes(catalogue, subject, item)]
    return profile.with_changes(changes) if changes else profile


def _changes(catalogue: Catalogue, subject: str, told: Told) -> list[tuple[int, Change]]:
    event = told.event
    if isinstance(event, TradeEvent | DisputeEvent):
        # The other side is called by the story, so that there are several of them.
        other = f"subjects/of-{event.trade.rpartition('/')[2]}"
        event = replace(event, buyer=other) if subject == SELLER else replace(event, seller=other)
    facts = facts_of(event, told.source, catalogue)
    return [(facts.at_us, change) for whose, change in facts.changes if whose == subject]


# --- pasts and stories --------------------------------------------------------------------------


def _pasts() -> Iterator[list[Told]]:
    """Of somebody unknown, of one good trade, of some slips alone, of many good trades, of many with slips."""
    yield []
    yield list(_good(_START_US - 60 * _DAY_US, "old"))
    slips = [told for number in range(2) for told in _all_slips(_START_US - (20 + number) * _DAY_US, f"slip{number}")]
    yield slips
    many = [told for number in range(30) for told in _good(_START_US - (15 + number) * _DAY_US, f"many{number % 9}")]
    yield many
    yield [*many, *slips]


def _good_stories() -> Iterator[list[Told]]:
    yield list(_good(_START_US, "new"))
    yield list(_good(_START_US, "many1", pay_hours=9, ship_hours=60, transit_hours=200, by=Role.SYSTEM))
    yield list(_good(_START_US, "silent", delivered=False, by=Role.SYSTEM))


def _slips() -> Iterator[list[Told]]:
    for number in range(5):
        yield list(_slip(number, _START_US, "bad"))
    for loses in (True, False):
        yield [*_good(_START_US - 10 * _DAY_US, "argued"), *_dispute(_START_US, "argued", seller_loses=loses)]


def _all_slips(at_us: int, name: str) -> Iterator[Told]:
    for number in range(5):
        yield from _slip(number, at_us, f"{name}-{number}")
    for loses in (True, False):
        yield from _dispute(at_us, f"{name}-{loses}", seller_loses=loses)


def _good(
    at_us: int,
    name: str,
    *,
    pay_hours: int = 1,
    ship_hours: int = 20,
    transit_hours: int = 70,
    delivered: bool = True,
    by: Role = Role.BUYER,
) -> Iterator[Told]:
    """Funded, paid, shipped in time, delivered, released."""
    yield _top_up("top_up_succeeded", at_us, name)
    created = _created(at_us, name)
    yield Told(Source.ESCROW, created)
    paid_us = at_us + pay_hours * _HOUR_US
    yield Told(Source.PAYMENTS, PaymentEvent(1, "payment_captured", paid_us, "", f"payments/{name}", BUYER, "CNY"))
    paid = replace(
        created,
        kind="trade_paid",
        at_us=paid_us,
        pay_us=paid_us,
        ship_by_us=paid_us + 3 * _DAY_US,
        amount_minor=_AMOUNT_MINOR,
    )
    yield Told(Source.ESCROW, paid)
    ship_us = paid_us + ship_hours * _HOUR_US
    shipped = replace(paid, kind="lines_shipped", at_us=ship_us, actor=Role.SELLER, lines=(_line(ship_us=ship_us),))
    yield Told(Source.ESCROW, shipped)
    there_us = ship_us + transit_hours * _HOUR_US
    if delivered:
        line = _line(ship_us=ship_us, deliver_us=there_us)
        shipped = replace(shipped, kind="lines_delivered", at_us=there_us, lines=(line,))
        yield Told(Source.ESCROW, shipped)
    end_us = there_us + (5 if by is Role.BUYER else 240) * _HOUR_US
    line = replace(shipped.lines[0], settle_us=end_us)
    yield Told(
        Source.ESCROW,
        replace(shipped, kind="lines_released", at_us=end_us, actor=by, state=TradeState.COMPLETED, lines=(line,)),
    )


def _slip(number: int, at_us: int, name: str) -> Iterator[Told]:
    """Shipped late; never shipped, given up by the seller or time; refused, then never paid by the buyer or in time."""
    merchant, individual = (SubjectKind.MERCHANT,), (SubjectKind.INDIVIDUAL,)
    created = _created(at_us, name)
    yield Told(Source.ESCROW, created)
    if number >= 3:
        yield _top_up("top_up_failed", at_us, name, individual)
        refused = replace(created, kind="trade_payment_refused", at_us=at_us + _HOUR_US)
        yield Told(Source.ESCROW, refused, individual)
        actor = (Role.BUYER, Role.SYSTEM)[number - 3]
        ended = replace(created, kind="trade_cancelled", at_us=at_us + _DAY_US, actor=actor, state=TradeState.CANCELLED)
        yield Told(Source.ESCROW, ended, individual)
        return
    paid = replace(
        created,
        kind="trade_paid",
        at_us=at_us,
        pay_us=at_us,
        ship_by_us=at_us + 3 * _DAY_US,
        amount_minor=_AMOUNT_MINOR,
    )
    yield Told(Source.ESCROW, paid)
    if number == 0:
        late_us = at_us + 4 * _DAY_US
        late = replace(paid, kind="lines_shipped", at_us=late_us, actor=Role.SELLER, lines=(_line(ship_us=late_us),))
        yield Told(Source.ESCROW, late, merchant)
        return
    end_us = at_us + (_DAY_US if number == 1 else 10 * _DAY_US)
    actor = Role.SELLER if number == 1 else Role.SYSTEM
    line = replace(_line(), is_refunded=True, settle_us=end_us)
    refunded = replace(paid, kind="lines_refunded", at_us=end_us, actor=actor, state=TradeState.CLOSED, lines=(line,))
    yield Told(Source.ESCROW, refunded, merchant)


def _created(at_us: int, name: str) -> TradeEvent:
    return TradeEvent(
        sequence=1,
        kind="trade_created",
        at_us=at_us,
        traceparent="",
        trade=f"trades/{name}",
        buyer=BUYER,
        seller=SELLER,
        currency="CNY",
        state=TradeState.OPEN,
        actor=Role.BUYER,
        line_ids=(),
        amount_minor=0,
        lines=(_line(),),
        create_us=at_us,
        pay_us=None,
        ship_by_us=None,
        total_minor=_AMOUNT_MINOR,
    )


def _line(*, ship_us: int | None = None, deliver_us: int | None = None) -> Line:
    return Line(
        "L1",
        is_refunded=False,
        is_to_ship=ship_us is None,
        ship_us=ship_us,
        deliver_us=deliver_us,
        settle_us=None,
        extended_days=0,
    )


def _dispute(at_us: int, name: str, *, seller_loses: bool) -> Iterator[Told]:
    """A dispute that an arbiter decides against one side."""
    opened = DisputeEvent(
        sequence=1,
        kind="dispute_opened",
        at_us=at_us,
        traceparent="",
        dispute=f"disputes/{name}",
        trade=f"trades/{name}",
        buyer=BUYER,
        seller=SELLER,
        currency="CNY",
        actor=Role.BUYER,
        frozen_minor=_AMOUNT_MINOR,
        is_decided=False,
        buyer_minor=0,
        seller_minor=0,
        moved_minor=0,
        create_us=at_us,
    )
    yield Told(Source.ESCROW, opened, (SubjectKind.MERCHANT,))
    closed = replace(
        opened,
        kind="dispute_closed",
        at_us=at_us + 5 * _DAY_US,
        actor=Role.ARBITER,
        is_decided=True,
        buyer_minor=_AMOUNT_MINOR if seller_loses else 0,
        seller_minor=0 if seller_loses else _AMOUNT_MINOR,
        moved_minor=_AMOUNT_MINOR,
    )
    yield Told(Source.ESCROW, closed, (SubjectKind.MERCHANT if seller_loses else SubjectKind.INDIVIDUAL,))


def _top_up(kind: str, at_us: int, name: str, slips: tuple[SubjectKind, ...] = ()) -> Told:
    event = TopUpEvent(1, kind, at_us, "", f"topUps/{name}", BUYER, "CNY", _AMOUNT_MINOR, "rails/tried")
    return Told(Source.PAYMENTS, event, slips)
