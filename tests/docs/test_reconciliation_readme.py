"""The statement that payments' README imports is told to differ as shown, and so again."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "services/payments/README.md").read_text(encoding="utf-8")
SECTION = re.search(r"^## Reconciliation\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
assert SECTION is not None
COMMANDS = re.findall(r"```sh\n(.*?)```", SECTION[1], re.DOTALL)
SHOWN = re.findall(r"```\n(reconciliations/.*?)```", SECTION[1], re.DOTALL)
# What is another each time: ids, days, where the state is.
CHANGING = re.compile(r"[0-9a-f]{8}-(…|[-0-9a-f]{27})|\d{4}-\d{2}-\d{2}|^\S*statement\.csv", re.MULTILINE)


def run(running):
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", COMMANDS[0]],
        cwd=ROOT,
        env={**os.environ, "DANBAO_STATE_DIR": str(running.state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_statement_differs_as_shown_and_the_same_again(running):
    first = run(running)
    assert first.returncode == 0, first.stderr
    assert CHANGING.sub("", first.stdout) == CHANGING.sub("", SHOWN[0])
    assert run(running).stdout == first.stdout
