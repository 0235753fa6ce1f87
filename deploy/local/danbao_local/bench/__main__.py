"""The command: `python -m danbao_local.bench [--quick] [--out bench.json]`."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_local import leftovers
from danbao_local.__main__ import Interrupted, interruptible
from danbao_local.bench import machine, report
from danbao_local.bench.run import FULL, QUICK, BenchResult, Pace, echo_process, run_bench, stack_with_echo
from danbao_local.errors import StackFailed
from danbao_local.layout import StateLayout
from danbao_local.show import make_console

DEFAULT_STATE_DIR = Path(".danbao/bench")


def main(argv: list[str] | None = None) -> int:
    """Run the bench; 0 when every figure counts."""
    parser = argparse.ArgumentParser(prog="python -m danbao_local.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in a few minutes; fewer and shorter rounds")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the figures are written")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="where data and logs live meanwhile")
    arguments = parser.parse_args(argv)
    console = make_console()
    pace = QUICK if arguments.quick else FULL
    began, started = datetime.datetime.now(datetime.UTC), time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/] {line}", soft_wrap=True, highlight=False)

    before = machine.describe(postgres_version="")
    try:
        with interruptible():
            _remove(arguments.state_dir)
            result = asyncio.run(_measured(arguments.state_dir, pace, say))
    except Interrupted:
        return 1
    except StackFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _remove(arguments.state_dir, keep_logs=True)
    seconds = time.monotonic() - started
    described = {**before, "postgresql": result.postgres_version}
    content = report.to_json(result, pace, described, began=began.isoformat(timespec="seconds"), seconds=seconds)
    report.write_json(arguments.out, content)
    report.show(result, described, console)
    console.print(f"{seconds:.0f} s; every figure with its repetitions is in {arguments.out}", highlight=False)
    return 1 if any(figure.void for figure in result.figures.values()) else 0


async def _measured(state_dir: Path, pace: Pace, say: Callable[[str], None]) -> BenchResult:
    async with echo_process(state_dir) as echo:
        stack = stack_with_echo(state_dir, echo.port, say)
        try:
            stack.start()
            return await run_bench(stack, echo, pace, say=say)
        finally:
            stack.stop()


def _remove(state_dir: Path, *, keep_logs: bool = False) -> None:
    """End what runs there, and remove its data: every run begins alike."""
    layout = StateLayout.at(state_dir)
    leftovers.end(layout.processes)
    EmbeddedPostgres(layout.postgres).destroy()
    if not keep_logs:
        shutil.rmtree(layout.root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
