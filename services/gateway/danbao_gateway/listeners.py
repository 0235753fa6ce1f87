"""The door: one listener, how it reads HTTP, and the span of each call."""

from __future__ import annotations

from collections.abc import Iterable

from danbao_gateway import identity
from danbao_gateway.access_log import access_log
from danbao_gateway.clusters import COLLECTOR
from danbao_gateway.contracts import Contracts
from danbao_gateway.filters import http_filters
from danbao_gateway.replies import local_reply_config
from danbao_gateway.routes import STREAM_IDLE_SECONDS
from danbao_gateway.settings import GatewaySettings, Listener, Telemetry
from danbao_gateway.shapes import Config, seconds, socket_address, typed
from danbao_gateway.sources import Sources

STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024
READ_ANYWAY = 2
"""So many times the limits of headers are read, so that they can be refused with a reason: beyond it Envoy resets the
stream of an HTTP/2 caller, which gRPC's libraries report as INTERNAL."""


def listener(
    settings: GatewaySettings, contracts: Contracts, services: Iterable[str], routes: Config, sources: Sources
) -> Config:
    """The listener that callers reach."""
    manager = _connection_manager(settings, contracts, services, routes, sources)
    return {
        "name": "callers",
        "address": socket_address(settings.listener.host, settings.listener.port),
        "per_connection_buffer_limit_bytes": STREAM_WINDOW_BYTES,
        "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}], **_tls(settings.listener, sources)},
        ],
    }


def _tls(listener: Listener, sources: Sources) -> Config:
    if listener.tls is None:
        return {}
    certificate = sources.certificate("listener", certificate=listener.tls.certificate, key=listener.tls.key)
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2", "http/1.1"],
            **certificate,
        },
    )
    return {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        "transport_socket_connect_timeout": "10s",
    }


def _connection_manager(
    settings: GatewaySettings, contracts: Contracts, services: Iterable[str], routes: Config, sources: Sources
) -> Config:
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="callers",
        codec_type="AUTO",
        server_name="danbao",
        use_remote_address=True,
        generate_request_id=True,
        always_set_request_id_in_response=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        max_request_headers_kb=READ_ANYWAY * settings.limits.max_header_kib,
        common_http_protocol_options={
            "idle_timeout": seconds(STREAM_IDLE_SECONDS),
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": READ_ANYWAY * settings.limits.max_headers,
        },
        http_protocol_options={"accept_http_10": False, "allow_chunked_length": False},
        http2_protocol_options={
            "max_concurrent_streams": settings.limits.max_streams_per_connection,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            # Said although they are Envoy's own: what a flood of small frames may cost.
            "max_outbound_frames": 10_000,
            "max_outbound_control_frames": 1000,
            "max_consecutive_inbound_frames_with_empty_payload": 1,
            "max_inbound_priority_frames_per_stream": 100,
            "max_inbound_window_update_frames_per_data_frame_sent": 10,
        },
        request_headers_timeout="10s",
        # A stream's request may last as long as the stream; a unary call's is cut by its route's own limit.
        request_timeout="0s",
        stream_idle_timeout=seconds(STREAM_IDLE_SECONDS),
        early_header_mutation_extensions=[identity.strip_incoming_headers()],
        local_reply_config=local_reply_config(),
        access_log=[access_log(settings.access_log)],
        http_filters=http_filters(settings, contracts, services, sources),
        **sources.routes(routes),
        **_tracing(settings.telemetry),
    )


SPAN_TAGS: dict[str, Config] = {
    "rpc.system": {"literal": {"value": "grpc"}},
    "http.url": {"value": "%PATH(NQ:ORIG_OR_PATH)%"},
    "user_agent": {"literal": {"value": "-"}},
    "peer.address": {"literal": {"value": "-"}},
}
"""Said by the gateway's spans. The last three are in place of what Envoy says: the query, the caller's program and its
address, which may be anybody's own."""


def _tracing(telemetry: Telemetry) -> Config:
    if telemetry.otlp_endpoint is None:
        return {}
    provider = {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": typed(
            "envoy.config.trace.v3.OpenTelemetryConfig",
            grpc_service={"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "1s"},
            service_name=telemetry.service_name,
        ),
    }
    return {
        "tracing": {
            "provider": provider,
            "random_sampling": {"value": telemetry.sampling_ratio * 100},
            "client_sampling": {"value": 0},
            "overall_sampling": {"value": 100},
            "custom_tags": [{"tag": tag, **value} for tag, value in SPAN_TAGS.items()],
        }
    }
