"""The examples of payments' README beside its walkthrough: each answers as shown."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "services/payments/README.md").read_text(encoding="utf-8")


def answers(text: str) -> list[Any]:
    """The JSON values in a text, one a line: each ends with the line's end, as an answer in a terminal should."""
    return [json.loads(line) for line in text.splitlines()]


def agrees(shown: Any, told: Any) -> bool:
    """Whether what is shown is told: fields may be left out of what is shown, and texts end in an ellipsis."""
    if isinstance(shown, dict):
        return isinstance(told, dict) and all(name in told and agrees(each, told[name]) for name, each in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(told) and all(agrees(one, other) for one, other in zip(shown, told, strict=True))
    if isinstance(shown, str) and shown.endswith("…"):
        return isinstance(told, str) and told.startswith(shown[:-1])
    return bool(shown == told)


@pytest.mark.parametrize("title", ["Auditing", "Who froze this account, and why", "Rails"])
def test_an_example_answers_as_shown(running, title: str):
    section = re.search(rf"^## {title}\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    assert section is not None
    (commands,) = re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)
    (shown,) = re.findall(r"```json\n(.*?)```", section[1], re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=ROOT,
        env={**os.environ, "DANBAO_STATE_DIR": str(running.state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected, told = answers(shown), answers(done.stdout)
    assert len(expected) == len(told), told
    for one, other in zip(expected, told, strict=True):
        assert agrees(one, other), other
