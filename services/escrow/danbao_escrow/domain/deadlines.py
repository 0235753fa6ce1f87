"""When time acts on a trade: pay-by, ship-by, auto-confirm, held parts. All on the service's business clock.

While a case is open on a line, time stands still for that line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from types import MappingProxyType

from danbao_escrow.domain.model import Delivery, Line, LineState, Terms, Trade
from danbao_kit.immutable import replace

PAY_BY_DEFAULT = timedelta(hours=24)
SHIP_BY_DEFAULT = timedelta(days=3)
"""After payment, where the trade names no time."""
SYSTEM_CANCELS_AFTER = timedelta(days=7)
"""After ship-by: the system gives the money back; until then a late seller may still ship."""
RESERVE_LASTS = timedelta(days=90)
EXTENSIONS_DAYS = (3, 5, 7, 10)
"""By how much a buyer may put off auto-confirm at once."""
MOST_EXTENDED_DAYS = 10
"""And in all, for a line."""
REMINDED_BEFORE = timedelta(hours=24)

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
    put_off = timedelta(days=line.extended_days, microseconds=line.paused_us)
    if line.deliver_time is not None:
        return line.deliver_time + timedelta(days=terms.auto_confirm_days) + put_off
    if line.ship_time is not None:
        return line.ship_time + UNREPORTED_DELIVERY[line.delivery] + put_off
    return None


def with_auto_confirm(line: Line, terms: Terms) -> Line:
    """The line with the deadline that follows from what happened to it."""
    return replace(line, deadline_time=auto_confirm_time(line, terms))


def paused(line: Line, case: str, now: datetime) -> Line:
    """A case is open on the line: its timers stand still."""
    assert not line.open_case, "one open case a line"
    return replace(line, open_case=case, pause_time=now)


def resumed(line: Line, terms: Terms, now: datetime) -> Line:
    """The case is over: every deadline of the line moves by the time for which it stood still."""
    assert line.pause_time is not None, "only a case that was opened ends"
    stood_still_us = (now - line.pause_time) // timedelta(microseconds=1)
    going_on = replace(line, open_case="", pause_time=None, paused_us=line.paused_us + stood_still_us)
    return with_auto_confirm(going_on, terms)


def line_now(line: Line, now: datetime) -> datetime:
    """The time by which the line's deadlines are judged."""
    return line.pause_time or now


def has_passed(deadline: datetime | None, now: datetime) -> bool:
    """Whether a deadline is over: at its very moment, it is."""
    return deadline is not None and deadline <= now


def ship_by_time(trade: Trade, line: Line) -> datetime | None:
    """From when the buyer may cancel an unshipped line; None before payment."""
    return None if trade.ship_by_time is None else trade.ship_by_time + timedelta(microseconds=line.paused_us)


def system_cancel_time(trade: Trade, line: Line) -> datetime | None:
    """When an unshipped line is given back by the system; None before payment."""
    ship_by = ship_by_time(trade, line)
    return None if ship_by is None else ship_by + SYSTEM_CANCELS_AFTER


def pay_by_passed(trade: Trade, now: datetime) -> bool:
    """Whether an unpaid trade is over."""
    return has_passed(trade.pay_by_time, now)


def ship_by_passed(trade: Trade, line: Line, now: datetime) -> bool:
    """Whether the buyer may cancel an unshipped line."""
    return has_passed(ship_by_time(trade, line), line_now(line, now))


def system_cancel_due(trade: Trade, line: Line, now: datetime) -> bool:
    """Whether an unshipped line is over."""
    return has_passed(system_cancel_time(trade, line), line_now(line, now))


def auto_confirm_passed(line: Line, now: datetime) -> bool:
    """Whether a shipped line is over."""
    return has_passed(line.deadline_time, line_now(line, now))


def reminder_time(since: datetime, period: timedelta) -> datetime:
    """A day before a period ends, or a quarter of it when that is shorter."""
    return since + period - min(REMINDED_BEFORE, period / 4)


def earliest_deadline(trade: Trade) -> datetime | None:
    """Of those that the parties can still meet or have missed: pay-by, ship-by, auto-confirm."""
    return min(_shown_deadlines(trade), default=None)


def _shown_deadlines(trade: Trade) -> Iterator[datetime]:
    for line in trade.lines:
        if line.open_case:
            continue
        deadline = {
            LineState.UNPAID: trade.pay_by_time,
            LineState.PAID: ship_by_time(trade, line),
            LineState.SHIPPED: line.deadline_time,
        }.get(line.state)
        if deadline is not None:
            yield deadline


def acting_deadlines(trade: Trade) -> Iterator[datetime]:
    """When the service itself has to do something."""
    for line in trade.lines:
        if line.open_case:
            continue
        if line.state is LineState.UNPAID:
            # Once a rail has the payment of several trades, its word decides.
            if not trade.is_paid_together:
                yield trade.pay_by_time
        elif line.state is LineState.PAID:
            cancel_time = system_cancel_time(trade, line)
            assert cancel_time is not None, "a paid trade has a ship-by"
            yield cancel_time
        elif line.state is LineState.SHIPPED and not line.operator_needed:
            assert line.deadline_time is not None, "a shipped line has an auto-confirm"
            yield line.deadline_time
    for part in trade.held:
        if part.due_time is not None:
            yield part.due_time
