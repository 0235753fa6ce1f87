"""Workers come back, whatever ended them; and what a batch wants done outside is done once, for what was committed."""

import asyncio

import asyncpg

from danbao_kit import background, batch_transaction, group_commit
from danbao_kit.background import keep_running
from danbao_kit.group_commit import Submission
from danbao_kit.testing.jars import Fill, jar_service, request


async def test_a_worker_that_fails_or_ends_is_begun_again(monkeypatch):
    monkeypatch.setattr(background, "_PAUSE_S", 0.01)
    runs = []

    async def work():
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("the store was away in a way nobody thought of")
        if len(runs) == 3:
            await asyncio.sleep(60)

    task = asyncio.create_task(keep_running("worker", work))
    async with asyncio.timeout(2):
        while len(runs) < 3:
            await asyncio.sleep(0.01)
    task.cancel()


async def test_what_a_lost_batch_wanted_done_is_never_handed_out(jar_database, monkeypatch):
    """A batch is given up before its commit; the next one, which only answers a known request, must not inherit it."""
    monkeypatch.setattr(group_commit, "_GIVE_UP_S", 0.2)
    handed_out = []
    store, commit = jar_service(
        jar_database.dsn, on_commit=lambda jars: handed_out.append(dict(jars.marbles.created()))
    )
    commit.start()
    known = Submission(Fill("known", 1), request("known"))
    await commit.submit(known)
    lose = True

    async def lost(name):
        if lose and name == "before_commit":
            raise asyncpg.ConnectionDoesNotExistError

    monkeypatch.setattr(batch_transaction, "failpoint", lost)
    outcome = await commit.submit(Submission(Fill("lost", 1), request("lost")))
    assert outcome.error.reason == "OUTCOME_UNKNOWN"
    lose = False
    assert (await commit.submit(Submission(Fill("known", 1), request("known")))).replayed
    assert handed_out == [{"known": 1}]
    assert (await commit.submit(Submission(Fill("lost", 1), request("lost")))).error is None
    assert handed_out == [{"known": 1}, {"lost": 1}]
    await commit.stop()
    await store.close()
