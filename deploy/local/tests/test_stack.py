"""The stack as a whole, with PostgreSQL and Envoy real and the services replaced by ones that only say they live."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from danbao_local.card import Card
from danbao_local.errors import NotRunning
from danbao_local.leftovers import ProcessMark
from danbao_local.stack import SERVICES, LocalStack

FAKE = (sys.executable, "-P", str(Path(__file__).with_name("fake_service.py")))
COMMANDS = dict.fromkeys(SERVICES, FAKE)
PROCESSES = {"postgres", "payments", "escrow", "credit", "gateway", "otlp"}

PROGRAM = """
import json, sys, threading
from pathlib import Path
from danbao_local.__main__ import Interrupted, interruptible
from danbao_local.stack import LocalStack

stack = LocalStack(Path(sys.argv[1]), service_commands=json.loads(sys.argv[2]))
try:
    with interruptible():
        stack.start()
        threading.Event().wait()
except Interrupted:
    pass
finally:
    stack.stop()
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a path with a space; its databases are removed afterwards."""
    state = tmp_path / "with a space" / ".danbao"
    yield state
    subprocess.run([sys.executable, "-P", "-m", "danbao_local", "--state-dir", str(state), "clean"], check=True)


def start_in_a_process(state_dir: Path) -> tuple["subprocess.Popen[bytes]", Card]:
    """A stack of its own supervisor, as make run has one."""
    process = subprocess.Popen([sys.executable, "-P", "-c", PROGRAM, str(state_dir), json.dumps(COMMANDS)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the stack did not start"
        try:
            return process, Card.of_running_stack(state_dir)
        except NotRunning:
            time.sleep(0.05)
    raise AssertionError("no card within 60 s")


def marks_of(card: Card) -> list[ProcessMark]:
    marks = [ProcessMark.of(pid) for pid in card.pids.values()]
    assert all(marks)
    return [mark for mark in marks if mark]


def test_every_process_killed_in_turn_is_started_again_and_the_card_knows(state_dir: Path) -> None:
    with LocalStack(state_dir, service_commands=COMMANDS) as stack:
        assert stack.card.pids.keys() == PROCESSES
        for name in sorted(PROCESSES):
            before = stack.card.pids[name]
            os.kill(before, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while Card.read(stack.layout.card).pids.get(name) in (before, None):
                assert time.monotonic() < deadline, f"{name} was not started again"
                time.sleep(0.02)
        assert stack.postgres.execute("SELECT 1") == "1"
        marks = marks_of(stack.card)
    assert not any(mark.is_alive() for mark in marks)
    assert not stack.layout.card.exists()


def test_sigterm_leaves_no_process_and_a_second_start_finds_the_data(state_dir: Path) -> None:
    process, card = start_in_a_process(state_dir)
    marks = marks_of(card)
    process.terminate()
    assert process.wait(30) == 0
    assert not any(mark.is_alive() for mark in marks)
    with LocalStack(state_dir, service_commands=COMMANDS) as stack:
        assert stack.card.databases == card.databases
        assert stack.card.gateway == card.gateway


def test_what_a_killed_supervisor_left_is_ended_by_the_next_start(state_dir: Path) -> None:
    process, card = start_in_a_process(state_dir)
    marks = marks_of(card)
    process.kill()
    process.wait()
    assert all(mark.is_alive() for mark in marks)
    with LocalStack(state_dir, service_commands=COMMANDS) as stack:
        assert not any(mark.is_alive() for mark in marks)
        assert stack.card.pids.keys() == PROCESSES


def test_a_start_that_fails_leaves_no_process(state_dir: Path) -> None:
    broken = {**COMMANDS, "escrow": (sys.executable, "-c", "raise SystemExit('no good')")}
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    stack = LocalStack(state_dir, service_commands=broken)
    with pytest.raises(Exception, match="escrow migrate ended with code 1: no good"):
        stack.start()
    after = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert after == []
