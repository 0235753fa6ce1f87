"""python -m danbao_local.olist generate --orders 300 --seed 7 --out DIR"""

import argparse
import sys
from pathlib import Path

from danbao_local.olist.generator import generate, write


def main() -> int:
    """Run the command; 0 is good."""
    parser = argparse.ArgumentParser(prog="python -m danbao_local.olist", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("generate", help="make up orders in the Olist format, every oddity among them")
    command.add_argument("--orders", type=int, default=300, help="how many")
    command.add_argument("--seed", type=int, default=7, help="the same seed gives the same orders")
    command.add_argument("--days", type=int, default=60, help="how long the purchases spread")
    command.add_argument("--out", type=Path, required=True, help="a folder; files of the same names are replaced")
    arguments = parser.parse_args()
    if arguments.orders < 1 or arguments.days < 1:
        parser.error("--orders and --days must be at least 1")
    write(generate(arguments.orders, arguments.seed, days=arguments.days), arguments.out)
    print(f"{arguments.orders} orders in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
