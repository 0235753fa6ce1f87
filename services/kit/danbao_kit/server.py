"""How a service stands up, answers and goes: mutual TLS, health that tells the truth, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_kit.identity_files import Identity, IdentityFiles
from danbao_kit.interceptors import PeerTable, ServiceInterceptor
from danbao_kit.log import configure_logging, log
from danbao_kit.settings import ServiceSettings
from danbao_kit.telemetry import start_telemetry

CLOCK_SERVICE = clock_pb2.DESCRIPTOR.services_by_name["ClockService"].full_name
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_READY_EVERY_S = 1.0
# For calls under way on a connection that has come of age: longer than any call but a stream.
_CONNECTION_GRACE_MS = 60_000


def mutations_of(*service_names: str) -> frozenset[str]:
    """Full names of the methods that change something: their request carries a request id, or operations or events with
    one each, or is a stream."""
    pool = descriptor_pool.Default()
    found = set()
    for name in service_names:
        service = pool.FindServiceByName(name)
        for method in service.methods:
            fields = method.input_type.fields_by_name
            if not {"request_id", "operations", "events"}.isdisjoint(fields) or method.client_streaming:
                found.add(f"{name}/{method.name}")
    return frozenset(found)


# Objects made before young ones are looked through, and how often older ones are.
_GC_THRESHOLDS = (20_000, 20, 50)


class Server:
    """One service's gRPC server."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        name: str,
        peers: Mapping[str, tuple[str, ...]],
        ready: Callable[[], Awaitable[bool]],
    ) -> None:
        self._settings = settings
        self._name = name
        self._peers = peers
        self._ready = ready
        self._servicers: list[tuple[Callable[[Any, grpc.aio.Server], None], Any, str]] = []
        self._health = HealthServicer()
        self._on_drain: list[Callable[[], None]] = []
        self._server: grpc.aio.Server | None = None
        # gRPC calls back into it, and does not keep it.
        self._shown: grpc.ServerCredentials | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self.port = 0

    def add(self, register: Callable[[Any, grpc.aio.Server], None], servicer: Any, full_name: str) -> None:
        """Serves `full_name` ("danbao.payments.v1.PaymentService") by `servicer`, by its generated function."""
        self._servicers.append((register, servicer, full_name))

    def add_clock(self, servicer: clock_pb2_grpc.ClockServiceServicer) -> None:
        """Serves the test clock."""
        self.add(clock_pb2_grpc.add_ClockServiceServicer_to_server, servicer, CLOCK_SERVICE)

    def on_drain(self, action: Callable[[], None]) -> None:
        """Called when the server stops taking calls, such as to end open streams."""
        self._on_drain.append(action)

    async def start(self) -> None:
        """Binds and serves; health is NOT_SERVING until `ready` says otherwise."""
        names = [full_name for _, _, full_name in self._servicers]
        interceptor = ServiceInterceptor(
            PeerTable(self._peers),
            mutations=mutations_of(*names),
            max_concurrent=self._settings.max_concurrent_rpcs,
            max_streams=self._settings.max_streams_per_caller,
        )
        server = grpc.aio.server(
            interceptors=[interceptor],
            # Above our own limit, which answers with a reason; this one only keeps a flood from filling the memory.
            maximum_concurrent_rpcs=self._settings.max_concurrent_rpcs * 4,
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_metadata_size", 16 * 1024),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
                # A certificate is looked at when a connection begins: an old connection is one by an old certificate.
                ("grpc.max_connection_age_ms", round(self._settings.connection_age_seconds * 1000)),
                ("grpc.max_connection_age_grace_ms", _CONNECTION_GRACE_MS),
            ],
        )
        by_name = cast(grpc.aio.Server, _ByName(server))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, by_name)
        for register, servicer, _ in self._servicers:
            register(servicer, by_name)
        if self._settings.reflection:
            health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
            reflection.enable_server_reflection([*names, health_name, reflection.SERVICE_NAME], by_name)
        self._shown = self._credentials()
        self.port = server.add_secure_port(self._settings.listen, self._shown)
        self._server = server
        await self._tell(serving=False)
        await server.start()
        self._watch_task = asyncio.create_task(self._watch_readiness(), name="readiness")
        log.info("listening", port=self.port)

    async def stop(self) -> None:
        """Takes no new calls, lets those under way finish within the grace, then closes."""
        if self._server is None:
            return
        if self._watch_task is not None:
            self._watch_task.cancel()
        await self._health.enter_graceful_shutdown()
        for action in self._on_drain:
            action()
        await self._server.stop(self._settings.drain_seconds)

    async def serve_until_signal(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self.start()
        await stop.wait()
        log.info("draining", seconds=self._settings.drain_seconds)
        await self.stop()

    def _credentials(self) -> grpc.ServerCredentials:
        """Looked at again for each new connection."""
        settings = self._settings
        files = IdentityFiles.of(settings.tls_cert, settings.tls_key, settings.tls_ca)
        shown = files.now()

        def replaced() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            identity = files.now()
            if identity is shown:
                return None
            shown = identity
            return _certificate_configuration(identity)

        return grpc.dynamic_ssl_server_credentials(
            _certificate_configuration(shown), replaced, require_client_authentication=True
        )

    async def _watch_readiness(self) -> None:
        last = False
        while True:
            ready = await self._ready()
            if ready != last:
                log.info("ready" if ready else "not_ready")
                await self._tell(serving=ready)
                last = ready
            await asyncio.sleep(_READY_EVERY_S if ready else 0.1)

    async def _tell(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *[full_name for _, _, full_name in self._servicers]):
            await self._health.set(name, status)


def _certificate_configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.chain)], root_certificates=identity.authorities
    )


class _ByName:
    """Takes handlers to be found by name only.

    Generated code registers each method too, and grpc.aio then keeps a task for each that awaits its next call: every
    call builds and wakes a wait over all of them, which with thirty methods costs as much as reading the call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Leaves them out; their generic handler has them."""


def _tell_what_nobody_awaits(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own handler writes the exception's text."""
    log.failure("unawaited_failure", context.get("exception"), what=context["message"].partition("(")[0])


def run_service(settings: ServiceSettings, *, name: str, serve: Callable[[], Awaitable[None]]) -> None:
    """Runs a service's `serve` coroutine on uvloop with its logs and traces set up."""
    import uvloop

    configure_logging(service=name, level=settings.log_level)
    provider = start_telemetry(service=name, endpoint=settings.otlp_endpoint, ratio=settings.trace_ratio)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(_tell_what_nobody_awaits)
        await serve()

    # What was made so far stays as long as the process: the collector need not go through it again and again, and
    # what calls leave behind is mostly freed without it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        uvloop.run(main())
    finally:
        if provider is not None:
            provider.shutdown()
