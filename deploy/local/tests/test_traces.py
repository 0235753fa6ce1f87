"""Spans are taken, kept within bounds, found with their links, and drawn."""

import io
import time
from pathlib import Path

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from rich.console import Console

from danbao_kit.metrics import start_metrics, stop_metrics
from danbao_local.client import ClientTrace
from danbao_local.otlp_receiver import TraceReader, serve
from danbao_local.span_store import SpanStore
from danbao_local.spans import Span, SpanLink
from danbao_local.waterfall import arrange, fold_repeated_sql, render

OURS, BATCH, LATER, STRANGER = (letter * 32 for letter in "abcd")


def payload(
    *,
    trace_id: str,
    span_id: str,
    parent: str = "",
    name: str = "work",
    service: str = "payments",
    links: tuple[tuple[str, str], ...] = (),
    statement: str = "",
) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    span = resource_spans.scope_spans.add().spans.add(
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(span_id),
        parent_span_id=bytes.fromhex(parent),
        name=name,
        start_time_unix_nano=1_000_000,
        end_time_unix_nano=3_000_000,
    )
    for link_trace, link_span in links:
        span.links.add(trace_id=bytes.fromhex(link_trace), span_id=bytes.fromhex(link_span))
    if statement:
        span.attributes.append(KeyValue(key="db.statement", value=AnyValue(string_value=statement)))
    return request.SerializeToString()


def ident(number: int) -> str:
    return f"{number:016x}"


@pytest.fixture
def store(tmp_path: Path) -> SpanStore:
    return SpanStore(tmp_path / "traces", files=3, file_bytes=4_000)


def fill(store: SpanStore) -> None:
    """A call, a batch it shares (our span links to it), later work that links back, and a stranger."""
    store.append(payload(trace_id=OURS, span_id=ident(1), service="gateway", links=((BATCH, ident(10)),)))
    store.append(payload(trace_id=BATCH, span_id=ident(10), name="commit"))
    store.append(payload(trace_id=BATCH, span_id=ident(11), parent=ident(10), statement="INSERT INTO transfers"))
    store.append(payload(trace_id=BATCH, span_id=ident(12), name="another batch"))
    store.append(payload(trace_id=LATER, span_id=ident(20), service="credit", links=((OURS, ident(1)),)))
    store.append(
        payload(trace_id=LATER, span_id=ident(21), parent=ident(20), service="credit", links=((BATCH, ident(13)),))
    )
    store.append(payload(trace_id=BATCH, span_id=ident(13), service="credit", name="credit's commit"))
    # Another request shares our batch: it is none of our business, its commit links to one of our spans.
    store.append(payload(trace_id=STRANGER, span_id=ident(30), parent=ident(31), links=((OURS, ident(1)),)))


def test_linked_work_is_found_in_both_directions_with_what_is_below_it(store: SpanStore) -> None:
    fill(store)
    assert {span.span_id for span in store.trace(OURS)} == {ident(number) for number in (1, 10, 11, 13, 20, 21)}


def test_what_was_kept_is_found_after_a_restart(tmp_path: Path) -> None:
    first = SpanStore(tmp_path)
    fill(first)
    first.close()
    with next(tmp_path.glob("*.spans")).open("ab") as file:
        file.write(b"\0\0\1\0torn")
    assert len(SpanStore(tmp_path).trace(OURS)) == 6


def test_the_oldest_spans_give_way(tmp_path: Path, store: SpanStore) -> None:
    fill(store)
    for number in range(1000):
        store.append(payload(trace_id=STRANGER, span_id=ident(100 + number)))
    kept = sum(file.stat().st_size for file in (tmp_path / "traces").iterdir())
    assert kept <= 3 * 4_000
    assert store.trace(OURS) == []
    assert ident(1099) in {span.span_id for span in store.trace(STRANGER)}


def test_the_receiver_takes_otlp_and_answers_for_a_trace(store: SpanStore) -> None:
    server, port = serve(port=0, store=store)
    reader = TraceReader(f"127.0.0.1:{port}")
    try:
        trace = ClientTrace("root")
        with trace.call("PayTrade") as traceparent:
            version, trace_id, _, flags = traceparent.split("-")
            assert (version, trace_id, flags) == ("00", trace.trace_id, "01")
        reader.export(trace.finish())
        spans = reader.trace(trace.trace_id)
        assert [span.name for span in spans] == ["root", "PayTrade"]
        assert spans[1].parent_span_id == spans[0].span_id
    finally:
        reader.close()
        server.stop(None).wait()


def span(number: int, parent: int, service: str, *, trace_id: str = OURS, **fields: object) -> Span:
    values = {"name": f"{service} {number}", "start_ns": number * 1_000_000, "end_ns": number * 1_000_000 + 5_000_000}
    return Span(
        trace_id=trace_id,
        span_id=ident(number),
        parent_span_id=ident(parent) if parent else "",
        service=service,
        kind=1,
        **{**values, **fields},  # type: ignore[arg-type]
    )


SPANS = [
    span(1, 0, "client"),
    span(2, 1, "gateway"),
    span(3, 2, "escrow"),
    span(4, 3, "payments", links=(SpanLink(BATCH, ident(5)),)),
    span(5, 0, "payments", trace_id=BATCH, name="commit"),
    span(6, 5, "payments", trace_id=BATCH, attributes={"db.statement": "INSERT INTO\n  transfers VALUES ($1)"}),
    span(7, 0, "credit", trace_id=LATER, links=(SpanLink(OURS, ident(3)),)),
]


def test_the_receiver_takes_metrics_and_drops_them(store: SpanStore) -> None:
    server, port = serve(port=0, store=store)
    provider = start_metrics(service="payments", endpoint=f"127.0.0.1:{port}")
    assert provider is not None
    provider.get_meter("test").create_observable_gauge("age", [lambda _: [Observation(1)]])
    assert provider.force_flush(5_000)
    server.stop(None).wait()
    started = time.monotonic()
    stop_metrics(provider)
    assert time.monotonic() - started < 3
    assert start_metrics(service="payments", endpoint="") is None
    stop_metrics(None)


def test_linked_work_stands_below_what_it_is_linked_with() -> None:
    rows = arrange(SPANS, OURS)
    assert [(int(row.span.span_id, 16), row.depth, row.is_linked) for row in rows] == [
        (1, 0, False),
        (2, 1, False),
        (3, 2, False),
        (4, 3, False),
        (5, 4, True),
        (6, 5, False),
        (7, 3, True),
    ]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_waterfall_fits_the_terminal_and_shows_the_sql(width: int) -> None:
    output = io.StringIO()
    render(SPANS, OURS, console=Console(file=output, width=width))
    lines = output.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert any("INSERT INTO transfers" in line for line in lines)
    assert sum("ms" in line for line in lines) == len(SPANS) + 1


def test_later_transactions_of_a_service_are_folded() -> None:
    statement = {"attributes": {"db.statement": "SELECT 1"}}
    spans = [
        span(1, 0, "client"),
        span(2, 1, "payments"),
        *(span(number, 2, "payments", **statement) for number in (3, 4)),
        span(5, 1, "payments"),
        *(span(number, 5, "payments", **statement) for number in (6, 7, 8)),
    ]
    rows = fold_repeated_sql(arrange(spans, OURS))
    assert [int(row.span.span_id, 16) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1].span.name == "3 SQL statements, as above"
    assert rows[-1].span.end_ns == spans[-1].end_ns


def test_an_unknown_trace_is_said_to_be_unknown() -> None:
    output = io.StringIO()
    render([], OURS, console=Console(file=output, width=100))
    assert "No spans" in output.getvalue()
