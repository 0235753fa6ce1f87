"""Audits the books again and again, and tells what it found in logs and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.log import log
from danbao_payments.application.ports import Auditor
from danbao_payments.domain.audit import Look, Loss, Window, losses

# The rate is that of the value settled in this time.
_WINDOW = timedelta(days=30)


class AuditWorker:
    """Several replicas may audit at once: each only reads."""

    def __init__(
        self,
        auditor: Auditor,
        clock: Clock,
        *,
        every_s: float,
        meter: Meter | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auditor = auditor
        self._clock = clock
        self._every_s = every_s
        self._monotonic = monotonic
        # When the books were last read by a complete audit; before the first one, when there began to be an auditor.
        self._read_at = monotonic()
        self._losses: tuple[Loss, ...] = ()
        self._last: Look | None = None
        self._tell(meter or get_meter("danbao.payments"))

    @property
    def last(self) -> Look | None:
        """The last complete look."""
        return self._last

    async def run(self) -> None:
        """Audits until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.audit()
            except DanbaoError as error:
                log.warning("not_audited", reason=error.reason)

    async def audit(self) -> Look:
        """One audit, told. Raises what keeps it from reading."""
        began, now = self._monotonic(), self._clock.now()
        look = await self._auditor.look(now=now, window=Window(since=now - _WINDOW))
        for violation in look.violations():
            log.error(
                "audit_violation",
                invariant=violation.rule.invariant,
                check=violation.rule.name,
                resource=violation.resource,
                expected=violation.expected,
                found=violation.found,
                off_minor=violation.off_minor,
                currency=violation.currency,
            )
        told = {"sequence": look.sequence, "violations": look.count(), "seconds": round(look.elapsed_s, 2)}
        if not look.is_complete or look.flows is None:
            log.warning("audit_incomplete", **told)
            return look
        log.info("audited", **told)
        self._losses = tuple(losses(look))
        self._last, self._read_at = look, began
        return look

    # Callbacks run in the exporter's own thread and read what is replaced whole.

    def _tell(self, meter: Meter) -> None:
        def gauge(name: str, unit: str, what: str, value: Callable[[Loss], int | float]) -> None:
            def observe(_: CallbackOptions) -> Iterable[Observation]:
                return [Observation(value(loss), {"currency": loss.currency}) for loss in self._losses]

            meter.create_observable_gauge(name, [observe], unit, what)

        gauge("asset_loss_minor_units", "{minor_unit}", "What the books lack.", lambda loss: loss.total_minor)
        gauge(
            "asset_loss_rate",
            "1",
            "What the books lack, of the value settled in 30 days.",
            lambda loss: loss.parts_per_billion / 1e9,
        )
        gauge("limbo_value", "{minor_unit}", "What is late, not lost.", lambda loss: loss.flows.limbo_minor)
        meter.create_observable_gauge(
            "audit_age_seconds",
            [lambda _: [Observation(self._monotonic() - self._read_at)]],
            "s",
            "Since the books were last read by a complete audit.",
        )
