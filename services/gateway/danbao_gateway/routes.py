"""Where a call goes: one route a method, with its time limit, roles, limits and retries; everything else is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from danbao_gateway import identity
from danbao_gateway.contracts import Method
from danbao_gateway.limits import class_metadata, class_of, may_be_retried
from danbao_gateway.rates import MethodClass, merged, shipped_limits
from danbao_gateway.replies import UNKNOWN_METHOD_POLICY
from danbao_gateway.roles import INTERNAL, Rule
from danbao_gateway.settings import Cors, Deadlines, GatewaySettings, Retries
from danbao_gateway.shapes import Config, seconds, typed

HEADER_MUTATION_FILTER = "envoy.filters.http.header_mutation"
CORS_FILTER = "envoy.filters.http.cors"
BUFFER_FILTER = "envoy.filters.http.buffer"
STATUS_HEADER = "x-danbao-status"
"""The service's grpc-status of a refusal, kept for the access log: the transcoder turns it into an HTTP status."""
STREAM_IDLE_SECONDS = 3600.0
UNKNOWN_METHOD = "unknown method"

RETRY_ON = "connect-failure,refused-stream,reset-before-request,unavailable"
RETRY_BACK_OFF = {"base_interval": "0.025s", "max_interval": "0.250s"}
GRPC_CONTENT_TYPE = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
"""gRPC, and gRPC-Web before its filter has made gRPC of it."""

CALLERS_HEADERS = "authorization,content-type,danbao-why,grpc-timeout,traceparent,tracestate,x-grpc-web,x-user-agent"
SHOWN_HEADERS = (
    "grpc-status,grpc-message,grpc-status-details-bin,retry-after,x-request-id,x-danbao-reason,x-danbao-replayed"
)


def routed_methods(methods: Iterable[Method], rules: Mapping[str, Rule], upstreams: Iterable[str]) -> list[Method]:
    """The methods that callers may reach at all: not internal, and of a configured upstream."""
    names = set(upstreams)
    return [
        method for method in methods if method.upstream in names and rules.get(method.full_name, INTERNAL) != INTERNAL
    ]


def route_configuration(
    methods: Iterable[Method], rules: Mapping[str, Rule], settings: GatewaySettings, pages: Sequence[Config] = ()
) -> Config:
    """One virtual host: the methods, the pages, then 404, which gRPC callers read as UNIMPLEMENTED."""
    named = merged(shipped_limits(), settings.rate_limits).methods
    routes = [
        _method_route(method, rules[method.full_name], class_of(method, named), settings.deadlines, settings.retries)
        for method in methods
    ]
    host = {
        "name": "danbao",
        "domains": ["*"],
        "routes": [*routes, *pages, *_browsers_route(settings), _unknown_route()],
        "include_request_attempt_count": True,
        "typed_per_filter_config": _for_every_route(settings),
    }
    return {"name": "methods", "virtual_hosts": [host], "max_direct_response_body_size_bytes": 8 * 1024 * 1024}


def _for_every_route(settings: GatewaySettings) -> Config:
    return {
        **_header_mutations(identity.roles_header(settings.role_names)),
        **({} if settings.cors is None else {CORS_FILTER: _cors_policy(settings.cors)}),
    }


def _method_route(
    method: Method, rule: Rule, method_class: MethodClass, deadlines: Deadlines, retries: Retries
) -> Config:
    assert rule != INTERNAL, "an internal method is never routed"
    # No router timeout: the limits below speak gRPC (DEADLINE_EXCEEDED, not UNAVAILABLE, which callers would retry).
    action: Config = {"cluster": method.upstream, "timeout": "0s"}
    filters = identity.allow(rule)
    if method.streaming:
        action["idle_timeout"] = seconds(STREAM_IDLE_SECONDS)
    else:
        action["max_stream_duration"] = {
            "max_stream_duration": seconds(deadlines.default_seconds),
            "grpc_timeout_header_max": seconds(deadlines.maximum_seconds),
        }
        filters |= _header_mutations(_default_timeout(deadlines.default_seconds))
    if method.client_streaming:
        # Waiting for the end of a request that may never end; its messages' sizes are the service's to limit.
        filters[BUFFER_FILTER] = typed("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True)
    if retries.most and may_be_retried(method, method_class):
        action["retry_policy"] = _retry_policy(retries)
    return {
        "name": method.full_name,
        "match": {"path": f"/{method.full_name}", "headers": [GRPC_CONTENT_TYPE]},
        "route": action,
        "metadata": class_metadata(method_class),
        "decorator": {"operation": method.full_name, "propagate": False},
        "response_headers_to_add": [{"header": {"key": STATUS_HEADER, "value": "%RESP(grpc-status)%"}}],
        "typed_per_filter_config": filters,
    }


def _retry_policy(retries: Retries) -> Config:
    # How many at once, the cluster's retry budget says.
    return {
        "retry_on": RETRY_ON,
        "num_retries": retries.most,
        "retry_back_off": RETRY_BACK_OFF,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            }
        ],
        # Of two replicas, chance takes the failed one again every other time: in ten tries hardly ever.
        "host_selection_retry_max_attempts": 10,
    }


def _default_timeout(default_seconds: float) -> Config:
    return identity.set_header("grpc-timeout", f"{round(default_seconds * 1000)}m", overwrite=False)


def _header_mutations(mutation: Config) -> Config:
    return {
        HEADER_MUTATION_FILTER: typed(
            "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
            mutations={"request_mutations": [mutation]},
        )
    }


def _cors_policy(cors: Cors) -> Config:
    return typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"exact": origin} for origin in cors.allow_origins],
        allow_methods="GET,POST,PUT,PATCH,DELETE",
        allow_headers=CALLERS_HEADERS,
        expose_headers=SHOWN_HEADERS,
        max_age=str(cors.max_age_seconds),
        # The token is a header that the page sets by itself; a cookie of another site must never count.
        allow_credentials=False,
        forward_not_matching_preflights=False,
    )


def _browsers_route(settings: GatewaySettings) -> list[Config]:
    # The CORS filter answers only where the route goes to a cluster, and before the transcoder has found the method of
    # a JSON call. Nothing passes here: what is still here after the transcoder is no method.
    if settings.cors is None:
        return []
    route = {
        "name": "browsers",
        "match": {"prefix": "/", "headers": [{"name": "origin", "present_match": True}]},
        "route": {"cluster": min(settings.upstreams)},
        "decorator": {"operation": UNKNOWN_METHOD, "propagate": False},
        "typed_per_filter_config": identity.refuse(UNKNOWN_METHOD_POLICY),
    }
    return [route]


def _unknown_route() -> Config:
    return {
        "name": "unknown",
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": UNKNOWN_METHOD}},
        "decorator": {"operation": UNKNOWN_METHOD, "propagate": False},
        "typed_per_filter_config": identity.no_caller_needed(),
    }
