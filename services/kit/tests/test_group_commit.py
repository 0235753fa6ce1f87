"""The write path on the real PostgreSQL: what is committed, what is answered, what is left alone."""

import asyncio
import time

import asyncpg
import pytest

from danbao_kit.errors import RecordedRefusal
from danbao_kit.group_commit import Submission
from danbao_kit.submission import record_key
from danbao_kit.testing.jars import Break, Copy, Fill, Keep, Move, Promise, jar_service, request


async def jars_of(database):
    connection = await asyncpg.connect(database.dsn)
    try:
        return {row["jar"]: row["marbles"] for row in await connection.fetch("SELECT jar, marbles FROM jars")}
    finally:
        await connection.close()


async def events_of(database):
    connection = await asyncpg.connect(database.dsn)
    try:
        rows = await connection.fetch("SELECT sequence, payload FROM events ORDER BY sequence")
        return [(row["sequence"], row["payload"].decode()) for row in rows]
    finally:
        await connection.close()


async def test_effect_event_and_reply_are_there_after_the_answer(replica, jar_database):
    _, commit = replica
    outcome = await commit.submit(Submission(Fill("a", 5), request("1")))
    assert outcome.message.amount_minor == 5
    assert not outcome.replayed
    assert await jars_of(jar_database) == {"a": 5}
    assert await events_of(jar_database) == [(1, "1 filled a")]


async def test_the_same_request_again_gets_the_same_answer_and_does_nothing(replica, jar_database):
    _, commit = replica
    first = await commit.submit(Submission(Fill("a", 5), request("1")))
    second = await commit.submit(Submission(Fill("a", 5, note="another note"), request("1")))
    assert second.replayed
    assert second.message == first.message
    assert await jars_of(jar_database) == {"a": 5}


async def test_another_body_under_the_same_id_is_refused_and_the_field_named(replica, jar_database):
    _, commit = replica
    await commit.submit(Submission(Fill("a", 5), request("1")))
    outcome = await commit.submit(Submission(Fill("a", 6), request("1")))
    assert outcome.error.reason == "REQUEST_ID_REUSED"
    assert outcome.error.metadata["field"] == "marbles"
    assert await jars_of(jar_database) == {"a": 5}


async def test_the_same_id_of_another_caller_or_method_is_another_request(replica, jar_database):
    _, commit = replica
    await commit.submit(Submission(Fill("a", 5), request("1")))
    await commit.submit(Submission(Fill("a", 6), request("1", caller="partner:p")))
    await commit.submit(Submission(Fill("a", 7), request("1", method="Else")))
    assert await jars_of(jar_database) == {"a": 18}


async def test_one_request_id_many_times_in_one_batch_takes_effect_once(replica, jar_database):
    _, commit = replica
    outcomes = await commit.submit_many([Submission(Fill("a", 1), request("1")) for _ in range(50)])
    assert [outcome.error for outcome in outcomes] == [None] * 50
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert await jars_of(jar_database) == {"a": 1}


async def test_a_refusal_touches_nothing_and_is_recorded(replica, jar_database):
    _, commit = replica
    outcomes = await commit.submit_many(
        [
            Submission(Fill("a", 3), request("1")),
            Submission(Move("a", "b", 4), request("2")),
            Submission(Move("a", "b", 3), request("3")),
        ]
    )
    assert [outcome.error.reason if outcome.error else None for outcome in outcomes] == [None, "JAR_TOO_EMPTY", None]
    assert await jars_of(jar_database) == {"a": 0, "b": 3}
    await commit.submit(Submission(Fill("a", 100), request("4")))
    again = await commit.submit(Submission(Move("a", "b", 4), request("2")))
    assert again.replayed
    assert isinstance(again.error, RecordedRefusal)
    assert [text for _, text in await events_of(jar_database)] == ["1 filled a", "2 moved a b", "3 filled a"]


async def test_a_bug_in_one_command_is_its_callers_alone_and_may_be_tried_again(replica, jar_database):
    _, commit = replica
    outcomes = await commit.submit_many(
        [
            Submission(Fill("a", 1), request("1")),
            Submission(Break("a"), request("2")),
            Submission(Fill("a", 1), request("3")),
        ]
    )
    assert outcomes[1].error.reason == "INTERNAL"
    assert "secret" not in outcomes[1].error.message
    assert outcomes[2].message.amount_minor == 2
    assert await jars_of(jar_database) == {"a": 2}
    again = await commit.submit(Submission(Break("a"), request("2")))
    assert not again.replayed


async def test_a_refusal_holds_nothing_of_its_batch(replica):
    _, commit = replica
    outcome = await commit.submit(Submission(Move("a", "b", 4), request("1")))
    assert outcome.error.reason == "JAR_TOO_EMPTY"
    error = outcome.error
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


async def test_a_command_the_store_itself_refuses_is_left_out_and_its_neighbours_go_on(replica, jar_database):
    """The constraint underneath is the backstop: a decision that would break it fails alone."""
    _, commit = replica
    outcomes = await commit.submit_many(
        [
            Submission(Fill("a", 1), request("1")),
            Submission(Fill("bad", -1), request("2")),
            Submission(Fill("b", 1), request("3")),
        ]
    )
    assert [outcome.error.reason if outcome.error else None for outcome in outcomes] == [None, "INTERNAL", None]
    assert await jars_of(jar_database) == {"a": 1, "b": 1}
    assert [sequence for sequence, _ in await events_of(jar_database)] == [1, 2]


async def test_a_command_that_needs_more_rows_is_decided_with_them(replica, jar_database):
    _, commit = replica
    await commit.submit(Submission(Fill("hidden", 7), request("1")))
    outcome = await commit.submit(Submission(Copy("a", "hidden"), request("2")))
    assert outcome.message.amount_minor == 7


async def test_a_command_that_never_has_what_it_needs_is_given_up(replica):
    _, commit = replica
    outcome = await commit.submit(Submission(Copy("a", "nowhere"), request("2")))
    assert outcome.error.reason == "INTERNAL"


async def test_a_caller_that_leaves_during_the_commit_does_not_disturb_it(replica, jar_database):
    _, commit = replica
    task = asyncio.create_task(commit.submit(Submission(Fill("a", 5), request("1"))))
    # The batch has begun once its command is out of the queue.
    while not task.done() and not commit._last_size:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await commit.submit(Submission(Fill("a", 5), request("1")))
    assert again.replayed
    assert await jars_of(jar_database) == {"a": 5}


async def test_a_command_whose_deadline_has_passed_is_not_begun(replica, jar_database):
    _, commit = replica
    outcome = await commit.submit(Submission(Fill("a", 5), request("1"), deadline=time.monotonic() - 1))
    assert outcome.error.reason == "DEADLINE_EXCEEDED"
    assert await jars_of(jar_database) == {}


async def test_a_deferred_request_is_answered_by_a_later_command_and_duplicates_join(replica, jar_database):
    _, commit = replica
    key = request("1")
    waiting = [asyncio.ensure_future(commit.submit(Submission(Promise("a"), key))) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    await commit.submit(Submission(Keep(key, "a", 9)))
    outcomes = await asyncio.gather(*waiting)
    assert [outcome.message.amount_minor for outcome in outcomes] == [9, 9, 9]
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    again = await commit.submit(Submission(Promise("a"), key))
    assert again.replayed
    assert again.message.amount_minor == 9


async def test_a_deferred_request_is_answered_when_another_replica_ends_it(replica, jar_database):
    _, here = replica
    there_database, there = jar_service(jar_database.dsn)
    there.start()
    key = request("1")
    waiting = asyncio.ensure_future(here.submit(Submission(Promise("a"), key)))
    await asyncio.sleep(0.1)
    await there.submit(Submission(Keep(key, "a", 9)))
    outcome = await asyncio.wait_for(waiting, 3)
    assert outcome.message.amount_minor == 9
    await there.stop()
    await there_database.close()


async def test_one_request_id_in_two_replicas_at_once_takes_effect_once(replica, jar_database):
    _, here = replica
    there_database, there = jar_service(jar_database.dsn)
    there.start()
    for number in range(20):
        outcomes = await asyncio.gather(
            here.submit(Submission(Fill("a", 1), request(str(number)))),
            there.submit(Submission(Fill("a", 1), request(str(number)))),
        )
        assert sorted(outcome.replayed for outcome in outcomes) == [False, True]
    assert await jars_of(jar_database) == {"a": 20}
    await there.stop()
    await there_database.close()


async def test_a_lost_connection_is_met_by_sending_the_batch_again(replica, jar_database):
    _, commit = replica
    await commit.submit(Submission(Fill("a", 1), request("0")))
    admin = await asyncpg.connect(jar_database.owner_dsn)

    async def cut() -> None:
        for _ in range(10):
            await asyncio.sleep(0.02)
            commit._connection and commit._connection.terminate()

    cutting = asyncio.create_task(cut())
    outcomes = []
    for number in range(1, 200):
        outcomes.append(await commit.submit(Submission(Fill("a", 1), request(str(number)))))
    await cutting
    await admin.close()
    assert [outcome.error for outcome in outcomes] == [None] * 199
    assert await jars_of(jar_database) == {"a": 200}
    assert [sequence for sequence, _ in await events_of(jar_database)] == list(range(1, 201))


@pytest.mark.parametrize("error", [asyncpg.InternalClientError, asyncpg.InterfaceError, ConnectionResetError])
async def test_a_commit_whose_answer_the_driver_lost_is_asked_for_again_and_counts_once(
    replica, jar_database, monkeypatch, error
):
    _, commit = replica
    run, failures = commit._transaction.run, [error("unexpected protocol state")]

    async def lost_once(connection, batch):
        ran = await run(connection, batch)
        if failures:
            raise failures.pop()
        return ran

    monkeypatch.setattr(commit._transaction, "run", lost_once)
    outcome = await commit.submit(Submission(Fill("a", 5), request("1")))
    assert outcome.error is None
    assert not failures
    assert await jars_of(jar_database) == {"a": 5}


async def fill_at_once(commit, count, name):
    return await asyncio.gather(
        *[commit.submit(Submission(Fill("a", 1), request(f"{name}-{number}"))) for number in range(count)]
    )


async def test_after_many_one_alone_waits_for_nobody_who_does_not_come(jar_database):
    """A batch lingers for those who were there before, but only while they keep coming, and never after a pause."""
    database, commit = jar_service(jar_database.dsn, linger_ms=60_000)
    commit.start()
    async with asyncio.timeout(20):
        for pause_s in (0, 0.1):
            await fill_at_once(commit, 50, f"many {pause_s}")
            await asyncio.sleep(pause_s)
            await fill_at_once(commit, 1, f"one {pause_s}")
    await commit.stop()
    await database.close()
    assert await jars_of(jar_database) == {"a": 102}


async def test_callers_who_come_back_one_by_one_share_a_batch(jar_database):
    sizes = []
    database, commit = jar_service(
        jar_database.dsn, linger_ms=60_000, on_commit=lambda jars: sizes.append(commit._last_size)
    )
    commit.start()
    await fill_at_once(commit, 50, "together")
    coming = []
    for number in range(50):
        coming.append(asyncio.create_task(commit.submit(Submission(Fill("a", 1), request(f"again {number}")))))
        await asyncio.sleep(0)  # the first is waited for, and the batch could begin with it
    await asyncio.gather(*coming)
    await commit.stop()
    await database.close()
    assert sizes == [50, 50]


async def test_a_request_begun_and_answered_in_one_batch_is_recorded_with_its_answer(replica, jar_database):
    _, commit = replica
    key = request("1")
    outcomes = await commit.submit_many([Submission(Promise("a"), key), Submission(Keep(key, "a", 9))])
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert commit._last_size == 2, "both were in one batch"
    assert outcomes[0].message.amount_minor == 9
    again = await commit.submit(Submission(Promise("a"), key))
    assert again.replayed
    assert again.message.amount_minor == 9


async def test_the_service_role_cannot_rewrite_history(jar_database):
    connection = await asyncpg.connect(jar_database.dsn)
    for statement in (
        "UPDATE events SET kind = 'x'",
        "DELETE FROM events",
        "TRUNCATE events",
        "DELETE FROM request_records",
        "UPDATE request_records SET fingerprint = ''",
        "DELETE FROM stream_heads",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_the_record_names_whose_request_it_was(replica, jar_database):
    _, commit = replica
    key = request("1")
    await commit.submit(Submission(Fill("a", 1), key))
    connection = await asyncpg.connect(jar_database.dsn)
    row = await connection.fetchrow("SELECT * FROM request_records WHERE key = $1", record_key(key))
    await connection.close()
    assert (row["caller"], row["method"], row["request_id"], row["state"]) == ("peer:test", "Do", "1", 1)
