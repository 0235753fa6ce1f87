"""How old rows of the log go into checkpoints: a few subjects at a time, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.ports import CreditReader
from danbao_credit.application.rebuild import FoldLog
from danbao_credit.domain.catalogue import Catalogue
from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log

# Of one command: how many subjects, and how many rows of each.
_SUBJECTS = 20
_ROWS = 500
# Between commands.
_PAUSE_S = 0.1


class FoldingWorker:
    """Folds what is older than `keep`. What it has done stands in the store: ended anywhere, it goes on from there."""

    def __init__(
        self,
        reader: CreditReader,
        group_commit: GroupCommit,
        clock: Clock,
        catalogue: Catalogue,
        *,
        keep: timedelta,
        every_s: float,
    ) -> None:
        self._reader = reader
        self._group_commit = group_commit
        self._clock = clock
        self._catalogue = catalogue
        self._keep = keep
        self._every_s = every_s

    async def run(self) -> None:
        """Folds until cancelled."""
        while True:
            try:
                await self.fold()
            except DanbaoError as error:
                log.warning("not_folded", reason=error.reason)
            await asyncio.sleep(self._every_s)

    async def fold(self) -> int:
        """Folds everything that is old enough; how many commands it took. Raises what refuses one."""
        before_us = microseconds(self._clock.now() - self._keep)
        commands = 0
        while subjects := await self._reader.foldable(before_us, most=_SUBJECTS):
            command = FoldLog(tuple(subjects), before_us, self._catalogue, _ROWS)
            outcome = await self._group_commit.submit(Submission(command))
            if outcome.error is not None:
                raise outcome.error
            commands += 1
            await asyncio.sleep(_PAUSE_S)
        if commands:
            log.info("log_folded", commands=commands)
        return commands
