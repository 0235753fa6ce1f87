"""Calls through the gateway, by method name and JSON body, inside a trace of the caller's own.

trace = ClientTrace("demo trade")
with GatewayClient(card, trace) as client:
    trade = client.call("danbao.escrow.v1.TradeService/CreateTrade", body, role="partner")
TraceReader(card.otlp).export(trace.finish())
"""

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from danbao.credit.v1 import audit_pb2 as _credit_audit_pb2  # noqa: F401 - registers the contract
from danbao.credit.v1 import credit_pb2 as _credit_pb2  # noqa: F401
from danbao.credit.v1 import event_pb2 as _credit_event_pb2  # noqa: F401
from danbao.credit.v1 import membership_pb2 as _membership_pb2  # noqa: F401
from danbao.credit.v1 import model_pb2 as _model_pb2  # noqa: F401
from danbao.credit.v1 import rights_pb2 as _rights_pb2  # noqa: F401
from danbao.escrow.v1 import audit_pb2 as _escrow_audit_pb2  # noqa: F401
from danbao.escrow.v1 import event_pb2 as _escrow_event_pb2  # noqa: F401
from danbao.escrow.v1 import trade_pb2 as _trade_pb2  # noqa: F401
from danbao.payments.v1 import account_pb2 as _account_pb2  # noqa: F401
from danbao.payments.v1 import audit_pb2 as _audit_pb2  # noqa: F401
from danbao.payments.v1 import event_pb2 as _payments_event_pb2  # noqa: F401
from danbao.payments.v1 import ledger_pb2 as _ledger_pb2  # noqa: F401
from danbao.payments.v1 import payment_pb2 as _payment_pb2  # noqa: F401
from danbao.payments.v1 import reconciliation_pb2 as _reconciliation_pb2  # noqa: F401
from danbao.testing.v1 import clock_pb2 as _clock_pb2  # noqa: F401
from danbao_kit.acting import WHY_HEADER
from danbao_local.card import Card

DEADLINE_SECONDS = 10.0
_RETRY_SECONDS = 15.0


class CallFailed(Exception):
    """A call was refused or failed: its status, and the reason Danbao gives."""

    def __init__(self, *, rpc: str, code: str, reason: str, message: str) -> None:
        super().__init__(f"{rpc} answered {code}{f' / {reason}' if reason else ''}: {message}")
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class _OpenSpan:
    name: str
    span_id: bytes
    parent_span_id: bytes
    start_ns: int
    kind: int
    failure: str = ""
    end_ns: int = 0


class ClientTrace:
    """The caller's own spans: a root, and a child for each call under it."""

    def __init__(self, root_name: str) -> None:
        self._trace_id = secrets.token_bytes(16)
        self._done: list[_OpenSpan] = []
        root = _OpenSpan(root_name, secrets.token_bytes(8), b"", time.time_ns(), OtlpSpan.SPAN_KIND_INTERNAL)
        self._open = [root]

    @property
    def trace_id(self) -> str:
        """In hexadecimal."""
        return self._trace_id.hex()

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[str]:
        """A client span; yields the traceparent to send."""
        span = _OpenSpan(
            name, secrets.token_bytes(8), self._open[-1].span_id, time.time_ns(), OtlpSpan.SPAN_KIND_CLIENT
        )
        self._open.append(span)
        try:
            yield f"00-{self.trace_id}-{span.span_id.hex()}-01"
        except Exception as failure:
            span.failure = str(failure)
            raise
        finally:
            self._close(span)

    def finish(self) -> bytes:
        """Ends the root; the spans as a serialised ExportTraceServiceRequest."""
        while self._open:
            self._close(self._open[-1])
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        resource_spans.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="client")))
        scope_spans = resource_spans.scope_spans.add()
        for span in self._done:
            status = Status(code=Status.STATUS_CODE_ERROR, message=span.failure) if span.failure else None
            scope_spans.spans.add(
                trace_id=self._trace_id,
                span_id=span.span_id,
                parent_span_id=span.parent_span_id,
                name=span.name,
                kind=span.kind,
                start_time_unix_nano=span.start_ns,
                end_time_unix_nano=span.end_ns,
                status=status,
                flags=1,
            )
        return request.SerializeToString()

    def _close(self, span: _OpenSpan) -> None:
        span.end_ns = time.time_ns()
        self._open.remove(span)
        self._done.append(span)


class RpcClient:
    """Unary calls over one channel, by method name and JSON body."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pool = descriptor_pool.Default()

    def call(self, rpc: str, body: Mapping[str, Any], *, metadata: tuple[tuple[str, str], ...] = ()) -> Message:
        """The answer of `package.Service/Method`. Raises CallFailed.

        UNAVAILABLE is tried again for a while: a body that moves money carries its request id.
        """
        method = self._pool.FindMethodByName(rpc.replace("/", "."))
        request = json_format.ParseDict(dict(body), message_factory.GetMessageClass(method.input_type)())
        answer_class = message_factory.GetMessageClass(method.output_type)
        invoke = self._channel.unary_unary(
            f"/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer_class.FromString,
        )
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                answer: Message = invoke(request, timeout=DEADLINE_SECONDS, metadata=metadata, wait_for_ready=True)
                return answer
            except grpc.RpcError as failure:
                if failure.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise _call_failed(rpc, failure) from failure
                time.sleep(0.2)

    def send(
        self, rpc: str, bodies: Iterable[Mapping[str, Any]], *, metadata: tuple[tuple[str, str], ...] = ()
    ) -> Message:
        """The answer of a method that takes a stream. Raises CallFailed."""
        method = self._pool.FindMethodByName(rpc.replace("/", "."))
        request_class = message_factory.GetMessageClass(method.input_type)
        invoke = self._channel.stream_unary(
            f"/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        requests = iter([json_format.ParseDict(dict(body), request_class()) for body in bodies])
        try:
            answer: Message = invoke(requests, timeout=DEADLINE_SECONDS, metadata=metadata, wait_for_ready=True)
            return answer
        except grpc.RpcError as failure:
            raise _call_failed(rpc, failure) from failure


class GatewayClient:
    """Calls through the gateway with the stack's tokens."""

    def __init__(self, card: Card, trace: ClientTrace | None = None) -> None:
        self._token = card.token
        self._trace = trace
        options = (("grpc.enable_http_proxy", 0),)
        if card.ca is None:
            self._channel = grpc.insecure_channel(card.gateway, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(Path(card.ca).read_bytes())
            self._channel = grpc.secure_channel(card.gateway, credentials, options=options)
        self._rpc = RpcClient(self._channel)

    def call(self, rpc: str, body: Mapping[str, Any], *, role: str, why: str = "") -> Any:
        """The answer to `body`, sent with the role's token, inside the trace if there is one.

        `why`: for the log of privileged actions, where the body has no field for it.
        """
        metadata = [("authorization", f"Bearer {self._token[role]}")]
        if why:
            metadata.append((WHY_HEADER, quote(why, safe=" ")))
        if self._trace is None:
            return self._rpc.call(rpc, body, metadata=tuple(metadata))
        with self._trace.call(rpc.rpartition("/")[2]) as traceparent:
            return self._rpc.call(rpc, body, metadata=(*metadata, ("traceparent", traceparent)))

    def send(self, rpc: str, bodies: Iterable[Mapping[str, Any]], *, role: str) -> Any:
        """The answer to a stream of bodies, sent with the role's token."""
        return self._rpc.send(rpc, bodies, metadata=(("authorization", f"Bearer {self._token[role]}"),))

    def untraced(self) -> "GatewayClient":
        """The same connection, without the trace: for looking, after the work is done."""
        twin = object.__new__(GatewayClient)
        twin._token, twin._trace, twin._channel, twin._rpc = self._token, None, self._channel, self._rpc
        return twin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._channel.close()


def _call_failed(rpc: str, failure: Any) -> CallFailed:
    reason = ""
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    reason = info.reason
    return CallFailed(rpc=rpc, code=failure.code().name, reason=reason, message=failure.details() or "")
