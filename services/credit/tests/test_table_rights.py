"""What each role may do in credit's store, table by table: a new table must say."""

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
    "appeals": "SELECT INSERT UPDATE(state, decided_by, decision, reversed_events, end_time) DELETE",
    "checkpoints": "SELECT INSERT UPDATE(profile, through_us) DELETE",
    "claim_counts": "SELECT INSERT UPDATE(opened, ended, last_end_time) DELETE",
    "consents": "SELECT INSERT UPDATE(revoke_time, revoked_by) DELETE",
    "deposit_movements": "SELECT INSERT DELETE",
    "deposit_steps": (
        "SELECT INSERT UPDATE(state, amount_minor, generation, claim, refusals, refusal, transaction, attempt_at,"
        " settle_time) DELETE"
    ),
    "deposits": "SELECT INSERT UPDATE(balance_minor) DELETE",
    "event_log": "SELECT INSERT DELETE",
    "events": "SELECT INSERT UPDATE(kind, payload)",
    "marks": "SELECT INSERT UPDATE(begins, ends, grade) DELETE",
    "memberships": (
        "SELECT INSERT UPDATE(state, required_minor, causes, notice_end_time, join_time, leave_time, last_step,"
        " pending_step, step_refusal, look_time, look_cause, update_time, revision) DELETE"
    ),
    "model_changes": "SELECT INSERT",
    "model_versions": "SELECT INSERT UPDATE(state, change_time, findings, former)",
    "parked_events": "SELECT INSERT UPDATE(reason, payload)",
    "privileged_action_heads": "SELECT UPDATE",
    "privileged_action_words": "SELECT INSERT DELETE",
    "privileged_actions": "SELECT INSERT",
    "reader_cursors": "SELECT INSERT UPDATE",
    "reports": "SELECT INSERT UPDATE(subject, peer, about, measures, reversed_by)",
    "request_records": "SELECT INSERT UPDATE(caller, request_id, state, reply)",
    "score_accesses": "SELECT INSERT DELETE",
    "score_history": "SELECT INSERT DELETE",
    "scores": "SELECT INSERT UPDATE DELETE",
    "stream_counts": "SELECT INSERT UPDATE(applied, duplicates, parked, last_event_time, erased, hearsay)",
    "stream_heads": "SELECT UPDATE",
    "subjects": "SELECT INSERT UPDATE(profile, version) DELETE",
    "tombstones": "SELECT INSERT UPDATE(erase_us, payments_sequence, escrow_sequence, reports_number, reason)",
}
# What is written once stays as it was written. What tells of a subject may be deleted, for a subject may be forgotten;
# of its events and answers the content goes and the place stays.
WRITTEN_ONCE = ("model_changes", "privileged_actions")
FORGOTTEN_ONLY = ("event_log", "score_accesses", "score_history", "deposit_movements", "privileged_action_words")
KEPT = ("events", "reports", "request_records", "parked_events", "tombstones", "model_versions")


@pytest.fixture
async def store(service_database: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    made = service_database("credit")
    await asyncio.to_thread(upgrade, package="danbao_credit", dsn=made.owner_dsn, role=made.role)
    return made


async def test_the_service_may_do_what_the_table_says_and_nothing_else(store: ServiceDatabase) -> None:
    assert await rights_of(store.role, store) == MAY
    assert await powers_of(store.role, store) == set()


async def test_who_migrates_owns_the_tables_and_is_nobody_else(store: ServiceDatabase) -> None:
    assert await rights_of(store.owner_role, store) == dict.fromkeys(MAY, ALL)
    assert await powers_of(store.owner_role, store) == {"creates in public"}


def test_what_is_written_once_can_be_inserted_and_read_and_nothing_else() -> None:
    assert {MAY[table] for table in WRITTEN_ONCE} == {"SELECT INSERT"}


def test_what_tells_of_a_subject_is_never_changed_only_forgotten() -> None:
    assert {MAY[table] for table in FORGOTTEN_ONLY} == {"SELECT INSERT DELETE"}
    assert not [table for table in KEPT if "DELETE" in MAY[table]]
