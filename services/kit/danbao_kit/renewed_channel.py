"""How does a call go out with the certificate there is now? Over another channel as soon as the files were replaced.

gRPC's own channel keeps the credentials it was made with. Here a call that finds new ones opens another channel; calls
under way, streams too, end on the one they began on, which is closed after the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from danbao_kit.identity_files import Identity, IdentityFiles

Open = Callable[[Identity], grpc.aio.Channel]


class RenewedChannel(grpc.aio.Channel):
    """A channel to one address. `open` makes the real ones."""

    def __init__(self, files: IdentityFiles, open: Open) -> None:
        self._files = files
        self._open = open
        self._current = _Connected(files.lately(), open)
        self._earlier: set[_Connected] = set()

    def connected(self) -> _Connected:
        """By what a call that begins now goes out."""
        identity = self._files.lately()
        if identity is not self._current.identity:
            self._earlier = {each for each in self._earlier if not each.closed}
            self._earlier.add(self._current)
            self._current.retire()
            self._current = _Connected(identity, self._open)
        return self._current

    async def __aenter__(self) -> RenewedChannel:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes all of them. Seconds of `grace` for calls under way."""
        everything = (self._current, *self._earlier)
        await asyncio.gather(*(each.channel.close(grace) for each in everything))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Of the connection that the next call takes."""
        return self._current.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._current.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.connected().channel.channel_ready()

    def unary_unary(self, *given: Any, **named: Any) -> Any:
        return _Method(self, "unary_unary", given, named)

    def unary_stream(self, *given: Any, **named: Any) -> Any:
        return _Method(self, "unary_stream", given, named)

    def stream_unary(self, *given: Any, **named: Any) -> Any:
        return _Method(self, "stream_unary", given, named)

    def stream_stream(self, *given: Any, **named: Any) -> Any:
        return _Method(self, "stream_stream", given, named)


class _Connected:
    """A real channel, and the calls under way on it."""

    def __init__(self, identity: Identity, open: Open) -> None:
        self.identity = identity
        self.channel = open(identity)
        self._under_way = 0
        self._closing: asyncio.Task[None] | None = None
        self._is_retired = False

    @property
    def closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    def call(self, method: Callable[..., Any], given: Any, named: Any) -> Any:
        call = method(*given, **named)
        self._under_way += 1
        call.add_done_callback(self._ended)
        return call

    def retire(self) -> None:
        """No call begins on it any more."""
        self._is_retired = True
        self._close_when_idle()

    def _ended(self, _: Any) -> None:
        self._under_way -= 1
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._is_retired and not self._under_way and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self.channel.close(), name="close earlier channel")


class _Method:
    """One method: a stub has it for as long as it lives."""

    __slots__ = ("_channel", "_connected", "_given", "_kind", "_made", "_named")

    def __init__(self, channel: RenewedChannel, kind: str, given: Any, named: Any) -> None:
        self._channel, self._kind, self._given, self._named = channel, kind, given, named
        self._connected: _Connected | None = None
        self._made: Any = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        connected = self._channel.connected()
        if connected is not self._connected:
            self._made = getattr(connected.channel, self._kind)(*self._given, **self._named)
            self._connected = connected
        return connected.call(self._made, given, named)
