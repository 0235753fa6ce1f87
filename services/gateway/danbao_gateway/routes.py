"""Where a call goes: one route a method, with its own time limit, roles and span name; everything else is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from danbao_gateway import identity
from danbao_gateway.contracts import Method
from danbao_gateway.roles import INTERNAL, Role, Rule
from danbao_gateway.settings import Deadlines
from danbao_gateway.shapes import Config, seconds, typed

HEADER_MUTATION_FILTER = "envoy.filters.http.header_mutation"
STATUS_HEADER = "x-danbao-status"
"""The service's grpc-status of a refusal, kept for the access log: the transcoder turns it into an HTTP status."""
STREAM_IDLE_SECONDS = 3600.0
UNKNOWN_METHOD = "unknown method"


def routed_methods(methods: Iterable[Method], rules: Mapping[str, Rule], upstreams: Iterable[str]) -> list[Method]:
    """The methods that callers may reach at all: not internal, and of a configured upstream."""
    names = set(upstreams)
    return [
        method for method in methods if method.upstream in names and rules.get(method.full_name, INTERNAL) != INTERNAL
    ]


def route_configuration(methods: Iterable[Method], rules: Mapping[str, Rule], deadlines: Deadlines) -> Config:
    """One virtual host: the methods, then 404, which gRPC callers read as UNIMPLEMENTED."""
    routes = [_method_route(method, _roles(rules[method.full_name]), deadlines) for method in methods]
    return {
        "name": "methods",
        "virtual_hosts": [{"name": "danbao", "domains": ["*"], "routes": [*routes, _unknown_route()]}],
    }


def _roles(rule: Rule) -> list[Role]:
    assert rule != INTERNAL, "an internal method is never routed"
    return [Role(role) for role in rule]


def _method_route(method: Method, roles: list[Role], deadlines: Deadlines) -> Config:
    # No router timeout: the limits below speak gRPC (DEADLINE_EXCEEDED, not UNAVAILABLE, which callers would retry).
    action: Config = {"cluster": method.upstream, "timeout": "0s"}
    filters = identity.allow(roles)
    if method.streaming:
        action["idle_timeout"] = seconds(STREAM_IDLE_SECONDS)
    else:
        action["max_stream_duration"] = {
            "max_stream_duration": seconds(deadlines.default_seconds),
            "grpc_timeout_header_max": seconds(deadlines.maximum_seconds),
        }
        filters |= _default_timeout(deadlines.default_seconds)
    return {
        "name": method.full_name,
        "match": {"path": f"/{method.full_name}", "grpc": {}},
        "route": action,
        "decorator": {"operation": method.full_name, "propagate": False},
        "response_headers_to_add": [{"header": {"key": STATUS_HEADER, "value": "%RESP(grpc-status)%"}}],
        "typed_per_filter_config": filters,
    }


def _default_timeout(default_seconds: float) -> Config:
    header = identity.set_header("grpc-timeout", f"{round(default_seconds * 1000)}m", overwrite=False)
    return {
        HEADER_MUTATION_FILTER: typed(
            "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
            mutations={"request_mutations": [header]},
        )
    }


def _unknown_route() -> Config:
    return {
        "name": "unknown",
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": UNKNOWN_METHOD}},
        "decorator": {"operation": UNKNOWN_METHOD, "propagate": False},
        "typed_per_filter_config": identity.allow_all() | identity.no_token_needed(),
    }
