"""Takes over steps that nobody works on any more: their process died, or a refusal's backoff is over."""

from __future__ import annotations

import asyncio

from danbao_escrow.application.ports import DueReads
from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log

_EVERY_S = 0.5
_MOST_AT_ONCE = 512


class Sweeper:
    """Claims abandoned steps through the one write path; of two replicas that claim the same, one gets it."""

    def __init__(self, reads: DueReads, group_commit: GroupCommit) -> None:
        self._reads = reads
        self._group_commit = group_commit

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            try:
                claimed = await self.sweep()
            except DanbaoError as error:
                log.warning("sweep_failed", reason=error.reason)
                claimed = 0
            except Exception:  # noqa: BLE001 - whatever it was, the next sweep may find it gone
                log.exception("sweep_failed")
                claimed = 0
            await asyncio.sleep(0 if claimed == _MOST_AT_ONCE else _EVERY_S)

    async def sweep(self) -> int:
        """Claims what is abandoned now; how many."""
        claims = await self._reads.abandoned_steps(_MOST_AT_ONCE)
        if claims:
            log.info("steps_taken_over", steps=len(claims))
            await self._group_commit.submit_many([Submission(claim) for claim in claims])
        return len(claims)
