"""Asks rails what committed top-ups and refunds want of them, outside any transaction, and reports their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from uuid import UUID

from opentelemetry.trace import SpanKind

from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log
from danbao_kit.telemetry import parent_context, parse_traceparent, tracer
from danbao_payments.application.ports import BooksReader, DueCharge, Rail, RailUnavailable, RailWork
from danbao_payments.domain.commands import ReportCharge, ReportPayback

# Nothing of it was seen for so long (real time): whoever was to ask the rail has died, or its answer was lost.
_OVERDUE_S = 3.0
_LOOK_EVERY_S = 1.0
_AT_ONCE = 200
_MOST_PATIENCE_S = 60.0
_RAIL_TIMEOUT_S = 30.0


class RailWorker:
    """Every movement has one reference, its own id: asked twice, a rail moves money once."""

    def __init__(
        self,
        rails: Mapping[str, Rail],
        reader: BooksReader,
        group_commit: GroupCommit,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rails = rails
        self._reader = reader
        self._group_commit = group_commit
        self._asking: dict[UUID, asyncio.Task[None]] = {}
        self._now = now
        # What came to nothing: how often, and when it may be asked again.
        self._failed: dict[UUID, tuple[int, float]] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)

    def ask(self, work: Iterable[RailWork]) -> None:
        """Begins to ask; returns at once."""
        for item in work:
            if item.id not in self._asking:
                task = asyncio.create_task(self._ask(item), name=f"rail {item.id}")
                self._asking[item.id] = task
                task.add_done_callback(partial(self._forget, item.id))

    async def run(self) -> None:
        """Takes up what was left behind, until cancelled."""
        while True:
            try:
                await self.look()
            except DanbaoError as error:
                log.warning("rail_work_not_read", reason=error.reason)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Asks what is overdue. Neither what is under way nor what failed a short while ago keeps others from it."""
        now = self._now()
        # Whoever was answered elsewhere meanwhile is not remembered for ever.
        self._failed = {key: told for key, told in self._failed.items() if told[1] + 2 * _MOST_PATIENCE_S > now}
        resting = {key for key, (_, again) in self._failed.items() if again > now}
        without = resting | self._asking.keys()
        lost = await self._reader.overdue_rail_work(older_than_s=_OVERDUE_S, limit=_AT_ONCE, without=without)
        if lost:
            log.warning("rails_asked_again", movements=len(lost))
            self.ask(lost)

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

    def _forget(self, movement: UUID, _: asyncio.Task[None]) -> None:
        self._asking.pop(movement, None)

    async def _ask(self, item: RailWork) -> None:
        try:
            booked = await self._ask_and_book(item)
        except Exception:  # noqa: BLE001
            # A rail's client that breaks, or a fault of ours: one movement's trouble only.
            log.exception("rail_work_failed", rail=item.rail, movement=str(item.id))
            booked = False
        if booked:
            self._failed.pop(item.id, None)
            return
        attempts = self._failed.get(item.id, (0, 0.0))[0] + 1
        patience_s = min(_MOST_PATIENCE_S, _OVERDUE_S * 2 ** min(attempts - 1, 10))
        self._failed[item.id] = (attempts, self._now() + patience_s)

    async def _ask_and_book(self, item: RailWork) -> bool:
        span = parse_traceparent(item.traceparent)
        try:
            async with self._limit, asyncio.timeout(_RAIL_TIMEOUT_S):
                with tracer.start_as_current_span(
                    f"{item.rail} {'charge' if isinstance(item, DueCharge) else 'pay back'}",
                    context=parent_context(span),
                    kind=SpanKind.CLIENT,
                ):
                    report = await self._answer(item)
        except (RailUnavailable, TimeoutError) as error:
            log.warning("rail_unavailable", rail=item.rail, movement=str(item.id), error=type(error).__name__)
            return False
        outcome = await self._group_commit.submit(Submission(report, traceparent=item.traceparent, span=span))
        if outcome.error is not None:
            log.error("rail_answer_not_booked", movement=str(item.id), reason=outcome.error.reason)
        return outcome.error is None

    async def _answer(self, item: RailWork) -> ReportCharge | ReportPayback:
        rail = self._rails.get(item.rail)
        if rail is None:
            raise RailUnavailable
        reference = str(item.id)
        if isinstance(item, DueCharge):
            answer = await rail.charge(reference=reference, instrument=item.instrument, amount=item.amount)
            return ReportCharge(item.id, answer.accepted, answer.rail_reference, answer.failure)
        paid = await rail.pay_back(
            reference=reference, charge=item.charge, instrument=item.instrument, amount=item.amount
        )
        return ReportPayback(item.id, paid)
