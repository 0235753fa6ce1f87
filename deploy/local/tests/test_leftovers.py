"""What an earlier start left behind is ended; what only looks like it is not."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from danbao_local import leftovers


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_recorded_process_is_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    record = tmp_path / "processes.json"
    leftovers.record(record, {"payments": sleeper.pid})
    assert leftovers.end(record) == ["payments"]
    assert sleeper.wait(5) == -15
    assert not record.exists()


def test_another_process_with_the_recorded_pid_lives_on(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    record = tmp_path / "processes.json"
    leftovers.record(record, {"payments": sleeper.pid})
    content = json.loads(record.read_text())
    content["payments"]["start_time"] -= 3600
    record.write_text(json.dumps(content))
    assert leftovers.end(record) == []
    assert sleeper.poll() is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"payments": 3}'])
def test_a_damaged_record_ends_nothing(tmp_path: Path, content: str) -> None:
    record = tmp_path / "processes.json"
    record.write_text(content)
    assert leftovers.end(record) == []


def test_we_never_end_ourselves(tmp_path: Path) -> None:
    record = tmp_path / "processes.json"
    leftovers.record(record, {leftovers.SUPERVISOR: psutil.Process().pid})
    assert leftovers.alive(record) == {}
