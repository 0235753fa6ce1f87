"""From settings to the whole Envoy configuration."""

from __future__ import annotations

from danbao_gateway import clusters, listeners, page, routes
from danbao_gateway.contracts import Contracts
from danbao_gateway.roles import Rule, shipped_rules
from danbao_gateway.settings import GatewaySettings, Limits, Telemetry
from danbao_gateway.shapes import Config, socket_address, typed
from danbao_gateway.sources import Inline, Sources

SPANS_PER_EXPORT = 200
REQUESTS_PER_TURN = 100
HEAP = "envoy.resource_monitors.fixed_heap"


def render(
    settings: GatewaySettings,
    contracts: Contracts | None = None,
    *,
    sources: Sources | None = None,
    served_page: page.ServedPage | None = None,
) -> Config:
    """An Envoy v3 bootstrap as a JSON-able dict. Reads the issuers' key files; certificates stay paths.

    `contracts` are those of the installed danbao-protos unless given; with `sources` the parts that may change lie
    elsewhere; `served_page` is the API page, which is left out unless given. Raises
    OSError or ValueError for a key file that is missing or holds a secret key.
    """
    contracts = contracts or Contracts.installed()
    sources = sources or Inline()
    rules: dict[str, Rule] = shipped_rules() | settings.roles
    methods = routes.routed_methods(contracts.methods(), rules, settings.upstreams)
    services = {method.service_name for method in methods}
    pages = [] if served_page is None else page.routes(served_page)
    route_configuration = routes.route_configuration(methods, rules, settings, pages)
    bootstrap: Config = {
        "node": {"id": "gateway", "cluster": "danbao"},
        "static_resources": {
            "listeners": [listeners.listener(settings, contracts, services, route_configuration, sources)],
            "clusters": _clusters(settings, sources),
        },
        "layered_runtime": _runtime(settings.telemetry),
        "overload_manager": _overload_manager(settings.limits),
    }
    if settings.admin is not None:
        bootstrap["admin"] = {"address": socket_address(settings.admin.host, settings.admin.port)}
    return bootstrap


def _clusters(settings: GatewaySettings, sources: Sources) -> list[Config]:
    services = [
        clusters.service_cluster(name, upstream, settings, sources)
        for name, upstream in sorted(settings.upstreams.items())
    ]
    keys = {
        issuer.cluster_name: clusters.keys_cluster(issuer) for issuer in settings.issuers if issuer.jwks_url is not None
    }
    endpoint = settings.telemetry.otlp_endpoint
    collector = [] if endpoint is None else [clusters.collector_cluster(endpoint)]
    return [*services, *keys.values(), *collector]


def _runtime(telemetry: Telemetry) -> Config:
    # Envoy's own are 5 s and 5 spans: slow to look at one trace, and many small exports under load.
    values = {
        "tracing.opentelemetry.flush_interval_ms": round(telemetry.flush_seconds * 1000),
        "tracing.opentelemetry.min_flush_spans": SPANS_PER_EXPORT,
        # Calls that one connection may start in a turn of the loop; the rest waits for the other connections.
        "http.max_requests_per_io_cycle": REQUESTS_PER_TURN,
        # A connection that opens and resets streams in haste is closed.
        "overload.premature_reset_total_stream_count": 500,
        "overload.premature_reset_min_stream_lifetime_seconds": 1,
    }
    return {"layers": [{"name": "static", "static_layer": values}]}


def _overload_manager(limits: Limits) -> Config:
    connections = typed(
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=limits.max_connections,
    )
    heap = typed(
        "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=limits.max_heap_bytes
    )
    return {
        "refresh_interval": "0.250s",
        "resource_monitors": [
            {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": connections},
            {"name": HEAP, "typed_config": heap},
        ],
        "actions": [
            _when_heap_is_at(0.9, "envoy.overload_actions.disable_http_keepalive"),
            _when_heap_is_at(0.9, "envoy.overload_actions.shrink_heap"),
            _when_heap_is_at(0.95, "envoy.overload_actions.stop_accepting_requests"),
        ],
    }


def _when_heap_is_at(share: float, action: str) -> Config:
    return {"name": action, "triggers": [{"name": HEAP, "threshold": {"value": share}}]}
