"""When time acts on a trade: pay-by, ship-by, auto-confirm, held parts. All on the service's business clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from types import MappingProxyType

from danbao_escrow.domain.model import Delivery, Line, LineState, Terms, Trade

PAY_BY_DEFAULT = timedelta(hours=24)
SHIP_BY_DEFAULT = timedelta(days=3)
"""After payment, where the trade names no time."""
SYSTEM_CANCELS_AFTER = timedelta(days=7)
"""After ship-by: the system gives the money back; until then a late seller may still ship."""
RESERVE_LASTS = timedelta(days=90)

UNREPORTED_DELIVERY = MappingProxyType(
    {
        Delivery.DIGITAL: timedelta(days=1),
        Delivery.VIRTUAL: timedelta(days=3),
        Delivery.EXPRESS: timedelta(days=20),
        Delivery.POST: timedelta(days=60),
    }
)
"""From shipping to auto-confirm while nobody reports a delivery."""


def auto_confirm_time(line: Line, terms: Terms) -> datetime | None:
    """When a shipped line is confirmed by itself; None before shipping."""
    if line.deliver_time is not None:
        return line.deliver_time + timedelta(days=terms.auto_confirm_days)
    if line.ship_time is not None:
        return line.ship_time + UNREPORTED_DELIVERY[line.delivery]
    return None


def has_passed(deadline: datetime | None, now: datetime) -> bool:
    """Whether a deadline is over: at its very moment, it is."""
    return deadline is not None and deadline <= now


def system_cancel_time(trade: Trade) -> datetime | None:
    """When unshipped lines are given back by the system; None before payment."""
    return None if trade.ship_by_time is None else trade.ship_by_time + SYSTEM_CANCELS_AFTER


def pay_by_passed(trade: Trade, now: datetime) -> bool:
    """Whether an unpaid trade is over."""
    return has_passed(trade.pay_by_time, now)


def ship_by_passed(trade: Trade, now: datetime) -> bool:
    """Whether the buyer may cancel unshipped lines."""
    return has_passed(trade.ship_by_time, now)


def system_cancel_due(trade: Trade, now: datetime) -> bool:
    """Whether unshipped lines are over."""
    return has_passed(system_cancel_time(trade), now)


def next_deadline(trade: Trade) -> datetime | None:
    """When a timer has to look at the trade next; None while a step is pending, for timers skip it then."""
    if trade.is_pending:
        return None
    return min(_deadlines(trade), default=None)


def _deadlines(trade: Trade) -> Iterator[datetime]:
    for line in trade.lines:
        if line.state is LineState.UNPAID:
            yield trade.pay_by_time
        elif line.state is LineState.PAID:
            cancel_time = system_cancel_time(trade)
            assert cancel_time is not None, "a paid trade has a ship-by"
            yield cancel_time
        elif line.state is LineState.SHIPPED and not line.operator_needed:
            assert line.deadline_time is not None, "a shipped line has an auto-confirm"
            yield line.deadline_time
    for part in trade.held:
        if part.due_time is not None:
            yield part.due_time
