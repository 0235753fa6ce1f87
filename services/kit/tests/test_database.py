"""When the store cannot be reached, a read says so; a statement that is wrong stays a fault."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from danbao_kit.database import Database, store_is_gone
from danbao_kit.errors import StoreUnavailable
from danbao_kit.testing.pytest_plugin import ServiceDatabaseFactory


class _Refusal(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("refused")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "gone"),
    [
        ("57P01", True),
        ("57P02", True),
        ("57P03", True),
        ("08006", True),
        ("53300", True),
        ("57014", False),
        ("42P01", False),
        ("23505", False),
        (None, False),
    ],
)
def test_a_server_that_stops_or_starts_is_gone(sqlstate: str | None, gone: bool) -> None:
    assert store_is_gone(DBAPIError("SELECT 1", None, _Refusal(sqlstate))) is gone


async def test_a_read_without_a_server_is_unavailable() -> None:
    database = Database("postgresql://nobody:x@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable):
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))
    await database.close()


async def test_a_wrong_statement_is_not_the_stores_fault(service_database: ServiceDatabaseFactory) -> None:
    database = Database(service_database("kit").dsn)
    with pytest.raises(ProgrammingError):
        async with database.read() as connection:
            await connection.execute(text("SELECT * FROM nothing_of_that_name"))
    await database.close()
