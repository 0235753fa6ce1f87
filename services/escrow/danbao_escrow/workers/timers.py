"""Fires what is due: looks by real time for trades, cases and disputes whose business deadline has come."""

from __future__ import annotations

import asyncio

from danbao_escrow.application.ports import CaseReads, DueReads
from danbao_escrow.domain.commands import FireTimer
from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log

_EVERY_S = 0.25
_MOST_AT_ONCE = 500
_LOOK_AGAIN_S = 0.01


class Timers:
    """Two replicas may fire the same timer: the decision looks again under the trade's lock."""

    def __init__(self, reads: DueReads, cases: CaseReads, group_commit: GroupCommit, clock: Clock) -> None:
        self._reads = reads
        self._cases = cases
        self._group_commit = group_commit
        self._clock = clock
        self._draining = asyncio.Lock()

    async def run(self) -> None:
        """Fires until cancelled."""
        while True:
            try:
                async with self._draining:
                    fired = await self.fire_due()
            except DanbaoError as error:
                log.warning("timers_failed", reason=error.reason)
                fired = 0
            except Exception:  # noqa: BLE001 - whatever it was, the next look may find it gone
                log.exception("timers_failed")
                fired = 0
            await asyncio.sleep(0 if fired >= _MOST_AT_ONCE else _EVERY_S)

    async def fire_due(self) -> int:
        """Fires the oldest that are due now; how many."""
        now = self._clock.now()
        due = [FireTimer(trade_id) for trade_id in await self._reads.due_trades(now, _MOST_AT_ONCE)]
        due_cases = await self._cases.due_cases(now, _MOST_AT_ONCE)
        if due or due_cases:
            await self._group_commit.submit_many([Submission(timer) for timer in (*due, *due_cases)])
        return len(due) + len(due_cases)

    async def drain_due(self) -> None:
        """Fires until nothing is due, and waits for the steps that are under way by then.

        Steps that wait out a refusal are not waited for, nor what callers begin meanwhile. It looks for what is due
        once the steps before have ended: a trade with one is passed over, and its end may make something due.
        """
        async with self._draining:
            while True:
                await self._wait_for_steps()
                if not await self.fire_due() and not await self._wait_for_steps():
                    return

    async def _wait_for_steps(self) -> bool:
        """Waits for the steps under way now; whether there were any, for their end may make something due."""
        until = await self._reads.last_moment()
        waited = False
        while await self._reads.steps_under_way(until):
            waited = True
            await asyncio.sleep(_LOOK_AGAIN_S)
        return waited
