"""The outbox as others read it: gapless, from a cursor, nothing missed and nothing twice."""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace

import asyncpg
import pytest

from danbao_kit import event_stream
from danbao_kit.errors import CursorAhead, CursorTooOld
from danbao_kit.event_reader import EventReader
from danbao_kit.event_stream import EventStream
from danbao_kit.group_commit import Submission
from danbao_kit.testing.jars import Fill, jar_service, request


@dataclass
class Chunk:
    events: list[bytes]
    cursor: SimpleNamespace


async def write(commit, prefix, count):
    for number in range(count):
        await commit.submit(Submission(Fill(f"{prefix}{number % 7}", 1), request(f"{prefix}-{number}")))
        if number % 5 == 0:
            await asyncio.sleep(random.random() / 200)


async def test_watch_replays_then_follows(replica):
    database, commit = replica
    stream = EventStream(database)
    await commit.submit(Submission(Fill("a", 1), request("1")))
    seen = []

    async def watch():
        async for chunk in stream.watch(0):
            seen.extend(chunk.payloads)
            if len(seen) == 2:
                return

    task = asyncio.create_task(watch())
    await asyncio.sleep(0.3)
    await commit.submit(Submission(Fill("b", 1), request("2")))
    await asyncio.wait_for(task, 3)
    assert seen == [b"1 filled a", b"2 filled b"]


async def test_what_a_replica_wrote_is_told_from_memory_and_what_another_wrote_in_between_from_the_store(jar_database):
    told = []
    ours, our_commit = jar_service(jar_database.dsn, on_events=lambda events: stream.written(events))
    theirs, their_commit = jar_service(jar_database.dsn)
    stream = EventStream(ours)
    read = stream._read

    async def counted(sequence, **how):
        rows = await read(sequence, **how)
        told.extend(row[0] for row in rows)
        return rows

    stream._read = counted
    our_commit.start()
    their_commit.start()
    watching = stream.watch(0)
    for number, (commit, from_store) in enumerate(
        [(our_commit, False), (our_commit, False), (their_commit, True), (our_commit, False)], 1
    ):
        await commit.submit(Submission(Fill("a", 1), request(str(number))))
        chunk = await asyncio.wait_for(anext(watching), 3)
        assert (chunk.payloads, chunk.sequence) == ([b"%d filled a" % number], number)
        assert (number in told) == from_store
    # Whoever comes later reads what lies before from the store; ours alone begins anew after theirs.
    later = stream.watch(0)
    seen = []
    while len(seen) < 4:
        seen += (await asyncio.wait_for(anext(later), 3)).payloads
    assert seen == [b"%d filled a" % number for number in range(1, 5)]
    await watching.aclose()
    await later.aclose()
    for database, commit in ((ours, our_commit), (theirs, their_commit)):
        await commit.stop()
        await database.close()


@pytest.mark.parametrize(("at_once", "waits_long"), [(1, False), (3, False), (4, True), (9, True)])
async def test_only_where_many_were_found_the_next_are_gathered_for_longer(replica, monkeypatch, at_once, waits_long):
    monkeypatch.setattr(event_stream, "_GATHER_S", 0)
    monkeypatch.setattr(event_stream, "_GATHER_MANY_S", 1000)
    monkeypatch.setattr(event_stream, "_LOOK_AGAIN_S", 1000)
    database, commit = replica
    for number in range(at_once):
        await commit.submit(Submission(Fill("a", 1), request(str(number))))
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)

    stream = EventStream(database)
    watching = stream.watch(0)
    assert len((await asyncio.wait_for(anext(watching), 3)).payloads) == at_once
    monkeypatch.setattr(event_stream, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": pause}))
    following = asyncio.create_task(anext(watching))
    await commit.submit(Submission(Fill("a", 1), request("next")))
    stream.wake()
    assert len((await asyncio.wait_for(following, 3)).payloads) == 1
    assert [pause_s > 0 for pause_s in pauses] == [waits_long]
    await watching.aclose()


@pytest.mark.parametrize(("left_over", "at_once"), [(0, [2]), (1, [2]), (2, [2, 2]), (3, [2, 2])])
async def test_what_is_left_over_from_a_chunk_waits_for_what_comes_next(replica, monkeypatch, left_over, at_once):
    monkeypatch.setattr(event_stream, "_CHUNK", 2)
    monkeypatch.setattr(event_stream, "_LOOK_AGAIN_S", 1000)
    monkeypatch.setattr(event_stream, "_GATHER_S", 0)
    monkeypatch.setattr(event_stream, "_GATHER_MANY_S", 0)
    database, _ = replica
    stream = EventStream(database)

    def write(first, last):
        stream.written([(number, "filled", datetime.now(UTC), b"%d" % number) for number in range(first, last + 1)])

    write(1, 2 + left_over)
    watching = stream.watch(0)
    monkeypatch.setattr(stream, "_check", _no_store)
    assert [len((await asyncio.wait_for(anext(watching), 3)).payloads) for _ in at_once] == at_once
    following = asyncio.create_task(anext(watching))
    await asyncio.sleep(0.05)
    assert not following.done()
    write(3 + left_over, 3 + left_over)
    told = await asyncio.wait_for(following, 3)
    assert [int(payload) for payload in told.payloads] == list(range(2 * len(at_once) + 1, 4 + left_over))
    await watching.aclose()


async def _no_store(sequence):
    """The cursor is a good one."""


async def test_the_first_event_after_a_pause_waits_for_no_others(replica, monkeypatch):
    """However long it has been since the store was last looked at in vain."""
    monkeypatch.setattr(event_stream, "_GATHER_S", 1000)
    monkeypatch.setattr(event_stream, "_LOOK_AGAIN_S", 0.01)
    database, commit = replica
    stream = EventStream(database)
    watching = stream.watch(0)
    following = asyncio.create_task(anext(watching))
    for _ in range(3):
        await asyncio.sleep(0.02)
        stream.wake()
    await commit.submit(Submission(Fill("a", 1), request("1")))
    stream.wake()
    assert len((await asyncio.wait_for(following, 3)).payloads) == 1
    await watching.aclose()


async def test_only_so_many_events_are_remembered_and_the_store_tells_the_others(replica, monkeypatch):
    database, commit = replica
    monkeypatch.setattr(event_stream, "_REMEMBERED", 3)
    monkeypatch.setattr(event_stream, "_CHUNK", 2)
    stream = EventStream(database)
    commit._on_events = stream.written
    for number in range(1, 12):
        await commit.submit(Submission(Fill("a", 1), request(str(number))))
    assert not stream._last_written.after(0)
    assert [event[0] for event in stream._last_written.after(9)] == [10, 11]
    seen = []
    async for chunk in stream.watch(0):
        seen += chunk.payloads
        if len(seen) >= 11:
            break
    assert seen == [b"%d filled a" % number for number in range(1, 12)]


async def test_a_cursor_before_the_oldest_kept_event_and_one_beyond_the_end_are_refused(replica, jar_database):
    database, commit = replica
    stream = EventStream(database)
    for number in range(4):
        await commit.submit(Submission(Fill("a", 1), request(str(number))))
    owner = await asyncpg.connect(jar_database.owner_dsn)
    await owner.execute("DELETE FROM events WHERE sequence <= 2")
    await owner.close()
    with pytest.raises(CursorTooOld) as old:
        await anext(stream.watch(1))
    assert old.value.metadata["oldest"] == "3"
    with pytest.raises(CursorAhead):
        await anext(stream.watch(5))
    assert (await anext(stream.watch(2))).payloads == [b"3 filled a", b"4 filled a"]


async def test_a_reader_under_concurrent_writers_and_kills_misses_nothing_and_takes_nothing_twice(jar_database):
    """Three replicas write; the reader is killed again and again, between reading and committing its cursor."""
    replicas = [jar_service(jar_database.dsn) for _ in range(3)]
    for _, commit in replicas:
        commit.start()
    stream = EventStream(replicas[0][0])
    applied: list[bytes] = []  # with the cursor, what the reader's own store would hold
    cursor = 0
    chance = random.Random(20240)

    async def read_cursor():
        return cursor

    async def open_stream(after):
        async for chunk in stream.watch(after):
            yield Chunk(chunk.payloads, SimpleNamespace(sequence=chunk.sequence))

    async def apply(message, after):
        nonlocal cursor
        await asyncio.sleep(chance.random() / 500)
        assert after == cursor
        applied.extend(message.events)
        cursor = message.cursor.sequence
        await asyncio.sleep(0)
        if chance.random() < 0.2:
            raise ConnectionError("the stream broke right after the commit")

    def start_reader():
        return asyncio.create_task(EventReader("jars", cursor=read_cursor, open=open_stream, apply=apply).run())

    reading = start_reader()

    async def kill_again_and_again():
        nonlocal reading
        for _ in range(12):
            await asyncio.sleep(0.08)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            reading = start_reader()

    killing = asyncio.create_task(kill_again_and_again())
    await asyncio.gather(*[write(commit, f"w{position}-", 80) for position, (_, commit) in enumerate(replicas)])
    await killing
    async with asyncio.timeout(10):
        while len(applied) < 240:
            await asyncio.sleep(0.05)
    reading.cancel()
    assert [int(event.split()[0]) for event in applied] == list(range(1, 241))
    for database, commit in replicas:
        await commit.stop()
        await database.close()
