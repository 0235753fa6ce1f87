"""Ends holds that have run out, so that their owners see the money again even if nobody touches the account."""

from __future__ import annotations

import asyncio

from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log
from danbao_payments.application.ports import BooksReader
from danbao_payments.domain.commands import ExpireHolds

_EVERY_S = 0.25
_AT_ONCE = 500


class HoldSweeper:
    """Two replicas may sweep at once: a hold ends once."""

    def __init__(self, reader: BooksReader, group_commit: GroupCommit, clock: Clock) -> None:
        self._reader = reader
        self._group_commit = group_commit
        self._clock = clock

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            try:
                await self.sweep()
            except DanbaoError as error:
                log.warning("holds_not_swept", reason=error.reason)
                await asyncio.sleep(1)
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> None:
        """Ends everything that is due now. Raises what keeps it from doing so."""
        while due := await self._reader.due_holds(self._clock.now(), _AT_ONCE):
            outcome = await self._group_commit.submit(Submission(ExpireHolds(tuple(due))))
            if outcome.error is not None:
                raise outcome.error
            log.info("holds_expired", payments=len(due))
            if len(due) < _AT_ONCE:
                return
