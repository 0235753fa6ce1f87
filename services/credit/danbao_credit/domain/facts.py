"""What an event says about whom, as integers: the measures that slots of the catalogue are fed from.

An order counts once however many lines it has: whether something happened to it for the first time is read from the
trade as it was after the event, so nothing has to be remembered between events. Where one order's fate is told by
events of different kinds, its hash is the measure, and the slot keeps orders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from danbao_credit.domain import measures_money, measures_proceedings, measures_trade
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import (
    AccountEvent,
    CaseEvent,
    ClaimEvent,
    DisputeEvent,
    Event,
    OwnerEvent,
    PaymentEvent,
    RailRefundEvent,
    ReportedEvent,
    Source,
    TopUpEvent,
    TradeEvent,
    WithdrawalEvent,
)
from danbao_credit.domain.profile import Change, peer_hash
from danbao_credit.domain.telling import Telling

__all__ = ["Facts", "Telling", "changes_of", "facts_of", "telling_of"]


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


def facts_of(event: Event, source: Source, catalogue: Catalogue) -> Facts:
    """What an event changes. Raises EventMalformed for one that breaks its contract."""
    telling = telling_of(event)
    changes = changes_of(event.kind, telling, catalogue, source)
    return Facts(event.sequence, event.kind, event.at_us, event.traceparent, telling.about, changes)


def telling_of(event: Event) -> Telling:
    """What an event says, whatever the catalogue makes of it. Raises EventMalformed for a broken contract."""
    tell = _TELLERS.get(type(event))
    if tell is None:
        return Telling("", "", (), {})
    telling: Telling = tell(event)
    for role, subject in telling.roles:
        if not subject.startswith("subjects/"):
            raise EventMalformed(f"{event.kind}: the {role} {subject!r} is not a subject")
    return telling


def changes_of(kind: str, telling: Telling, catalogue: Catalogue, source: Source) -> tuple[tuple[str, Change], ...]:
    """What the catalogue's slots take from what was told: subject and change, in the order of roles and slots."""
    changes: list[tuple[str, Change]] = []
    told, currency = telling.measures.get, telling.currency
    order_minor = told("order_minor")
    size = "" if order_minor is None else catalogue.size_of(currency, order_minor)
    event = f"{source.value}.{kind}"
    for role, subject in telling.roles:
        for slot, feed, once in catalogue.feeds_in(event, role, currency):
            amount = told(feed.measure)
            if not amount or (slot.sizes and size not in slot.sizes):
                continue
            if feed.where and not feed.lowest <= told(feed.where, -1) <= feed.highest:
                continue
            changes.append((subject, once if amount == 1 else Change(slot.id, slot.keep, feed.sign * amount)))
    return tuple(changes)


def _reported(event: ReportedEvent) -> Telling:
    """As reported; peer and order: the hashes of whom and what it concerns besides."""
    measures = {"one": 1, **event.measures}
    roles = [("subject", event.subject)]
    if event.peer:
        measures["peer"] = peer_hash(event.peer)
        roles.append(("peer", event.peer))
    if event.about:
        measures["order"] = peer_hash(event.about)
    return Telling(event.about, event.currency, tuple(roles), measures)


_TELLERS: Mapping[type, Callable[[Any], Telling]] = MappingProxyType(
    {
        TradeEvent: measures_trade.telling,
        CaseEvent: measures_proceedings.of_case,
        DisputeEvent: measures_proceedings.of_dispute,
        ClaimEvent: measures_proceedings.of_claim,
        PaymentEvent: measures_money.of_payment,
        TopUpEvent: measures_money.of_top_up,
        WithdrawalEvent: measures_money.of_withdrawal,
        RailRefundEvent: measures_money.of_rail_refund,
        AccountEvent: measures_money.of_account,
        OwnerEvent: measures_money.of_owner,
        ReportedEvent: _reported,
    }
)
