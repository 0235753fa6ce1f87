"""Who asks while a read is under way shares the next with others, and sees what was there when it asked."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from danbao_kit import shared_reads, telemetry
from danbao_kit.errors import StoreUnavailable
from danbao_kit.shared_reads import SharedReads


class Shelf:
    """A store that is read as it is when a read begins, and answers when it is let."""

    def __init__(self):
        self.content = {}
        self.asked = []
        self.error = None
        self.open = asyncio.Event()
        self.open.set()

    async def read(self, names):
        self.asked.append(sorted(names))
        seen, error = dict(self.content), self.error
        await self.open.wait()
        if error is not None:
            raise error
        return {name: seen.get(name) for name in names}


async def settle():
    """Lets everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def reads(shelf):
    return SharedReads("shared_read.shelf", shelf.read)


async def test_who_is_alone_is_read_at_once(shelf, reads):
    shelf.content = {"a": 1}
    assert await reads.ask(["a"]) == {"a": 1}
    assert await reads.ask(["a"]) == {"a": 1}
    assert shelf.asked == [["a"], ["a"]]


async def test_those_who_come_while_a_read_is_under_way_share_the_next(shelf, reads):
    shelf.open.clear()
    first = asyncio.create_task(reads.ask(["a"]))
    await settle()
    others = [asyncio.create_task(reads.ask([name, "e"])) for name in "bcd"]
    await settle()
    assert shelf.asked == [["a"]], "one read at a time"
    shelf.open.set()
    assert await first == {"a": None}
    for name, answer in zip("bcd", await asyncio.gather(*others), strict=True):
        assert {name, "e"} <= answer.keys()
    assert shelf.asked == [["a"], ["b", "c", "d", "e"]]


async def test_nobody_is_given_what_was_read_before_it_asked(shelf, reads):
    shelf.content = {"a": "before"}
    shelf.open.clear()
    first = asyncio.create_task(reads.ask(["a"]))
    await settle()
    shelf.content = {"a": "after"}
    second = asyncio.create_task(reads.ask(["a"]))
    await settle()
    shelf.open.set()
    assert await first == {"a": "before"}
    assert await second == {"a": "after"}


async def test_more_names_than_one_read_takes_make_another(shelf, reads, monkeypatch):
    monkeypatch.setattr(shared_reads, "_MOST", 3)
    shelf.open.clear()
    tasks = [asyncio.create_task(reads.ask([name])) for name in "abcdef"]
    await settle()
    shelf.open.set()
    assert [await task for task in tasks] == [{"a": None, "b": None, "c": None}] * 3 + [
        {"d": None, "e": None, "f": None}
    ] * 3
    assert shelf.asked == [["a", "b", "c"], ["d", "e", "f"]]


async def test_who_asks_for_more_than_one_read_takes_is_read_apart_and_holds_up_nobody(shelf, reads, monkeypatch):
    monkeypatch.setattr(shared_reads, "_MOST", 2)
    shelf.open.clear()
    large = asyncio.create_task(reads.ask(["a", "b", "c"]))
    await settle()
    small = asyncio.create_task(reads.ask(["d"]))
    await settle()
    assert shelf.asked == [["a", "b", "c"], ["d"]]
    shelf.open.set()
    assert (await large).keys() == {"a", "b", "c"}
    assert await small == {"d": None}


async def test_everybody_of_a_read_that_failed_is_told_and_the_next_is_tried(shelf, reads):
    shelf.error = StoreUnavailable()
    answers = await asyncio.gather(reads.ask(["a"]), reads.ask(["b"]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    shelf.error = None
    assert await reads.ask(["a"]) == {"a": None}


async def test_who_goes_away_takes_nothing_from_the_others(shelf, reads):
    shelf.open.clear()
    first, second, third = (asyncio.create_task(reads.ask([name])) for name in "abc")
    await settle()
    first.cancel()
    second.cancel()
    await settle()
    shelf.open.set()
    assert await third == {"a": None, "b": None, "c": None}
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_read_that_hangs_holds_up_only_those_who_share_it(shelf, reads, monkeypatch):
    monkeypatch.setattr(shared_reads, "_PATIENCE_S", 0.01)
    shelf.open.clear()
    hanging = asyncio.create_task(reads.ask(["a"]))
    await settle()
    shelf.open = asyncio.Event()
    shelf.open.set()
    async with asyncio.timeout(5):
        assert await reads.ask(["b"]) == {"b": None}
    assert not hanging.done()
    hanging.cancel()


async def test_each_trace_shows_the_read_and_where_its_statement_stands(shelf, reads, monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(telemetry, "tracer", tracer)

    async def call(name):
        with tracer.start_as_current_span(name):
            await reads.ask([name])
            return trace.get_current_span().get_span_context()

    leader, other = await asyncio.gather(call("a"), call("b"))
    (shared,) = [span for span in exporter.get_finished_spans() if span.name == "shared_read.shelf"]
    assert shared.parent.span_id == other.span_id
    assert [link.context.span_id for link in shared.links] == [leader.span_id]
