"""The whole service on a fresh database; every test leaves balanced books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from danbao_kit.migrations import upgrade
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres, ServiceDatabase
from danbao_payments.testing.corrupted import fill
from danbao_payments.testing.stack import PaymentsStack, check_books

_TEMPLATE = "payments_migrated"


@pytest.fixture(autouse=True)
async def books_balance() -> AsyncIterator[None]:
    """Whatever a test has asked of a service that still runs when everything of its own is gone: its books add up."""
    yield
    for running in PaymentsStack.running:
        if running.touched:
            await check_books(running.database)
            running.touched = False


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="session")
async def migrated(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody uses, to copy from."""
    database = postgres.create_service_database("payments", database=_TEMPLATE)
    migrate = partial(upgrade, package="danbao_payments", dsn=database.owner_dsn, role=database.role)
    await asyncio.to_thread(migrate)
    return _TEMPLATE


@pytest.fixture
async def database(service_database: Callable[..., ServiceDatabase], migrated: str) -> AsyncIterator[ServiceDatabase]:
    """A migrated database of its own; when the test is over its books must balance."""
    made = service_database("payments", template=migrated)
    yield made
    await check_books(made)


@pytest.fixture(scope="session")
async def service(
    postgres: EmbeddedPostgres, migrated: str, authority: CertificateAuthority
) -> AsyncIterator[PaymentsStack]:
    """The service, running, on the test clock; for the tests of a whole session."""
    database = postgres.create_service_database("payments", database="payments_shared", template=migrated)
    made = PaymentsStack(database, authority, {"clock": "test"})
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def stack(service: PaymentsStack) -> AsyncIterator[PaymentsStack]:
    """The service with empty books; when the test is over its books must balance."""
    yield service
    await check_books(service.database)
    await service.forget()


@pytest.fixture
async def replicas(stack: PaymentsStack) -> AsyncIterator[tuple[PaymentsStack, PaymentsStack]]:
    """Two replicas on the same books."""
    other = PaymentsStack(stack.database, stack.authority, stack.options)
    await other.start()
    yield stack, other
    await other.stop()


@pytest.fixture(scope="session")
async def filled(postgres: EmbeddedPostgres, migrated: str, authority: CertificateAuthority) -> AsyncIterator[str]:
    """The name of a database with filled books that nobody uses, to copy from."""
    database = postgres.create_service_database("payments", database="payments_filled", template=migrated)
    stack = PaymentsStack(database, authority, {"clock": "test"})
    await stack.start()
    try:
        await fill(stack)
    finally:
        await stack.stop()
    yield database.name
    postgres.drop_database(database.name)


@pytest.fixture
def scratch(service_database: Callable[..., ServiceDatabase], filled: str) -> ServiceDatabase:
    """A copy of its own."""
    return service_database("payments", template=filled)
