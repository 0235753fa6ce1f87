"""danbao-payments serve | migrate | import-statement FILE.csv …

serve: runs the service. migrate: brings its store to the newest migration. import-statement: sends a rail's statement
to a running service and says what differs from the books; `import-statement --help` says how.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from pydantic import ValidationError

from danbao_kit.business_clock import ClockMixed
from danbao_kit.metrics import start_metrics, stop_metrics
from danbao_kit.migrations import upgrade
from danbao_kit.server import run_service
from danbao_kit.settings import MigrationSettings
from danbao_payments.app import NAME, PaymentsSettings, serve
from danbao_payments.clients.statement_import import import_statement


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit code."""
    match sys.argv[1:] if arguments is None else arguments:
        case ["serve"]:
            return _told(_serve)
        case ["migrate"]:
            return _told(_migrate)
        case ["import-statement", *others]:
            return import_statement(others)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def _serve() -> None:
    settings = PaymentsSettings()  # type: ignore[call-arg]
    metrics = start_metrics(service=NAME, endpoint=settings.otlp_endpoint)
    try:
        run_service(settings, name=NAME, serve=partial(serve, settings))
    finally:
        stop_metrics(metrics)


def _migrate() -> None:
    settings = MigrationSettings()  # type: ignore[call-arg]
    upgrade(package="danbao_payments", dsn=settings.migration_dsn, role=settings.database_role)


def _told(work: Callable[[], None]) -> int:
    """Runs it; what the operator got wrong is one sentence, not a traceback."""
    try:
        work()
    except ValidationError as error:
        wrong = "; ".join(f"DANBAO_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        print(f"payments cannot start: {wrong}", file=sys.stderr)
        return 1
    except ClockMixed as error:
        print(f"payments cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
