"""What memberships need done outside a call: looks whose time has come, and the money steps of deposits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from danbao_credit.application.deposits import LEASE_MS
from danbao_credit.application.membership_commands import LookAtMembership, SettleDepositStep, StepDone, StepRefused
from danbao_credit.application.ports import DepositMoney, DueLook, MembershipReads, StepUnknown
from danbao_credit.domain.membership import StepKind
from danbao_credit.domain.membership_errors import StatementUnknown
from danbao_credit.domain.membership_model import DepositStep, Movement
from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.failpoints import failpoint
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log
from danbao_kit.telemetry import parent_context, parse_traceparent, tracer, within

LOOK_SPAN = "credit.look_at_membership"
_EVERY_S = 0.25
_SWEEP_EVERY_S = 0.5
_MOST_AT_ONCE = 200
_LOOK_AGAIN_S = 0.01
_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 1.0
# A step is left to the sweeper before somebody else could take it while we still try.
_TRY_FOR_S = LEASE_MS / 1000 * 0.5
# Payments' word for less on the deposit than we know of.
_LESS_THERE = "INSUFFICIENT_FUNDS"


class DepositSteps:
    """Runs the steps that this process took. Losing them is harmless: the sweep takes them over."""

    def __init__(self, money: DepositMoney, reads: MembershipReads, group_commit: GroupCommit) -> None:
        self._money = money
        self._reads = reads
        self._group_commit = group_commit
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, steps: Sequence[DepositStep]) -> None:
        """These steps are committed as ours."""
        for step in steps:
            task = asyncio.create_task(self._run(step), name=f"deposit {step.membership_id}/{step.number}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Takes over abandoned steps until cancelled."""
        while True:
            await _kept("deposit_sweep_failed", self.sweep)
            await asyncio.sleep(_SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Claims what is abandoned now; of two replicas that claim the same step, one gets it. How many."""
        claims = await self._reads.abandoned_steps(_MOST_AT_ONCE)
        if claims:
            log.info("deposit_steps_taken_over", steps=len(claims))
            await self._group_commit.submit_many([Submission(claim) for claim in claims])
        return len(claims)

    async def stop(self) -> None:
        """Stops at once; what is under way is taken over later."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, step: DepositStep) -> None:
        """Sends until the outcome is definite, or the time for trying is over."""
        give_up = time.monotonic() + _TRY_FOR_S
        pause_s = _FIRST_PAUSE_S
        parent = parse_traceparent(step.traceparent)
        try:
            await failpoint("deposit_before_call")
            span = tracer.start_span(
                "credit.move_deposit", context=parent_context(parent), attributes={"danbao.step": step.number}
            )
            with within(span):
                result = await self._money.execute(step)
                while isinstance(result, StepUnknown) and time.monotonic() + pause_s < give_up:
                    log.warning("deposit_step_unknown", membership=str(step.membership_id), reason=result.reason)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LAST_PAUSE_S)
                    result = await self._money.execute(step)
            await failpoint("deposit_after_call")
            if isinstance(result, StepUnknown):
                return
            if isinstance(result, StepRefused):
                log.warning(
                    "deposit_step_refused",
                    membership=str(step.membership_id),
                    step=step.number,
                    generation=step.generation,
                    reason=result.reason,
                )
            statement = await self._statement(step) if _is_less_there(step, result) else ()
            settle = SettleDepositStep(step.membership_id, step.number, step.generation, result, statement)
            outcome = await self._group_commit.submit(Submission(settle, traceparent=step.traceparent, span=parent))
            if outcome.error is not None:
                log.warning("deposit_step_not_settled", reason=outcome.error.reason)
        except Exception:  # noqa: BLE001 - a fault here must not go unheard; the sweep has the step
            log.exception("deposit_step_failed", membership=str(step.membership_id), step=step.number)

    async def _statement(self, step: DepositStep) -> tuple[Movement, ...]:
        """What payments knows of the deposit; nothing while it does not say, and the next refusal asks again."""
        try:
            return await self._money.statement(step.subject, step.currency)
        except StatementUnknown as error:
            log.warning("deposit_statement_unknown", membership=str(step.membership_id), detail=error.message)
            return ()


class MembershipLooks:
    """Looks at memberships whose time has come. Two replicas may look at the same: the decision is under its lock."""

    def __init__(self, reads: MembershipReads, group_commit: GroupCommit, clock: Clock) -> None:
        self._reads = reads
        self._group_commit = group_commit
        self._clock = clock
        self._changed = asyncio.Event()
        self._draining = asyncio.Lock()

    def wake(self) -> None:
        """Something about a member was committed."""
        self._changed.set()

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            self._changed.clear()
            looked = await _kept("membership_looks_failed", self._guarded)
            if looked < _MOST_AT_ONCE:
                try:
                    async with asyncio.timeout(_EVERY_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def look_at_due(self) -> int:
        """Looks at those due longest; how many were looked at."""
        due = await self._reads.due_looks(self._clock.now(), _MOST_AT_ONCE)
        return sum(await asyncio.gather(*[self._look(item) for item in due]))

    async def drain_due(self) -> None:
        """Looks until nothing is due, and waits for the steps that are under way by then."""
        async with self._draining:
            while True:
                if await self._reads.steps_under_way():
                    await asyncio.sleep(_LOOK_AGAIN_S)
                elif not await self.look_at_due():
                    return

    async def _guarded(self) -> int:
        async with self._draining:
            return await self.look_at_due()

    async def _look(self, item: DueLook) -> bool:
        """In a trace of its own, linked to the request that made it necessary, whose trace its events carry on."""
        cause = parse_traceparent(item.cause)
        links = [Link(cause)] if cause is not None else []
        span = (
            tracer.start_span(
                LOOK_SPAN,
                context=Context(),
                links=links,
                attributes={"danbao.membership": f"memberships/{item.membership_id}"},
            )
            if cause is not None
            else trace.INVALID_SPAN
        )
        with within(span):
            submission = Submission(
                LookAtMembership(item.membership_id), traceparent=item.cause, span=span.get_span_context()
            )
            outcome = await self._group_commit.submit(submission)
        if outcome.error is not None:
            log.warning("membership_look_failed", reason=outcome.error.reason, membership=str(item.membership_id))
        return outcome.error is None


def _is_less_there(step: DepositStep, result: StepDone | StepRefused) -> bool:
    """Whether a deposit could not go back because something that left it was never told to us."""
    return step.kind is StepKind.RETURN and isinstance(result, StepRefused) and result.reason == _LESS_THERE


async def _kept(event: str, work: Callable[[], Awaitable[int]]) -> int:
    try:
        return await work()
    except DanbaoError as error:
        log.warning(event, reason=error.reason)
    except Exception:  # noqa: BLE001 - whatever it was, the next round may find it gone
        log.exception(event)
    return 0
