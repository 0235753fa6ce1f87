"""The command: `python -m danbao_local.fuzz [--count 100000] [--seed 1] [--again FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
from pathlib import Path

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_local import leftovers
from danbao_local.__main__ import Interrupted, interruptible
from danbao_local.client import CallFailed
from danbao_local.errors import StackFailed
from danbao_local.fuzz import report
from danbao_local.fuzz.attempt import Attempt
from danbao_local.fuzz.run import Fuzzer, still_stack
from danbao_local.layout import StateLayout
from danbao_local.show import make_console

DEFAULT_STATE_DIR = Path(".danbao/fuzz")


def main(argv: list[str] | None = None) -> int:
    """Fuzz a stack of its own; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m danbao_local.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="how many requests")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn")
    parser.add_argument("--again", type=Path, help="a request that failed, sent once more")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="where data and logs live meanwhile")
    arguments = parser.parse_args(argv)
    try:
        again = report.read_failure(arguments.again) if arguments.again else None
    except (OSError, ValueError, TypeError, KeyError) as failure:
        print(f"{arguments.again} is no request: {failure}", file=sys.stderr)
        return 1
    try:
        with interruptible():
            _remove(arguments.state_dir)
            return _fuzz(arguments.state_dir, count=arguments.count, seed=arguments.seed, again=again)
    except Interrupted:
        return 1
    except (StackFailed, CallFailed) as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _remove(arguments.state_dir, keep_logs=True)


def _fuzz(state_dir: Path, *, count: int, seed: int, again: tuple[Attempt, dict[str, str]] | None) -> int:
    console = make_console()

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    with still_stack(state_dir, say) as stack:
        fuzzer = Fuzzer(stack, seed, say)
        fuzzer.prepare()
        if again is not None:
            answer, wrong = asyncio.run(fuzzer.again(*again))
            say(f"{answer.code} {answer.reason}: {answer.text!r}")
            for what in wrong:
                say(what)
            return 1 if wrong else 0
        result = asyncio.run(fuzzer.run(count))
        report.show(result, console)
        for failure in result.failures:
            say(report.told(failure, seed=seed))
        for path in report.write_failures(result, fuzzer.places, stack.layout.root.with_name("fuzz-failures")):
            say(f"again: .venv/bin/python -m danbao_local.fuzz --again {path}")
    return 1 if result.failed.total() else 0


def _remove(state_dir: Path, *, keep_logs: bool = False) -> None:
    """End what runs there, and remove its data: every run begins alike. Logs stay until the next, requests that failed
    lie beside it."""
    layout = StateLayout.at(state_dir)
    leftovers.end(layout.processes)
    EmbeddedPostgres(layout.postgres).destroy()
    if not keep_logs:
        shutil.rmtree(layout.root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
