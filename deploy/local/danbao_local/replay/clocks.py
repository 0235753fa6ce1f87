"""Moves business time of the three services, over channels that stay open."""

import asyncio
import time
from datetime import datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_local.card import Card
from danbao_local.errors import StackFailed
from danbao_local.replay.calls import RETRIED, RETRY_SECONDS, GaveUp
from danbao_local.replay.channels import operator_channels

_ADVANCE_SECONDS = 60.0
_AGAIN_SECONDS = 0.2
_FIRST = ("credit", "payments")
"""Credit refuses events from its future and escrow's timers move money in payments: these two know the time first."""


class Clocks:
    """The test clocks of one stack."""

    def __init__(self, card: Card) -> None:
        self._channels = operator_channels(card)
        self._stubs = {name: clock_pb2_grpc.ClockServiceStub(channel) for name, channel in self._channels.items()}

    async def advance(self, to: datetime) -> None:
        """Everything that falls due until then has run when this returns. Raises GaveUp."""
        await asyncio.gather(*(self._advance(name, to) for name in _FIRST))
        await self._advance("escrow", to)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()

    async def _advance(self, name: str, to: datetime) -> None:
        stamp = Timestamp()
        stamp.FromDatetime(to)
        request = clock_pb2.AdvanceClockRequest(to=stamp)
        give_up: float | None = None
        while True:
            try:
                await self._stubs[name].AdvanceClock(request, timeout=_ADVANCE_SECONDS, wait_for_ready=True)
                return
            except grpc.aio.AioRpcError as failure:
                if failure.code() not in RETRIED:
                    raise StackFailed(
                        f"{name} cannot move its clock: {failure.code().name}, {failure.details()}"
                    ) from failure
                give_up = give_up or time.monotonic() + RETRY_SECONDS
                if time.monotonic() > give_up:
                    raise GaveUp(failure) from failure
                await asyncio.sleep(_AGAIN_SECONDS)
