"""PostgreSQL's own yardstick, TPC-B by pgbench, on the same server in a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_local.errors import StackFailed

CLIENTS = 16
THREADS = 2
_MIB_PER_SCALE = 16
_MIB_OF_LOG = 2_048
_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_FAILED = re.compile(r"number of failed transactions: (\d+)")
_LATENCY = re.compile(r"latency average = ([0-9.]+) ms")


class PgbenchFailed(StackFailed):
    """pgbench did not run."""

    def __init__(self, said: str) -> None:
        super().__init__(f"pgbench failed: {said[-400:]}")


@dataclass(frozen=True, slots=True)
class PgbenchReport:
    """What one run gave."""

    per_second: float
    average_ms: float
    failed: int


class Pgbench:
    """A database filled at one scale; dropped at the end."""

    def __init__(self, server: EmbeddedPostgres, scale: int) -> None:
        self._server = server
        self._scale = scale
        self._database = f"bench_s{scale}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the run under way."""
        return self._process.pid if self._process is not None else None

    @property
    def lacks_space(self) -> str:
        """Why it cannot be filled; empty when it can."""
        needed_mib = self._scale * _MIB_PER_SCALE + _MIB_OF_LOG
        free_mib = shutil.disk_usage(self._server.data_location).free // 2**20
        if free_mib >= needed_mib:
            return ""
        return f"scale {self._scale} needs {needed_mib} MiB in {self._server.data_location}, {free_mib} MiB are free"

    async def __aenter__(self) -> Self:
        await self._drop()
        await asyncio.to_thread(self._server.execute, f"CREATE DATABASE {self._database}")
        await self._run("-i", "-q", "-s", str(self._scale), self._database)
        # What filling it left to be written must not burden the first measurement.
        await asyncio.to_thread(self._server.execute, "CHECKPOINT")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    async def measure(self, seconds: float) -> PgbenchReport:
        """TPC-B for so long."""
        whole = str(max(1, round(seconds)))
        options = ("-M", "prepared", "-c", str(CLIENTS), "-j", str(THREADS), "-n", "-T", whole)
        return parse(await self._run(*options, self._database))

    async def _drop(self) -> None:
        await asyncio.to_thread(self._server.drop_database, self._database)

    async def _run(self, *arguments: str) -> str:
        server = self._server
        options = server.programs.process_options()
        options["env"] |= {"PGPASSWORD": urlsplit(server.admin_dsn).password or ""}
        address = ("-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres")
        self._process = await asyncio.create_subprocess_exec(
            *server.programs.command("pgbench", *address, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
        try:
            output, _ = await self._process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            code, self._process = await self._process.wait(), None
        text = output.decode(errors="replace")
        if code != 0:
            raise PgbenchFailed(text.strip())
        return text


def parse(output: str) -> PgbenchReport:
    """What pgbench printed. Raises PgbenchFailed."""
    tps, latency, failed = _TPS.search(output), _LATENCY.search(output), _FAILED.search(output)
    if tps is None:
        raise PgbenchFailed(output)
    return PgbenchReport(
        per_second=float(tps[1]),
        average_ms=float(latency[1]) if latency else 0.0,
        failed=int(failed[1]) if failed else 0,
    )
