"""What an event says about whom, as integers: the measures that slots of the catalogue are fed from.

An order counts once however many lines it has: whether something happened to it for the first time is read from the
trade as it was after the event, so nothing has to be remembered between events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import (
    Event,
    Line,
    PaymentEvent,
    ReportedEvent,
    Role,
    Source,
    TopUpEvent,
    TradeEvent,
    TradeState,
)
from danbao_credit.domain.profile import Change, peer_hash

_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000
# No order is that large; more than this would let sums of a life overflow.
_MAX_AMOUNT_MINOR = 10**15

Measures: TypeAlias = dict[str, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one event adds to the profiles of its subjects."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    # The trade, payment or top-up it is about.
    about: str
    changes: tuple[tuple[str, Change], ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """An event by roles and measures: all that credit keeps of it, so that a later catalogue can count it anew.

    `about` is the trade, payment or what else it is about, `roles` are (role, subject), `measures` integers by name.
    """

    about: str
    currency: str
    roles: tuple[tuple[str, str], ...]
    measures: Measures


def facts_of(event: Event, source: Source, catalogue: Catalogue) -> Facts:
    """What an event changes. Raises EventMalformed for one that breaks its contract."""
    telling = telling_of(event)
    changes = changes_of(event.kind, telling, catalogue, source)
    return Facts(event.sequence, event.kind, event.at_us, event.traceparent, telling.about, changes)


def telling_of(event: Event) -> Telling:
    """What an event says, whatever the catalogue makes of it. Raises EventMalformed for a broken contract."""
    telling = _telling(event)
    for role, subject in telling.roles:
        if not subject.startswith("subjects/"):
            raise EventMalformed(f"{event.kind}: the {role} {subject!r} is not a subject")
    return telling


def changes_of(kind: str, telling: Telling, catalogue: Catalogue, source: Source) -> tuple[tuple[str, Change], ...]:
    """What the catalogue's slots take from what was told: subject and change, in the order of roles and slots."""
    changes: list[tuple[str, Change]] = []
    for role, subject in telling.roles:
        for slot, feed in catalogue.feeds.get((f"{source}.{kind}", role), ()):
            if slot.currency not in ("", telling.currency):
                continue
            amount = feed.sign * telling.measures.get(feed.measure, 0)
            if amount:
                changes.append((subject, Change(slot.id, slot.keep, amount)))
    return tuple(changes)


def _telling(event: Event) -> Telling:
    if isinstance(event, TradeEvent):
        roles = (("buyer", event.buyer), ("seller", event.seller))
        peers = {"buyer": peer_hash(event.buyer), "seller": peer_hash(event.seller)}
        return Telling(event.trade, event.currency, roles, _trade_measures(event) | peers)
    if isinstance(event, PaymentEvent):
        return Telling(event.payment, event.currency, (("payer", event.payer),), {"one": 1})
    if isinstance(event, TopUpEvent):
        measures = {"one": 1, "amount_minor": _amount(event.amount_minor), "source": peer_hash(event.funding_source)}
        return Telling(event.top_up, event.currency, (("owner", event.owner),), measures)
    if isinstance(event, ReportedEvent):
        peers = {"peer": peer_hash(event.peer)} if event.peer else {}
        return Telling(
            event.about, event.currency, (("subject", event.subject),), {"one": 1, **event.measures, **peers}
        )
    return Telling("", "", (), {})


def _trade_measures(event: TradeEvent) -> dict[str, int]:
    common = {"one": 1, "amount_minor": _amount(event.amount_minor)}
    if event.kind == "trade_paid":
        return common | {"pay_minutes": _between(event.create_us, event.at_us) // _MINUTE_US}
    if event.kind == "lines_shipped":
        return common | _shipped(event)
    if event.kind == "lines_delivered":
        return common | _delivered(event)
    if event.kind == "lines_released":
        return common | _released(event)
    if event.kind == "lines_refunded":
        return common | _refunded(event)
    if event.kind == "trade_cancelled":
        return common | {f"by_{event.actor}": 1}
    return common


def _shipped(event: TradeEvent) -> Measures:
    """first: its first lines were shipped; late: for the first time lines were shipped after ship-by."""
    here, others = _parted(event)
    first = not any(line.ship_us is not None for line in others)
    late = _is_late(event.at_us, event) and not _was_late(others, event)
    hours = _between(event.pay_us, event.at_us) // _HOUR_US if first else 0
    return {"first": int(first), "late": int(late), "lines": len(here), "ship_hours": hours}


def _delivered(event: TradeEvent) -> Measures:
    """first: its first lines arrived, after `transit_hours`."""
    here, others = _parted(event)
    first = not any(line.deliver_us is not None for line in others)
    shipped = [line.ship_us for line in here if line.ship_us is not None]
    hours = _between(min(shipped), event.at_us) // _HOUR_US if first and shipped else 0
    return {"first": int(first), "transit_hours": hours}


def _released(event: TradeEvent) -> Measures:
    """completed: it ended and something was released; confirmed: by its buyer, `confirm_hours` after delivery."""
    completed = event.state is TradeState.COMPLETED
    confirmed = completed and event.actor is Role.BUYER
    here, _ = _parted(event)
    delivered = [line.deliver_us for line in here if line.deliver_us is not None]
    hours = _between(max(delivered), event.at_us) // _HOUR_US if confirmed and delivered else 0
    return {"completed": int(completed), "confirmed": int(confirmed), "confirm_hours": hours}


def _refunded(event: TradeEvent) -> Measures:
    """first: money of the order went back for the first time; defective: because lines were never shipped, and by_…

    says who gave up: the seller, the system, or the buyer after ship-by. overdue: ship-by had passed.
    """
    here, others = _parted(event)
    first = not any(line.is_refunded for line in others)
    unshipped_before = any(line.is_refunded and line.ship_us is None for line in others)
    defective = any(line.ship_us is None for line in here) and not unshipped_before
    overdue = defective and _is_late(event.at_us, event) and not _was_late(others, event)
    measures = {
        "first": int(first),
        "completed": int(event.state is TradeState.COMPLETED),
        "closed": int(event.state is TradeState.CLOSED),
        "defective": int(defective),
        "overdue": int(overdue),
    }
    return measures | ({f"by_{event.actor}": 1} if defective else {})


def _parted(event: TradeEvent) -> tuple[list[Line], list[Line]]:
    """The lines that the event is about, and the others."""
    if not event.line_ids:
        return list(event.lines), []
    known = {line.line_id for line in event.lines}
    unknown = set(event.line_ids) - known
    if unknown:
        raise EventMalformed(f"{event.kind}: lines {', '.join(sorted(unknown))} are not of {event.trade}")
    concerned = set(event.line_ids)
    return (
        [line for line in event.lines if line.line_id in concerned],
        [line for line in event.lines if line.line_id not in concerned],
    )


def _is_late(at_us: int, event: TradeEvent) -> bool:
    return event.ship_by_us is not None and at_us > event.ship_by_us


def _was_late(lines: list[Line], event: TradeEvent) -> bool:
    """Whether one of these lines was shipped after ship-by, or given up unshipped after it."""
    moments = [line.ship_us if line.ship_us is not None else line.settle_us for line in lines]
    return any(moment is not None and _is_late(moment, event) for moment in moments)


def _between(start_us: int | None, end_us: int) -> int:
    """Microseconds from start to end; 0 where the start is unknown or later."""
    return 0 if start_us is None else max(end_us - start_us, 0)


def _amount(amount_minor: int) -> int:
    if not 0 <= amount_minor <= _MAX_AMOUNT_MINOR:
        raise EventMalformed(f"an amount of {amount_minor} minor units is out of range")
    return amount_minor
