"""Spans that cost little: OpenTelemetry's API for those who trace, and no more behind it than services here use.

Every call is traced, so a span's cost is a call's cost. The SDK takes 35 µs to make a span and another 34 to encode it,
most of it for limits, locks and hooks; this takes a tenth. Tests may set the SDK's provider instead.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

from danbao_kit.otlp import SpanEvent, encode_span

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_TRACE_ID_LIMIT = 1 << 64


class RecordedSpan(Span):
    """A sampled span. What it was told is encoded when it ends; later words are ignored."""

    __slots__ = (
        "_attributes", "_context", "_end", "_events", "_kind", "_links", "_name", "_parent", "_span_id", "_start_ns",
        "_status", "_trace_id",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        trace_id: int,
        parent: SpanContext | None,
        start_ns: int,
        attributes: Attributes,
        links: Sequence[Link],
        end: Callable[[bytes], None],
    ) -> None:
        self._name = name
        self._kind = kind
        self._trace_id = trace_id
        self._span_id = random.getrandbits(64) or 1
        self._parent = parent
        self._start_ns = start_ns
        self._attributes: dict[str, object] = dict(attributes) if attributes else {}
        self._links = links
        self._events: list[SpanEvent] = []
        self._status: tuple[StatusCode, str | None] | None = None
        self._context: SpanContext | None = None
        self._end: Callable[[bytes], None] | None = end

    def end(self, end_time: int | None = None) -> None:
        end = self._end
        if end is None:
            return
        self._end = None
        end(
            encode_span(
                name=self._name,
                kind=self._kind,
                context=(self._trace_id, self._span_id),
                parent=self._parent,
                start_ns=self._start_ns,
                end_ns=end_time if end_time is not None else time.time_ns(),
                attributes=self._attributes,  # type: ignore[arg-type]
                events=self._events,
                links=[link.context for link in self._links] if self._links else (),
                status=self._status,
            )
        )

    def get_span_context(self) -> SpanContext:
        context = self._context
        if context is None:
            # Most spans have nothing below them and are never asked.
            context = self._context = SpanContext(self._trace_id, self._span_id, False, _SAMPLED)
        return context

    def is_recording(self) -> bool:
        return self._end is not None

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self._attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self._attributes.update(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self._events.append(SpanEvent(name, timestamp if timestamp is not None else time.time_ns(), attributes))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._links = (*self._links, Link(context))

    def update_name(self, name: str) -> None:
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        told = (status.status_code, status.description) if isinstance(status, Status) else (status, description)
        if self._status is None or self._status[0] is not StatusCode.OK:
            self._status = told

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type(exception)
        told = {
            "exception.type": kind.__qualname__
            if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__qualname__}",
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**told, **(attributes or {})}, timestamp)


class LeanTracer(trace.Tracer):
    """Makes spans. A trace is sampled as its caller's is, as what it links to is, else by `ratio`."""

    def __init__(self, ratio: float, end: Callable[[bytes], None]) -> None:
        self._bound = round(ratio * _TRACE_ID_LIMIT)
        self._end = end

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        above = trace.get_current_span(context).get_span_context()
        links = links or ()
        parent: SpanContext | None
        if above.is_valid:
            parent, trace_id = above, above.trace_id
            sampled = bool(above.trace_flags & TraceFlags.SAMPLED)
        else:
            parent, trace_id = None, random.getrandbits(128) or 1
            sampled = any(link.context.trace_flags & TraceFlags.SAMPLED for link in links) or (
                trace_id % _TRACE_ID_LIMIT < self._bound
            )
        if not sampled:
            return NonRecordingSpan(SpanContext(trace_id, random.getrandbits(64) or 1, False, _NOT_SAMPLED))
        start_ns = start_time if start_time is not None else time.time_ns()
        return RecordedSpan(name, kind, trace_id, parent, start_ns, attributes, links, self._end)

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        made = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(
            made,
            end_on_exit=end_on_exit,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ):
            yield made


class LeanTracerProvider(trace.TracerProvider):
    """Gives everybody the same tracer; each encoded span goes to `end`."""

    def __init__(self, ratio: float, end: Callable[[bytes], None]) -> None:
        self._tracer = LeanTracer(ratio, end)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        return self._tracer
