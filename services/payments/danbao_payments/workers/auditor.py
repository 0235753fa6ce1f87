"""Audits the books again and again, and tells what it found in logs and metrics.

What is new is looked at every time, all that there is bit by bit, with pauses: neither takes more than its half of the
share of one core that it may take, however large the books are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.log import log
from danbao_payments.application.ports import Auditor
from danbao_payments.domain.audit import Look, Loss, Part, Position, Window
from danbao_payments.domain.audit_rounds import LEAST, Known, joined, most_next

# The rate is that of the value settled in this time.
_WINDOW = timedelta(days=30)


class AuditWorker:
    """Several replicas may audit at once: each only reads. How far one came, it keeps to itself, and forgets."""

    def __init__(
        self,
        auditor: Auditor,
        clock: Clock,
        *,
        every_s: float,
        share: float = 0.02,
        meter: Meter | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._auditor = auditor
        self._clock = clock
        self._every_s = every_s
        self._half = share / 2
        self._monotonic = monotonic
        self._pause = pause
        # When what was new was last read, and when it last began to read all; before that, when there began to be an
        # auditor.
        self._read_at = self._round_at = monotonic()
        self._known = Known()
        self._losses: Sequence[Loss] = ()
        self._last: Look | None = None
        self._position: Position | None = None
        self._most = LEAST * 10
        self._tell(meter or get_meter("danbao.payments"))

    @property
    def last(self) -> Look | None:
        """The last complete look at all, made of its parts."""
        return self._last

    @property
    def losses(self) -> Sequence[Loss]:
        """What is known to be lost now, by currency."""
        return self._losses

    async def run(self) -> None:
        """Audits until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._watch())
            both.create_task(self._go_round())

    async def audit(self) -> Look:
        """One audit of all, at once, told. Raises what keeps it from reading."""
        began = self._monotonic()
        look = self._round([await self._audit_part(part) for part in self._auditor.parts()], began)
        if look.is_complete and look.flows is not None:
            self._read_at = began
        return look

    async def audit_new(self) -> Look:
        """One audit of what came since the last one, told. Raises what keeps it from reading."""
        began = self._monotonic()
        look = await self._auditor.look_at_new(self._position, now=self._clock.now(), most=self._most)
        is_complete = look.is_complete and look.flows is not None
        # What is looked at again must not count as moved twice.
        self._known.take_new(look if is_complete else replace(look, flows=None), began)
        self._losses = self._known.losses()
        self._found(look)
        self._say(look, skipped=look.skipped)
        self._most = most_next(
            self._most, look.sequence - look.since.sequence, look.elapsed_s, self._half * self._every_s
        )
        if is_complete:
            self._position, self._read_at = look.position, began
        return look

    async def _watch(self) -> None:
        while True:
            await self._pause(self._every_s)
            try:
                await self.audit_new()
            except DanbaoError as error:
                log.warning("not_audited", reason=error.reason)

    async def _go_round(self) -> None:
        while True:
            await self._pause(self._every_s)
            began, looks = self._monotonic(), []
            for part in self._auditor.parts():
                looks.append(look := await self._until_it_reads(part))
                await self._pause(look.elapsed_s * (1 / self._half - 1))
            self._round(looks, began)

    async def _until_it_reads(self, part: Part) -> Look:
        """A round goes on where the store went away."""
        while True:
            try:
                return await self._audit_part(part)
            except DanbaoError as error:
                log.warning("not_audited", reason=error.reason)
                await self._pause(self._every_s)

    async def _audit_part(self, part: Part) -> Look:
        began, now = self._monotonic(), self._clock.now()
        look = await self._auditor.look_at_part(part, now=now, window=Window(since=now - _WINDOW))
        self._known.take_whole(look, began)
        self._losses = self._known.losses()
        self._found(look)
        return look

    def _round(self, looks: Sequence[Look], began: float) -> Look:
        look = joined(looks)
        self._say(look)
        if look.is_complete and look.flows is not None:
            self._last, self._round_at = look, began
        return look

    def _found(self, look: Look) -> None:
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

    def _say(self, look: Look, **others: int) -> None:
        told = {
            "extent": look.extent.value,
            "sequence": look.sequence,
            "violations": look.count(),
            "seconds": round(look.elapsed_s, 2),
        }
        if look.is_complete and look.flows is not None:
            log.info("audited", **told, **others)
        else:
            log.warning("audit_incomplete", **told, **others)

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
            "Since the books were last read by a complete audit, of what was new or of all.",
        )
        meter.create_observable_gauge(
            "whole_audit_age_seconds",
            [lambda _: [Observation(self._monotonic() - self._round_at)]],
            "s",
            "Since the last complete audit of all began.",
        )
