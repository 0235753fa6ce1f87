"""From settings to the whole Envoy configuration."""

from __future__ import annotations

from danbao_gateway import clusters, listeners, routes
from danbao_gateway.contracts import Contracts
from danbao_gateway.roles import Rule, shipped_rules
from danbao_gateway.settings import GatewaySettings, Telemetry
from danbao_gateway.shapes import Config, socket_address, typed

SPANS_PER_EXPORT = 200


def render(settings: GatewaySettings, contracts: Contracts | None = None) -> Config:
    """An Envoy v3 bootstrap as a JSON-able dict. Reads the issuers' key files; certificates stay paths.

    `contracts` are those of the installed danbao-protos unless given. Raises OSError or ValueError for a key file that
    is missing or holds a secret key.
    """
    contracts = contracts or Contracts.installed()
    rules: dict[str, Rule] = shipped_rules() | settings.roles
    methods = routes.routed_methods(contracts.methods(), rules, settings.upstreams)
    services = {method.service_name for method in methods}
    route_configuration = routes.route_configuration(methods, rules, settings.deadlines)
    bootstrap: Config = {
        "node": {"id": "gateway", "cluster": "danbao"},
        "static_resources": {
            "listeners": [listeners.listener(settings, contracts, services, route_configuration)],
            "clusters": _clusters(settings),
        },
        "layered_runtime": _runtime(settings.telemetry),
        "overload_manager": _overload_manager(settings.limits.max_connections),
    }
    if settings.admin is not None:
        bootstrap["admin"] = {"address": socket_address(settings.admin.host, settings.admin.port)}
    return bootstrap


def _clusters(settings: GatewaySettings) -> list[Config]:
    services = [
        clusters.service_cluster(name, upstream, settings.upstream_tls)
        for name, upstream in sorted(settings.upstreams.items())
    ]
    endpoint = settings.telemetry.otlp_endpoint
    return services if endpoint is None else [*services, clusters.collector_cluster(endpoint)]


def _runtime(telemetry: Telemetry) -> Config:
    # Envoy's own are 5 s and 5 spans: slow to look at one trace, and many small exports under load.
    values = {
        "tracing.opentelemetry.flush_interval_ms": round(telemetry.flush_seconds * 1000),
        "tracing.opentelemetry.min_flush_spans": SPANS_PER_EXPORT,
    }
    return {"layers": [{"name": "static", "static_layer": values}]}


def _overload_manager(max_connections: int) -> Config:
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=max_connections,
        ),
    }
    return {"resource_monitors": [monitor]}
