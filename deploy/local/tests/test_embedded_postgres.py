"""The real PostgreSQL that tests and the local stack run on: its life, its crashes, its databases."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from danbao_kit.testing.embedded_postgres import (
    SETTINGS_FOR_TESTS,
    EmbeddedPostgres,
    PostgresAlreadyRunning,
    PostgresPortTaken,
    ServiceDatabase,
)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """A server on a path with a space; every one made is destroyed."""
    made: list[EmbeddedPostgres] = []

    def make(port: int | None = None) -> EmbeddedPostgres:
        server = EmbeddedPostgres(tmp_path / "with a space" / "postgres", port=port, settings=SETTINGS_FOR_TESTS)
        made.append(server)
        return server

    yield make
    for server in made:
        server.destroy()


def kill(server: EmbeddedPostgres) -> None:
    os.kill(server.pid, signal.SIGKILL)
    while server.poll() is None:
        time.sleep(0.01)


def test_a_killed_server_starts_again_on_its_port_with_its_data(make_server: Callable[..., EmbeddedPostgres]) -> None:
    server = make_server()
    server.start()
    server.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
    port = server.port
    for _ in range(3):
        kill(server)
        server.start()
    assert server.port == port
    assert server.execute("SELECT id FROM kept") == "7"


def test_a_second_object_finds_passwords_and_data_of_the_first(make_server: Callable[..., EmbeddedPostgres]) -> None:
    first = make_server()
    first.start()
    before = first.create_service_database("payments")
    first.stop()
    second = make_server()
    second.start()
    assert second.create_service_database("payments") == before


def test_a_running_server_is_seen_and_can_be_stopped_by_another_object(
    make_server: Callable[..., EmbeddedPostgres],
) -> None:
    first = make_server()
    first.start()
    second = make_server()
    with pytest.raises(PostgresAlreadyRunning):
        second.start()
    second.stop()
    assert second.running_pid() is None
    second.start()


def test_a_taken_port_is_named(make_server: Callable[..., EmbeddedPostgres]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PostgresPortTaken, match=str(port)):
            make_server(port).start()


def test_a_pid_file_of_another_program_does_not_keep_the_server_down(
    make_server: Callable[..., EmbeddedPostgres],
) -> None:
    server = make_server()
    server.start()
    server.stop()
    # After a reboot the recorded pid may belong to anybody; here it is the test itself.
    (server.data_location / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data_location}\n1\n1\n\n\n\nready\n")
    server.start()
    assert server.execute("SELECT 1") == "1"


def test_databases_made_at_once_all_take_their_passwords(make_server: Callable[..., EmbeddedPostgres]) -> None:
    server = make_server()
    server.start()
    names = ("payments", "escrow", "credit", "fourth", "fifth")
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        made = list(pool.map(server.create_service_database, names))

    async def connect_to_all() -> None:
        for database in made:
            for dsn in (database.dsn, database.owner_dsn):
                await (await asyncpg.connect(dsn)).close()

    asyncio.run(connect_to_all())


def test_secrets_are_readable_by_us_alone(make_server: Callable[..., EmbeddedPostgres]) -> None:
    server = make_server()
    server.start()
    kept = server.data_location.parent / "server.json"
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_a_killed_server_comes_back_where_its_clients_look_for_it(
    make_server: Callable[..., EmbeddedPostgres],
) -> None:
    server = make_server()
    server.start()
    database = server.create_service_database("payments")
    for _ in range(3):
        connections = [await asyncpg.connect(database.dsn) for _ in range(5)]
        kill(server)
        server.start()
        for connection in connections:
            connection.terminate()
        assert server.create_service_database("payments") == database


async def test_only_the_two_roles_may_connect(service_database: Callable[[str], ServiceDatabase]) -> None:
    payments, escrow = service_database("payments"), service_database("escrow")
    stranger = escrow.dsn.rpartition("/")[0] + "/" + payments.name
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(stranger)


async def test_the_service_role_has_timeouts_and_makes_no_tables(
    service_database: Callable[[str], ServiceDatabase],
) -> None:
    database = service_database("payments")
    connection = await asyncpg.connect(database.dsn)
    try:
        assert await connection.fetchval("SHOW lock_timeout") == "2s"
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "2s"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE mine (id int)")
    finally:
        await connection.close()
    owner = await asyncpg.connect(database.owner_dsn)
    await owner.execute("CREATE TABLE ours (id int)")
    await owner.close()
