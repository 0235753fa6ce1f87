"""How finished spans leave the process: as OTLP bytes from the moment they end, sent by a thread of its own.

What repeats in every span (names, keys, statements) is encoded once. That is sound because concatenated encodings of
one protobuf message are an encoding of their merge (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
The messages are those of https://github.com/open-telemetry/opentelemetry-proto.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from opentelemetry.util.types import Attributes

from danbao_kit.log import log

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_SEND_EVERY_S = 0.5
_MOST_SPANS = 2048
_MOST_WAITING = 65_536
_SEND_TIMEOUT_S = 5.0

# Tags of fields in their messages: the number, three bits to the left, and how the value is laid down.
_SPANS, _SCOPE_SPANS, _RESOURCE_SPANS = b"\x12", b"\x12", b"\x0a"
# trace_id, span_id, start, end, flags; and the parent's span_id.
_FIXED = struct.Struct("<2s16s2s8ssQsQ2sI")
_PARENT = b"\x22\x08"

_CONTEXT_HAS_IS_REMOTE, _CONTEXT_IS_REMOTE = 0x100, 0x200


class SpanEvent(NamedTuple):
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Attributes


def encode_span(
    *,
    name: str,
    kind: SpanKind,
    context: tuple[int, int],
    parent: SpanContext | None,
    start_ns: int,
    end_ns: int,
    attributes: Attributes,
    events: Sequence[SpanEvent] = (),
    links: Sequence[SpanContext] = (),
    status: tuple[StatusCode, str | None] | None = None,
) -> bytes:
    """A finished span as it stands in ScopeSpans; `context` is its trace id and span id."""
    trace_id, span_id = context
    parts = [
        _FIXED.pack(
            b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id.to_bytes(8, "big"),
            b"\x39", start_ns, b"\x41", end_ns, b"\x85\x01", _flags(parent),
        ),
        _named(name, kind),
    ]  # fmt: skip
    if parent is not None:
        parts += (_PARENT, parent.span_id.to_bytes(8, "big"))
    if attributes:
        parts += [_attribute(key, value) for key, value in attributes.items()]
    if links:
        parts += [_link(link.trace_id, link.span_id, link.is_remote) for link in links]
    if events:
        parts.append(Span(events=[_event(event) for event in events]).SerializeToString())
    if status is not None:
        parts.append(_status(*status))
    return _delimited(_SPANS, b"".join(parts))


def encode_request(resource: bytes, spans: Sequence[bytes]) -> bytes:
    """An ExportTraceServiceRequest of encoded spans; `resource` is by `encode_resource`."""
    scope = ScopeSpans(scope=InstrumentationScope(name="danbao")).SerializeToString()
    return _delimited(_RESOURCE_SPANS, resource + _delimited(_SCOPE_SPANS, scope + b"".join(spans)))


def encode_resource(attributes: Attributes) -> bytes:
    """Whose spans they are, as it stands in ResourceSpans."""
    resource = Resource(attributes=[_key_value(key, value) for key, value in (attributes or {}).items()])
    return ResourceSpans(resource=resource).SerializeToString()


class SpanSender:
    """Sends encoded spans to a collector, a few times a second or as soon as there are many."""

    def __init__(self, endpoint: str, resource: Attributes) -> None:
        self._resource = encode_resource(resource)
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._wake = threading.Event()
        self._stopping = False
        self._channel = grpc.insecure_channel(endpoint, options=[("grpc.max_reconnect_backoff_ms", 2_000)])
        self._export = self._channel.unary_unary(_EXPORT)
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def add(self, span: bytes) -> None:
        """Takes a span; when too many wait it is lost rather than the service's memory."""
        waiting = self._waiting
        if len(waiting) >= _MOST_WAITING:
            self._lost += 1
            return
        waiting.append(span)
        if len(waiting) >= _MOST_SPANS and not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        """Sends what waits, for as long as one sending may take, and closes."""
        self._stopping = True
        self._wake.set()
        self._thread.join(2 * _SEND_TIMEOUT_S)
        self._channel.close()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_SEND_EVERY_S)
            self._wake.clear()
            self._send_all()

    def _send_all(self) -> None:
        waiting = self._waiting
        while waiting:
            spans = [waiting.popleft() for _ in range(min(len(waiting), _MOST_SPANS))]
            try:
                # A collector that restarts is waited for; what it refuses is lost.
                self._export(encode_request(self._resource, spans), timeout=_SEND_TIMEOUT_S, wait_for_ready=True)
            except Exception as error:  # noqa: BLE001 - whatever it was, later spans are to be sent
                why = error.code().name if isinstance(error, grpc.RpcError) else type(error).__name__
                log.warning("spans_lost", spans=len(spans), why=why)
                if self._stopping:
                    return
        if self._lost:
            log.warning("spans_lost", spans=self._lost, why="TOO_MANY_WAITING")
            self._lost = 0


def _flags(context: SpanContext | None) -> int:
    is_remote = context is not None and context.is_remote
    return _CONTEXT_HAS_IS_REMOTE | (_CONTEXT_IS_REMOTE if is_remote else 0)


@lru_cache(maxsize=1000)
def _named(name: str, kind: SpanKind) -> bytes:
    return Span(name=name, kind=kind.value + 1).SerializeToString()  # type: ignore[arg-type]


# By type too: 1 and True are the same key otherwise.
@lru_cache(maxsize=5000, typed=True)
def _attribute(key: str, value: object) -> bytes:
    return Span(attributes=[_key_value(key, value)]).SerializeToString()


@lru_cache(maxsize=100)
def _link(trace_id: int, span_id: int, is_remote: bool) -> bytes:
    flags = _CONTEXT_HAS_IS_REMOTE | (_CONTEXT_IS_REMOTE if is_remote else 0)
    link = Span.Link(trace_id=trace_id.to_bytes(16, "big"), span_id=span_id.to_bytes(8, "big"), flags=flags)
    return Span(links=[link]).SerializeToString()


@lru_cache(maxsize=1000)
def _status(code: StatusCode, message: str | None) -> bytes:
    return Span(status=Status(code=code.value, message=message or "")).SerializeToString()  # type: ignore[arg-type]


def _event(event: SpanEvent) -> Span.Event:
    attributes = [_key_value(key, value) for key, value in (event.attributes or {}).items()]
    return Span.Event(name=event.name, time_unix_nano=event.time_ns, attributes=attributes)


def _key_value(key: str, value: object) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=str(value)))


def _delimited(tag: bytes, data: bytes) -> bytes:
    """A field whose value is `data`: its tag, its length as a varint, itself."""
    left = len(data)
    length = bytearray()
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return tag + bytes(length) + data
