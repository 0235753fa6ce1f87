"""A database with jars, and a replica of the toy service on it."""

from collections.abc import AsyncIterator, Callable

import pytest

from danbao_kit.database import Database
from danbao_kit.group_commit import GroupCommit
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres, ServiceDatabase
from danbao_kit.testing.jars import jar_service, make_tables


@pytest.fixture
async def jar_database(postgres: EmbeddedPostgres, service_database: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    database = service_database("jars")
    await make_tables(database)
    return database


@pytest.fixture
async def replica(jar_database: ServiceDatabase) -> AsyncIterator[tuple[Database, GroupCommit]]:
    database, commit = jar_service(jar_database.dsn)
    commit.start()
    yield database, commit
    await commit.stop()
    await database.close()
