"""python -m danbao_local.train: a made-up marketplace is lived through on the local stack, and a model trained on it.

What ships as credit's model is made by this command. It takes a while: every order is created, paid, shipped and
confirmed (or not) by calls, as everywhere else. `--again` trains on the events that the last run left.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from danbao_local.errors import StackFailed
from danbao_local.olist.generator import write
from danbao_local.olist.population import generate_population
from danbao_local.stack import LocalStack

DEFAULT_STATE_DIR = Path(".danbao/train")
ORDERS, SEED, DAYS = 30_000, 7, 540
_PYTHON = (sys.executable, "-P", "-m")


def main() -> int:
    """0: the artefact and its report are written."""
    arguments = _parser().parse_args()
    events: Path = arguments.state_dir / "events"
    out: Path = arguments.out or arguments.state_dir / "model.yaml"
    try:
        if not arguments.again:
            _live(arguments, events)
        elif not events.is_dir():
            raise StackFailed(f"There are no events in {events}: run once without --again.")
        source = f"{arguments.orders} made-up orders over {DAYS} days, seed {arguments.seed} (danbao_local.olist)"
        report = out.with_suffix(".html")
        _run("danbao_credit", "train", "--events", events, "--out", out, "--report", report, "--source", source,
             *(("--version", arguments.version) if arguments.version else ()))  # fmt: skip
    except StackFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _live(arguments: argparse.Namespace, events: Path) -> None:
    """Plays the orders and keeps the events that tell of them."""
    orders, replay = arguments.state_dir / "orders", arguments.state_dir / "replay"
    write(generate_population(arguments.orders, arguments.seed, days=DAYS), orders)
    _run("danbao_local.replay", "--data", orders, "--state-dir", replay, "--fresh")
    with LocalStack(replay, clock="test", trace_ratio=0.0, say=lambda line: print(line, file=sys.stderr)):
        # The streams are read once and kept; a catalogue that grows is then trained on without another replay.
        _run("danbao_credit", "train", "--stack", replay, "--keep", events, "--only-keep")


def _run(module: str, *words: object) -> None:
    if subprocess.run([*_PYTHON, module, *map(str, words)], check=False).returncode != 0:
        raise StackFailed(f"{module} has failed; what it said stands above.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m danbao_local.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=ORDERS, help=f"how many (default {ORDERS})")
    parser.add_argument("--seed", type=int, default=SEED, help="the same seed gives the same orders")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="databases, orders and events")
    parser.add_argument("--out", type=Path, help="the artefact; its report lies beside it (default: in the state dir)")
    parser.add_argument("--version", help="the model's version")
    parser.add_argument("--again", action="store_true", help="train on the events of the last run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
