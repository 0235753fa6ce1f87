"""What the gateway's tests are made of: an echo service, an issuer of tokens, a receiver of spans, and a caller."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from danbao_gateway.claims import claims
from danbao_gateway.settings import GatewaySettings

ISSUER = "https://tokens.test.danbao.internal"
AUDIENCE = "danbao"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@dataclass(frozen=True)
class Messages:
    """The echo's message classes."""

    request: Any
    write_request: Any
    response: Any


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every method of EchoService with what arrived."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self.cancelled = threading.Event()
        self.attempts: Counter[str] = Counter()
        """By text: how often a call arrived."""
        self.is_failing = False
        """Answers every call UNAVAILABLE, and still says that it is well."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if service != "danbao.echo.v1.EchoService":
            return None
        codec = {
            "request_deserializer": self._messages.request.FromString,
            "response_serializer": self._messages.response.SerializeToString,
        }
        if method == "Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch, **codec)
        if method == "Collect":
            return grpc.stream_unary_rpc_method_handler(self._collect, **codec)
        if method == "Chat":
            return grpc.stream_stream_rpc_method_handler(self._chat, **codec)
        if method == "WriteEcho":
            codec["request_deserializer"] = lambda content: self._messages.write_request.FromString(content).echo
        return grpc.unary_unary_rpc_method_handler(self._echo, **codec)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._fail_at_first(request, context)
        for _ in range(3):
            yield self._answer(request, context)

    def _collect(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        texts = [request.text for request in requests]
        return self._messages.response(text=str(sum(map(len, texts))), amount_minor=len(texts))

    def _chat(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield self._answer(request, context)

    def _fail_at_first(self, request: Any, context: grpc.ServicerContext) -> None:
        self.attempts[request.text] += 1
        if self.is_failing or self.attempts[request.text] <= request.fail_times:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    def _echo(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._fail_at_first(request, context)
        if request.delay_seconds:
            context.add_callback(self.cancelled.set)
            time.sleep(request.delay_seconds)
        if request.fail_reason:
            info = error_details_pb2.ErrorInfo(reason=request.fail_reason, domain="danbao", metadata={"state": "PAID"})
            status = status_pb2.Status(code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="the state refuses")
            status.details.add().Pack(info)
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromSeconds(2)
            status.details.add().Pack(retry)
            if request.text == "replayed":
                context.send_initial_metadata((("x-danbao-replayed", "true"),))
            context.abort_with_status(rpc_status.to_status(status))
        context.send_initial_metadata((("x-danbao-replayed", "true"),))
        return self._answer(request, context)

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._messages.response(
            text=request.text,
            amount_minor=request.amount_minor,
            metadata={key: str(value) for key, value in context.invocation_metadata()},
            remaining_seconds=min(context.time_remaining(), 1e9),
            peer=context.auth_context()["x509_subject_alternative_name"][0].decode(),
        )


class Spans(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver that keeps what it gets."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._changed:
            for resource in request.resource_spans:
                service = next(
                    item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
                )
                self._spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, trace_id: str, *, seconds: float = 15) -> list[tuple[str, Any]]:
        """The spans of a trace, as (service, span), once there are any."""

        def arrived() -> list[tuple[str, Any]]:
            return [item for item in self._spans if item[1].trace_id.hex() == trace_id]

        with self._changed:
            self._changed.wait_for(arrived, seconds)
            return arrived()


@dataclass
class Tokens:
    """An issuer: signs with a key that the gateway knows."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    key_id: str = "test"
    issuer: str = ISSUER
    audience: str = AUDIENCE

    def jwks(self) -> str:
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [jwk | {"kid": self.key_id, "alg": "ES256", "use": "sig"}]})

    def mint(
        self,
        *roles: str,
        subject: str = "subjects/buyer-1",
        partner: str | None = None,
        lifetime: timedelta = timedelta(hours=1),
        issuer: str | None = None,
        audience: str | None = None,
        issued_at: float | None = None,
        **replaced: Any,
    ) -> str:
        payload = claims(
            subject,
            roles or ("user",),
            partner,
            lifetime,
            issuer=issuer or self.issuer,
            audience=audience or self.audience,
            issued_at=issued_at,
        )
        return self.sign(payload | replaced)

    def sign(self, payload: dict[str, Any]) -> str:
        """Whatever it says: a claim's type too."""
        content, headers = json.dumps(payload).encode(), {"kid": self.key_id, "typ": "JWT"}
        return jwt.api_jws.encode(content, self.key, algorithm="ES256", headers=headers)


@dataclass(frozen=True)
class JsonReply:
    """What a REST caller sees."""

    http_status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Gateway:
    """A running gateway and everything around it."""

    address: str
    settings: GatewaySettings
    tokens: Tokens
    spans: Spans
    echo: Echo
    replicas: list[tuple[grpc.Server, Echo]]
    """Every replica of the echo; `echo` is the first."""
    messages: Messages
    channel: grpc.Channel
    access_log: Path

    def call(
        self,
        method: str,
        *,
        token: str | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
        timeout: float | None = 10,
        **fields: Any,
    ) -> Any:
        """A unary gRPC call; a path without a dot is a method of EchoService. Raises grpc.RpcError."""
        return self.call_with_headers(method, token=token, metadata=metadata, timeout=timeout, **fields)[0]

    def call_with_headers(
        self,
        method: str,
        *,
        token: str | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
        timeout: float | None = 10,
        **fields: Any,
    ) -> tuple[Any, dict[str, str]]:
        path = method if "." in method else f"danbao.echo.v1.EchoService/{method}"
        request = self.messages.request(**fields)
        if method == "WriteEcho":
            request = self.messages.write_request(request_id=str(uuid.uuid4()), echo=request)
        stub = self.channel.unary_unary(
            f"/{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=self.messages.response.FromString,
        )
        response, call = stub.with_call(request, metadata=(*_bearer(token), *metadata), timeout=timeout)
        return response, dict(call.initial_metadata()) | dict(call.trailing_metadata())

    def _trust(self) -> ssl.SSLContext | None:
        if self.settings.listener.tls is None:
            return None
        return ssl.create_default_context(cafile=self.settings.upstream_tls.ca)

    def json(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
        raw: bytes | None = None,
    ) -> JsonReply:
        """A JSON call over HTTP/1.1: POST with a body, GET without."""
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{'http' if self.settings.listener.tls is None else 'https'}://{self.address}{path}",
            data=content,
            method=method,
            headers={"content-type": "application/json", **dict(_bearer(token)), **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=40, context=self._trust()) as reply:
                return _json_reply(reply.status, reply)
        except urllib.error.HTTPError as refusal:
            return _json_reply(refusal.code, refusal)


def open_channel(settings: GatewaySettings, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A connection to the gateway, over TLS where its listener speaks it."""
    address = f"127.0.0.1:{settings.listener.port}"
    if settings.listener.tls is None:
        return grpc.insecure_channel(address, options=list(options))
    credentials = grpc.ssl_channel_credentials(Path(settings.upstream_tls.ca).read_bytes())
    return grpc.secure_channel(address, credentials, options=list(options))


def _bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def _json_reply(status: int, reply: Any) -> JsonReply:
    content = reply.read()
    headers = {key.lower(): value for key, value in reply.headers.items()}
    assert headers["content-type"].startswith("application/json"), (status, headers, content)
    return JsonReply(http_status=status, headers=headers, body=json.loads(content))


def start_echo(settings: GatewaySettings, echo: Echo, *, replica: int = 0) -> grpc.Server:
    """A replica of the echo service on its configured address, for callers with a certificate only."""
    certificates = Path(settings.upstream_tls.certificate).parent
    credentials = grpc.ssl_server_credentials(
        [((certificates / "echo.key").read_bytes(), (certificates / "echo.pem").read_bytes())],
        root_certificates=(certificates / "ca.pem").read_bytes(),
        require_client_auth=True,
    )
    server = grpc.server(futures.ThreadPoolExecutor(80), handlers=[echo])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.add_secure_port(settings.upstreams["echo"].addresses[replica], credentials)
    server.start()
    return server


def wait_until_healthy(process: subprocess.Popen[bytes] | None, admin: int) -> None:
    """Returns when Envoy may send calls to the echo."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert process is None or process.poll() is None, "Envoy ended by itself; its message stands above"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/clusters?format=json", timeout=2) as reply:
                clusters = json.load(reply)["cluster_statuses"]
            echo = next(item for item in clusters if item["name"] == "echo")
            if not any("failed_active_health_check" in host["health_status"] for host in echo["host_statuses"]):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("the echo did not become healthy for Envoy within 20 s")
