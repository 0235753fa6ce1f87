"""The definitions that ship, and the whole service on a fresh database with streams that play what a test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc, rights_pb2, rights_pb2_grpc
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_credit.app import CreditSettings, load_judge, load_terms, running
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.terms import TermsTable
from danbao_credit.testing.stories import ScriptedStreams
from danbao_kit.migrations import upgrade
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres, ServiceDatabase
from danbao_kit.testing.service import as_caller, channel_as, settings_for

# Code, reason, fields and metadata.
Refusal: TypeAlias = tuple[str, str, list[str], dict[str, str]]


@pytest.fixture(scope="session")
def shipped() -> CreditSettings:
    """Settings with the files that ship."""
    return CreditSettings(database_dsn="", payments_address="", escrow_address="")


@pytest.fixture(scope="session")
def judge(shipped: CreditSettings) -> Judge:
    return load_judge(shipped)


@pytest.fixture(scope="session")
def table(shipped: CreditSettings, judge: Judge) -> TermsTable:
    return load_terms(shipped, judge)


@pytest.fixture(scope="session")
def catalogue(judge: Judge) -> Catalogue:
    return judge.catalogue


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(Path(tmp_path_factory.mktemp("certificates")))


@dataclass
class CreditStack:
    """credit with its database and its two streams; it can be ended and started again."""

    database: ServiceDatabase
    authority: CertificateAuthority
    streams: ScriptedStreams
    settings: CreditSettings
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    port: int = 0
    channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        server = await self.stack.enter_async_context(running(self.settings))
        await server.start()
        self.stack.push_async_callback(server.stop)
        self.port = server.port
        self.channel = self.channel_as("gateway")

    def channel_as(self, peer: str) -> grpc.aio.Channel:
        channel = channel_as(peer, authority=self.authority, service="credit", port=self.port)
        self.stack.push_async_callback(channel.close)
        return channel

    async def stop(self) -> None:
        await self.stack.aclose()
        self.stack = AsyncExitStack()

    def stub(self, peer: str = "gateway") -> credit_pb2_grpc.CreditServiceStub:
        return credit_pb2_grpc.CreditServiceStub(self.channel if peer == "gateway" else self.channel_as(peer))

    async def rows(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """What the store has, read as its owner."""
        connection = await asyncpg.connect(self.database.owner_dsn.replace("+asyncpg", ""))
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def count(self, table: str) -> int:
        (row,) = await self.rows(f"SELECT count(*) FROM {table}")
        return int(row["count"])

    async def now(self) -> datetime:
        """The test clock's time."""
        stub = clock_pb2_grpc.ClockServiceStub(self.channel_as("operator"))
        clock = await stub.GetClock(clock_pb2.GetClockRequest(), timeout=5)
        return clock.now.ToDatetime(UTC)

    async def advance(self, by: timedelta) -> None:
        """Moves the test clock."""
        request = clock_pb2.AdvanceClockRequest()
        request.to.FromDatetime(await self.now() + by)
        await clock_pb2_grpc.ClockServiceStub(self.channel_as("operator")).AdvanceClock(request, timeout=5)

    async def caught_up(self, source: str, sequence: int) -> credit_pb2.StreamStatus:
        """The status of a stream once it was read that far."""
        async with asyncio.timeout(20):
            while True:
                answer = await self.stub().GetIngestStatus(credit_pb2.GetIngestStatusRequest(), timeout=5)
                status = next(stream for stream in answer.streams if stream.source == source)
                if status.sequence >= sequence:
                    return status
                await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def migrated(postgres: EmbeddedPostgres) -> ServiceDatabase:
    """A database at the newest migration, to be copied."""
    database = postgres.create_service_database("credit", database="credit_template")
    upgrade(package="danbao_credit", dsn=database.owner_dsn, role=database.role)
    return database


@pytest.fixture
async def make_credit(
    service_database: Callable[..., ServiceDatabase], migrated: ServiceDatabase, authority: CertificateAuthority
) -> AsyncIterator[Callable[..., Awaitable[CreditStack]]]:
    """Starts credit, on a new database unless one is given; keywords are settings."""
    made: list[CreditStack] = []

    async def make(*, start: bool = True, database: ServiceDatabase | None = None, **settings: object) -> CreditStack:
        stack = await _made(database or service_database("credit", template=migrated.name), authority, **settings)
        made.append(stack)
        if start:
            await stack.start()
        return stack

    yield make
    for stack in made:
        await stack.stop()
        await stack.streams.stop()


@pytest.fixture
async def credit(make_credit: Callable[..., Awaitable[CreditStack]]) -> CreditStack:
    return await make_credit()


@pytest.fixture(scope="session")
async def shared_credit(
    postgres: EmbeddedPostgres, migrated: ServiceDatabase, authority: CertificateAuthority
) -> AsyncIterator[CreditStack]:
    """One credit for tests that change nothing."""
    database = postgres.create_service_database("credit", database="credit_shared", template=migrated.name)
    stack = await _made(database, authority)
    await stack.start()
    yield stack
    await stack.stop()
    await stack.streams.stop()


async def _made(database: ServiceDatabase, authority: CertificateAuthority, **settings: object) -> CreditStack:
    streams = ScriptedStreams()
    await streams.start({name: authority.issue(name) for name in ("payments", "escrow")})
    made = settings_for(
        CreditSettings,
        name="credit",
        database=database,
        authority=authority,
        payments_address=streams.addresses["payments"],
        escrow_address=streams.addresses["escrow"],
        **settings,
    )
    return CreditStack(database, authority, streams, made)


class Asking:
    """One caller behind the gateway."""

    def __init__(self, stack: CreditStack, caller: dict[str, str]) -> None:
        self._metadata = as_caller(**caller)
        assert stack.channel is not None
        self._credit = credit_pb2_grpc.CreditServiceStub(stack.channel)
        self._rights = rights_pb2_grpc.SubjectRightsServiceStub(stack.channel)

    async def credit(self, method: str, request: Message) -> Any:
        """Calls CreditService."""
        return await getattr(self._credit, method)(request, timeout=10, metadata=self._metadata)

    async def rights(self, method: str, **fields: Any) -> Any:
        """Calls SubjectRightsService, with a new request id where one is needed and not given."""
        message = getattr(rights_pb2, f"{method}Request")
        if "request_id" in message.DESCRIPTOR.fields_by_name:
            fields.setdefault("request_id", str(uuid4()))
        return await getattr(self._rights, method)(message(**fields), timeout=10, metadata=self._metadata)

    async def refused(self, method: str, request: Message | None = None, **fields: Any) -> Refusal:
        """The refusal of a call of either."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await (self.rights(method, **fields) if request is None else self.credit(method, request))
        error = raised.value
        details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
        info, fields_ = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status_pb2.Status.FromString(details).details:
            detail.Unpack(info)
            detail.Unpack(fields_)
        named = [item.field for item in fields_.field_violations]
        return error.code().name, info.reason, named, dict(info.metadata)


@pytest.fixture
def ask() -> type[Asking]:
    """ask(stack, caller): who calls, as the gateway says."""
    return Asking
