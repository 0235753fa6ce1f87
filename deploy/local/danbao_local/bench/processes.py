"""The bench's own processes, the load client and the echo, and how much CPU everybody uses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import psutil

from danbao_kit.testing.certificates import CertificateFiles
from danbao_local.bench.orders import LoadReport, Order
from danbao_local.children import child_environment
from danbao_local.errors import StackFailed


class BenchProcessEnded(StackFailed):
    """A process of the bench ended when it should not."""

    def __init__(self, module: str) -> None:
        super().__init__(f"The bench's {module} ended; its last words are above.")


class _ModuleProcess:
    """`python -m danbao_local.bench.MODULE`, spoken to by lines; it ends when we close its standard input."""

    module = ""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            f"danbao_local.bench.{self.module}",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None, "not started"
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _read_line(self) -> str:
        assert self._process is not None, "not started"
        assert self._process.stdout is not None, "it has a pipe"
        line = await self._process.stdout.readline()
        if not line:
            raise BenchProcessEnded(self.module)
        return line.decode()

    def _write_line(self, line: str) -> None:
        assert self._process is not None, "not started"
        assert self._process.stdin is not None, "it has a pipe"
        self._process.stdin.write(line.encode() + b"\n")


class EchoProcess(_ModuleProcess):
    """The raw echo server."""

    module = "echo_server"

    def __init__(self, files: CertificateFiles) -> None:
        super().__init__("--cert", str(files.cert), "--key", str(files.key), "--ca", str(files.ca))
        self.port = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.port = int(await self._read_line())
        return self


class LoadClient(_ModuleProcess):
    """The load client."""

    module = "load_client"

    async def run(self, order: Order, on_window: Callable[[str], Any] = lambda _event: None) -> LoadReport:
        """What came of the order. `on_window` is awaited with "begins" and "ends" of the measured time."""
        self._write_line(order.to_json())
        while True:
            content = json.loads(await self._read_line())
            if "report" in content:
                return LoadReport.of(content["report"])
            waiting = on_window(content["window"])
            if waiting is not None:
                await waiting


OTHERS = "others"
"""What else ran on the machine: the more of it, the less a figure means."""


class CpuMeter:
    """CPU seconds of processes, their children included, by name; and of everybody else together."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids

    def read(self) -> dict[str, float]:
        """Used so far."""
        used = {name: _cpu_seconds(pid) for name, pid in self._pids().items()}
        ours = {name: seconds for name, seconds in used.items() if seconds is not None}
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        return {**ours, OTHERS: busy - sum(ours.values())}


def used_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds by process, of those that were there both times."""
    return {name: round(after[name] - before[name], 3) for name in after if name in before}


def _cpu_seconds(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        seconds = times.user + times.system + times.children_user + times.children_system
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                own = child.cpu_times()
                seconds += own.user + own.system
    except psutil.NoSuchProcess:
        return None
    return float(seconds)
