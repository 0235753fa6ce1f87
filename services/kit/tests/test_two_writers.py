"""Two processes write to one store, and one of them is killed at the worst moment."""

import asyncio
import os
import sys

import asyncpg

from danbao_kit.group_commit import Submission
from danbao_kit.testing.jars import Fill, Move, jar_service, request

COUNT = 150


async def start_writer(database, prefix, *, failpoint=""):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "danbao_kit.testing.jars",
        database.dsn,
        prefix,
        str(COUNT),
        "full",
        "empty",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DANBAO_FAILPOINT": failpoint},
    )


async def fill(database, marbles):
    store, commit = jar_service(database.dsn)
    commit.start()
    await commit.submit(Submission(Fill("full", marbles), request("fill")))
    await commit.stop()
    await store.close()


async def read(database, sql):
    connection = await asyncpg.connect(database.dsn)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def test_two_processes_on_one_jar_take_exactly_what_is_there(jar_database):
    await fill(jar_database, 100)
    writers = [await start_writer(jar_database, prefix) for prefix in ("left", "right")]
    said = b"".join([out for out, _ in await asyncio.gather(*[writer.communicate() for writer in writers])]).decode()
    answers = [line.split()[1] for line in said.splitlines()]
    assert answers.count("ok") == 100
    assert answers.count("JAR_TOO_EMPTY") == 2 * COUNT - 100
    jars = {row["jar"]: row["marbles"] for row in await read(jar_database, "SELECT * FROM jars")}
    assert jars == {"full": 0, "empty": 100}
    sequences = [row["sequence"] for row in await read(jar_database, "SELECT sequence FROM events ORDER BY 1")]
    assert sequences == list(range(1, 102))


async def test_a_writer_killed_around_its_commit_loses_nothing_and_doubles_nothing(jar_database):
    """Every answered request is in the books; every unanswered one, sent again by another, has one effect."""
    for place in ("before_commit", "after_commit"):
        await fill(jar_database, 10_000)
        killed = await start_writer(jar_database, place, failpoint=f"{place}=kill:5")
        out, _ = await killed.communicate()
        assert killed.returncode == -9
        answered = {line.split()[0] for line in out.decode().splitlines()}
        assert len(answered) < COUNT
        store, commit = jar_service(jar_database.dsn)
        commit.start()
        outcomes = await commit.submit_many(
            [Submission(Move("full", "empty", 1), request(f"{place}-{number}")) for number in range(COUNT)]
        )
        await commit.stop()
        await store.close()
        assert all(outcome.error is None for outcome in outcomes)
        for number, outcome in enumerate(outcomes):
            if f"{place}-{number}" in answered:
                assert outcome.replayed, f"{place}-{number} was answered and is not in the books"
    jars = {row["jar"]: row["marbles"] for row in await read(jar_database, "SELECT * FROM jars")}
    assert jars["empty"] == 2 * COUNT


async def test_a_stopped_writer_does_not_stop_the_others(jar_database):
    """The server ends the transaction of a replica that stands still while it holds the head."""
    await fill(jar_database, 100)
    stuck = await start_writer(jar_database, "stuck", failpoint="before_commit=sleep:2")
    await stuck.stdout.readline()  # its first batch is committed; the second will stand still with the head locked
    async with asyncio.timeout(5):
        while not await read(jar_database, "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'"):
            await asyncio.sleep(0.02)
    store, commit = jar_service(jar_database.dsn)
    commit.start()
    outcome = await asyncio.wait_for(commit.submit(Submission(Fill("full", 1), request("go"))), 6)
    assert outcome.error is None
    stuck.kill()
    await stuck.wait()
    await commit.stop()
    await store.close()
