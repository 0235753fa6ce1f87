"""Asks rails what committed movements want of them, outside any transaction, and reports what they answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol
from uuid import UUID

from opentelemetry.trace import SpanKind

from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import Outcome, Submission
from danbao_kit.log import log
from danbao_kit.telemetry import parent_context, parse_traceparent, tracer, within
from danbao_payments.application.ports import (
    Direction,
    MovementsReader,
    Rail,
    RailAnswer,
    RailNotice,
    RailOrder,
    RailUnavailable,
    Standing,
)
from danbao_payments.domain.commands import ReportRailResult
from danbao_payments.domain.movement import RailResult

# Nothing of it was seen for so long (real time): whoever was to ask the rail has died, or its answer was lost.
_OVERDUE_S = 3.0
_LOOK_EVERY_S = 1.0
_AT_ONCE = 200
_MOST_PATIENCE_S = 60.0
_RAIL_TIMEOUT_S = 30.0
# Look-ups, each after twice the time, until what nobody wants any more is believed never to have been asked for: 45 s,
# longer than any question to a rail may last.
_GIVEN_UP_AFTER = 4

_RESULTS = {Standing.ACCEPTED: RailResult.SUCCEEDED, Standing.REFUSED: RailResult.FAILED}


class Writer(Protocol):
    """The write path."""

    async def submit(self, submission: Submission) -> Outcome: ...


class RailWorker:
    """Every movement has one reference, its own id: asked twice, a rail moves money once.

    What a rail has left unanswered is looked up until it is definite, and asked again only where the rail says that it
    never heard of it. Two replicas may do so at once: what they learn is booked once.
    """

    def __init__(
        self,
        rails: Mapping[str, Rail],
        reader: MovementsReader,
        writer: Writer,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rails = rails
        self._reader = reader
        self._writer = writer
        self._asking: dict[UUID, asyncio.Task[None]] = {}
        self._now = now
        # What came to nothing: how often, and when it may be looked up again.
        self._failed: dict[UUID, tuple[int, float]] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)

    def ask(self, orders: Iterable[RailOrder]) -> None:
        """Begins to ask; returns at once."""
        for order in orders:
            self._begin(order, overdue=False)

    async def report(self, notice: RailNotice) -> bool:
        """Books what a rail says unasked. False: it could not be written down now, and is to be said again."""
        command = ReportRailResult(
            notice.movement, notice.result, rail_reference=notice.rail_reference, failure=notice.failure
        )
        error = (await self._writer.submit(Submission(command))).error
        if error is not None:
            log.warning("rail_report_refused", movement=notice.movement.name, reason=error.reason)
        return error is None or error.is_final

    async def run(self) -> None:
        """Takes up what was left behind, until cancelled."""
        while True:
            try:
                await self.look()
            except DanbaoError as error:
                log.warning("rail_work_not_read", reason=error.reason)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Looks up what is overdue. What is under way, or failed a short while ago, keeps no others from it."""
        now = self._now()
        # Whoever was answered elsewhere meanwhile is not remembered for ever.
        self._failed = {key: told for key, told in self._failed.items() if told[1] + 2 * _MOST_PATIENCE_S > now}
        resting = {key for key, (_, again) in self._failed.items() if again > now}
        without = resting | self._asking.keys()
        lost = await self._reader.overdue_rail_work(older_than_s=_OVERDUE_S, limit=_AT_ONCE, without=without)
        if lost:
            log.warning("rails_asked_again", movements=len(lost))
            for order in lost:
                self._begin(order, overdue=True)

    @property
    def under_way(self) -> int:
        """How many movements a rail is asked about right now."""
        return len(self._asking)

    async def stop(self) -> None:
        """Leaves what is under way to whoever comes next."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, order: RailOrder, *, overdue: bool) -> None:
        if order.id not in self._asking:
            task = asyncio.create_task(self._ask(order, overdue=overdue), name=f"rail {order.id}")
            self._asking[order.id] = task
            task.add_done_callback(partial(self._forget, order.id))

    def _forget(self, movement: UUID, _: asyncio.Task[None]) -> None:
        self._asking.pop(movement, None)

    async def _ask(self, order: RailOrder, *, overdue: bool) -> None:
        try:
            definite = await self._ask_and_book(order, overdue=overdue)
        except Exception:  # noqa: BLE001
            # A rail's client that breaks, or a fault of ours: one movement's trouble only.
            log.exception("rail_work_failed", rail=order.rail, movement=order.movement.name)
            definite = False
        if definite:
            self._failed.pop(order.id, None)
            return
        attempts = self._failed.get(order.id, (0, 0.0))[0] + 1
        patience_s = min(_MOST_PATIENCE_S, _OVERDUE_S * 2 ** min(attempts - 1, 10))
        self._failed[order.id] = (attempts, self._now() + patience_s)

    async def _ask_and_book(self, order: RailOrder, *, overdue: bool) -> bool:
        """Whether the movement's end is written down."""
        rail = self._rails.get(order.rail)
        if rail is None:
            log.warning("rail_not_connected", rail=order.rail, movement=order.movement.name)
            return False
        cause = parse_traceparent(order.traceparent)
        try:
            async with self._limit, asyncio.timeout(_RAIL_TIMEOUT_S):
                span = tracer.start_span(
                    f"{order.rail} {'look up' if overdue else order.direction.lower().replace('_', ' ')}",
                    context=parent_context(cause),
                    kind=SpanKind.CLIENT,
                )
                with within(span):
                    answer = await self._answer(rail, order, overdue=overdue)
        except (RailUnavailable, TimeoutError) as error:
            log.warning("rail_unavailable", rail=order.rail, movement=order.movement.name, error=type(error).__name__)
            answer = None
        if answer is None:
            if order.is_unknown:
                return False
            command = ReportRailResult(order.movement, RailResult.UNANSWERED)
        elif answer.standing in _RESULTS:
            command = ReportRailResult(
                order.movement,
                _RESULTS[answer.standing],
                rail_reference=answer.rail_reference,
                failure=answer.failure,
            )
        else:
            return False
        outcome = await self._writer.submit(Submission(command, traceparent=order.traceparent, span=cause))
        if outcome.error is not None:
            log.error("rail_answer_not_booked", movement=order.movement.name, reason=outcome.error.reason)
        return outcome.error is None and answer is not None

    async def _answer(self, rail: Rail, order: RailOrder, *, overdue: bool) -> RailAnswer:
        ask = {Direction.CHARGE: rail.charge, Direction.PAY_BACK: rail.pay_back, Direction.PAY_OUT: rail.pay_out}
        if overdue:
            known = await rail.look_up(order)
            if known.standing is not Standing.NOT_FOUND:
                return known
            if not order.is_wanted:
                # Somebody may have asked for it a moment before it was given up, and not be through yet.
                looked_up = self._failed.get(order.id, (0, 0.0))[0]
                if looked_up < _GIVEN_UP_AFTER:
                    return known
                return RailAnswer(Standing.REFUSED, failure="never reached the rail")
        return await ask[order.direction](order)
