"""What happens around every call, one small wrapper a concern, composed once per method and then cached.

From the outside in: the call's identity, its log line, its span, its errors, its deadline, its message, its peer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from danbao_kit.acting import WHY_HEADER, why_of_header
from danbao_kit.call import GATEWAY, INTERNAL_DOMAIN, Call, set_current_call
from danbao_kit.errors import (
    DanbaoError,
    DeadlineExceeded,
    DeadlineRequired,
    Internal,
    MessageMalformed,
    Overloaded,
    PeerNotAllowed,
    TooManyStreams,
)
from danbao_kit.log import log
from danbao_kit.rpc_status import DETAILS_KEY, grpc_code, reason_of, status_of
from danbao_kit.telemetry import current_traceparent, parent_context, parse_traceparent, tracer
from danbao_kit.validation import check

Behaviour = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]

# Calls of these services change nothing and are not worth a line or a span.
_QUIET = ("/grpc.health.", "/grpc.reflection.")


class PeerTable:
    """Which peer may call which methods: full names, or a service's name for all of its methods."""

    def __init__(self, rules: Mapping[str, tuple[str, ...]]) -> None:
        self._rules = rules
        self._known: dict[tuple[str, str], bool] = {}

    def allows(self, peer: str, method: str) -> bool:
        """`method` is "/package.Service/Method"."""
        known = self._known.get((peer, method))
        if known is None:
            full = method.lstrip("/")
            service = full.partition("/")[0]
            allowed = self._rules.get(peer, ())
            known = full in allowed or service in allowed
            if peer in self._rules:
                self._known[(peer, method)] = known
        return known


class Malformed:
    """What the deserializer gives for bytes that are not the message."""


class ServiceInterceptor(grpc.aio.ServerInterceptor):
    """Puts our wrappers around each handler, once."""

    def __init__(self, peers: PeerTable, *, mutations: frozenset[str], max_concurrent: int, max_streams: int) -> None:
        self._peers = peers
        self._mutations = mutations
        self._max_concurrent = max_concurrent
        self._under_way = 0
        self._max_streams = max_streams
        # By caller, as long as it has one.
        self._streams: Counter[str] = Counter()
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            made = await continuation(handler_call_details)
            if made is None or method.startswith(_QUIET):
                return made
            handler = self._handlers[method] = self._wrap(method, made)
        return handler

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler:
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary),
                request_deserializer=_forgiving(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream),
                request_deserializer=_forgiving(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                self._unary(method, handler.stream_unary),
                request_deserializer=_forgiving(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        # Nobody would look at who calls it.
        raise TypeError(f"{method}: streams both ways are not served")

    def _admit(self, method: str, call: Call, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Everything that refuses a call before its servicer sees it, in this order. Gives what the servicer gets: of a
        stream, each message is refused when it comes."""
        if not self._peers.allows(call.peer, method):
            raise PeerNotAllowed(call.peer, method.lstrip("/"))
        if isinstance(request, Malformed):
            raise MessageMalformed(method.lstrip("/"))
        if method.lstrip("/") in self._mutations and call.deadline is None:
            raise DeadlineRequired(method.lstrip("/"))
        if call.why:
            call.why = why_of_header(call.why) if call.is_privileged else ""
        if isinstance(request, AsyncIterator):
            return _checked(request, method)
        check(request)
        call.request = request
        return request

    def _unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
            started = time.perf_counter()
            call, parent = _read_call(method, context)
            set_current_call(call)
            span = tracer.start_span(
                method.lstrip("/"), context=parent, kind=SpanKind.SERVER, attributes={"danbao.peer": call.peer}
            )
            token = trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)
            failure: DanbaoError | None = None
            reply: Any = None
            admitted = self._under_way < self._max_concurrent
            self._under_way += 1
            with token:
                call.traceparent = current_traceparent()
                try:
                    if not admitted:
                        raise Overloaded
                    reply = await behaviour(self._admit(method, call, request, context), context)
                except DanbaoError as error:
                    failure = error
                except asyncio.CancelledError:
                    # The caller has gone or its deadline has passed; what was submitted goes on without it.
                    failure = DeadlineExceeded()
                    raise
                except (grpc.aio.AbortError, grpc.aio.BaseError):
                    raise
                except Exception:  # noqa: BLE001 - never let a caller read our insides
                    log.exception("call_failed", method=method)
                    failure = Internal()
                finally:
                    self._under_way -= 1
                    reason, code = _outcome(failure)
                    _finish(span, call, code, reason, started)
                if failure is not None:
                    # gRPC keeps what it raises, and with it this frame, until the collector comes. That counts objects,
                    # not the megabytes that a caller may have sent.
                    del request, call
                    await _abort(context, failure)
            return reply

        return serve

    def _stream(self, method: str, behaviour: Any) -> Any:
        async def serve(request: Any, context: grpc.aio.ServicerContext) -> Any:
            started = time.perf_counter()
            call, _ = _read_call(method, context)
            set_current_call(call)
            failure: DanbaoError | None = None
            caller = call.request_caller
            self._streams[caller] += 1
            try:
                if self._streams[caller] > self._max_streams:
                    raise TooManyStreams(self._max_streams)
                self._admit(method, call, request, context)
                async for item in behaviour(request, context):
                    yield item
            except DanbaoError as error:
                failure = error
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception:  # noqa: BLE001 - never let a caller read our insides
                log.exception("stream_failed", method=method)
                failure = Internal()
            finally:
                self._streams[caller] -= 1
                if not self._streams[caller]:
                    del self._streams[caller]
                reason, code = _outcome(failure)
                _finish(trace.INVALID_SPAN, call, code, reason, started)
            if failure is not None:
                await _abort(context, failure)

        return serve


async def _checked(requests: AsyncIterator[Any], method: str) -> AsyncIterator[Any]:
    """A stream's messages, each one that its contract allows."""
    async for request in requests:
        if isinstance(request, Malformed):
            raise MessageMalformed(method.lstrip("/"))
        check(request)
        yield request


def _outcome(failure: DanbaoError | None) -> tuple[str, str]:
    if failure is None:
        return "", "OK"
    status = status_of(failure)
    return reason_of(status)[0], grpc_code(status).name


def _finish(span: trace.Span, call: Call, code: str, reason: str, started: float) -> None:
    if span.is_recording():
        span.set_attribute("rpc.grpc.status", code)
        if reason:
            span.set_attribute("danbao.reason", reason)
        if call.replayed:
            span.set_attribute("danbao.replayed", True)
        if code in ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
            span.set_status(StatusCode.ERROR, reason)
    span.end()
    fields: dict[str, Any] = {
        "method": call.method,
        "peer": call.peer,
        "code": code,
        "ms": round((time.perf_counter() - started) * 1000, 2),
        **call.facts,
    }
    if reason:
        fields["reason"] = reason
    if call.replayed:
        fields["replayed"] = True
    trace_id = call.traceparent.split("-")[1:2]
    log.info("call", **fields, **({"trace_id": trace_id[0]} if trace_id else {}))


async def _abort(context: grpc.aio.ServicerContext, failure: DanbaoError) -> None:
    status = status_of(failure.kept())
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    await context.abort(grpc_code(status), status.message)


def _forgiving(deserialize: Callable[[bytes], Message]) -> Callable[[bytes], Any]:
    """gRPC answers UNKNOWN for bytes it cannot read; we want to say what is wrong."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return Malformed()

    return read


def _peer_name(context: grpc.aio.ServicerContext) -> str:
    """The one name of ours in the peer's certificate; a certificate with several is nobody's."""
    names = context.auth_context().get("x509_subject_alternative_name", ())
    texts = [name.decode("ascii", "replace") if isinstance(name, bytes) else str(name) for name in names]
    ours = [text.removesuffix(INTERNAL_DOMAIN) for text in texts if text.endswith(INTERNAL_DOMAIN)]
    return ours[0] if len(ours) == 1 else ""


def _read_call(method: str, context: grpc.aio.ServicerContext) -> tuple[Call, Any]:
    peer = _peer_name(context)
    remaining = context.time_remaining()
    call = Call(
        method=method.lstrip("/"),
        peer=peer,
        # gRPC gives years, not None, for a call without a deadline in some versions.
        deadline=None if remaining is None or remaining > 10**7 else time.monotonic() + remaining,
    )
    parent = None
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            parent = parse_traceparent(str(value))
        elif key == WHY_HEADER:
            call.why = str(value)
        elif peer == GATEWAY and key.startswith("x-danbao-"):
            if key == "x-danbao-subject":
                call.subject = str(value)
            elif key == "x-danbao-roles":
                call.roles = frozenset(part for part in str(value).split(",") if part)
            elif key == "x-danbao-partner":
                call.partner = str(value)
    return call, parent_context(parent)
