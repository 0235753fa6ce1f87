"""python -m danbao_escrow serve | migrate | diagram; settings come from DANBAO_* variables."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path


def main() -> None:
    """Runs one of them."""
    parser = argparse.ArgumentParser(prog="danbao-escrow", description="Danbao's escrow service")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the store to the newest migration")
    diagram = commands.add_parser("diagram", help="draw the state tables")
    diagram.add_argument("document", nargs="?", type=Path, help="draw them anew between this file's marks")
    given = parser.parse_args()
    if given.command == "migrate":
        _migrate()
    elif given.command == "diagram":
        _draw(given.document)
    else:
        _serve()


def _migrate() -> None:
    from danbao_kit.migrations import upgrade
    from danbao_kit.settings import MigrationSettings

    settings = MigrationSettings()
    upgrade(package="danbao_escrow", dsn=settings.migration_dsn, role=settings.database_role)


def _draw(document: Path | None) -> None:
    from danbao_escrow.domain.diagram import diagrams, with_diagrams

    if document is None:
        for name, drawing in diagrams().items():
            print(f"%% {name}\n{drawing}")
    else:
        document.write_text(with_diagrams(document.read_text()))


def _serve() -> None:
    from danbao_escrow.app import NAME, Escrow, EscrowSettings
    from danbao_kit.log import log
    from danbao_kit.server import run_service

    settings = EscrowSettings()

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        escrow = Escrow(settings)
        await escrow.start()
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
        await escrow.stop()

    run_service(settings, name=NAME, serve=serve)


if __name__ == "__main__":
    main()
