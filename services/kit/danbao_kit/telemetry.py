"""How work becomes spans: OTLP when an endpoint is set, nothing otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import Attributes

tracer = trace.get_tracer("danbao")

INVALID_SPAN = trace.INVALID_SPAN


class SettledResource(Resource):
    """What this process says of itself. The exporter hashes it for every span, as JSON; it never changes."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = hash(resource)

    def __hash__(self) -> int:
        return self._hash


class FollowLinks(Sampler):
    """Work that was begun because of a sampled request is sampled too, whatever the ratio says of its own trace."""

    def __init__(self, otherwise: Sampler) -> None:
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: otel_context.Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if any(link.context.trace_flags & TraceFlags.SAMPLED for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return self._otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"FollowLinks({self._otherwise.get_description()})"


def start_telemetry(*, service: str, endpoint: str, ratio: float) -> TracerProvider | None:
    """Sends this process's spans to `endpoint` (host:port, OTLP/gRPC). Returns the provider to shut down at the end."""
    if not endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(
        resource=SettledResource(Resource.create({"service.name": service})),
        sampler=ParentBased(FollowLinks(TraceIdRatioBased(ratio))),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=5)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=65536, schedule_delay_millis=500, max_export_batch_size=2048)
    )
    trace.set_tracer_provider(provider)
    return provider


def parse_traceparent(header: str) -> SpanContext | None:
    """The caller's span by W3C trace context (https://www.w3.org/TR/trace-context/), or None if there is none."""
    parts = header.split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        trace_id, span_id, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    if trace_id == 0 or span_id == 0:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & 1))


def format_traceparent(span: SpanContext) -> str:
    """The span as a W3C traceparent; empty for an invalid one."""
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 1:02x}"


def current_traceparent() -> str:
    """The current span as a W3C traceparent; empty without one."""
    return format_traceparent(trace.get_current_span().get_span_context())


def parent_context(parent: SpanContext | None) -> otel_context.Context:
    """A context whose current span is `parent`; an empty one without it."""
    if parent is None:
        return otel_context.Context()
    return trace.set_span_in_context(NonRecordingSpan(parent), otel_context.Context())


def now_ns() -> int:
    """Real time for spans, in nanoseconds since the epoch."""
    return time.time_ns()


@contextmanager
def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, str | int | float | bool] | None = None
) -> Iterator[Span]:
    """A span around a piece of work, below the current one; costs next to nothing when that one is not sampled."""
    current = trace.get_current_span()
    if not current.is_recording():
        yield current
        return
    with within(tracer.start_span(name, kind=kind, attributes=attributes)) as made:
        yield made


@contextmanager
def within(made: Span) -> Iterator[Span]:
    """Makes a span the current one, and ends it. Of an exception its class is told and never its text, which may hold
    what a caller wrote."""
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except Exception as error:
            made.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def past_span(
    name: str,
    *,
    parent: SpanContext,
    start_ns: int,
    end_ns: int,
    attributes: Mapping[str, str | int] | None = None,
    linked: SpanContext | None = None,
) -> None:
    """A span of work that is over already."""
    if not parent.trace_flags & 1:
        return
    made = tracer.start_span(
        name,
        context=parent_context(parent),
        start_time=start_ns,
        attributes=attributes,
        links=[Link(linked)] if linked is not None else None,
    )
    made.end(end_time=end_ns)
