"""Audits again and again, and says what it found."""

from __future__ import annotations

import asyncio

from danbao_escrow.application.auditing import Auditor
from danbao_escrow.domain.audit import Look
from danbao_kit.errors import DanbaoError
from danbao_kit.log import log

AGAIN_AFTER_S = 30.0


class AuditWorker:
    """Several replicas may audit at once: each only reads."""

    def __init__(self, auditor: Auditor, *, every_s: float) -> None:
        self._auditor = auditor
        self._every_s = every_s

    async def run(self) -> None:
        """Audits until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.audit()
            except DanbaoError as error:
                log.warning("not_audited", reason=error.reason)

    async def audit(self, again_after_s: float = AGAIN_AFTER_S) -> Look:
        """One audit, told. Raises what keeps it from reading."""
        look = await self._auditor.look(again_after_s=again_after_s)
        for violation in look.violations:
            log.error(
                "audit_violation",
                invariant=violation.rule.invariant,
                check=violation.rule.name,
                resource=violation.resource,
                expected=violation.expected,
                found=violation.found,
                off_minor=violation.off_minor,
            )
        told = {"violations": len(look.violations), "trades": look.counts.trades, "parked": look.counts.parked}
        tell = log.info if look.is_complete else log.warning
        tell("audited" if look.is_complete else "audit_incomplete", **told, seconds=round(look.elapsed_s, 2))
        return look
