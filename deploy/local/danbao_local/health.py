"""Is it up? Asked the way the platform would ask: gRPC health for services, /ready for Envoy."""

import contextlib
import socket
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from danbao_kit.testing.certificates import DOMAIN, CertificateFiles


def service_channel(address: str, *, service: str, operator: CertificateFiles) -> grpc.Channel:
    """A channel straight to a service, with the operator's own certificate."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=operator.ca.read_bytes(),
        private_key=operator.key.read_bytes(),
        certificate_chain=operator.cert.read_bytes(),
    )
    options = (
        ("grpc.ssl_target_name_override", f"{service}.{DOMAIN}"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 500),
    )
    return grpc.secure_channel(address, credentials, options=options)


def is_serving(address: str, *, service: str, operator: CertificateFiles) -> bool:
    """Whether the service says SERVING."""
    if not takes_connections(address):
        return False
    with service_channel(address, service=service, operator=operator) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=2, wait_for_ready=True
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def takes_connections(address: str) -> bool:
    """Whether somebody listens on host:port."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def envoy_is_ready(admin_address: str) -> bool:
    """Whether Envoy has its configuration and knows its upstreams."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{admin_address}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
