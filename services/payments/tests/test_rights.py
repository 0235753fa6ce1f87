"""What the role that serves may do in the store: an account of every table, so that a new one must say."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres, ServiceDatabase

# What is written once stays as it was written. Nowhere may it delete or truncate.
WRITTEN_ONCE = {
    "transfers",
    "transactions",
    "ledger_batches",
    "owners",
    "privileged_actions",
    "privileged_action_words",
}


async def rights(database: ServiceDatabase) -> dict[str, set[str]]:
    """What the serving role may do, by table; also what it may do by way of columns, or as everybody."""
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch(
            "SELECT relname, right_ FROM pg_class, unnest($1::text[]) AS right_"
            " WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace"
            " AND (has_table_privilege($2, pg_class.oid, right_)"
            " OR right_ IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege($2, pg_class.oid, right_))",
            ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"],
            database.role,
        )
    finally:
        await connection.close()
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["relname"], set()).add(row["right_"])
    return found


async def test_what_is_written_once_can_be_inserted_and_read_and_nothing_else(database: ServiceDatabase):
    found = await rights(database)
    assert {table: found[table] for table in WRITTEN_ONCE} == {table: {"SELECT", "INSERT"} for table in WRITTEN_ONCE}


async def test_nothing_can_be_deleted_truncated_or_given_triggers(database: ServiceDatabase):
    for table, found in (await rights(database)).items():
        assert found <= {"SELECT", "INSERT", "UPDATE"}, table


async def test_the_role_owns_nothing_and_cannot_become_who_does(database: ServiceDatabase):
    connection = await asyncpg.connect(database.dsn)
    try:
        owned = await connection.fetch("SELECT relname FROM pg_class WHERE relowner = to_regrole($1)", database.role)
        assert not owned
        for statement in (
            f"SET ROLE {database.owner_role}",
            "CREATE TABLE public.mine (id int)",
            "ALTER TABLE transfers DISABLE TRIGGER ALL",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_another_service_s_database_is_closed(database: ServiceDatabase, postgres: EmbeddedPostgres):
    other = postgres.create_service_database("escrow", database="escrow_beside_payments")
    try:
        for role_dsn, name in (
            (database.dsn, other.name),
            (database.owner_dsn, other.name),
            (other.dsn, database.name),
        ):
            elsewhere = urlunsplit(urlsplit(role_dsn)._replace(path=f"/{name}"))
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncpg.connect(elsewhere)
    finally:
        postgres.drop_database(other.name)
