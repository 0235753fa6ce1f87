"""Work that runs as long as the service: whatever ends it, it is begun again, and the log says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from danbao_kit.log import log

_PAUSE_S = 1.0


async def keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` until cancelled. A worker that died in silence would leave holds, timers and rails to nobody."""
    while True:
        try:
            await work()
            log.warning("worker_ended", worker=name)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, the work must go on
            log.exception("worker_failed", worker=name)
        await asyncio.sleep(_PAUSE_S)
