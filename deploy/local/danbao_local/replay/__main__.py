"""python -m danbao_local.replay --data FOLDER: real orders as secured trades, with a report at the end."""

import argparse
import asyncio
import json
import os
import signal
import sys
import textwrap
import time
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from danbao_local import ports
from danbao_local.__main__ import Interrupted, interruptible
from danbao_local.card import Card
from danbao_local.errors import DiskFull, StackFailed, is_disk_full
from danbao_local.layout import NEEDED_MIB, write_atomically
from danbao_local.olist import files, reader
from danbao_local.olist.orders import OlistOrders
from danbao_local.replay.assessing import assess
from danbao_local.replay.bar import Bar
from danbao_local.replay.books import read_books
from danbao_local.replay.calls import Gateway, Refused
from danbao_local.replay.clocks import Clocks
from danbao_local.replay.complaints import RULE, RULES
from danbao_local.replay.facts import RULES as RULES_OF_REPORTS
from danbao_local.replay.facts import facts_about
from danbao_local.replay.journal import Journal, Progress
from danbao_local.replay.money import money_in_by_files
from danbao_local.replay.plan import make_plan
from danbao_local.replay.report import Times, is_clean, make_report
from danbao_local.replay.run import Replay, Runner
from danbao_local.replay.schedule import make_steps
from danbao_local.replay.state import Identity, prepare
from danbao_local.replay.tables import show
from danbao_local.replay.telling import keep
from danbao_local.show import make_console
from danbao_local.stack import LocalStack

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEFAULT_STATE_DIR = Path(".danbao/replay")
TRACE_RATIO = 0.01
"""A hundred thousand calls: one trace in a hundred tells enough."""


def main() -> int:
    """0: everything is accounted for and every check holds."""
    arguments = _parser().parse_args()
    console = make_console()
    began = time.monotonic()
    try:
        with interruptible():
            report = _replay(arguments, console, began)
    except StackFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as failure:
        if not is_disk_full(failure):
            raise
        print(DiskFull(place=arguments.state_dir, free_mib=0, needed_mib=NEEDED_MIB), file=sys.stderr)
        return 1
    except Interrupted:
        print("Interrupted. Start the replay again and it goes on where it was.", file=sys.stderr)
        return 130
    show(report, console)
    if arguments.json is not None:
        write_atomically(arguments.json.absolute(), json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return 0 if is_clean(report) else 1


def _replay(arguments: argparse.Namespace, console: Console, began: float) -> dict[str, Any]:
    """Read, start the stack, send, report; the stack is stopped in any case."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if arguments.json is not None and not os.access(arguments.json.absolute().parent, os.W_OK):
        raise StackFailed(f"The report cannot be written to {arguments.json}: there is no such folder to write to.")
    olist = reader.read(arguments.data, arguments.limit)
    say(f"{len(olist.orders)} orders in {arguments.data}, {len(olist.odd_rows)} lines cannot be used as they are")
    identity = Identity(
        orders=files.fingerprint(arguments.data), limit=arguments.limit, step_seconds=int(arguments.step * 3600)
    )
    prepare(arguments.state_dir, identity, fresh=arguments.fresh, say=say)
    stack = LocalStack(
        arguments.state_dir,
        clock="test",
        wanted_ports=ports.wanted_from_environment(),
        trace_ratio=TRACE_RATIO,
        say=say,
    )
    try:
        stack.start()
        return asyncio.run(_cancelled_by_signals(_conduct(arguments, olist, stack.card, console, began)))
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, Refused):
            raise StackFailed(f"The replay cannot go on: {first}") from group
        raise first from group
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stack.stop()


async def _conduct(
    arguments: argparse.Namespace, olist: OlistOrders, card: Card, console: Console, began: float
) -> dict[str, Any]:
    plans = [make_plan(order) for order in olist.orders]
    steps = make_steps(plans, timedelta(hours=arguments.step))
    facts = facts_about(plans, steps[-1].clock) if steps else []
    replay = Replay(plans=plans, steps=steps, facts=facts)
    journal = Journal(arguments.state_dir)
    gateway, clocks = Gateway(card, arguments.in_flight), Clocks(card)
    try:
        progress = journal.open()
        orders_before = sum(record.finished for record in progress.records.values())
        if progress.steps:
            console.print(f"Going on after step {progress.steps} of {len(replay.steps)}", soft_wrap=True)
        with Bar(total=len(plans), console=console) as bar:
            await Runner(replay, gateway, clocks, journal, bar).run(progress)
        books = await read_books(gateway, card, (trade.seller_id for _, trade, _ in replay.made()))
        seconds = time.monotonic() - began
        assessment = await assess(arguments.state_dir, keep(replay.told, arguments.state_dir))
        return make_report(
            replay=replay,
            olist=olist,
            books=books,
            in_by_files=money_in_by_files(arguments.data, olist.orders),
            gateway=gateway,
            times=_times(seconds, progress, orders_before),
            assessment=assessment,
        )
    except Refused as refused:
        raise StackFailed(f"The replay cannot go on: {refused}") from refused
    finally:
        journal.close()
        await gateway.close()
        await clocks.close()


async def _cancelled_by_signals(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Raises Interrupted at the first signal: a handler that raises by itself would get lost inside the loop."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted from None


def _times(seconds: float, progress: Progress, orders_before: int) -> Times:
    return Times(seconds=seconds, seconds_in_all=seconds + progress.seconds, orders_before=orders_before)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure in it that is no group itself."""
    failure: BaseException = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m danbao_local.replay",
        description=__doc__,
        epilog=_rules(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder with the files of the Olist format")
    parser.add_argument("--limit", type=_positive, help="only the first so many orders")
    parser.add_argument("--json", type=Path, help="write the report there as well")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="databases, logs and the journal")
    parser.add_argument(
        "--step",
        type=_hours,
        default=12.0,
        help="hours of business time that one step spans at most, 0.1 to 24 (default 12): recorded times are late by "
        "less than that, but every deadline is met or missed exactly as in the files",
    )
    parser.add_argument("--in-flight", type=_positive, default=64, help="calls under way at once")
    parser.add_argument("--fresh", action="store_true", help="begin anew with empty databases")
    return parser


def _rules() -> str:
    """What the buyers of the files complain of, and what credit is told besides."""
    complaints = [RULE, *(f"{course}: {rule}" for course, rule in RULES.items())]
    reports = [f"{kinds}: {rule}" for kinds, rule in RULES_OF_REPORTS.items()]
    return "\n".join(
        f"{title}:\n"
        + "\n".join(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="    ") for text in texts)
        for title, texts in (("complaints", complaints), ("reports to credit", reports))
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0.1 <= hours <= 24:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours from 0.1 to 24")
    return hours


if __name__ == "__main__":
    sys.exit(main())
