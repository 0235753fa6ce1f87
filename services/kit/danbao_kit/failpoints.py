"""Where a test may make a process die or wait: DANBAO_FAILPOINT="after_commit=kill:3" kills it at the third passing.

Off unless the variable is set; then `name=action[:nth]` with action kill (SIGKILL to itself) or sleep (30 s).
"""

from __future__ import annotations

import asyncio
import os
import signal

_SETTING = os.environ.get("DANBAO_FAILPOINT", "")
_passed: dict[str, int] = {}


async def failpoint(name: str) -> None:
    """A place where the process may be told to die."""
    if not _SETTING:
        return
    wanted, _, action = _SETTING.partition("=")
    if wanted != name:
        return
    action, _, nth = action.partition(":")
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != int(nth or 1):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "sleep":
        await asyncio.sleep(30)
