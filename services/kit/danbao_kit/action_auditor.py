"""Looks along the log of privileged actions again and again, so that a broken chain is noticed without being asked.

What is new is looked at every time, after the last entry that was found intact; the whole log bit by bit. A replica
keeps that entry's hash in its memory: who rewrites the log, head and all, is found out by every replica that runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from danbao_kit.action_log import ActionLog, Checked
from danbao_kit.errors import DanbaoError
from danbao_kit.log import log
from danbao_kit.privileged_actions import BEGINNING, Break, Place

CHECK = "privileged_actions"
# A look's bounds: some 20 µs an entry.
_MOST_NEW = 50_000
_MOST_OLD = 10_000
# The head is told when it has moved, and at least so often.
_TELL_EVERY_S = 3600.0


class ActionAuditor:
    """Several replicas may look at once: each only reads."""

    def __init__(
        self,
        actions: ActionLog,
        *,
        service: str,
        every_s: float,
        meter: Meter | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._actions = actions
        self._every_s = every_s
        self._monotonic = monotonic
        self._pause = pause
        # Up to where it was found intact, and how far this round over all has come.
        self._known, self._round = BEGINNING, BEGINNING
        self._told_at: float | None = None
        self._told = BEGINNING
        self._broken: Break | None = None
        self._broken_in_round = False
        self._looked_at = monotonic()
        self._tell(meter or get_meter(f"danbao.{service}"))

    @property
    def broken(self) -> Break | None:
        """The break that is known of; it stands until a round over all finds none."""
        return self._broken

    @property
    def known(self) -> Place:
        """The last entry that was found intact."""
        return self._known

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self._pause(self._every_s)
            try:
                await self.look()
            except DanbaoError as error:
                log.warning("not_audited", check=CHECK, reason=error.reason)

    async def look(self) -> None:
        """One look at what is new and at some of what is old, told. Raises what keeps it from reading."""
        began = self._monotonic()
        new = await self._actions.verify(after=self._known, max_entries=_MOST_NEW)
        if new.broken is None:
            self._known = new.reached
        else:
            self._found(new.broken)
        await self._look_at_old()
        self._looked_at = began
        self._say(new)

    async def _look_at_old(self) -> None:
        old = await self._actions.verify(after=self._round, max_entries=_MOST_OLD)
        if old.broken is not None:
            self._found(old.broken)
        if not old.complete:
            self._round = old.reached
            return
        if not self._broken_in_round:
            self._broken = None
        self._round, self._broken_in_round = BEGINNING, False

    def _found(self, wrong: Break) -> None:
        self._broken, self._broken_in_round = wrong, True
        log.error(
            "audit_violation",
            check=CHECK,
            resource=f"privilegedActions/{wrong.sequence}",
            expected="as it was written",
            found=wrong.what,
        )

    def _say(self, new: Checked) -> None:
        """The head's hash, for whoever keeps log lines where nobody of this service can change them.

        Not while a break stands: what follows it is no log to be noted as verified.
        """
        now = self._monotonic()
        if self._broken is not None or new.broken is not None or not new.complete:
            return
        is_due = self._told_at is None or now - self._told_at >= _TELL_EVERY_S
        if is_due or self._told != self._known:
            log.info("privileged_actions_verified", sequence=self._known.sequence, hash=self._known.hash.hex())
            self._told_at, self._told = now, self._known

    # Callbacks run in the exporter's own thread and read what is replaced whole.

    def _tell(self, meter: Meter) -> None:
        def head(_: CallbackOptions) -> Iterable[Observation]:
            known = self._known if self._broken is None else self._told
            return [Observation(known.sequence, {"hash": known.hash.hex()})]

        meter.create_observable_gauge(
            "privileged_actions_broken",
            [lambda _: [Observation(0 if self._broken is None else 1)]],
            "1",
            "1: the log of privileged actions is not as it was written.",
        )
        meter.create_observable_gauge(
            "privileged_actions_head",
            [head],
            "{entry}",
            "The last entry found intact, with no break before, and its hash.",
        )
        meter.create_observable_gauge(
            "privileged_actions_age_seconds",
            [lambda _: [Observation(self._monotonic() - self._looked_at)]],
            "s",
            "Since somebody last looked along the log.",
        )
