"""One Envoy for the whole session, in front of an echo service with mutual TLS and an OTLP receiver."""

from __future__ import annotations

import importlib.resources
import subprocess
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from danbao_gateway import GatewaySettings, envoy, testing
from danbao_gateway.contracts import Contracts
from danbao_gateway.rendering import render_files, write
from danbao_kit.testing.certificates import CertificateAuthority

PROTOS = Path(__file__).parent / "protos"

RunEnvoy = Callable[[GatewaySettings], AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.fixture(scope="session")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Contracts:
    """The echo's contracts, built as protos/ builds the real ones."""
    import google.rpc

    out = tmp_path_factory.mktemp("contracts") / "descriptors.binpb"
    google_apis = Path(next(iter(google.rpc.__path__))).parent.parent
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={importlib.resources.files('grpc_tools') / '_proto'}",
        f"--proto_path={google_apis}",
        f"--descriptor_set_out={out}",
        "--include_imports",
        *(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")),
    ]
    assert protoc.main(arguments) == 0
    return Contracts.from_bytes(out.read_bytes())


@pytest.fixture(scope="session")
def messages(contracts: Contracts) -> testing.Messages:
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(contracts.descriptors.SerializeToString()).file:
        pool.Add(file)

    def message(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"danbao.echo.v1.{name}"))

    return testing.Messages(request=message("EchoRequest"), response=message("EchoResponse"))


@pytest.fixture(scope="session")
def settings_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A settings file's content, with real certificates and keys in it."""
    directory = tmp_path_factory.mktemp("gateway")
    authority = CertificateAuthority(directory / "certificates")

    def settings(*, jwks: str, port: int, file_name: str = "jwks.json", **more: Any) -> dict[str, Any]:
        jwks_file = directory / file_name
        jwks_file.write_text(jwks)
        gateway = authority.issue("gateway")
        authority.issue("echo")
        return {
            "listener": {"host": "127.0.0.1", "port": port},
            "upstreams": {
                "echo": {"addresses": [f"127.0.0.1:{testing.free_port()}"], "san": "echo.danbao.internal"},
                "down": {"addresses": [f"127.0.0.1:{testing.free_port()}"], "san": "down.danbao.internal"},
            },
            "upstream_tls": {"certificate": str(gateway.cert), "key": str(gateway.key), "ca": str(gateway.ca)},
            "issuers": [{"issuer": testing.ISSUER, "audiences": [testing.AUDIENCE], "jwks_file": str(jwks_file)}],
            "roles": {
                "danbao.echo.v1.EchoService/Echo": ["user", "partner", "operator"],
                "danbao.echo.v1.EchoService/GetEcho": ["user"],
                "danbao.echo.v1.EchoService/OperatorEcho": ["operator"],
                "danbao.echo.v1.EchoService/Watch": ["operator"],
                "danbao.echo.v1.EchoService/PeersOnly": "internal",
                "danbao.down.v1.DownService/Echo": ["user"],
            },
            "access_log": str(directory / "access.log"),
            **more,
        }

    return settings


@pytest.fixture(scope="session")
def run_envoy(contracts: Contracts, tmp_path_factory: pytest.TempPathFactory) -> RunEnvoy:
    """Runs Envoy with the rendering of some settings."""

    @contextmanager
    def run(settings: GatewaySettings) -> Iterator[subprocess.Popen[bytes]]:
        folder = tmp_path_factory.mktemp("envoy") / "run"
        configuration = write(render_files(settings, str(folder), contracts), folder)
        process = subprocess.Popen(envoy.command(configuration, workers=1))
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)

    return run


@pytest.fixture(scope="session")
def gateway(
    settings_for: Callable[..., dict[str, Any]],
    messages: testing.Messages,
    run_envoy: RunEnvoy,
) -> Iterator[testing.Gateway]:
    """Envoy with the rendered configuration, ready to be called."""
    tokens, spans, echo = testing.Tokens(), testing.Spans(), testing.Echo(messages)
    receiver = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, receiver)
    collector = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    port, admin = testing.free_port(), testing.free_port()
    settings = GatewaySettings.model_validate(
        settings_for(
            jwks=tokens.jwks(),
            port=port,
            admin={"port": admin},
            telemetry={"otlp_endpoint": f"127.0.0.1:{collector}"},
            deadlines={"default_seconds": 2, "maximum_seconds": 4},
            limits={"max_request_bytes": 64 * 1024},
        )
    )
    upstream = testing.start_echo(settings, echo)
    try:
        with run_envoy(settings) as process, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            testing.wait_until_healthy(process, admin)
            yield testing.Gateway(
                address=f"127.0.0.1:{port}",
                settings=settings,
                tokens=tokens,
                spans=spans,
                echo=echo,
                messages=messages,
                channel=channel,
                access_log=Path(settings.access_log),
            )
    finally:
        upstream.stop(None)
        receiver.stop(None)
