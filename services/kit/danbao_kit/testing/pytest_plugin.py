"""Fixtures for a service's tests: one PostgreSQL a session, a fresh database a test.

Switch it on in a conftest.py:  pytest_plugins = ["danbao_kit.testing.pytest_plugin"]
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from danbao_kit.testing.embedded_postgres import (
    SETTINGS_FOR_TESTS,
    EmbeddedPostgres,
    ServiceDatabase,
)

_PREFIX = "danbao-tests-"

# psql and other programs are started beside running gRPC servers; gRPC's fork handlers then end the child now and then.
# Read when grpc is first imported, which is after this.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

ServiceDatabaseFactory = Callable[..., ServiceDatabase]


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server, removed with its data at the end of the session."""
    _remove_servers_of_dead_sessions()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (folder / "owner").write_text(_identity(os.getpid()))
    server = EmbeddedPostgres(folder / "postgres", settings=SETTINGS_FOR_TESTS)
    try:
        server.start()
        yield server
    finally:
        server.destroy()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def service_database(postgres: EmbeddedPostgres) -> Iterator[ServiceDatabaseFactory]:
    """service_database("payments") makes an empty database of its own, dropped after the test.

    `template=` names a database to copy instead of an empty one (a migrated one, say; nobody
    may be connected to it at that moment).
    """
    made: list[str] = []

    def create(service: str, *, template: str = "template1") -> ServiceDatabase:
        name = f"{service}_{uuid.uuid4().hex[:12]}"
        made.append(name)
        return postgres.create_service_database(service, database=name, template=template)

    yield create
    for name in made:
        postgres.drop_database(name)


def _identity(pid: int) -> str:
    return f"{pid} {psutil.Process(pid).create_time()}"


def _remove_servers_of_dead_sessions() -> None:
    """A killed test run leaves its server behind; the next run takes it away."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.geteuid():
                continue
            recorded = (folder / "owner").read_text()
        except OSError:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            if _identity(int(recorded.split()[0])) == recorded:
                continue
        EmbeddedPostgres(folder / "postgres").destroy()
        shutil.rmtree(folder, ignore_errors=True)
