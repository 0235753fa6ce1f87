"""A toy service, the smallest that uses all of the write path: jars that hold marbles. For the kit's own tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import asyncpg
from sqlalchemy import BigInteger, CheckConstraint, Column, MetaData, Table, Text, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from danbao.type.v1 import money_pb2
from danbao_kit.action_tables import create_action_tables
from danbao_kit.clock import RealClock
from danbao_kit.database import Database
from danbao_kit.decision import DEFERRED, Moment, Need, RequestKey
from danbao_kit.errors import Code, DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.migrations import create_kit_tables, grant
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.time_ordered_ids import TimeOrderedIds
from danbao_kit.working_set import WorkingSet


class JarTooEmpty(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "JAR_TOO_EMPTY"


@dataclass(frozen=True, slots=True)
class Fill:
    """Puts marbles into a jar; the first time makes it."""

    jar: str
    marbles: int
    note: str = ""
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("note",)


@dataclass(frozen=True, slots=True)
class Move:
    """Moves marbles from one jar to another."""

    source: str
    target: str
    marbles: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Fills a jar with as many marbles as another has, whose name it does not tell beforehand."""

    jar: str
    like: str


@dataclass(frozen=True, slots=True)
class Promise:
    """Begins something whose answer comes later."""

    jar: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Ends a promise with marbles."""

    request: RequestKey
    jar: str
    marbles: int


@dataclass(frozen=True, slots=True)
class Break:
    """A command with a bug: changes a jar and then raises."""

    jar: str


Command = Fill | Move | Copy | Promise | Keep | Break


class Jars(WorkingSet):
    def __init__(self) -> None:
        super().__init__()
        self.marbles: Any = self.rows()


def decide(command: Command, jars: Jars, moment: Moment) -> Any:
    """What each command does."""
    match command:
        case Fill(jar, marbles):
            jars.marbles.put(jar, (jars.marbles.get(jar) or 0) + marbles)
            moment.emit(f"filled {jar}")
            return jars.marbles.get(jar)
        case Move(source, target, marbles):
            left = (jars.marbles.get(source) or 0) - marbles
            jars.marbles.put(source, left)
            if left < 0:
                raise JarTooEmpty(f"{source} has too few marbles", jar=source) from ValueError(left)
            jars.marbles.put(target, (jars.marbles.get(target) or 0) + marbles)
            moment.emit(f"moved {source} {target}")
            return left
        case Copy(jar, like):
            if like not in jars.marbles:
                raise Need(jars={like})
            jars.marbles.put(jar, jars.marbles.get(like))
            moment.emit(f"copied {jar}")
            return jars.marbles.get(jar)
        case Promise(jar):
            moment.emit(f"promised {jar}")
            return DEFERRED
        case Keep(request, jar, marbles):
            jars.marbles.put(jar, marbles)
            moment.emit(f"kept {jar}")
            moment.answer(request, marbles)
            return None
        case Break(jar):
            jars.marbles.put(jar, 10**6)
            raise RuntimeError("postgresql://secret@host is none of the caller's business")


class JarStore:
    async def load(
        self, connection: asyncpg.Connection, commands: Sequence[Command], needs: Mapping[str, set[str]], now: datetime
    ) -> Jars:
        jars = Jars()
        names = set(needs.get("jars", ()))
        for command in commands:
            names.update(
                value for key in ("jar", "source", "target") if (value := getattr(command, key, None)) is not None
            )
        for row in await connection.fetch(
            "SELECT jar, marbles FROM jars WHERE jar = ANY($1::text[]) ORDER BY jar FOR UPDATE", sorted(names)
        ):
            jars.marbles.load(row["jar"], row["marbles"])
        return jars

    async def save(self, connection: asyncpg.Connection, jars: Jars) -> None:
        changed = jars.marbles.created() + jars.marbles.updated()
        if changed:
            await connection.execute(
                "INSERT INTO jars (jar, marbles) SELECT * FROM unnest($1::text[], $2::bigint[])"
                " ON CONFLICT (jar) DO UPDATE SET marbles = excluded.marbles",
                [name for name, _ in changed],
                [marbles for _, marbles in changed],
            )


class JarCodec:
    def reply(self, command: Command | None, reply: int) -> money_pb2.Money:
        return money_pb2.Money(currency="JAR", amount_minor=reply)

    def parse_reply(self, method: str, data: bytes) -> money_pb2.Money:
        return money_pb2.Money.FromString(data)

    def event(self, event: str, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        return event.split()[0], f"{sequence} {event}".encode()


async def make_tables(database: ServiceDatabase) -> None:
    """The kit's tables and the jars, as a migration would make them."""
    engine = create_async_engine(make_url(database.owner_dsn).set(drivername="postgresql+asyncpg"))
    metadata = MetaData()
    Table(
        "jars",
        metadata,
        Column("jar", Text, primary_key=True),
        Column("marbles", BigInteger, CheckConstraint("marbles >= 0"), nullable=False),
    )
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num text PRIMARY KEY)"))
        await connection.run_sync(lambda c: create_kit_tables(c, database.role))
        await connection.run_sync(lambda c: create_action_tables(c, database.role))
        await connection.run_sync(metadata.create_all)
        await connection.run_sync(lambda c: grant(c, database.role, {"jars": "SELECT, INSERT, UPDATE"}))
    await engine.dispose()


def jar_service(dsn: str, **options: Any) -> tuple[Database, GroupCommit]:
    """A replica's store and write path."""
    database = Database(dsn, pool_size=4)
    return database, GroupCommit(database, JarStore(), decide, JarCodec(), RealClock(), TimeOrderedIds(), **options)


def request(name: str, *, method: str = "Do", caller: str = "peer:test") -> RequestKey:
    return RequestKey(caller, method, name)


async def _work(dsn: str, prefix: str, count: int, source: str, target: str) -> None:
    """A replica in a process of its own: moves one marble `count` times, eight at once; prints each success."""
    database, commit = jar_service(dsn)
    commit.start()
    limit = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with limit:
            outcome = await commit.submit(Submission(Move(source, target, 1), request(f"{prefix}-{number}")))
            said = "ok" if outcome.error is None else outcome.error.reason
            print(f"{prefix}-{number} {said}{' replayed' if outcome.replayed else ''}", flush=True)

    await asyncio.gather(*[one(number) for number in range(count)])
    await commit.stop()
    await database.close()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
