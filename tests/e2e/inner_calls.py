"""How a test calls a service's own port, past the gateway: any method of the contracts, as any peer."""

import copy
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2

from danbao_gateway.contracts import Contracts
from danbao_kit.testing.certificates import DOMAIN, CertificateFiles

SERVICES = ("payments", "escrow", "credit")
TESTING = "danbao.testing."
NO_MESSAGE = b"\xff\xff\xff"
"""What no method's request is."""

AS_THE_GATEWAY_WOULD = (
    ("x-danbao-subject", "demo-operator"),
    ("x-danbao-roles", "user,partner,operator,arbiter,rail"),
    ("x-danbao-partner", "demo-shop"),
    ("x-forwarded-client-cert", f"DNS=gateway.{DOMAIN}"),
    ("authorization", "Bearer x"),
)
"""What is believed of the gateway alone."""

_DEADLINE_S = 10.0


def methods_of(service: str) -> list[Any]:
    """What the contracts say a service offers, and what is for tests."""
    return [
        method
        for method in Contracts.installed().methods()
        if method.upstream == service or method.package.startswith(TESTING)
    ]


def credentials_of(files: CertificateFiles) -> grpc.ChannelCredentials:
    """A peer's, by what it trusts, its certificate and its key."""
    return grpc.ssl_channel_credentials(
        root_certificates=files.ca.read_bytes(),
        private_key=files.key.read_bytes(),
        certificate_chain=files.cert.read_bytes(),
    )


def open_channel(address: str, *, service: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A connection of its own; in plain text without credentials."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(
        address, credentials, [*options, ("grpc.ssl_target_name_override", f"{service}.{DOMAIN}")]
    )


def answer(
    channel: grpc.Channel, method: Any, request: bytes = NO_MESSAGE, headers: Sequence[tuple[str, str]] = ()
) -> tuple[str, str]:
    """Code and reason of a call that must fail."""
    kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}
    make = getattr(channel, kinds[method.client_streaming, method.server_streaming])
    call = make(f"/{method.full_name}", request_serializer=bytes, response_deserializer=bytes)
    try:
        reply = call(
            iter([request]) if method.client_streaming else request, timeout=_DEADLINE_S, metadata=tuple(headers)
        )
        for _ in reply if method.server_streaming else ():
            break
    except grpc.RpcError as refused:
        return refused.code().name, _reason(refused)
    return "OK", ""


def _reason(refused: Any) -> str:
    for key, value in refused.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info.reason
    return ""


def whole_requests(calls: Sequence[Mapping[str, Any]], service: str) -> Iterator[tuple[Any, bytes, list[str]]]:
    """Of each method of a service that the card has a body for: its bytes, and the new request ids in them."""
    bodies = {entry["rpc"]: entry["body"] for entry in calls}
    for method in methods_of(service):
        if method.full_name in bodies:
            body, ids = copy.deepcopy(bodies[method.full_name]), []
            _renew(body, ids)
            kind = descriptor_pool.Default().FindMethodByName(method.full_name.replace("/", ".")).input_type
            message = json_format.ParseDict(body, message_factory.GetMessageClass(kind)())
            yield method, message.SerializeToString(), ids


def _renew(body: Any, ids: list[str]) -> None:
    if isinstance(body, dict):
        for key, value in body.items():
            if key in ("requestId", "eventId"):
                body[key] = f"inner-{secrets.token_hex(12)}"
                ids.append(body[key])
            else:
                _renew(value, ids)
    elif isinstance(body, list):
        for each in body:
            _renew(each, ids)
