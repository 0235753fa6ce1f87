"""How a command that meets another's money step waits for it, as long as its caller does."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from danbao_escrow.domain.errors import StepInFlight
from danbao_kit.call import current_call
from danbao_kit.commands import CommandRunner

LOOK_AGAIN_S = 0.05
"""How long such a command waits before it looks again; it gives up a little before its deadline."""
_GIVE_UP_AHEAD_S = 0.3


async def run_waiting(
    runner: CommandRunner, context: grpc.aio.ServicerContext, method: str, request_id: str, command: Any
) -> Any:
    """The command's reply. Raises what refused it."""
    while True:
        try:
            return await runner.run(context, method, request_id, command)
        except StepInFlight:
            if not time_is_left():
                raise
        await asyncio.sleep(LOOK_AGAIN_S)


def time_is_left() -> bool:
    """Whether the caller still waits for long enough to look once more."""
    remaining_s = current_call().remaining_s()
    return remaining_s is None or remaining_s > _GIVE_UP_AHEAD_S
