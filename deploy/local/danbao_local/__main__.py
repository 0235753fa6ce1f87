"""The command line: run, demo, stop, status, env, trace, clock."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from danbao_local import leftovers, ports
from danbao_local.errors import DiskFull, StackFailed, is_disk_full
from danbao_local.layout import NEEDED_MIB, StateLayout

# Asking a service that is still starting is no news; grpc reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

DEFAULT_STATE_DIR = Path(os.environ.get("DANBAO_STATE_DIR", ".danbao"))
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM: everything is to be stopped."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except StackFailed as failure:
        print(failure, file=sys.stderr)
    except OSError as failure:
        if not is_disk_full(failure):
            raise
        print(DiskFull(place=arguments.state_dir, free_mib=0, needed_mib=NEEDED_MIB), file=sys.stderr)
    return 1


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within it, the first signal raises Interrupted and the following ones are ignored."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    for number in _SIGNALS:
        signal.signal(number, interrupt)
    yield


def _run(arguments: argparse.Namespace) -> int:
    """Start all, play one trade, and (unless it is only a demo) stay until a signal."""
    from danbao_local.session import Session

    session = Session(
        arguments.state_dir,
        clock=arguments.clock,
        wanted_ports=ports.wanted_from_environment(),
        gateway_tls=arguments.tls,
    )
    try:
        with interruptible():
            played = session.start()
            if arguments.stays:
                session.show_how_to_call()
                threading.Event().wait()
            return 0 if played else 1
    except Interrupted:
        return 0 if arguments.stays else 1
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        session.stop()


def _stop(arguments: argparse.Namespace) -> int:
    ended = leftovers.end(StateLayout.at(arguments.state_dir).processes)
    print(f"Stopped: {', '.join(ended)}" if ended else "Nothing was running.")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    alive = leftovers.alive(StateLayout.at(arguments.state_dir).processes)
    for name, mark in alive.items():
        print(f"{name:12} pid {mark.pid}")
    if not alive:
        print("Nothing is running.")
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    """Stop the stack and those below its state directory (the replay's), and remove their databases."""
    from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
    from danbao_kit.testing.postgres_binaries import remove_shared_copy

    for postgres_dir in (arguments.state_dir / "postgres", *arguments.state_dir.glob("*/postgres")):
        leftovers.end(StateLayout.at(postgres_dir.parent).processes)
        EmbeddedPostgres(postgres_dir).destroy()
    remove_shared_copy()
    return 0


def _env(arguments: argparse.Namespace) -> int:
    """Variables for a shell: eval "$(python -m danbao_local env)"."""
    from danbao_local.card import Card

    card = Card.of_running_stack(arguments.state_dir)
    variables = {"GRPC": card.gateway, "JSON": card.json} | {
        f"{role.upper()}_TOKEN": token for role, token in card.token.items()
    }
    for name, value in variables.items():
        print(f"export DANBAO_{name}={shlex.quote(value)}")
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    from danbao_local.card import Card
    from danbao_local.otlp_receiver import TraceReader
    from danbao_local.show import make_console
    from danbao_local.waterfall import render

    reader = TraceReader(Card.of_running_stack(arguments.state_dir).otlp)
    render(reader.trace(arguments.trace_id), arguments.trace_id, console=make_console())
    return 0


def _clock(arguments: argparse.Namespace) -> int:
    from danbao_local import business_clock
    from danbao_local.card import Card

    card = Card.of_running_stack(arguments.state_dir)
    if card.clock != "test":
        raise StackFailed(
            "This stack runs on the real clock: start one with --clock test and a --state-dir of its own."
        )
    if arguments.to:
        times = business_clock.advance_to(card, business_clock.parse_time(arguments.to))
    elif arguments.by:
        times = business_clock.advance_by(card, business_clock.parse_duration(arguments.by))
    else:
        times = business_clock.read(card)
    for service, time in times.items():
        print(f"{service:9} {time.isoformat()}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m danbao_local", description="Danbao on one machine.")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="where data and logs live")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, stays, text in (
        ("run", True, "start everything, play one trade, stay until Ctrl-C"),
        ("demo", False, "start everything, play one trade, stop"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--clock", choices=("real", "test"), default="real", help="business time")
        command.add_argument("--tls", action="store_true", help="the gateway's listener speaks TLS")
        command.set_defaults(command=_run, stays=stays)
    commands.add_parser("stop", help="stop what runs").set_defaults(command=_stop)
    commands.add_parser("status", help="what runs").set_defaults(command=_status)
    commands.add_parser("clean", help="stop what runs and remove its data").set_defaults(command=_clean)
    env = commands.add_parser("env", help="addresses and tokens of the running stack, as shell variables")
    env.set_defaults(command=_env)
    trace = commands.add_parser("trace", help="show a trace as a waterfall")
    trace.add_argument("trace_id")
    trace.set_defaults(command=_trace)
    clock = commands.add_parser("clock", help="business time of a stack on the test clock")
    actions = clock.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("show").set_defaults(command=_clock, to=None, by=None)
    advance = actions.add_parser("advance", help="move all three services forward")
    target = advance.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", help="a time, such as 2026-11-23T10:00:00Z")
    target.add_argument("--by", help="a duration, such as 10d or 1d12h")
    advance.set_defaults(command=_clock)
    return parser


if __name__ == "__main__":
    sys.exit(main())
