"""When the store cannot be reached, a read says so; a statement that is wrong stays a fault."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from danbao_kit.database import Database, store_is_gone
from danbao_kit.errors import StoreUnavailable
from danbao_kit.looks import Looks
from danbao_kit.testing.embedded_postgres import ServiceDatabase
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


@pytest.mark.parametrize("sees_it", [False, True])
@pytest.mark.parametrize("by", [Database.write, Database.driver])
async def test_who_works_on_a_connection_that_is_killed_is_unavailable_and_the_next_is_not(
    jar_database: ServiceDatabase, by: Callable[[Database], AbstractAsyncContextManager[Any]], sees_it: bool
) -> None:
    database = Database(jar_database.dsn)

    async def work() -> None:
        async with by(database) as connection:
            await _kill(jar_database, await connection.fetchval("SELECT pg_backend_pid()"))
            if sees_it:
                # The first is told why, the next only that there is no connection any more.
                with suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT 1")
            await connection.execute("SELECT 1")

    with pytest.raises(StoreUnavailable):
        await work()
    async with by(database) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await database.close()


async def _works(database: ServiceDatabase, pid: int) -> None:
    """Waits until a statement is under way there."""
    watcher = await asyncpg.connect(database.dsn)
    try:
        async with asyncio.timeout(10):
            while await watcher.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid) != "active":
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()


async def _kill(database: ServiceDatabase, pid: int) -> None:
    killer = await asyncpg.connect(database.dsn)
    try:
        assert await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    finally:
        await killer.close()


async def test_a_wrong_statement_is_not_the_stores_fault(service_database: ServiceDatabaseFactory) -> None:
    database = Database(service_database("kit").dsn)
    with pytest.raises(ProgrammingError):
        async with database.read() as connection:
            await connection.execute(text("SELECT * FROM nothing_of_that_name"))
    await database.close()


_LOOK = text("SELECT pg_backend_pid() AS process, CAST(:answer AS int) AS answer, pg_sleep(:seconds)")


async def test_who_looks_on_a_connection_that_is_killed_is_unavailable_and_the_next_is_not(
    jar_database: ServiceDatabase,
) -> None:
    database = Database(jar_database.dsn)
    (first,) = await database.look(_LOOK, answer=1, seconds=0.0)
    under_way = asyncio.create_task(database.look(_LOOK, answer=2, seconds=30.0))
    await _works(jar_database, first["process"])
    await _kill(jar_database, first["process"])
    with pytest.raises(StoreUnavailable):
        await under_way
    (again,) = await database.look(_LOOK, answer=3, seconds=0.0)
    assert again["answer"] == 3
    assert again["process"] != first["process"]
    await database.close()


async def test_a_look_without_a_server_is_unavailable_and_a_wrong_one_is_a_fault(jar_database: ServiceDatabase) -> None:
    nowhere = Database("postgresql://nobody:x@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable):
        await nowhere.look(_LOOK, answer=1, seconds=0.0)
    database = Database(jar_database.dsn)
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.look(text("SELECT 1 FROM no_such_table"))
    (row,) = await database.look(_LOOK, answer=2, seconds=0.0)
    assert row["answer"] == 2
    await database.close()


async def test_a_store_that_hangs_is_waited_for_once_and_not_by_each_who_looks() -> None:
    tried = 0

    async def hangs() -> asyncpg.Connection:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0.05)
        raise TimeoutError

    looks = Looks(hangs)
    for times in (1, 2):
        told = await asyncio.gather(*[looks.ask(text("SELECT 1")) for _ in range(20)], return_exceptions=True)
        assert {type(each) for each in told} == {StoreUnavailable}
        assert tried == times


@pytest.mark.parametrize("given", [{"answer": 1}, {"answer": 1, "second": 0.0}, {"answer": None, "seconds": 0.0}])
async def test_a_look_whose_parameters_are_not_the_statements_is_a_fault(
    jar_database: ServiceDatabase, given: dict[str, Any]
) -> None:
    database = Database(jar_database.dsn)
    with pytest.raises(AssertionError):
        await database.look(_LOOK, **given)
    await database.close()


async def test_looks_take_turns_and_one_that_is_given_up_harms_no_other(jar_database: ServiceDatabase) -> None:
    database = Database(jar_database.dsn)
    slow = asyncio.create_task(database.look(_LOOK, answer=1, seconds=30.0))
    await asyncio.sleep(0.1)
    others = [asyncio.create_task(database.look(_LOOK, answer=answer, seconds=0.0)) for answer in range(20)]
    await asyncio.sleep(0.1)
    assert not any(other.done() for other in others)
    slow.cancel()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*others)
    assert [row["answer"] for (row,) in answers] == list(range(20))
    assert len({row["process"] for (row,) in answers}) == 1
    await database.close()
