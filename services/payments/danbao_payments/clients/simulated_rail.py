"""A rail that moves no money: for development, tests and replays. How it behaves stands in the instrument."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from enum import StrEnum

from danbao_payments.application.ports import (
    Direction,
    Listener,
    Rail,
    RailAnswer,
    RailNotice,
    RailOrder,
    RailUnavailable,
    Standing,
)
from danbao_payments.domain.movement import RailResult

NAME = "rails/simulated"
_MOST_MINOR = 10**13
_REMEMBERED = 100_000
_TELLS_AT_MOST = 8


class Mood(StrEnum):
    """What an instrument tells the rail to do; whatever else it says is OK."""

    OK = "ok"
    DECLINE = "decline"
    REFUSE_PAYBACK = "refuse-payback"  # charges and pays out, and refuses to pay back
    SLOW = "slow"
    TIMEOUT = "timeout"  # does what it is asked and never answers
    LOST = "lost"  # the first asking never reaches it
    UNKNOWN_DECLINE = "unknown-decline"  # refuses and never answers
    LATE = "late"  # answers that it will report, and reports success
    LATE_DECLINE = "late-decline"
    SILENT = "silent"  # answers that it will report, and never does
    DUPLICATE = "duplicate"  # answers, and reports the same twice
    OUT_OF_ORDER = "out-of-order"  # reports SETTLED before it answers
    RETURN = "return"  # answers, and reports afterwards that it came back
    SETTLE = "settle"  # answers, and reports SETTLED afterwards


_SAYS_LATER = frozenset({Mood.LATE, Mood.LATE_DECLINE, Mood.SILENT})
_NEVER_ANSWERS = frozenset({Mood.TIMEOUT, Mood.UNKNOWN_DECLINE})
# What it reports after it has answered, by mood.
_AFTERWARDS = {
    Mood.DUPLICATE: (RailResult.SUCCEEDED, RailResult.SUCCEEDED),
    Mood.RETURN: (RailResult.RETURNED,),
    Mood.SETTLE: (RailResult.SETTLED,),
    Mood.LATE: (RailResult.SUCCEEDED,),
    Mood.LATE_DECLINE: (RailResult.FAILED,),
}


class SimulatedRail(Rail):
    """It remembers what it was asked only where its mood needs that, and only in this process: after a restart, an
    order has come to whatever its mood brings it to."""

    def __init__(self, *, slow_s: float = 2.0, silence_s: float = 1.0, report_after_s: float = 0.2) -> None:
        self._slow_s = slow_s
        # How long whoever asks waits in vain.
        self._silence_s = silence_s
        self._report_after_s = report_after_s
        self._listener: Listener | None = None
        # Orders in moods that need to be remembered, and whether what is lost or late of them has come.
        self._asked: OrderedDict[str, bool] = OrderedDict()
        self._reporting: set[asyncio.Task[None]] = set()

    async def charge(self, order: RailOrder) -> RailAnswer:
        """As its mood says; above 10^13 minor units it declines."""
        if order.amount.minor > _MOST_MINOR:
            return RailAnswer(Standing.REFUSED, failure="above the rail's limit")
        return await self._take(order)

    async def pay_out(self, order: RailOrder) -> RailAnswer:
        """As its mood says."""
        return await self._take(order)

    async def pay_back(self, order: RailOrder) -> RailAnswer:
        """As its mood says."""
        return await self._take(order)

    async def look_up(self, order: RailOrder) -> RailAnswer:
        """What it comes to in the end, unless it has yet to be reported or was lost."""
        mood = _mood_of(order)
        known = self._asked.get(order.reference)
        if mood is Mood.SILENT or (mood in _SAYS_LATER and known is False):
            return RailAnswer(Standing.PENDING)
        if mood is Mood.LOST and not known:
            return RailAnswer(Standing.NOT_FOUND)
        return _final(order)

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    async def stop(self) -> None:
        """Reports nothing any more."""
        self._listener = None
        tasks = list(self._reporting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, order: RailOrder) -> RailAnswer:
        mood = _mood_of(order)
        if mood in (Mood.OK, Mood.DECLINE, Mood.REFUSE_PAYBACK):
            return _final(order)
        first = self._remember(order)
        if mood is Mood.SLOW:
            await asyncio.sleep(self._slow_s)
        elif mood in _NEVER_ANSWERS:
            await asyncio.sleep(self._silence_s)
            raise RailUnavailable
        elif mood is Mood.LOST:
            if first:
                raise RailUnavailable
            self._asked[order.reference] = True
        elif mood is Mood.OUT_OF_ORDER:
            await self._tell(order, RailResult.SETTLED)
        if first and mood in _AFTERWARDS:
            task = asyncio.create_task(self._report(order, _AFTERWARDS[mood]), name=f"simulated rail {order.reference}")
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)
        return RailAnswer(Standing.PENDING) if mood in _SAYS_LATER else _final(order)

    def _remember(self, order: RailOrder) -> bool:
        """Whether it was asked for the first time."""
        first = order.reference not in self._asked
        self._asked.setdefault(order.reference, False)
        if len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        return first

    async def _report(self, order: RailOrder, results: tuple[RailResult, ...]) -> None:
        await asyncio.sleep(self._report_after_s)
        for result in results:
            for attempt in range(_TELLS_AT_MOST):
                self._asked[order.reference] = True
                if await self._tell(order, result):
                    break
                await asyncio.sleep(self._report_after_s * 2**attempt)

    async def _tell(self, order: RailOrder, result: RailResult) -> bool:
        if self._listener is None:
            return False
        answer = _final(order)
        return await self._listener(RailNotice(order.movement, result, answer.rail_reference, answer.failure))


def _mood_of(order: RailOrder) -> Mood:
    try:
        return Mood(order.instrument)
    except ValueError:
        return Mood.OK


def _final(order: RailOrder) -> RailAnswer:
    mood = _mood_of(order)
    refuses = mood in (Mood.DECLINE, Mood.UNKNOWN_DECLINE, Mood.LATE_DECLINE)
    if refuses or (mood is Mood.REFUSE_PAYBACK and order.direction is Direction.PAY_BACK):
        return RailAnswer(Standing.REFUSED, failure="declined by the simulated rail")
    return RailAnswer(Standing.ACCEPTED, rail_reference=f"sim-{order.reference}")
