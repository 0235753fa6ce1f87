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

RunEnvoy = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]
StartGateway = Callable[..., AbstractContextManager[testing.Gateway]]


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

    return testing.Messages(
        request=message("EchoRequest"), write_request=message("WriteEchoRequest"), response=message("EchoResponse")
    )


@pytest.fixture(scope="session")
def settings_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A settings file's content, with real certificates and keys in it."""
    directory = tmp_path_factory.mktemp("gateway")
    shared = CertificateAuthority(directory / "certificates")

    def settings(
        *, jwks: str, port: int, file_name: str = "jwks.json", certificates: str | None = None, **more: Any
    ) -> dict[str, Any]:
        jwks_file = directory / file_name
        jwks_file.write_text(jwks)
        authority = shared if certificates is None else CertificateAuthority(directory / certificates)
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
                "danbao.echo.v1.EchoService/WriteEcho": ["user", "partner"],
                "danbao.echo.v1.EchoService/Watch": ["operator"],
                "danbao.echo.v1.EchoService/Collect": ["operator"],
                "danbao.echo.v1.EchoService/Chat": ["operator"],
                "danbao.echo.v1.EchoService/PeersOnly": "internal",
                "danbao.down.v1.DownService/Echo": ["user"],
            },
            "access_log": str(directory / "access.log"),
            **more,
        }

    return settings


@pytest.fixture(scope="session")
def run_folders() -> list[Path]:
    """Where the renderings of the Envoys started so far are, newest last."""
    return []


@pytest.fixture(scope="session")
def run_envoy(contracts: Contracts, tmp_path_factory: pytest.TempPathFactory, run_folders: list[Path]) -> RunEnvoy:
    """Runs Envoy with the rendering of some settings."""

    @contextmanager
    def run(settings: GatewaySettings, *, configuration: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        if configuration is None:
            folder = tmp_path_factory.mktemp("envoy") / "run"
            run_folders.append(folder)
            configuration = write(render_files(settings, str(folder), contracts), folder)
        process = subprocess.Popen(envoy.command(configuration, workers=1))
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)

    return run


@pytest.fixture(scope="session")
def start_gateway(
    settings_for: Callable[..., dict[str, Any]],
    messages: testing.Messages,
    run_envoy: RunEnvoy,
) -> StartGateway:
    """Starts a gateway of its own with an echo behind it; what is given replaces parts of its settings."""

    @contextmanager
    def start(
        *, name: str, replicas: int = 1, own_certificates: bool = False, max_requests: int = 1024, **more: Any
    ) -> Iterator[testing.Gateway]:
        tokens, spans = testing.Tokens(), testing.Spans()
        echoes = [testing.Echo(messages) for _ in range(replicas)]
        receiver = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, receiver)
        collector = receiver.add_insecure_port("127.0.0.1:0")
        receiver.start()
        port, admin = testing.free_port(), testing.free_port()
        content = settings_for(
            jwks=tokens.jwks(),
            port=port,
            file_name=f"{name}.json",
            admin={"port": admin},
            telemetry={"otlp_endpoint": f"127.0.0.1:{collector}"},
            certificates=name if own_certificates else None,
            **more,
        )
        content["access_log"] = content["access_log"].replace("access.log", f"{name}.log")
        content["upstreams"]["echo"]["max_requests"] = max_requests
        content["upstreams"]["echo"]["addresses"] = [f"127.0.0.1:{testing.free_port()}" for _ in echoes]
        if own_certificates:
            folder = Path(content["upstream_tls"]["certificate"]).parent
            files = CertificateAuthority(folder).issue("gateway", file_name="listener", extra_hosts=["127.0.0.1"])
            content["listener"]["tls"] = {"certificate": str(files.cert), "key": str(files.key)}
        settings = GatewaySettings.model_validate(content)
        upstreams = [(testing.start_echo(settings, echo, replica=number), echo) for number, echo in enumerate(echoes)]
        try:
            with run_envoy(settings) as process, testing.open_channel(settings) as channel:
                testing.wait_until_healthy(process, admin)
                yield testing.Gateway(
                    address=f"127.0.0.1:{port}",
                    settings=settings,
                    tokens=tokens,
                    spans=spans,
                    echo=echoes[0],
                    replicas=upstreams,
                    messages=messages,
                    channel=channel,
                    access_log=Path(settings.access_log),
                )
        finally:
            for server, _ in upstreams:
                server.stop(None)
            receiver.stop(None)

    return start


@pytest.fixture(scope="session")
def gateway(start_gateway: StartGateway) -> Iterator[testing.Gateway]:
    """The one that most tests call: short deadlines, small requests."""
    with start_gateway(
        name="session",
        deadlines={"default_seconds": 2, "maximum_seconds": 4},
        limits={"max_request_bytes": 64 * 1024},
        cors={"allow_origins": ["https://shop.example"]},
        api_page=True,
    ) as started:
        yield started
