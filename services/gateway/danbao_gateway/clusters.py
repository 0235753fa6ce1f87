"""Whom the gateway calls: each service over mutual TLS with health checks, and the trace collector."""

from __future__ import annotations

from danbao_gateway.settings import Upstream, UpstreamTls
from danbao_gateway.shapes import Config, seconds, socket_address, split_address, typed

COLLECTOR = "otlp_collector"
CONNECT_TIMEOUT_SECONDS = 2.0
CHECK_INTERVAL_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 3.0
"""Longer than the interval on purpose: a busy replica must not be taken for a dead one."""


def service_cluster(name: str, upstream: Upstream, tls: UpstreamTls) -> Config:
    """A service: least-loaded healthy replica, none when none is healthy."""
    return {
        **_http2_cluster(name, upstream.addresses),
        "lb_policy": "LEAST_REQUEST",
        # A replica known to be down gets nothing, even when it is the only one: the caller hears UNAVAILABLE at once.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _mutual_tls(upstream.san, tls)},
        "health_checks": [_health_check(upstream.san)],
        "close_connections_on_host_health_failure": True,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": upstream.max_connections,
                    "max_pending_requests": upstream.max_pending_requests,
                    "max_requests": upstream.max_requests,
                }
            ]
        },
    }


def collector_cluster(address: str) -> Config:
    """The OTLP/gRPC collector, in plain text beside the gateway."""
    return _http2_cluster(COLLECTOR, [address])


def _http2_cluster(name: str, addresses: list[str]) -> Config:
    endpoints = [{"endpoint": {"address": socket_address(*split_address(address))}} for address in addresses]
    return {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": seconds(CONNECT_TIMEOUT_SECONDS),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http2_protocol_options": {}},
            )
        },
    }


def _mutual_tls(san: str, tls: UpstreamTls) -> Config:
    return typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=san,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            "tls_certificates": [
                {"certificate_chain": {"filename": tls.certificate}, "private_key": {"filename": tls.key}}
            ],
            "validation_context": {
                "trusted_ca": {"filename": tls.ca},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": san}}],
            },
        },
    )


def _health_check(san: str) -> Config:
    return {
        "timeout": seconds(CHECK_TIMEOUT_SECONDS),
        "interval": seconds(CHECK_INTERVAL_SECONDS),
        "no_traffic_interval": seconds(CHECK_INTERVAL_SECONDS),
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "grpc_health_check": {"authority": san},
        # Without it the checks' own connection offers no HTTP/2 and a gRPC server refuses it.
        "tls_options": {"alpn_protocols": ["h2"]},
    }
