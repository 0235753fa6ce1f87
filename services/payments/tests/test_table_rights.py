"""What each role may do in payments's store, table by table: a new table must say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from danbao_kit.migrations import upgrade
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.testing.rights import ALL, powers_of, rights_of

# The role that serves.
MAY = {
    "accounts": "SELECT INSERT UPDATE",
    "alembic_version": "SELECT",
    "events": "SELECT INSERT",
    "ledger_batches": "SELECT INSERT",
    "limit_usage": "SELECT INSERT UPDATE",
    "limits": "SELECT INSERT UPDATE",
    "owners": "SELECT INSERT",
    "payments": "SELECT INSERT UPDATE",
    "privileged_action_heads": "SELECT UPDATE",
    "privileged_action_words": "SELECT INSERT",
    "privileged_actions": "SELECT INSERT",
    "rail_refunds": "SELECT INSERT UPDATE",
    "reader_cursors": "SELECT INSERT UPDATE",
    "reconciled_movements": "SELECT INSERT",
    "reconciliation_items": "SELECT INSERT UPDATE",
    "reconciliations": "SELECT INSERT UPDATE",
    "request_records": "SELECT INSERT UPDATE(state, reply)",
    "statement_lines": "SELECT INSERT",
    "stream_heads": "SELECT UPDATE",
    "top_up_refunds": "SELECT",
    "top_ups": "SELECT INSERT UPDATE",
    "transactions": "SELECT INSERT",
    "transfers": "SELECT INSERT",
    "withdrawals": "SELECT INSERT UPDATE",
}
# What is written once stays as it was written. Nowhere may the service delete.
WRITTEN_ONCE = (
    "events",
    "ledger_batches",
    "owners",
    "privileged_action_words",
    "privileged_actions",
    "reconciled_movements",
    "statement_lines",
    "transactions",
    "transfers",
)


@pytest.fixture
async def store(service_database: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    made = service_database("payments")
    await asyncio.to_thread(upgrade, package="danbao_payments", dsn=made.owner_dsn, role=made.role)
    return made


async def test_the_service_may_do_what_the_table_says_and_nothing_else(store: ServiceDatabase) -> None:
    assert await rights_of(store.role, store) == MAY
    assert await powers_of(store.role, store) == set()


async def test_who_migrates_owns_the_tables_and_is_nobody_else(store: ServiceDatabase) -> None:
    assert await rights_of(store.owner_role, store) == dict.fromkeys(MAY, ALL)
    assert await powers_of(store.owner_role, store) == {"creates in public"}


def test_what_is_written_once_can_be_inserted_and_read_and_nothing_else() -> None:
    assert {MAY[table] for table in WRITTEN_ONCE} == {"SELECT INSERT"}


def test_nothing_can_be_deleted() -> None:
    assert not [table for table, may in MAY.items() if "DELETE" in may]
