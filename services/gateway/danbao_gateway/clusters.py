"""Whom the gateway calls: each service over mutual TLS with health checks, and the trace collector."""

from __future__ import annotations

from urllib.parse import urlsplit

from danbao_gateway.settings import GatewaySettings, Issuer, Upstream, UpstreamTls
from danbao_gateway.shapes import Config, seconds, socket_address, split_address, typed
from danbao_gateway.sources import Sources

COLLECTOR = "otlp_collector"
CONNECT_TIMEOUT_SECONDS = 2.0
CHECK_INTERVAL_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 3.0
"""Longer than the interval on purpose: a busy replica must not be taken for a dead one."""
BUFFER_BYTES = 1024 * 1024
OUTLIERS: Config = {
    # A replica that says it is well and yet fails: its connections, or its answers. What a caller did wrong and what a
    # service refuses by its rules are neither: they are no 502, 503 or 504 in Envoy's reading of a gRPC status.
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 5,
    "consecutive_gateway_failure": 10,
    "enforcing_consecutive_gateway_failure": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    # Its health check passes all the time: that must not bring it back at once.
    "successful_active_health_check_uneject_host": False,
    "interval": "1s",
    "base_ejection_time": "5s",
    "max_ejection_time": "60s",
    # Never more than half: two that fail alike are no outliers, and a single replica is never taken out.
    "max_ejection_percent": 50,
}


def service_cluster(name: str, upstream: Upstream, settings: GatewaySettings, sources: Sources) -> Config:
    """A service: least-loaded healthy replica, none when none is healthy."""
    tls = _mutual_tls(upstream.san, settings.upstream_tls, sources)
    return {
        **_cluster(name, upstream.addresses),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "lb_policy": "LEAST_REQUEST",
        # A replica known to be down gets nothing, even when it is the only one: the caller hears UNAVAILABLE at once.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "health_checks": [_health_check(upstream.san)],
        "close_connections_on_host_health_failure": True,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": upstream.max_connections,
                    "max_pending_requests": upstream.max_pending_requests,
                    "max_requests": upstream.max_requests,
                    "retry_budget": {
                        "budget_percent": {"value": settings.retries.budget_percent},
                        "min_retry_concurrency": settings.retries.always_allowed,
                    },
                }
            ]
        },
        "outlier_detection": OUTLIERS,
    }


def collector_cluster(address: str) -> Config:
    """The OTLP/gRPC collector, in plain text beside the gateway."""
    return _cluster(COLLECTOR, [address])


def keys_cluster(issuer: Issuer) -> Config:
    """Where an issuer publishes its keys; its certificate is checked unless it is on this very machine."""
    url = urlsplit(issuer.jwks_url or "")
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    cluster = _cluster(issuer.cluster_name, [f"{host}:{port}"], http2=False)
    if url.scheme == "http":
        return cluster
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=host,
        common_tls_context={
            "validation_context": {
                "trusted_ca": {"filename": issuer.jwks_ca},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
            }
        },
    )
    return {**cluster, "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _cluster(name: str, addresses: list[str], *, http2: bool = True) -> Config:
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
                explicit_http_config={"http2_protocol_options" if http2 else "http_protocol_options": {}},
            )
        },
    }


def _mutual_tls(san: str, tls: UpstreamTls, sources: Sources) -> Config:
    name = {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": san}}]}
    return typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=san,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            **sources.certificate("gateway", certificate=tls.certificate, key=tls.key),
            **sources.authority("authority", ca=tls.ca, checks=name),
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
