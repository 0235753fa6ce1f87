"""Is the service of this container well? Asked from inside, for whoever starts containers: its answer is an exit code.

    python -P -m danbao_kit.health payments           # 0: it serves; 1: it does not, and why
    python -P -m danbao_kit.health payments --alive   # 0: it answers, even if its store is away

Services speak mutual TLS only, so that a probe without a certificate learns nothing: this one shows the service's own,
by the service's own variables (DANBAO_LISTEN, DANBAO_TLS_CERT, DANBAO_TLS_KEY, DANBAO_TLS_CA). No shell is needed.
A store that is away makes a replica not ready, and beginning it again mends nothing: liveness is --alive.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from danbao_kit.call import INTERNAL_DOMAIN

# Where a server that listens everywhere is found from inside.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}
SERVING = health_pb2.HealthCheckResponse.SERVING


class Unwell(Exception):
    """The service does not serve, or nobody can tell; the text says why."""


def main() -> int:
    """Ask once; 0 if it is well."""
    parser = argparse.ArgumentParser(prog="danbao_kit.health", description="Whether this container's service is well.")
    parser.add_argument("service", help="its name, which its certificate has too")
    parser.add_argument("--alive", action="store_true", help="an answer is enough, also NOT_SERVING")
    parser.add_argument("--timeout-s", type=float, default=3.0, help="how long it may take to answer (3)")
    given = parser.parse_args()
    try:
        ask(given.service, os.environ, alive=given.alive, timeout_s=given.timeout_s)
    except Unwell as failure:
        print(f"{given.service} is not well: {failure}", file=sys.stderr)
        return 1
    return 0


def ask(service: str, environment: Mapping[str, str], *, alive: bool, timeout_s: float) -> None:
    """Returns if the service is well; raises Unwell."""
    try:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_file(environment, "DANBAO_TLS_CA"),
            private_key=_file(environment, "DANBAO_TLS_KEY"),
            certificate_chain=_file(environment, "DANBAO_TLS_CERT"),
        )
    except OSError as failure:
        raise Unwell(f"{failure.filename}: {failure.strerror}") from None
    options = [("grpc.ssl_target_name_override", f"{service}{INTERNAL_DOMAIN}")]
    with grpc.secure_channel(dialled(environment.get("DANBAO_LISTEN", "")), credentials, options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as failure:
            raise Unwell(f"{failure.code().name}: {failure.details()}") from None
    if answer.status != SERVING and not alive:
        raise Unwell(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def dialled(listen: str) -> str:
    """The address by which a server on `listen` is reached from inside; raises Unwell if that cannot be known."""
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or port == "0":
        raise Unwell(f"DANBAO_LISTEN is {listen!r}, which names no port to ask at")
    return f"{_EVERYWHERE.get(host, host)}:{port}"


def _file(environment: Mapping[str, str], variable: str) -> bytes:
    if not (path := environment.get(variable)):
        raise Unwell(f"{variable} is not set")
    return Path(path).read_bytes()


if __name__ == "__main__":
    sys.exit(main())
