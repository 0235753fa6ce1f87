"""The walkthrough of payments' README: copied from top to bottom it answers as shown, and so again."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = (ROOT / "services/payments/README.md").read_text(encoding="utf-8")
WALK = re.search(r"^## A hold, a part captured, the statement\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
assert WALK is not None
COMMANDS = re.findall(r"```sh\n(.*?)```", WALK[1], re.DOTALL)
SHOWN = re.findall(r"```json\n(.*?)```", WALK[1], re.DOTALL)
# Between the answers of one block and the next.
MARK = "-- and then"


def answers(text: str) -> list[Any]:
    """The JSON values in a text, one after another."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def agrees(shown: Any, told: Any) -> bool:
    """Whether what is shown is told: fields may be left out of what is shown, and names end in an ellipsis."""
    if isinstance(shown, dict):
        return isinstance(told, dict) and all(name in told and agrees(each, told[name]) for name, each in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(told) and all(agrees(one, other) for one, other in zip(shown, told, strict=True))
    if isinstance(shown, str) and shown.endswith("…"):
        return isinstance(told, str) and told.startswith(shown[:-1])
    return bool(shown == told)


def walk(running: Any) -> list[list[Any]]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"\necho '{MARK}'\n".join(COMMANDS)],
        cwd=ROOT,
        env={**os.environ, "DANBAO_STATE_DIR": str(running.state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [answers(block) for block in done.stdout.split(MARK)]


def test_the_walkthrough_answers_as_shown_and_the_same_again(running):
    told = walk(running)
    assert len(told) == len(SHOWN) == len(COMMANDS)
    for shown, block in zip(SHOWN, told, strict=True):
        for expected, answer in zip(answers(shown), block, strict=True):
            assert agrees(expected, answer), answer
    assert walk(running) == told
