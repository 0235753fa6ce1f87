"""The definitions that ship, and the whole service on a fresh database with streams that play what a test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao_credit.app import CreditSettings, load_judge, load_terms, running
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.terms import TermsTable
from danbao_credit.testing import ScriptedStreams
from danbao_kit.migrations import upgrade
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres, ServiceDatabase
from danbao_kit.testing.service import channel_as, settings_for


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
    """Starts credit; keywords are settings."""
    made: list[CreditStack] = []

    async def make(*, start: bool = True, **settings: object) -> CreditStack:
        stack = await _made(service_database("credit", template=migrated.name), authority, **settings)
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
