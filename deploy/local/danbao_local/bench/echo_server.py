"""The raw echo, a process of its own: grpc.aio, uvloop and mTLS as in a service, and nothing of ours around it.

Prints the port it took; ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from danbao.testing.v1 import echo_pb2, echo_pb2_grpc


class EchoServicer(echo_pb2_grpc.EchoServiceServicer):
    """Answers what it is sent."""

    async def Echo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        """The same bytes back."""
        return echo_pb2.EchoResponse(payload=request.payload)


async def serve(credentials: grpc.ServerCredentials) -> None:
    """Serve until standard input ends."""
    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(EchoServicer(), server)
    # The gateway sends nothing to a server that does not say that it is well.
    health = HealthServicer()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0.2)


def main() -> None:
    """Read the paths of the certificate and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    credentials = grpc.ssl_server_credentials(
        [(arguments.key.read_bytes(), arguments.cert.read_bytes())],
        root_certificates=arguments.ca.read_bytes(),
        require_client_auth=True,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(credentials))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
