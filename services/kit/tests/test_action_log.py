"""The log of privileged actions on the real PostgreSQL: in whose transaction it is written, and what is found of it."""

import asyncio
import io
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from danbao.payments.v1 import payment_pb2
from danbao.type.v1 import privileged_action_pb2
from danbao_kit.acting import Acting
from danbao_kit.action_auditor import ActionAuditor
from danbao_kit.action_calls import ActionCalls
from danbao_kit.action_log import ActionLog, Wanted
from danbao_kit.business_clock import ClockServicer, open_clock
from danbao_kit.call import Call, set_current_call
from danbao_kit.database import Database
from danbao_kit.group_commit import Submission
from danbao_kit.privileged_actions import BEGINNING, Break, Place, chained
from danbao_kit.testing.jars import Break as Bug
from danbao_kit.testing.jars import Copy, Fill, Keep, Move, Promise, jar_service, request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def operator(why: str = "", *, message=None, subject: str = "op-1") -> Acting:
    call = Call("jars.v1.Jars/Do", "gateway", subject, frozenset({"operator"}))
    call.traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    call.why, call.request = why, message
    return Acting(call)


def filling(number: int, *, jar: str = "a", acting: Acting | None = None) -> Submission:
    return Submission(Fill(jar, 1), request(str(number)), acting=acting or operator(f"because {number}"))


async def written(log: ActionLog):
    return list(reversed(await log.page(Wanted(), before=None, limit=100_000)))


@pytest.fixture
async def log(replica) -> ActionLog:
    return ActionLog(replica[0])


async def as_owner(database, *statements: str):
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetch(statements[-1])
    finally:
        await connection.close()


async def test_an_entry_says_who_did_what_upon_what_why_and_in_which_trace(replica, log):
    _, commit = replica
    message = payment_pb2.VoidPaymentRequest(request_id="1", name="payments/7")
    await commit.submit(Submission(Fill("a", 5), request("1"), acting=operator("court order", message=message)))
    [entry] = await written(log)
    action, words = entry.action, entry.words
    assert (entry.sequence, action.method, action.operation) == (1, "jars.v1.Jars/Do", "Do")
    assert (action.caller_kind, action.actor, action.roles, action.partner) == ("TOKEN", "op-1", "operator", "")
    assert (action.outcome, action.trace_id) == ("OK", TRACE)
    assert (words.request_id, words.object, words.why) == ("1", "payments/7", "court order")
    assert (await log.verify()).complete
    [record] = await as_owner_of(replica, "SELECT fingerprint FROM request_records")
    assert words.fingerprint == record["fingerprint"]


async def as_owner_of(replica, query: str):
    async with replica[0].read() as connection:
        return (await connection.exec_driver_sql(query)).mappings().all()


async def test_a_certificate_is_named_by_its_name(replica, log):
    call = Call("jars.v1.Jars/Do", "operator")
    await replica[1].submit(Submission(Fill("a", 5), request("1"), acting=Acting(call)))
    [entry] = await written(log)
    assert (entry.action.caller_kind, entry.action.actor, entry.action.trace_id) == ("CERTIFICATE", "operator", "")


async def test_of_a_batch_only_what_is_done_by_privilege_is_told_in_its_order(replica, log):
    _, commit = replica
    submissions = [filling(n) if n % 3 == 0 else Submission(Fill("a", 1), request(str(n))) for n in range(30)]
    outcomes = await commit.submit_many(submissions)
    assert commit._last_size == 30, "all were in one batch"
    assert [outcome.error for outcome in outcomes] == [None] * 30
    assert [entry.words.request_id for entry in await written(log)] == [str(n) for n in range(0, 30, 3)]
    assert (await log.verify()).broken is None


async def test_nobody_s_privilege_leaves_no_entry_and_takes_no_statement(replica, log, monkeypatch):
    async def never(*_):
        raise AssertionError("no statement without a privilege")

    monkeypatch.setattr("danbao_kit.action_writer.append", never)
    outcome = await replica[1].submit(Submission(Fill("a", 1), request("1")))
    assert outcome.error is None
    assert await written(log) == []


async def test_a_refusal_by_a_rule_is_told_and_its_repetition_is_not(replica, log, jar_database):
    _, commit = replica
    refused = Submission(Move("a", "b", 4), request("1"), acting=operator())
    assert (await commit.submit(refused)).error.reason == "JAR_TOO_EMPTY"
    again = await commit.submit(Submission(Move("a", "b", 4), request("1"), acting=operator()))
    assert again.replayed
    assert [(entry.action.outcome, entry.words.request_id) for entry in await written(log)] == [("JAR_TOO_EMPTY", "1")]


async def test_the_same_request_again_or_with_another_body_is_told_once(replica, log):
    _, commit = replica
    await commit.submit(filling(1))
    assert (await commit.submit(filling(1))).replayed
    reused = await commit.submit(Submission(Fill("a", 9), request("1"), acting=operator()))
    assert reused.error.reason == "REQUEST_ID_REUSED"
    many = await commit.submit_many([filling(2) for _ in range(20)])
    assert sum(not outcome.replayed for outcome in many) == 1
    assert [entry.words.request_id for entry in await written(log)] == ["1", "2"]


async def test_a_bug_has_no_effect_and_is_not_told(replica, log):
    _, commit = replica
    outcomes = await commit.submit_many([filling(1), Submission(Bug("a"), request("2"), acting=operator()), filling(3)])
    assert outcomes[1].error.reason == "INTERNAL"
    assert [entry.words.request_id for entry in await written(log)] == ["1", "3"]


async def test_a_command_that_is_decided_again_with_more_rows_is_told_once(replica, log):
    _, commit = replica
    await commit.submit(filling(1, jar="hidden"))
    await commit.submit(Submission(Copy("a", "hidden"), request("2"), acting=operator()))
    assert [entry.words.request_id for entry in await written(log)] == ["1", "2"]


async def test_a_batch_the_store_refuses_is_told_command_by_command(replica, log):
    _, commit = replica
    bad = Submission(Fill("bad", -1), request("2"), acting=operator())
    await commit.submit_many([filling(1), bad, filling(3)])
    assert [entry.words.request_id for entry in await written(log)] == ["1", "3"]
    assert (await log.verify()).broken is None


async def test_what_awaits_an_answer_is_told_as_under_way_and_who_joins_it_is_not(replica, log):
    _, commit = replica
    key = request("1")
    waiting = [asyncio.ensure_future(commit.submit(Submission(Promise("a"), key, acting=operator()))) for _ in range(3)]
    await asyncio.sleep(0.1)
    await commit.submit(Submission(Keep(key, "a", 9)))
    await asyncio.gather(*waiting)
    assert [(entry.action.outcome, entry.words.request_id) for entry in await written(log)] == [("UNDER_WAY", "1")]


async def test_what_has_no_request_id_is_told_by_the_method_s_name(replica, log):
    await replica[1].submit(Submission(Fill("a", 1), acting=operator("a sweep"), wants_reply=True))
    [entry] = await written(log)
    assert (entry.action.operation, entry.words.request_id, entry.words.why) == ("Do", "", "a sweep")


async def test_a_final_refusal_of_what_has_no_request_id_is_told_too(replica, log):
    refused = await replica[1].submit(Submission(Move("a", "b", 4), acting=operator("a read")))
    assert refused.error.reason == "JAR_TOO_EMPTY"
    [entry] = await written(log)
    assert (entry.action.outcome, entry.words.request_id, entry.words.why) == ("JAR_TOO_EMPTY", "", "a read")


async def test_two_replicas_at_once_keep_the_log_without_a_gap(replica, log, jar_database):
    _, here = replica
    there_database, there = jar_service(jar_database.dsn)
    there.start()
    await asyncio.gather(
        *[
            commit.submit(filling(number, acting=operator(subject=name)))
            for number in range(200)
            for name, commit in [("here", here) if number % 2 else ("there", there)]
        ]
    )
    await there.stop()
    await there_database.close()
    entries = await written(log)
    assert [entry.sequence for entry in entries] == list(range(1, 201))
    assert {entry.words.request_id for entry in entries} == {str(number) for number in range(200)}
    checked = await log.verify()
    assert (checked.entries, checked.broken, checked.complete) == (200, None, True)


_KILLED = """
import asyncio, sys
from danbao_kit.acting import Acting
from danbao_kit.call import Call
from danbao_kit.group_commit import Submission
from danbao_kit.testing.jars import Fill, jar_service, request

async def main():
    database, commit = jar_service(sys.argv[1])
    commit.start()
    acting = Acting(Call("jars.v1.Jars/Do", "operator"))
    await commit.submit(Submission(Fill("a", 1), request("1"), acting=acting))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("place", "is_done"), [("before_actions", 0), ("after_actions", 0), ("before_commit", 0), ("after_commit", 1)]
)
async def test_effect_and_entry_are_both_there_or_neither_wherever_the_process_dies(
    jar_database, replica, log, place, is_done
):
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, jar_database.dsn, env={**os.environ, "DANBAO_FAILPOINT": f"{place}=kill"}
    )
    assert await killed.wait() == -signal.SIGKILL
    effects = await as_owner(jar_database, "SELECT marbles FROM jars")
    assert (len(effects), len(await written(log))) == (is_done, is_done)
    assert (await log.verify()).broken is None


@pytest.mark.parametrize("table", ["privileged_actions", "privileged_action_words"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET sequence = 9", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_service_s_role_can_add_entries_and_nothing_else(replica, jar_database, table, statement):
    await replica[1].submit(filling(1))
    connection = await asyncpg.connect(jar_database.dsn)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement.format(table))
    finally:
        await connection.close()


async def test_the_service_s_role_cannot_take_the_head_away(replica, jar_database):
    connection = await asyncpg.connect(jar_database.dsn)
    try:
        for statement in ("DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} VALUES (1, 0, '')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement.format("privileged_action_heads"))
    finally:
        await connection.close()


# What the tables' owner may do, and what is found of it.

_SHIFT = (
    # Room for one in the middle: the later ones move up by one, from the last on.
    "UPDATE privileged_actions SET sequence = -sequence WHERE sequence > 3",
    "UPDATE privileged_actions SET sequence = 1 - sequence WHERE sequence < 0",
)
_COPY = (
    "INSERT INTO privileged_actions SELECT {to}, create_time, method, operation, caller_kind, actor, roles, partner,"
    " outcome, trace_id, words_digest, previous_hash, hash FROM privileged_actions WHERE sequence = {of}"
)
_WORDS_COPY = (
    "INSERT INTO privileged_action_words SELECT {to}, salt, request_id, fingerprint, subject, object, why"
    " FROM privileged_action_words WHERE sequence = {of}"
)
_WITHOUT = "ALTER TABLE privileged_actions DROP CONSTRAINT actions_are_numbered_from_one"

TAMPERED = {
    "the actor changed": (["UPDATE privileged_actions SET actor = 'x' WHERE sequence = 3"], 3, "was changed"),
    "the time changed": (
        ["UPDATE privileged_actions SET create_time = create_time + interval '1 s' WHERE sequence = 3"],
        3,
        "was changed",
    ),
    "the time no time": (
        ["UPDATE privileged_actions SET create_time = 'infinity' WHERE sequence = 3"],
        3,
        "was changed",
    ),
    "the time before all time": (
        ["UPDATE privileged_actions SET create_time = '0044-03-15 BC' WHERE sequence = 3"],
        3,
        "was changed",
    ),
    "the time after all time": (
        ["UPDATE privileged_actions SET create_time = '12026-11-29' WHERE sequence = 3"],
        3,
        "was changed",
    ),
    "the caller of no kind": (
        [
            "ALTER TABLE privileged_actions DROP CONSTRAINT action_caller_kind_is_known",
            "UPDATE privileged_actions SET caller_kind = 'x' WHERE sequence = 3",
        ],
        3,
        "was changed",
    ),
    "the outcome changed": (["UPDATE privileged_actions SET outcome = 'OK.' WHERE sequence = 3"], 3, "was changed"),
    "the hash changed": (["UPDATE privileged_actions SET hash = 'x' WHERE sequence = 3"], 3, "was changed"),
    "why changed": (
        ["UPDATE privileged_action_words SET why = 'x' WHERE sequence = 3"],
        3,
        "says other words than were written",
    ),
    "the object changed": (
        ["UPDATE privileged_action_words SET object = 'accounts/x' WHERE sequence = 3"],
        3,
        "says other words than were written",
    ),
    "the words gone": (["DELETE FROM privileged_action_words WHERE sequence = 3"], 3, "lacks its words"),
    "the last gone": (["DELETE FROM privileged_actions WHERE sequence = 6"], 6, "is missing: the head is 6"),
    "the middle gone": (["DELETE FROM privileged_actions WHERE sequence = 3"], 3, "is missing"),
    "the first gone": (["DELETE FROM privileged_actions WHERE sequence = 1"], 1, "is missing"),
    "all gone": (["DELETE FROM privileged_actions"], 1, "is missing: the head is 6"),
    "one put in the middle": (
        [
            _WITHOUT,
            *_SHIFT,
            _COPY.format(to=4, of=2),
            "DELETE FROM privileged_action_words WHERE sequence > 3",
            _WORDS_COPY.format(to=4, of=2),
        ],
        4,
        "does not follow from the entry before it",
    ),
    "one put at the end": ([_COPY.format(to=7, of=6)], 7, "does not follow from the entry before it"),
    "one put before the first": ([_WITHOUT, _COPY.format(to=0, of=1)], 0, "stands where no entry belongs"),
    "two changed places": (
        [
            "UPDATE privileged_actions SET sequence = 1000 WHERE sequence = 2",
            "UPDATE privileged_actions SET sequence = 2 WHERE sequence = 5",
            "UPDATE privileged_actions SET sequence = 5 WHERE sequence = 1000",
        ],
        2,
        "does not follow from the entry before it",
    ),
    "the head set back": (
        [
            "UPDATE privileged_action_heads SET sequence = 5,"
            " hash = (SELECT hash FROM privileged_actions WHERE sequence = 5)"
        ],
        6,
        "stands behind the head",
    ),
    "the head's hash changed": (
        ["UPDATE privileged_action_heads SET hash = 'x'"],
        6,
        "is not the one that the head names",
    ),
    "the head gone": (["DELETE FROM privileged_action_heads"], 7, "may be missing: the head is gone"),
    "all gone with the head": (
        ["DELETE FROM privileged_action_heads", "DELETE FROM privileged_actions"],
        1,
        "may be missing: the head is gone",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_what_the_owner_of_the_tables_does_is_found_and_where(replica, jar_database, how):
    database, commit = replica
    await commit.submit_many([filling(number) for number in range(6)])
    log = ActionLog(database)
    assert (await log.verify()).broken is None
    statements, sequence, what = TAMPERED[how]
    [left] = await as_owner(jar_database, *statements, "SELECT count(*) FROM privileged_actions")
    checked = await log.verify()
    assert checked.broken == Break(sequence, what)
    assert checked.complete
    auditor = ActionAuditor(log, service="jars", every_s=1)
    await auditor.look()
    assert auditor.broken == Break(sequence, what)
    set_current_call(Call("jars.v1.AuditService/Any", "operator"))
    told = await ActionCalls(log).verify(privileged_action_pb2.VerifyPrivilegedActionsRequest())
    assert (told.intact, told.broken_sequence, told.broken_because) == (False, sequence, what)
    listed = await ActionCalls(log).list(privileged_action_pb2.ListPrivilegedActionsRequest())
    assert len(listed.actions) == left["count"], "what is there is shown, whatever somebody made of it"


async def test_without_its_head_the_log_takes_nothing_and_nothing_is_done_by_privilege(replica, log, jar_database):
    _, commit = replica
    await commit.submit(filling(1))
    [head] = await as_owner(jar_database, "DELETE FROM privileged_action_heads RETURNING partition, sequence, hash")
    ordinary = Submission(Fill("b", 1), request("2"))
    refused, done = await commit.submit_many([filling(3), ordinary])
    assert (refused.error.code, refused.error.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert "head" in str(refused.error)
    assert done.error is None, "whoever uses no privilege is not held up"
    restored = "INSERT INTO privileged_action_heads VALUES ({}, {}, '\\x{}')"
    await as_owner(jar_database, restored.format(head["partition"], head["sequence"], head["hash"].hex()), "SELECT 1")
    again = await commit.submit(filling(3))
    assert (again.error, again.replayed) == (None, False), "it had no effect before"
    assert [entry.words.request_id for entry in await written(log)] == ["1", "3"]
    assert (await log.verify()).broken is None


async def rewrite_from(database, sequence: int) -> None:
    """As somebody would who owns the tables and knows this code: everything from there on anew, head and all."""
    log = ActionLog(Database(database.owner_dsn, pool_size=1))
    entries = await written(log)
    before = entries[sequence - 2] if sequence > 1 else None
    anew = chained(
        Place(before.sequence, before.hash) if before is not None else BEGINNING,
        [(entry.action, entry.words) for entry in entries[sequence:]],  # without the one there
    )
    connection = await asyncpg.connect(database.owner_dsn)
    async with connection.transaction():
        for entry in anew:
            await connection.execute("DELETE FROM privileged_actions WHERE sequence = $1", entry.sequence)
            await connection.execute(_COPY.format(to=entry.sequence, of=entry.sequence + 1))
            await connection.execute(
                "UPDATE privileged_actions SET previous_hash = $1, hash = $2 WHERE sequence = $3",
                entry.previous_hash,
                entry.hash,
                entry.sequence,
            )
            await connection.execute("DELETE FROM privileged_action_words WHERE sequence = $1", entry.sequence)
            await connection.execute(_WORDS_COPY.format(to=entry.sequence, of=entry.sequence + 1))
        last = entries[-1].sequence
        await connection.execute("DELETE FROM privileged_actions WHERE sequence = $1", last)
        await connection.execute("DELETE FROM privileged_action_words WHERE sequence = $1", last)
        await connection.execute("UPDATE privileged_action_heads SET sequence = $1, hash = $2", last - 1, anew[-1].hash)
    await connection.close()


async def test_a_log_written_anew_is_whole_in_itself_and_another_than_the_one_noted_elsewhere(replica, jar_database):
    database, commit = replica
    await commit.submit_many([filling(number) for number in range(6)])
    log = ActionLog(database)
    noted = (await log.verify(max_entries=4)).reached
    before = ActionAuditor(log, service="jars", every_s=1)
    await before.look()
    await rewrite_from(jar_database, 3)
    assert (await log.verify()).broken is None, "nothing in the store shows it"
    assert (await log.verify(after=noted)).broken == Break(4, "is not the one that was seen before")
    await before.look()
    assert before.broken == Break(6, "is missing"), "who runs has noted the last entry"
    await commit.submit(filling(99))
    await before.look()
    assert before.broken == Break(6, "is not the one that was seen before")


async def test_a_break_stands_until_a_whole_round_finds_none(replica, jar_database):
    database, commit = replica
    await commit.submit_many([filling(number) for number in range(6)])
    auditor = ActionAuditor(ActionLog(database), service="jars", every_s=1)
    await as_owner(jar_database, "UPDATE privileged_actions SET actor = 'x' WHERE sequence = 3", "SELECT 1")
    await auditor.look()
    await commit.submit(filling(7))
    await auditor.look()
    assert auditor.broken == Break(3, "was changed")
    await as_owner(jar_database, "UPDATE privileged_actions SET actor = 'op-1' WHERE sequence = 3", "SELECT 1")
    await auditor.look()
    assert auditor.broken is None
    assert auditor.known.sequence == 7


async def test_the_auditor_finds_what_is_changed_behind_it(replica, jar_database):
    database, commit = replica
    await commit.submit_many([filling(number) for number in range(6)])
    auditor = ActionAuditor(ActionLog(database), service="jars", every_s=1)
    await auditor.look()
    assert auditor.broken is None
    await as_owner(jar_database, "UPDATE privileged_actions SET actor = 'x' WHERE sequence = 2", "SELECT 1")
    await auditor.look()
    assert auditor.broken == Break(2, "was changed")


def measured(reader: InMemoryMetricReader) -> dict[str, tuple[float, dict[str, str]]]:
    """Each gauge: its value and attributes."""
    data = reader.get_metrics_data()
    return {
        metric.name: (point.value, dict(point.attributes or {}))
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


async def test_the_head_is_told_in_log_and_metrics_so_that_it_is_noted_elsewhere(replica, jar_database, monkeypatch):
    database, commit = replica
    reader, seconds, out = InMemoryMetricReader(), [0.0], io.BytesIO()
    monkeypatch.setattr("danbao_kit.log._Sink.stream", out)
    auditor = ActionAuditor(
        ActionLog(database),
        service="jars",
        every_s=1,
        meter=MeterProvider([reader]).get_meter("test"),
        monotonic=lambda: seconds[0],
    )

    def told(event: str) -> list[dict]:
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    await commit.submit_many([filling(number) for number in range(6)])
    await auditor.look()
    head = (await auditor._actions.verify()).head
    assert [(line["sequence"], line["hash"]) for line in told("privileged_actions_verified")] == [(6, head.hash.hex())]
    assert measured(reader)["privileged_actions_head"] == (6, {"hash": head.hash.hex()})
    assert measured(reader)["privileged_actions_broken"] == (0, {})
    seconds[0] += 100
    assert measured(reader)["privileged_actions_age_seconds"] == (100, {})
    await auditor.look()
    assert measured(reader)["privileged_actions_age_seconds"] == (0, {})
    assert len(told("privileged_actions_verified")) == 1, "it has not moved"
    seconds[0] += 3600
    await auditor.look()
    assert len(told("privileged_actions_verified")) == 2, "an hour has passed"
    await as_owner(jar_database, "DELETE FROM privileged_actions WHERE sequence = 6", "SELECT 1")
    await auditor.look()
    assert measured(reader)["privileged_actions_broken"] == (1, {})
    assert {(line["check"], line["resource"]) for line in told("audit_violation")} == {
        ("privileged_actions", "privilegedActions/6")
    }


async def test_while_a_break_stands_no_head_is_told_as_verified(replica, jar_database, monkeypatch):
    database, commit = replica
    reader, out = InMemoryMetricReader(), io.BytesIO()
    monkeypatch.setattr("danbao_kit.log._Sink.stream", out)
    meter = MeterProvider([reader]).get_meter("test")
    auditor = ActionAuditor(ActionLog(database), service="jars", every_s=1, meter=meter)

    def verified() -> list[int]:
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        return [line["sequence"] for line in lines if line["event"] == "privileged_actions_verified"]

    await commit.submit_many([filling(number) for number in range(6)])
    await auditor.look()
    await as_owner(jar_database, "UPDATE privileged_actions SET actor = 'x' WHERE sequence = 2", "SELECT 1")
    await commit.submit(filling(7))
    for _ in range(2):
        await auditor.look()
        assert measured(reader)["privileged_actions_broken"] == (1, {})
        assert measured(reader)["privileged_actions_head"][0] == 6, "the last before the break was found"
    assert verified() == [6]
    await as_owner(jar_database, "UPDATE privileged_actions SET actor = 'op-1' WHERE sequence = 2", "SELECT 1")
    await auditor.look()
    assert verified() == [6, 7]


async def test_the_chain_is_looked_at_in_pieces_that_join(replica, log):
    await replica[1].submit_many([filling(number) for number in range(600)])
    reached, looks, entries = BEGINNING, 0, 0
    while True:
        checked = await log.verify(after=reached, max_entries=250)
        assert checked.broken is None
        reached, looks, entries = checked.reached, looks + 1, entries + checked.entries
        if checked.complete:
            break
    assert (looks, entries, reached) == (3, 600, checked.head)
    assert not (await log.verify(budget_s=0)).complete


async def test_the_chain_is_verified_while_it_grows(replica, log):
    _, commit = replica

    async def grow() -> None:
        for number in range(60):
            await commit.submit_many([filling(number * 100 + each) for each in range(5)])

    growing = asyncio.create_task(grow())
    looks = 0
    while not growing.done():
        checked = await log.verify()
        assert checked.broken is None
        looks += 1
        await asyncio.sleep(0)
    await growing
    assert looks > 1
    assert (await log.verify()).entries == 300


async def test_words_that_may_go_leave_a_chain_that_verifies(replica, jar_database):
    database, commit = replica
    await commit.submit_many([filling(number) for number in range(6)])
    await as_owner(jar_database, "DELETE FROM privileged_action_words WHERE sequence IN (2, 5)", "SELECT 1")
    checked = await ActionLog(database, words_may_go=True).verify()
    assert (checked.broken, checked.entries, checked.erased) == (None, 6, 2)
    assert (await ActionLog(database).verify()).broken == Break(2, "lacks its words")


async def test_pages_are_newest_first_and_what_is_written_meanwhile_shifts_none(replica, log):
    _, commit = replica
    for name in ("op-1", "op-2"):
        await commit.submit_many([filling(f"{name} {number}", acting=operator(subject=name)) for number in range(5)])
    first = await log.page(Wanted(actor="op-2"), before=None, limit=2)
    await commit.submit_many([filling(f"later {number}", acting=operator(subject="op-2")) for number in range(3)])
    second = await log.page(Wanted(actor="op-2"), before=first[-1].sequence, limit=2)
    assert [entry.sequence for entry in [*first, *second]] == [10, 9, 8, 7]


async def test_entries_are_found_by_actor_operation_object_and_time(replica, log):
    _, commit = replica
    for number, (who, what, jar) in enumerate([("a", "Do", "j/1"), ("a", "Undo", "j/2"), ("b", "Do", "j/1")], 1):
        message = payment_pb2.VoidPaymentRequest(name=jar)
        await commit.submit(
            Submission(Fill("a", 1), request(str(number), method=what), acting=operator(message=message, subject=who))
        )

    async def found(**wanted):
        return [entry.sequence for entry in await log.page(Wanted(**wanted), before=None, limit=9)]

    assert await found() == [3, 2, 1]
    assert await found(actor="a") == [2, 1]
    assert await found(operation="Do") == [3, 1]
    assert await found(object="j/1", actor="b") == [3]
    assert await found(object="j/3") == []
    at = (await written(log))[1].action.create_time
    assert await found(since=at) == [3, 2]
    assert await found(until=at) == [1]
    assert await found(since=at, until=at + timedelta(microseconds=1)) == [2]


async def test_who_moves_the_test_clock_is_told_and_who_moves_nothing_is_not(jar_database):
    database = Database(jar_database.dsn, pool_size=2)
    clock = await open_clock("test", database)
    servicer = ClockServicer(clock, database)
    from danbao.testing.v1 import clock_pb2

    def to(day: int) -> clock_pb2.AdvanceClockRequest:
        asked = clock_pb2.AdvanceClockRequest()
        asked.to.FromDatetime(datetime(2020, 1, day, tzinfo=UTC))
        return asked

    set_current_call(Call("danbao.testing.v1.ClockService/AdvanceClock", "operator", why="ten days pass"))
    for day in (5, 5, 3, 7):
        await servicer.AdvanceClock(to(day), None)
    log = ActionLog(database)
    entries = await written(log)
    assert [entry.action.create_time.day for entry in entries] == [5, 7]
    assert {(entry.action.operation, entry.words.why) for entry in entries} == {("AdvanceClock", "ten days pass")}
    assert (await log.verify()).broken is None
    assert clock.now() == datetime(2020, 1, 7, tzinfo=UTC)
    await database.close()
