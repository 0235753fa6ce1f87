"""When somebody is reminded of a deadline: a day before, or a quarter of the period when that is shorter.

Each is given once; a deadline that moves is a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from danbao_escrow.domain.deadlines import (
    SYSTEM_CANCELS_AFTER,
    acting_deadlines,
    reminder_time,
    ship_by_time,
)
from danbao_escrow.domain.model import Line, LineState, Trade


class DeadlineName(StrEnum):
    """What a reminder is about."""

    PAY_BY = "PayBy"
    SHIP_BY = "ShipBy"
    SYSTEM_CANCEL = "SystemCancel"
    AUTO_CONFIRM = "AutoConfirm"


class Reminder(NamedTuple):
    """One line's deadline, and when it is time to say so."""

    deadline: DeadlineName
    line_id: str
    remind_time: datetime
    deadline_time: datetime


def next_look(trade: Trade) -> datetime | None:
    """When a timer has to look at the trade next; None while a step is pending, for timers skip it then."""
    if trade.is_pending:
        return None
    reminders = (reminder.remind_time for reminder in _still_to_give(trade))
    return min((*acting_deadlines(trade), *reminders), default=None)


def due_reminders(trade: Trade, now: datetime) -> dict[DeadlineName, tuple[str, ...]]:
    """Which lines have to be reminded of what; of what has passed already nobody is."""
    due: dict[DeadlineName, tuple[str, ...]] = {}
    for reminder in _still_to_give(trade):
        if reminder.remind_time <= now < reminder.deadline_time:
            due[reminder.deadline] = (*due.get(reminder.deadline, ()), reminder.line_id)
    return due


def _still_to_give(trade: Trade) -> Iterator[Reminder]:
    given_until = trade.remind_time
    for line in trade.lines:
        if line.open_case:
            continue
        for reminder in _reminders(trade, line):
            if given_until is None or reminder.remind_time > given_until:
                yield reminder


def _reminders(trade: Trade, line: Line) -> Iterator[Reminder]:
    for name, begin, deadline in _periods(trade, line):
        if begin is not None and deadline is not None and begin < deadline:
            yield Reminder(name, line.line_id, reminder_time(begin, deadline - begin), deadline)


def _periods(trade: Trade, line: Line) -> Iterator[tuple[DeadlineName, datetime | None, datetime | None]]:
    """From when until when somebody has time."""
    if line.state is LineState.UNPAID:
        yield DeadlineName.PAY_BY, trade.price_time, trade.pay_by_time
    elif line.state is LineState.PAID:
        ship_by = ship_by_time(trade, line)
        yield DeadlineName.SHIP_BY, trade.pay_time, ship_by
        if ship_by is not None:
            yield DeadlineName.SYSTEM_CANCEL, ship_by, ship_by + SYSTEM_CANCELS_AFTER
    elif line.state is LineState.SHIPPED and not line.operator_needed:
        yield DeadlineName.AUTO_CONFIRM, line.deliver_time or line.ship_time, line.deadline_time
