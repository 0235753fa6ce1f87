"""No role of a service may enter another service's database, whatever is in it."""

import asyncpg
import pytest

from danbao_kit.testing.rights import may_connect, powers_of, rights_of

SERVICES = ("payments", "escrow", "credit")


@pytest.fixture
def databases(service_database):
    return {service: service_database(service) for service in SERVICES}


async def test_each_role_enters_its_own_service_s_database_only(databases):
    found = {
        (role, other.name)
        for made in databases.values()
        for role, dsn in ((made.role, made.dsn), (made.owner_role, made.owner_dsn))
        for other in databases.values()
        if await may_connect(dsn, other.name)
    }
    assert found == {(role, made.name) for made in databases.values() for role in (made.role, made.owner_role)}


async def test_a_right_too_much_would_be_seen(databases):
    made, other = databases["payments"], databases["escrow"]
    connection = await asyncpg.connect(made.owner_dsn)
    try:
        await connection.execute("CREATE TABLE books (id int, note text, total int)")
        assert await rights_of(made.role, made) == {"books": ""}
        await connection.execute(f"GRANT SELECT, UPDATE (note, id) ON books TO {made.role}")
        await connection.execute("GRANT TRUNCATE ON books TO PUBLIC")
        assert await rights_of(made.role, made) == {"books": "SELECT UPDATE(id, note) TRUNCATE"}
        await connection.execute("CREATE SEQUENCE numbers")
        assert set(await rights_of(made.role, made)) == {"books", "numbers"}
        await connection.execute(f"GRANT CREATE ON SCHEMA public TO {made.role}")
        assert await powers_of(made.role, made) == {"creates in public"}
        await connection.execute(f"GRANT CONNECT ON DATABASE {made.name} TO {other.role}")
        assert await may_connect(other.dsn, made.name)
    finally:
        await connection.close()
