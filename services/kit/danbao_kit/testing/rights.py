"""What each role may do in a service's store: read from PostgreSQL itself, to be held against a test's table."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import asyncpg

from danbao_kit.testing.embedded_postgres import ServiceDatabase

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")
ALL = " ".join(RIGHTS)

# A right on the whole table by its name; one on columns only with their names: "UPDATE(state, reply)". A role has also
# what everybody has and what roles have that it belongs to.
_RIGHTS = """
SELECT relname AS table_name, position, right_ AS name, has_table_privilege($2, pg_class.oid, right_) AS whole,
    (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
     WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
     AND right_ IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
     AND has_column_privilege($2, pg_class.oid, attnum, right_)) AS columns
FROM pg_class, unnest($1::text[]) WITH ORDINALITY AS asked(right_, position)
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relnamespace = 'public'::regnamespace
ORDER BY relname, position
"""


async def rights_of(role: str, database: ServiceDatabase) -> dict[str, str]:
    """By table what the role may do, such as "SELECT INSERT UPDATE(state, reply)"; of nothing, an empty text."""
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch(_RIGHTS, list(RIGHTS), role)
    finally:
        await connection.close()
    found: dict[str, list[str]] = {}
    for row in rows:
        of_table = found.setdefault(row["table_name"], [])
        if row["whole"]:
            of_table.append(row["name"])
        elif row["columns"]:
            of_table.append(f"{row['name']}({', '.join(row['columns'])})")
    return {table: " ".join(rights) for table, rights in found.items()}


async def powers_of(role: str, database: ServiceDatabase) -> set[str]:
    """What the role is beyond its tables: superuser and the like, roles it belongs to, schemas it may create in."""
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        attributes = await connection.fetchrow(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE rolname = $1",
            role,
        )
        memberships = await connection.fetch(
            "SELECT roleid::regrole::text AS name FROM pg_auth_members WHERE member = to_regrole($1)", role
        )
        schemas = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE has_schema_privilege($1, oid, 'CREATE')"
            " AND nspname NOT LIKE 'pg\\_temp%' AND nspname NOT LIKE 'pg\\_toast%'",
            role,
        )
    finally:
        await connection.close()
    assert attributes is not None, f"no role {role}"
    return (
        {name for name, has in attributes.items() if has}
        | {f"member of {row['name']}" for row in memberships}
        | {f"creates in {row['nspname']}" for row in schemas}
    )


async def may_connect(dsn: str, other: str) -> bool:
    """Whether who connects by `dsn` may connect to the database `other` too."""
    try:
        connection = await asyncpg.connect(urlunsplit(urlsplit(dsn)._replace(path=f"/{other}")))
    except asyncpg.InsufficientPrivilegeError:
        return False
    await connection.close()
    return True
