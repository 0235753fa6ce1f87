"""Stands for a service in the tests of the stack: takes the same settings, speaks mTLS, answers health."""

import os
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def serve() -> None:
    def content(name: str) -> bytes:
        return Path(os.environ[f"DANBAO_TLS_{name}"]).read_bytes()

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = grpc.server(futures.ThreadPoolExecutor(2))
    answering = health.HealthServicer()
    answering.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(answering, server)
    credentials = grpc.ssl_server_credentials([(content("KEY"), content("CERT"))], content("CA"), True)
    server.add_secure_port(os.environ["DANBAO_LISTEN"], credentials)
    server.start()
    stop.wait()
    server.stop(0.2).wait()


if __name__ == "__main__" and sys.argv[1] == "serve":
    serve()
