"""Audits some profiles now and then: one that is not what its log gives is found without being asked for."""

from __future__ import annotations

import asyncio
import random

from danbao_credit.application.audit import INVARIANT, Audited, audit_page
from danbao_credit.application.ports import CreditReader
from danbao_credit.domain.catalogue import Catalogue
from danbao_kit.errors import DanbaoError
from danbao_kit.log import log

_SUBJECTS = 10
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class SamplingAuditor:
    """Looks at a few subjects each time, beginning at a name that is drawn."""

    def __init__(self, reader: CreditReader, catalogue: Catalogue, *, every_s: float, dice: random.Random) -> None:
        self._reader = reader
        self._catalogue = catalogue
        self._every_s = every_s
        self._dice = dice

    async def run(self) -> None:
        """Audits until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except DanbaoError as error:
                log.warning("not_audited", reason=error.reason)

    async def look(self) -> Audited | None:
        """One sample, told."""
        drawn = f"subjects/{''.join(self._dice.choices(_LETTERS, k=4))}"
        for after in (drawn, ""):
            audited = await audit_page(after, catalogue=self._catalogue, reader=self._reader, most=_SUBJECTS)
            if audited is not None:
                break
        for violation in audited.violations if audited is not None else ():
            log.error(
                "audit_violation",
                invariant=INVARIANT,
                check="profile_is_checkpoint_and_log",
                resource=violation.subject,
                found=violation.entries_differing,
            )
        return audited
