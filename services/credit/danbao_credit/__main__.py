"""danbao-credit serve | migrate | audit | rebuild [--after SUBJECT] | train … | assess … | yardstick --data DIR

serve: runs the service. migrate: brings its store to the newest migration. audit: compares every profile with its
checkpoint and log, prints a line for each that differs, and then exits with 1. rebuild: counts every profile again by
the catalogue of this version, while the service runs; ended early, it is begun again after the subject it told last.
train: makes a model of the events in payments' and escrow's streams (train --help). assess: counts
defects out of time by grade, and what the indicators tell apart (assess --help). yardstick: measures the trainer on
public data sets in a folder.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial

from pydantic import ValidationError

from danbao_credit.app import NAME, CreditSettings, serve
from danbao_credit.domain.errors import DefinitionInvalid, TrainingImpossible
from danbao_credit.maintenance import StoreSettings, audit_store, rebuild_store
from danbao_kit.business_clock import ClockMixed
from danbao_kit.errors import DanbaoError
from danbao_kit.migrations import upgrade
from danbao_kit.server import run_service
from danbao_kit.settings import MigrationSettings


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit code."""
    match sys.argv[1:] if arguments is None else arguments:
        case ["serve"]:
            return _told(_serve)
        case ["migrate"]:
            return _told(_migrate)
        case ["train", *rest]:
            from danbao_credit.training_command import train_main

            return _told(partial(train_main, rest), doing="train")
        case ["assess", *rest]:
            from danbao_credit.assess_command import assess_main

            return _told(partial(assess_main, rest), doing="assess")
        case ["yardstick", *rest]:
            from danbao_credit.yardstick_command import yardstick_main

            return _told(partial(yardstick_main, rest), doing="measure")
        case ["audit"]:
            return _told(_audit)
        case ["rebuild"]:
            return _told(partial(_rebuild, ""))
        case ["rebuild", "--after", subject]:
            return _told(partial(_rebuild, subject))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def _serve() -> None:
    settings = CreditSettings()
    run_service(settings, name=NAME, serve=partial(serve, settings))


def _migrate() -> None:
    settings = MigrationSettings()
    upgrade(package="danbao_credit", dsn=settings.migration_dsn, role=settings.database_role)


def _audit() -> int:
    return 1 if asyncio.run(audit_store(StoreSettings(), print)) else 0


def _rebuild(after: str) -> None:
    asyncio.run(rebuild_store(StoreSettings(), print, after=after))


def _told(work: Callable[[], int | None], *, doing: str = "start") -> int:
    """Runs it and gives its exit code; what the operator got wrong is one sentence, not a traceback."""
    try:
        return work() or 0
    except ValidationError as error:
        wrong = "; ".join(f"DANBAO_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        print(f"credit cannot {doing}: {wrong}", file=sys.stderr)
        return 1
    except (DefinitionInvalid, ClockMixed, TrainingImpossible) as error:
        print(f"credit cannot {doing}: {error}", file=sys.stderr)
        return 1
    except DanbaoError as error:
        print(f"credit: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
