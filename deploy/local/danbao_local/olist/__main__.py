"""python -m danbao_local.olist generate | population --orders 300 --seed 7 --out DIR"""

import argparse
import sys
from pathlib import Path

from danbao_local.olist.generator import generate, write
from danbao_local.olist.population import generate_population


def main() -> int:
    """Run the command; 0 is good."""
    parser = argparse.ArgumentParser(prog="python -m danbao_local.olist", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, orders, days, make, words in (
        ("generate", 300, 60, generate, "make up orders in the Olist format, every oddity among them"),
        (
            "population",
            20_000,
            540,
            generate_population,
            "make up sellers and customers of varying quality, to train on",
        ),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--orders", type=int, default=orders, help="how many")
        command.add_argument("--seed", type=int, default=7, help="the same seed gives the same orders")
        command.add_argument("--days", type=int, default=days, help="how long the purchases spread")
        command.add_argument("--out", type=Path, required=True, help="a folder; files of the same names are replaced")
        command.set_defaults(make=make)
    arguments = parser.parse_args()
    if arguments.orders < 1 or arguments.days < 1:
        parser.error("--orders and --days must be at least 1")
    write(arguments.make(arguments.orders, arguments.seed, days=arguments.days), arguments.out)
    print(f"{arguments.orders} orders in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
