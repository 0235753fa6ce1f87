"""How a service's tables come to be: Alembic, its scripts inside the service's wheel, run as the tables' owner."""

from __future__ import annotations

import asyncio
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from danbao_kit.tables import KIT_GRANTS, PARTITION, kit_tables


def _config(package: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    versions = resources.files(package) / "store" / "migrations" / "versions"
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "newline")
    return config


def upgrade(*, package: str, dsn: str, role: str, to: str = "head") -> None:
    """Brings the store of `package` to its newest migration, or to that one.

    `role` is the service's own, which gets its rights.
    """
    config = _config(package)
    config.attributes["role"] = role

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, to)

    asyncio.run(_with_connection(dsn, run))


async def _with_connection(dsn: str, run: Any) -> None:
    url = make_url(dsn).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.run_sync(run)
    finally:
        await engine.dispose()


def head_of(package: str) -> str | None:
    """The newest migration that this version of the service brings."""
    return ScriptDirectory.from_config(_config(package)).get_current_head()


def current_of(connection: Connection) -> str | None:
    """The migration at which a store stands."""
    return MigrationContext.configure(connection).get_current_revision()


def create_kit_tables(connection: Connection, role: str) -> None:
    """For a service's first migration: the kit's tables, the head's row, and the role's rights."""
    metadata = MetaData()
    kit_tables(metadata)
    metadata.create_all(connection)
    connection.execute(
        text(
            "INSERT INTO stream_heads (partition, event_sequence, row_number, last_time)"
            " VALUES (:partition, 0, 0, '1970-01-01T00:00:00Z')"
        ),
        {"partition": PARTITION},
    )
    grant(connection, role, KIT_GRANTS)
    connection.execute(text(f'GRANT SELECT ON alembic_version TO "{role}"'))


def grant(connection: Connection, role: str, grants: dict[str, str]) -> None:
    """Gives the service's role these rights on these tables."""
    for table, rights in grants.items():
        connection.execute(text(f'GRANT {rights} ON {table} TO "{role}"'))
