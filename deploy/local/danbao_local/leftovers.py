"""Which processes did an earlier start leave behind, and are they really ours?

A pid alone may have been given to somebody else since: a process is ours only if it also started
when we started it.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from danbao_local.layout import write_atomically

SUPERVISOR = "supervisor"
_SAME_START_SECONDS = 2.0
"""Start times are derived from the boot time, which moves a little when the clock is set."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """What tells a process from a later one with the same pid."""

    pid: int
    start_time: float

    @classmethod
    def of(cls, pid: int) -> "ProcessMark | None":
        """The mark of a live process, or None."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid=pid, start_time=process.create_time())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        now = ProcessMark.of(self.pid)
        return now is not None and abs(now.start_time - self.start_time) < _SAME_START_SECONDS


def record(path: Path, pids: Mapping[str, int]) -> None:
    """Remember the processes of this start."""
    marks = {name: ProcessMark.of(pid) for name, pid in pids.items()}
    content = {name: {"pid": m.pid, "start_time": m.start_time} for name, m in marks.items() if m is not None}
    write_atomically(path, json.dumps(content, indent=2))


def alive(path: Path) -> dict[str, ProcessMark]:
    """Those of the recorded processes that still run."""
    try:
        content = json.loads(path.read_text())
        marks = {name: ProcessMark(**values) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {name: mark for name, mark in marks.items() if mark.pid != os.getpid() and mark.is_alive()}


def end(path: Path, *, grace_seconds: float = 20.0) -> list[str]:
    """End what still runs of an earlier start, and say what it was.

    The supervisor goes first, by SIGTERM: it stops its children in their order. What is left
    after that is asked, then killed. PostgreSQL's own way out of a crash needs nothing from us.
    """
    found = alive(path)
    supervisor = found.pop(SUPERVISOR, None)
    ended = [name for name, mark in ((SUPERVISOR, supervisor), *found.items()) if mark is not None]
    if supervisor is not None:
        end_processes([supervisor], grace_seconds=grace_seconds)
    end_processes(found.values(), grace_seconds=5.0)
    path.unlink(missing_ok=True)
    return ended


def end_processes(marks: Iterable[ProcessMark], *, grace_seconds: float) -> None:
    """SIGTERM to each (SIGINT, a fast shutdown, to PostgreSQL), then SIGKILL to what stays."""
    remaining = [mark for mark in marks if mark.is_alive()]
    for mark in remaining:
        _send(mark.pid, signal.SIGINT if _is_postgres(mark.pid) else signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while remaining and time.monotonic() < deadline:
        time.sleep(0.02)
        remaining = [mark for mark in remaining if mark.is_alive()]
    for mark in remaining:
        _send(mark.pid, signal.SIGKILL)
    while any(mark.is_alive() for mark in remaining):
        time.sleep(0.02)


def _is_postgres(pid: int) -> bool:
    try:
        return str(psutil.Process(pid).name()).startswith("postgres")
    except psutil.Error:
        return False


def _send(pid: int, signal_number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal_number)
