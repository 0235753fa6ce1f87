"""Asks credit's own `assess` how the grades of its model came out on the orders of a replay."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from danbao_local.errors import StackFailed

ASSESSMENT_FILE = "assessment.json"


async def assess(state_dir: Path, reports: Path) -> dict[str, Any]:
    """What it finds, over the streams of the running stack and the reports; it tells how far it is itself."""
    file = state_dir / ASSESSMENT_FILE
    words = ("--stack", str(state_dir), "--reports", str(reports), "--json", str(file))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "danbao_credit", "assess", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise StackFailed("The model cannot be assessed; what it said stands above.")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
