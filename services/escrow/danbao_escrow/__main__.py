"""python -m danbao_escrow serve | migrate; settings come from DANBAO_* variables."""

from __future__ import annotations

import argparse
import asyncio
import signal


def main() -> None:
    """Runs one of the two."""
    parser = argparse.ArgumentParser(prog="danbao-escrow", description="Danbao's escrow service")
    parser.add_argument("command", choices=("serve", "migrate"))
    if parser.parse_args().command == "migrate":
        _migrate()
    else:
        _serve()


def _migrate() -> None:
    from danbao_kit.migrations import upgrade
    from danbao_kit.settings import MigrationSettings

    settings = MigrationSettings()
    upgrade(package="danbao_escrow", dsn=settings.migration_dsn, role=settings.database_role)


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
