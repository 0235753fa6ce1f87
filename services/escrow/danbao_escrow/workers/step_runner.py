"""Executes committed steps: collects them, calls payments outside any transaction, and hands in what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from opentelemetry.trace import SpanContext

from danbao_escrow.application.ports import Payments, StepResult, StepUnknown
from danbao_escrow.application.steps import LEASE_MS
from danbao_escrow.domain.commands import SettleStep, StepRefused
from danbao_escrow.domain.step_model import Step
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log
from danbao_kit.telemetry import now_ns, parent_context, parse_traceparent, past_span, tracer, within

MOST_AT_ONCE = 256
CALLS_IN_FLIGHT = 3
_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 1.0
# A step is left to the sweeper before somebody else could take it while we still try.
_TRY_FOR_S = LEASE_MS / 1000 * 0.5


class StepRunner:
    """Runs the steps that this process took. Losing them is harmless: the sweeper takes them over."""

    def __init__(self, payments: Payments, group_commit: GroupCommit) -> None:
        self._payments = payments
        self._group_commit = group_commit
        self._queue: deque[tuple[Step, float]] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to run what is taken."""
        self._tasks = [asyncio.create_task(self._run(), name=f"steps {index}") for index in range(CALLS_IN_FLIGHT)]

    async def stop(self) -> None:
        """Stops at once; what is under way is taken over later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, steps: Sequence[Step]) -> None:
        """These steps are committed as ours."""
        give_up = time.monotonic() + _TRY_FOR_S
        self._queue.extend((step, give_up) for step in steps)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            batch = [self._queue.popleft() for _ in range(min(MOST_AT_ONCE, len(self._queue)))]
            try:
                await self._execute(batch)
            except Exception:  # noqa: BLE001 - a fault here must not end the runner; the sweeper has the steps
                log.exception("steps_failed", steps=len(batch))

    async def _execute(self, batch: list[tuple[Step, float]]) -> None:
        """Sends until every outcome is definite, or the time for trying is over."""
        pause_s = _FIRST_PAUSE_S
        while batch:
            results = await self._call([step for step, _ in batch])
            settled = [
                (step, result)
                for (step, _), result in zip(batch, results, strict=True)
                if not isinstance(result, StepUnknown)
            ]
            await self._settle(settled)
            unknown = [
                (item, result) for item, result in zip(batch, results, strict=True) if isinstance(result, StepUnknown)
            ]
            if unknown:
                log.warning("steps_unknown", steps=len(unknown), reason=unknown[0][1].reason)
            batch = [item for item, _ in unknown if item[1] > time.monotonic() + pause_s]
            if batch:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    async def _call(self, steps: Sequence[Step]) -> Sequence[StepResult]:
        """One call to payments, seen below every call that asked for a step in it: whole in the first's trace, linked
        in the others'."""
        shown = _shown(steps)
        if not shown:
            return await self._payments.execute(steps)
        (_, leader), *others = shown
        started_ns = now_ns()
        span = tracer.start_span(
            "steps.execute", context=parent_context(leader), attributes={"danbao.batch.size": len(steps)}
        )
        with within(span):
            results = await self._payments.execute(steps)
        for step, parent in others:
            _show_shared(parent, step, span.get_span_context(), started_ns, len(steps))
        return results

    async def _settle(self, settled: Sequence[tuple[Step, StepResult]]) -> None:
        submissions = []
        # A batch of a caller's shows one wait and one commit, not one a step.
        shown = {step.trade_id: parent for step, parent in _shown([step for step, _ in settled])}
        for step, result in settled:
            assert not isinstance(result, StepUnknown)
            if isinstance(result, StepRefused):
                log.warning(
                    "step_refused",
                    trade=str(step.trade_id),
                    step=step.number,
                    generation=step.generation,
                    kind=step.kind,
                    reason=result.reason,
                )
            submissions.append(
                Submission(
                    SettleStep(step.trade_id, step.number, step.generation, result),
                    traceparent=step.cause.traceparent,
                    span=shown.get(step.trade_id),
                )
            )
        for outcome in await self._group_commit.submit_many(submissions):
            if outcome.error is not None:
                log.warning("step_not_settled", reason=outcome.error.reason)


def _shown(steps: Sequence[Step]) -> list[tuple[Step, SpanContext]]:
    """The first step of each sampled call that asked for some, and that call's span: a batch is one call."""
    firsts: dict[str, Step] = {}
    for step in steps:
        firsts.setdefault(step.cause.traceparent, step)
    spans = [(step, parse_traceparent(traceparent)) for traceparent, step in firsts.items()]
    return [(step, span) for step, span in spans if span is not None and span.trace_flags & 1]


def _show_shared(parent: SpanContext, step: Step, shared: SpanContext, started_ns: int, size: int) -> None:
    past_span(
        "steps.execute",
        parent=parent,
        start_ns=started_ns,
        end_ns=now_ns(),
        attributes={"danbao.batch.size": size, "danbao.step": step.number},
        linked=shared,
    )
