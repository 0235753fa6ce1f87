"""One process of the stack: how it is started, known to be ready, and stopped."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_local.errors import ChildFailed


class Child(Protocol):
    """What the supervisor needs to know of a process."""

    name: str

    @property
    def pid(self) -> int | None:
        """Its pid, None before the first start."""

    def start(self) -> None:
        """Start it; returns at once or when it is ready."""

    def wait_until_ready(self) -> None:
        """Return when it serves. Raises ChildFailed."""

    def poll(self) -> int | None:
        """None while it runs, else its exit code."""

    def stop(self) -> None:
        """Ask it to end, wait, kill it if it does not."""


class ProcessChild:
    """A program in a session of its own, so that Ctrl-C reaches only the supervisor."""

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
        ready_seconds: float = 30.0,
        stop_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log_path = log_path
        self._environment = dict(environment or {})
        self._is_ready = is_ready
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its pid, None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the program; does not wait for it to be ready."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment() | self._environment,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when it serves. Raises ChildFailed when it ends first or takes too long."""
        deadline = time.monotonic() + self._ready_seconds
        while not self._is_ready():
            code = self.poll()
            if code is not None:
                what = f"ended with code {code} while starting: {self._last_line()}"
                raise ChildFailed(name=self.name, what=what, log_path=self._log_path)
            if time.monotonic() > deadline:
                what = f"was not ready within {self._ready_seconds:.0f} s"
                raise ChildFailed(name=self.name, what=what, log_path=self._log_path)
            time.sleep(0.02)

    def run_to_end(self) -> None:
        """Start it and wait for its good end. Raises ChildFailed."""
        self.start()
        assert self._process is not None
        code = self._process.wait()
        if code != 0:
            what = f"ended with code {code}: {self._last_line()}"
            raise ChildFailed(name=self.name, what=what, log_path=self._log_path)

    def poll(self) -> int | None:
        """None while it runs, else its exit code."""
        return self._process.poll() if self._process else -1

    def stop(self) -> None:
        """SIGTERM, the time to drain, then SIGKILL to its whole session."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._stop_seconds)
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _last_line(self) -> str:
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


class PostgresChild:
    """PostgreSQL, kept like any other process."""

    name = "postgres"

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._started = False

    @property
    def pid(self) -> int | None:
        """The postmaster's pid."""
        return self._server.pid if self._started and self._server.poll() is None else None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._server.start()
        self._started = True

    def wait_until_ready(self) -> None:
        """Start has waited already."""

    def poll(self) -> int | None:
        """None while it runs, else its exit code."""
        code: int | None = self._server.poll()
        return code

    def stop(self) -> None:
        """A fast shutdown: connections are closed, everything committed is on disk."""
        self._server.stop("fast")


def child_environment() -> dict[str, str]:
    """Our environment, without what would send local calls through a proxy."""
    environment = dict(os.environ)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        listed = environment.get(name, "")
        environment[name] = ",".join(filter(None, (listed, "127.0.0.1,localhost")))
    return environment
