"""How a service calls another: mutual TLS, a deadline on every call, the trace passed on, errors as values of ours."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
from google.rpc import status_pb2
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from danbao_kit.call import INTERNAL_DOMAIN, Call
from danbao_kit.identity_files import Identity, IdentityFiles
from danbao_kit.renewed_channel import RenewedChannel
from danbao_kit.rpc_status import DETAILS_KEY, reason_of
from danbao_kit.settings import ServiceSettings
from danbao_kit.telemetry import format_traceparent, tracer

# What is left of the caller's time is kept for our own answer.
_KEEP_S = 0.1

# The call may have had its effect: the same request id must be sent again. Every other code is a definite answer.
UNKNOWN_OUTCOMES = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED"}
)


class RemoteError(Exception):
    """Another service's answer that is not OK: its code, its reason and metadata."""

    def __init__(self, code: str, reason: str, message: str, metadata: dict[str, str]) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = metadata

    @property
    def outcome_is_unknown(self) -> bool:
        """Whether the call may have had its effect all the same."""
        return self.code in UNKNOWN_OUTCOMES


def remote_error(status: status_pb2.Status) -> RemoteError:
    """A status within a reply, such as one result of a batch, as an error."""
    reason, metadata = reason_of(status)
    code = next((item.name for item in grpc.StatusCode if item.value[0] == status.code), "UNKNOWN")
    return RemoteError(code, reason, status.message, metadata)


def channel(
    address: str,
    *,
    service: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
) -> grpc.aio.Channel:
    """A channel to `service` at host:port, which must show that name in its certificate. The files are read again when
    they were replaced: calls then go out with what they hold."""
    options: list[tuple[str, str | int]] = [
        ("grpc.keepalive_time_ms", 360_000),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.min_reconnect_backoff_ms", 100),
        # One connection per channel, also to the same address: a broken one is not shared.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.ssl_target_name_override", f"{service}{INTERNAL_DOMAIN}"),
    ]

    def open_with(identity: Identity) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.authorities,
            private_key=identity.key,
            certificate_chain=identity.chain,
        )
        return grpc.aio.secure_channel(address, credentials, options=options)

    return RenewedChannel(IdentityFiles.of(tls_cert, tls_key, tls_ca), open_with)


def service_channel(address: str, *, service: str, settings: ServiceSettings) -> grpc.aio.Channel:
    """A channel to another service with this service's own certificate."""
    return channel(
        address, service=service, tls_cert=settings.tls_cert, tls_key=settings.tls_key, tls_ca=settings.tls_ca
    )


async def invoke(
    method: Any, request: Any, *, name: str, cap_s: float, call: Call | None = None, metadata: Any = ()
) -> Any:
    """Calls a stub's unary method. The deadline is what is left of `call` less 100 ms, at most `cap_s`.

    Raises RemoteError for every answer that is not OK.
    """
    timeout = cap_s
    if call is not None and call.deadline is not None:
        timeout = max(0.001, min(cap_s, call.deadline - time.monotonic() - _KEEP_S))
    parent = trace.get_current_span()
    recording = parent.is_recording()
    made = tracer.start_span(name, kind=SpanKind.CLIENT) if recording else parent
    headers = tuple(metadata)
    traceparent = format_traceparent(made.get_span_context())
    if traceparent:
        headers = (*headers, ("traceparent", traceparent))
    # What went wrong is told below in a word; a traceback in a span costs more than the call.
    quiet = {"record_exception": False, "set_status_on_exception": False}
    with trace.use_span(made, end_on_exit=True, **quiet) if recording else nullcontext():
        try:
            return await method(request, timeout=timeout, metadata=headers)
        except grpc.aio.AioRpcError as error:
            if recording:
                made.set_status(StatusCode.ERROR, error.code().name)
            raise _from_rpc_error(error) from error


def _from_rpc_error(error: grpc.aio.AioRpcError) -> RemoteError:
    reason = ""
    metadata: dict[str, str] = {}
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            reason, metadata = reason_of(status_pb2.Status.FromString(value))
    return RemoteError(error.code().name, reason, error.details() or "", metadata)
