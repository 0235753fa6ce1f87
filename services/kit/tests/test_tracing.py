"""Spans: what reaches a collector is what OpenTelemetry's own implementation would have sent."""

from concurrent import futures

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, SpanKind, StatusCode

from danbao_kit import otlp
from danbao_kit.otlp import SpanSender, encode_request, encode_resource
from danbao_kit.telemetry import parent_context, parse_traceparent
from danbao_kit.tracing import LeanTracerProvider

CALLER = parse_traceparent(f"00-{'1a' * 16}-{'2b' * 8}-01")
UNSAMPLED = parse_traceparent(f"00-{'1a' * 16}-{'3c' * 8}-00")
RESOURCE = {"service.name": "payments", "workers": 3, "share": 0.5, "spare": True}


class Counted(IdGenerator):
    """Ids 1, 2, 3, …"""

    def __init__(self):
        self.given = 0

    def generate_span_id(self):
        self.given += 1
        return self.given

    generate_trace_id = generate_span_id


def spans_of(request):
    return [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]


def tell_a_story(tracer):
    """Everything that services do with spans."""
    call = tracer.start_span(
        "danbao.Payments/Create", context=parent_context(CALLER), kind=SpanKind.SERVER, attributes={"peer": "gateway"}
    )
    with trace.use_span(call):
        statement = tracer.start_span("SQL SELECT x", attributes={"db.system": "postgresql", "ok": True, "n": 1})
        statement.add_event("waited", {"ms": 2.5, "for": "lock"}, timestamp=7)
        statement.set_status(StatusCode.ERROR, "no such table")
        statement.end(end_time=12)
        with tracer.start_as_current_span("rails charge", kind=SpanKind.CLIENT, start_time=3) as charge:
            charge.set_attributes({"rail": "simulated", "n": 2**40, "negative": -1})
    call.set_attribute("rpc.grpc.status", "OK")
    call.set_attribute("peer", "the gateway")
    call.update_name("renamed")
    call.end(end_time=99)
    call.end(end_time=100)
    tracer.start_span("commit", start_time=5, links=[Link(CALLER), Link(call.get_span_context())]).end(end_time=2**62)


def test_a_story_is_sent_as_the_sdk_would_send_it(monkeypatch):
    exporter = InMemorySpanExporter()
    sdk = TracerProvider(resource=Resource(RESOURCE), id_generator=Counted())
    sdk.add_span_processor(SimpleSpanProcessor(exporter))
    tell_a_story(sdk.get_tracer("danbao"))
    expected = encode_spans(exporter.get_finished_spans())

    ids = Counted()
    monkeypatch.setattr("random.getrandbits", lambda bits: ids.generate_span_id())
    ended = []
    tell_a_story(LeanTracerProvider(1.0, ended.append).get_tracer("danbao"))
    told = trace_service_pb2.ExportTraceServiceRequest.FromString(encode_request(encode_resource(RESOURCE), ended))

    for span in (*spans_of(expected), *spans_of(told)):
        if span.name == "rails charge":
            span.end_time_unix_nano = 0  # real time
        if span.name in ("renamed", "SQL SELECT x"):
            span.start_time_unix_nano = 0
        if not span.status.code:
            span.ClearField("status")  # said or not, it means the same
        span.attributes.sort(key=lambda pair: pair.key)
    assert told == expected


def test_an_exception_stands_in_its_span():
    ended = []
    tracer = LeanTracerProvider(1.0, ended.append).get_tracer("danbao")
    with pytest.raises(ValueError, match="too small"), tracer.start_as_current_span("work"):
        raise ValueError("too small")
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(encode_request(b"", ended))
    (span,) = spans_of(request)
    assert (span.status.code, span.status.message) == (2, "ValueError: too small")
    facts = {pair.key: pair.value.string_value for pair in span.events[0].attributes}
    assert (facts["exception.type"], facts["exception.message"]) == ("ValueError", "too small")
    assert "test_tracing.py" in facts["exception.stacktrace"]


def sampled(ratio, **how):
    ended = []
    span = LeanTracerProvider(ratio, ended.append).get_tracer("danbao").start_span("work", **how)
    recording = span.is_recording()
    span.end()
    assert len(ended) == recording == bool(span.get_span_context().trace_flags & 1)
    assert not span.is_recording()
    return recording


def test_a_trace_is_sampled_as_its_caller_decided():
    assert sampled(0.0, context=parent_context(CALLER))
    assert not sampled(1.0, context=parent_context(UNSAMPLED))
    assert not sampled(1.0, context=parent_context(UNSAMPLED), links=[Link(CALLER)])


def test_a_trace_of_ones_own_is_sampled_by_the_ratio_or_as_what_caused_it():
    assert sampled(1.0)
    assert not sampled(0.0)
    assert sampled(0.0, links=[Link(UNSAMPLED), Link(CALLER)])
    assert not sampled(0.0, links=[Link(UNSAMPLED)])
    assert 350 < sum(sampled(0.5) for _ in range(1000)) < 650


def test_an_unsampled_span_still_tells_the_trace_it_is_in():
    span = LeanTracerProvider(1.0, lambda _: None).get_tracer("danbao").start_span("x", parent_context(UNSAMPLED))
    context = span.get_span_context()
    assert context.trace_id == UNSAMPLED.trace_id
    assert context.span_id not in (0, UNSAMPLED.span_id)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.requests = []

    def Export(self, request, context):
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    made = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    made.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(0)


def test_what_waits_when_the_service_ends_is_sent(collector):
    sender = SpanSender(collector.endpoint, RESOURCE)
    tracer = LeanTracerProvider(1.0, sender.add).get_tracer("danbao")
    for number in range(5000):
        tracer.start_span(f"span {number}").end()
    sender.stop()
    spans = [span.name for request in collector.requests for span in spans_of(request)]
    assert spans == [f"span {number}" for number in range(5000)]
    service = collector.requests[0].resource_spans[0].resource.attributes[0]
    assert (service.key, service.value.string_value) == ("service.name", "payments")


def test_a_collector_that_is_away_costs_spans_and_nothing_else(monkeypatch):
    monkeypatch.setattr(otlp, "_SEND_TIMEOUT_S", 0.2)
    monkeypatch.setattr(otlp, "_MOST_WAITING", 10)
    sender = SpanSender("127.0.0.1:1", RESOURCE)
    tracer = LeanTracerProvider(1.0, sender.add).get_tracer("danbao")
    for _ in range(30):
        tracer.start_span("lost").end()
    assert len(sender._waiting) <= 10
    sender.stop()
    assert not sender._thread.is_alive()
