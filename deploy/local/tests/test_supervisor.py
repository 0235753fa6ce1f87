"""Children are kept alive, ended in order, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from danbao_local.children import ProcessChild
from danbao_local.errors import ChildFailed
from danbao_local.supervisor import Supervisor

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)",
]


def child(tmp_path: Path, name: str, command: list[str] = SLEEPER, stop_seconds: float = 5.0) -> ProcessChild:
    return ProcessChild(name=name, command=command, log_path=tmp_path / f"{name}.log", stop_seconds=stop_seconds)


def eventually(question: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    changes: list[int] = []
    supervisor = Supervisor(on_change=lambda: changes.append(1))
    supervisor.start(child(tmp_path, "one"))
    first = supervisor.pids["one"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.pids.get("one") not in (None, first))
    second = supervisor.pids["one"]
    assert psutil.pid_exists(second)
    eventually(lambda: len(changes) == 2)
    supervisor.stop()
    assert not psutil.pid_exists(second)


def test_a_child_that_keeps_dying_is_started_with_growing_pauses(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(say=said.append)
    supervisor.start(child(tmp_path, "dying", [sys.executable, "-c", "raise SystemExit(3)"]))
    eventually(lambda: len(said) >= 4)
    supervisor.stop()
    pauses = [float(line.split()[-2]) for line in said]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert "code 3" in said[0]


def test_groups_end_in_order(tmp_path: Path) -> None:
    supervisor = Supervisor()
    for name in ("store", "service", "door"):
        supervisor.start(child(tmp_path, name))
    processes = {name: psutil.Process(pid) for name, pid in supervisor.pids.items()}
    ended: list[str] = []

    class Watching(ProcessChild):
        def stop(self) -> None:
            super().stop()
            ended.append(self.name)

    for kept in supervisor._children:
        kept.__class__ = Watching
    supervisor.stop([["door"], ["service"], ["store"]])
    assert ended == ["door", "service", "store"]
    assert not any(process.is_running() for process in processes.values())


def test_a_stubborn_child_is_killed_after_its_time(tmp_path: Path) -> None:
    supervisor = Supervisor()
    supervisor.start(child(tmp_path, "stubborn", STUBBORN, stop_seconds=0.3))
    eventually(lambda: (tmp_path / "stubborn.log").read_text() != "")
    pid = supervisor.pids["stubborn"]
    supervisor.stop()
    assert not psutil.pid_exists(pid)


def test_a_child_that_dies_while_starting_says_where_to_look(tmp_path: Path) -> None:
    dying = ProcessChild(
        name="payments",
        command=[sys.executable, "-c", "raise SystemExit('no such database')"],
        log_path=tmp_path / "payments.log",
        is_ready=lambda: False,
    )
    supervisor = Supervisor()
    with pytest.raises(ChildFailed, match=r"payments ended with code 1 .*: no such database.*payments\.log"):
        supervisor.start(dying)
    supervisor.stop()


PROGRAM = """
import sys, threading
from pathlib import Path
from danbao_local.__main__ import Interrupted, interruptible
from danbao_local.children import ProcessChild
from danbao_local.supervisor import Supervisor

supervisor = Supervisor()
try:
    with interruptible():
        for name in ("one", "two"):
            supervisor.start(ProcessChild(name=name, command=[sys.executable, "-c", "import time; time.sleep(600)"],
                                          log_path=Path(sys.argv[1]) / name))
        print(*supervisor.pids.values(), flush=True)
        threading.Event().wait()
except Interrupted:
    pass
finally:
    supervisor.stop()
"""


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, signal_number: signal.Signals) -> None:
    program = subprocess.Popen([sys.executable, "-P", "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program.stdout:
        pids = [int(word) for word in program.stdout.readline().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
        program.send_signal(signal_number)
        assert program.wait(20) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
