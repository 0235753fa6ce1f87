"""What each role may do in escrow's store, table by table: a new table must say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from danbao_kit.migrations import upgrade
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.testing.rights import ALL, powers_of, rights_of

# The role that serves.
MAY = {
    "alembic_version": "SELECT",
    "checkouts": "SELECT INSERT UPDATE",
    "claims": "SELECT INSERT UPDATE",
    "disputes": "SELECT INSERT UPDATE",
    "events": "SELECT INSERT",
    "parked_payment_events": "SELECT INSERT",
    "payment_movements": "SELECT INSERT",
    "privileged_action_heads": "SELECT UPDATE",
    "privileged_action_words": "SELECT INSERT",
    "privileged_actions": "SELECT INSERT",
    "reader_cursors": "SELECT INSERT UPDATE",
    "refund_cases": "SELECT INSERT UPDATE",
    "request_records": "SELECT INSERT UPDATE(state, reply)",
    "steps": "SELECT INSERT UPDATE",
    "stream_heads": "SELECT UPDATE",
    "timeline_entries": "SELECT INSERT",
    "trade_deadlines": "SELECT INSERT UPDATE DELETE",
    "trades": "SELECT INSERT UPDATE",
}
# What is written once stays as it was written. Only a deadline may be deleted.
WRITTEN_ONCE = (
    "events",
    "parked_payment_events",
    "payment_movements",
    "privileged_action_words",
    "privileged_actions",
    "timeline_entries",
)


@pytest.fixture
async def store(service_database: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    made = service_database("escrow")
    await asyncio.to_thread(upgrade, package="danbao_escrow", dsn=made.owner_dsn, role=made.role)
    return made


async def test_the_service_may_do_what_the_table_says_and_nothing_else(store: ServiceDatabase) -> None:
    assert await rights_of(store.role, store) == MAY
    assert await powers_of(store.role, store) == set()


async def test_who_migrates_owns_the_tables_and_is_nobody_else(store: ServiceDatabase) -> None:
    assert await rights_of(store.owner_role, store) == dict.fromkeys(MAY, ALL)
    assert await powers_of(store.owner_role, store) == {"creates in public"}


def test_what_is_written_once_can_be_inserted_and_read_and_nothing_else() -> None:
    assert {MAY[table] for table in WRITTEN_ONCE} == {"SELECT INSERT"}


def test_nothing_that_was_decided_can_be_deleted() -> None:
    # But when to look at a trade again: a time, which ends with the trade.
    assert [table for table, may in MAY.items() if "DELETE" in may] == ["trade_deadlines"]
