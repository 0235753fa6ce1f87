"""Asks rails what committed top-ups and refunds want of them, outside any transaction, and reports their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
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
_RAIL_TIMEOUT_S = 30.0


class RailWorker:
    """Every movement has one reference, its own id: asked twice, a rail moves money once."""

    def __init__(self, rails: Mapping[str, Rail], reader: BooksReader, group_commit: GroupCommit) -> None:
        self._rails = rails
        self._reader = reader
        self._group_commit = group_commit
        self._asking: dict[UUID, asyncio.Task[None]] = {}
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
                work = await self._reader.overdue_rail_work(older_than_s=_OVERDUE_S, limit=_AT_ONCE)
                lost = [item for item in work if item.id not in self._asking]
                if lost:
                    log.warning("rails_asked_again", movements=len(lost))
                    self.ask(lost)
            except DanbaoError as error:
                log.warning("rail_work_not_read", reason=error.reason)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def stop(self) -> None:
        """Leaves what is under way to whoever comes next."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, movement: UUID, _: asyncio.Task[None]) -> None:
        self._asking.pop(movement, None)

    async def _ask(self, item: RailWork) -> None:
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
            return
        outcome = await self._group_commit.submit(Submission(report, traceparent=item.traceparent, span=span))
        if outcome.error is not None:
            log.error("rail_answer_not_booked", movement=str(item.id), reason=outcome.error.reason)

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
