"""A span receiver for one machine: takes OTLP over gRPC, answers which spans belong to a trace.

    python -m danbao_local.otlp_receiver --port 4317 --directory .danbao/traces

The services only know an OTLP address: elsewhere the standard collector stands there.
"""

import argparse
import json
import signal
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from danbao_local.span_store import SpanStore
from danbao_local.spans import Span

EXPORT_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
"""Metrics are taken and dropped: there is nobody here to look at them."""
TRACE_METHOD = "/danbao.local.Traces/GetTrace"
"""Takes a trace id in hexadecimal, answers JSON; only the local stack speaks it."""

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Both methods on raw bytes: an export is stored without being parsed."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a method."""
        handlers: dict[str, Callable[[bytes, grpc.ServicerContext], bytes]] = {
            EXPORT_METHOD: self._export,
            METRICS_METHOD: self._drop,
            TRACE_METHOD: self._trace,
        }
        handler = handlers.get(handler_call_details.method)
        return grpc.unary_unary_rpc_method_handler(handler) if handler else None

    def _export(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self._store.append(request)
        return b""

    def _drop(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        return b""

    def _trace(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        trace_id = request.decode("ascii", errors="replace")
        if len(trace_id) != 32 or any(letter not in "0123456789abcdef" for letter in trace_id):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a trace id is 32 hexadecimal digits")
        with self._lock:
            spans = self._store.trace(trace_id)
        return json.dumps([span.to_json() for span in spans]).encode()


def serve(*, port: int, store: SpanStore) -> tuple[grpc.Server, int]:
    """A started server on 127.0.0.1 and its port (0 asks for any)."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=_OPTIONS)
    server.add_generic_rpc_handlers((_Handlers(store),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


class TraceReader:
    """Asks a running receiver."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._get = self._channel.unary_unary(TRACE_METHOD)
        self._export = self._channel.unary_unary(EXPORT_METHOD)

    def trace(self, trace_id: str) -> list[Span]:
        """The trace's spans and those linked with it, by start."""
        answer: bytes = self._get(trace_id.encode(), timeout=30, wait_for_ready=True)
        spans: list[dict[str, Any]] = json.loads(answer)
        return [Span.from_json(values) for values in spans]

    def export(self, payload: bytes) -> None:
        """Send a serialised ExportTraceServiceRequest, as any service does."""
        self._export(payload, timeout=10, wait_for_ready=True)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Takes spans over OTLP/gRPC and keeps the latest.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    store = SpanStore(arguments.directory)
    server, _ = serve(port=arguments.port, store=store)
    stop.wait()
    server.stop(grace=1).wait()
    store.close()


if __name__ == "__main__":
    main()
