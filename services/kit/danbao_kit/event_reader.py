"""How a service reads another's events: from its own cursor, each chunk applied with the cursor in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from danbao_kit.log import log

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_BROKEN = "event_stream_broken"


class EventReader:
    """Follows one stream for ever.

    `cursor()` reads the sequence applied so far from this service's own store; `open(sequence)` opens the stream after
    it, giving messages with `events` and `cursor`; `apply(message, after)` applies a chunk that begins after `after`
    and commits it together with the new cursor. Whatever fails, the reader goes back to the stored cursor: what was
    committed is not read again, what was not is.
    """

    def __init__(
        self,
        source: str,
        *,
        cursor: Callable[[], Awaitable[int]],
        open: Callable[[int], AsyncIterator[Any]],
        apply: Callable[[Any, int], Awaitable[None]],
    ) -> None:
        self.source = source
        self.connected = False
        self._cursor = cursor
        self._open = open
        self._apply = apply

    async def run(self) -> None:
        """Reads until cancelled."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                after = await self._cursor()
                async for message in self._open(after):
                    self.connected = True
                    pause = _FIRST_PAUSE_S
                    await self._apply(message, after)
                    after = message.cursor.sequence
                log.info("event_stream_ended", source=self.source, sequence=after)
            except asyncio.CancelledError:
                raise
            except grpc.aio.AioRpcError as error:
                # One that was open ends with its connection: by its age, or when the other service is started anew.
                ended = self.connected and error.code() is grpc.StatusCode.UNAVAILABLE
                self._tell(error, log.info if ended else log.warning, "event_stream_ended" if ended else _BROKEN)
            except Exception as error:  # noqa: BLE001 - a reader that dies would be silent; it tries again and says so
                self._tell(error, log.warning, _BROKEN)
            finally:
                self.connected = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _tell(self, error: Exception, write: Callable[..., None], event: str) -> None:
        detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        write(event, source=self.source, error=type(error).__name__, detail=(detail or "")[:200])
