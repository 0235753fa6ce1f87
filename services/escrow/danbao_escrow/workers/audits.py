"""Audits again and again, with pauses that leave the store to others, and says what it found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from opentelemetry.metrics import Meter, Observation, get_meter

from danbao_escrow.application.auditing import Auditor
from danbao_escrow.domain.audit import Look
from danbao_kit.errors import DanbaoError
from danbao_kit.log import log

AGAIN_AFTER_S = 30.0


class AuditWorker:
    """Several replicas may audit at once: each only reads."""

    def __init__(
        self,
        auditor: Auditor,
        *,
        every_s: float,
        share: float = 1.0,
        meter: Meter | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._auditor = auditor
        self._every_s = every_s
        # What it may take of the time of one core; 1: no pauses.
        self._share = share
        self._pause = pause
        self._violations = 0
        # When something was last read, and when a complete audit was last begun; before the first, when there began to
        # be an auditor.
        self._read_at = self._whole_at = time.monotonic()
        self._tell(meter or get_meter("danbao.escrow"))

    async def run(self) -> None:
        """Audits until cancelled."""
        while True:
            await self._pause(self._every_s)
            try:
                await self.audit()
            except DanbaoError as error:
                log.warning("not_audited", reason=error.reason)

    async def audit(self, again_after_s: float = AGAIN_AFTER_S) -> Look:
        """One audit, told. Raises what keeps it from reading."""
        began = time.monotonic()
        look = await self._auditor.look(again_after_s=again_after_s, rest=self._rest)
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
        if look.is_complete:
            self._violations, self._whole_at = len(look.violations), began
        return look

    async def _rest(self, took_s: float) -> None:
        self._read_at = time.monotonic()
        await self._pause(took_s * (1 / self._share - 1))

    def _tell(self, meter: Meter) -> None:
        """Callbacks run in the exporter's own thread and read what is replaced whole."""
        meter.create_observable_gauge(
            "escrow_audit_violations",
            [lambda _: [Observation(self._violations)]],
            "{violation}",
            "What the last complete audit found.",
        )
        meter.create_observable_gauge(
            "audit_age_seconds",
            [lambda _: [Observation(time.monotonic() - self._read_at)]],
            "s",
            "Since an audit last read something.",
        )
        meter.create_observable_gauge(
            "whole_audit_age_seconds",
            [lambda _: [Observation(time.monotonic() - self._whole_at)]],
            "s",
            "Since a complete audit was last begun.",
        )
