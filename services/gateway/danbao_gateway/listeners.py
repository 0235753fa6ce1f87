"""The door: one listener, the filters a call passes in order, its span and its line in the access log."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from danbao_gateway import identity
from danbao_gateway.clusters import COLLECTOR
from danbao_gateway.contracts import Contracts
from danbao_gateway.replies import local_reply_config
from danbao_gateway.routes import HEADER_MUTATION_FILTER, STATUS_HEADER
from danbao_gateway.settings import GatewaySettings, Listener, Telemetry
from danbao_gateway.shapes import Config, seconds, socket_address, typed

STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024

ACCESS_LOG_FIELDS = {
    "time": "%START_TIME%",
    "event": "call",
    "trace_id": "%TRACE_ID%",
    "request_id": "%REQ(x-request-id)%",
    "subject": f"%REQ({identity.SUBJECT_HEADER})%",
    "partner": f"%REQ({identity.PARTNER_HEADER})%",
    "roles": f"%REQ({identity.ROLES_HEADER})%",
    "method": "%REQ_WITHOUT_QUERY(:path)%",
    "json_path": "%REQ_WITHOUT_QUERY(x-envoy-original-path)%",
    "grpc_status": "%GRPC_STATUS(CAMEL_STRING)%",
    "service_status": f"%RESP({STATUS_HEADER})%",
    "http_status": "%RESPONSE_CODE%",
    "duration_ms": "%DURATION%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
}
"""Ids, states and sizes; never a token, a query or a body."""


def listener(settings: GatewaySettings, contracts: Contracts, services: Iterable[str], routes: Config) -> Config:
    """The listener that callers reach."""
    manager = {"name": "http", "typed_config": _connection_manager(settings, contracts, services, routes)}
    return {
        "name": "callers",
        "address": socket_address(settings.listener.host, settings.listener.port),
        "per_connection_buffer_limit_bytes": STREAM_WINDOW_BYTES,
        "filter_chains": [{"filters": [manager], **_tls(settings.listener)}],
    }


def _tls(listener: Listener) -> Config:
    if listener.tls is None:
        return {}
    certificate = {
        "certificate_chain": {"filename": listener.tls.certificate},
        "private_key": {"filename": listener.tls.key},
    }
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [certificate],
        },
    )
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _connection_manager(
    settings: GatewaySettings, contracts: Contracts, services: Iterable[str], routes: Config
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
        common_http_protocol_options={
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        http2_protocol_options={
            "max_concurrent_streams": settings.limits.max_streams_per_connection,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
        },
        request_headers_timeout="10s",
        request_timeout=seconds(settings.deadlines.maximum_seconds),
        early_header_mutation_extensions=[identity.strip_incoming_headers()],
        local_reply_config=local_reply_config(),
        access_log=[_access_log(settings.access_log)],
        route_config=routes,
        http_filters=_filters(settings, contracts, services),
        **_tracing(settings.telemetry),
    )


def _filters(settings: GatewaySettings, contracts: Contracts, services: Iterable[str]) -> list[Config]:
    return [
        _transcoder(contracts, services, settings.limits.max_request_bytes),
        identity.jwt_filter(settings.issuers),
        {
            "name": HEADER_MUTATION_FILTER,
            "typed_config": typed(
                "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                mutations={"request_mutations": [identity.roles_header()]},
            ),
        },
        identity.deny_by_default(),
        {
            "name": "envoy.filters.http.buffer",
            "typed_config": typed(
                "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=settings.limits.max_request_bytes
            ),
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
        },
    ]


def _transcoder(contracts: Contracts, services: Iterable[str], max_request_bytes: int) -> Config:
    # First of all filters: everything after it, roles included, sees only gRPC methods.
    return {
        "name": "envoy.filters.http.grpc_json_transcoder",
        "typed_config": typed(
            "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
            proto_descriptor_bin=base64.b64encode(contracts.descriptors.SerializeToString()).decode("ascii"),
            services=sorted(services),
            convert_grpc_status=True,
            max_request_body_size=max_request_bytes,
            print_options={
                "preserve_proto_field_names": True,
                "always_print_primitive_fields": False,
                "always_print_enums_as_ints": False,
            },
            request_validation_options={
                "reject_unknown_query_parameters": True,
                "reject_binding_body_field_collisions": True,
            },
        ),
    }


def _access_log(path: str) -> Config:
    path_without_query = {
        "name": "envoy.formatter.req_without_query",
        "typed_config": typed("envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"),
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format={
                "json_format": ACCESS_LOG_FIELDS,
                "omit_empty_values": True,
                "formatters": [path_without_query],
            },
        ),
    }


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
            "custom_tags": [{"tag": "rpc.system", "literal": {"value": "grpc"}}],
        }
    }
