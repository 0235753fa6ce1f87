"""Every command that the README shows works as shown."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if not block.startswith("make ")]


def run(running, script):
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, "DANBAO_STATE_DIR": str(running.state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", BLOCKS)
def test_the_command_works(running, script):
    done = run(running, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_call_answers_as_shown_and_the_same_again(running):
    call = next(block for block in BLOCKS if "/v1/payments" in block)
    shown, refused = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", README, re.DOTALL))
    first, second = (run(running, call).stdout for _ in range(2))
    assert first == second
    answer = json.loads(first)
    assert answer.keys() == shown.keys()
    changing = {"name", "create_time", "update_time", "last_transaction"}
    assert {key: answer[key] for key in answer.keys() - changing} == {
        key: shown[key] for key in shown.keys() - changing
    }
    other = run(running, call.replace('"amountMinor": 500', '"amountMinor": 600')).stdout
    assert json.loads(other) == refused


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_shown_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
