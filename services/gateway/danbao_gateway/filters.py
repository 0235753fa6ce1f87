"""What a call passes in order: the door's filters, from a browser's question down to the service."""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Iterable

from danbao_gateway import identity
from danbao_gateway.contracts import Contracts
from danbao_gateway.limits import LIMIT_FILTER, limit_filter
from danbao_gateway.rates import merged, shipped_limits
from danbao_gateway.replies import CONTENT_TYPE_POLICY, HEADER_POLICY, HEADER_SIZE_POLICY, PARTNER_POLICY, lua_answers
from danbao_gateway.routes import BUFFER_FILTER, CORS_FILTER, HEADER_MUTATION_FILTER
from danbao_gateway.settings import Cors, GatewaySettings, Limits
from danbao_gateway.shapes import Config, typed
from danbao_gateway.sources import LIMITS_FILE, TOKENS_FILE, Sources

READABLE_TYPES = r"(?i)application/(json|x-www-form-urlencoded|grpc(\+proto)?)\s*(;.*)?"
"""JSON under its own name or under the one that curl gives to every body; gRPC."""
GRPC_WEB_TYPES = r"application/grpc-web(-text)?(\+proto)?"
"""As Envoy's filter knows gRPC-Web, to the letter: under another name it would reach the service as it is."""
GRPC = r"(?i)application/grpc.*"
PLAIN_GRPC = r"(?i)application/grpc(\+proto)?\s*(;.*)?"
READABLE_TIMEOUT = r"[0-9]{1,8}[HMSmun]"
READABLE_ENCODINGS = r"(?i)identity|gzip|deflate"
"""gRPC keeps what it could not read in its connection's header table, and then fails other callers' calls by it."""

_METHODS: Config = {"string_match": {"safe_regex": {"regex": r"/[a-z0-9_]+(\.[a-zA-Z0-9_]+)+/.*"}}}


def http_filters(
    settings: GatewaySettings, contracts: Contracts, services: Iterable[str], sources: Sources
) -> list[Config]:
    """The chain; the transcoder comes before everything that asks who calls what, so that all of it sees methods."""
    limits = merged(shipped_limits(), settings.rate_limits)
    max_request_bytes = settings.limits.max_request_bytes
    return [
        *_browsers(settings.cors),
        _readable_only(settings.limits),
        {
            "name": "envoy.filters.http.grpc_web",
            "typed_config": typed("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
        },
        _transcoder(contracts, services, max_request_bytes),
        sources.http_filter(identity.JWT_FILTER, TOKENS_FILE, identity.jwt_filter(settings.issuers)),
        identity.partner_readable_only(PARTNER_POLICY),
        {
            "name": HEADER_MUTATION_FILTER,
            "typed_config": typed("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"),
        },
        sources.http_filter(LIMIT_FILTER, LIMITS_FILE, limit_filter(limits)),
        identity.deny_by_default(),
        {
            "name": BUFFER_FILTER,
            "typed_config": typed(
                "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=max_request_bytes
            ),
        },
        _reasons(),
        {
            "name": "envoy.filters.http.router",
            "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
        },
    ]


def _browsers(cors: Cors | None) -> list[Config]:
    if cors is None:
        return []
    return [{"name": CORS_FILTER, "typed_config": typed("envoy.extensions.filters.http.cors.v3.Cors")}]


def _readable_only(limits: Limits) -> Config:
    # The transcoder would take any body for JSON: XML would be "malformed JSON", and a form would not be noticed.
    content_type = "content-type"
    carries_a_body = {"or_rules": {"rules": [_header(":method", exact=verb) for verb in ("POST", "PUT", "PATCH")]}}
    named = {"header": {"name": content_type, "present_match": True}}
    readable = _any(*(_header_like(content_type, types) for types in (READABLE_TYPES, GRPC_WEB_TYPES)))
    policies = {
        CONTENT_TYPE_POLICY: [
            _all(carries_a_body, named, {"not_rule": readable}),
            # gRPC is spoken to methods, not to the paths of JSON.
            _all(_header_like(content_type, GRPC), {"not_rule": {"header": {"name": ":path", **_METHODS}}}),
        ],
        HEADER_POLICY: [
            _unreadable("grpc-timeout", READABLE_TIMEOUT),
            _unreadable("grpc-encoding", READABLE_ENCODINGS),
            # What calls itself gRPC and cannot read trailers is not: the services would cut it off without a word.
            _all(_header_like(content_type, PLAIN_GRPC), {"not_rule": _header("te", exact="trailers")}),
        ],
    }
    return {
        "name": "danbao.readable",
        "typed_config": typed(
            "envoy.extensions.filters.http.rbac.v3.RBAC",
            rules={
                "action": "DENY",
                "policies": {
                    **{
                        name: {"permissions": permissions, "principals": [{"any": True}]}
                        for name, permissions in policies.items()
                    },
                    HEADER_SIZE_POLICY: {
                        "permissions": [{"any": True}],
                        "principals": [{"any": True}],
                        "condition": _larger_headers_than(limits.max_header_kib * 1024, limits.max_headers),
                    },
                },
            },
            rules_stat_prefix="readable_",
        ),
    }


def _header(name: str, *, exact: str) -> Config:
    return {"header": {"name": name, "string_match": {"exact": exact}}}


def _header_like(name: str, pattern: str) -> Config:
    return {"header": {"name": name, "string_match": {"safe_regex": {"regex": pattern}}}}


def _unreadable(name: str, pattern: str) -> Config:
    """There, and not such a value."""
    return _all({"header": {"name": name, "present_match": True}}, {"not_rule": _header_like(name, pattern)})


def _larger_headers_than(most_bytes: int, most: int) -> Config:
    """In CEL: `request.total_size > … || size(request.headers) > …`; nothing of the body has come by then."""
    too_large = _call("_>_", _attribute("total_size"), _number(most_bytes))
    too_many = _call("_>_", _call("size", _attribute("headers")), _number(most))
    return _call("_||_", too_large, too_many)


def _call(function: str, *operands: Config) -> Config:
    return {"call_expr": {"function": function, "args": list(operands)}}


def _attribute(name: str) -> Config:
    return {"select_expr": {"operand": {"ident_expr": {"name": "request"}}, "field": name}}


def _number(value: int) -> Config:
    return {"const_expr": {"int64_value": value}}


def _all(*rules: Config) -> Config:
    return {"and_rules": {"rules": list(rules)}}


def _any(*rules: Config) -> Config:
    return {"or_rules": {"rules": list(rules)}}


def _transcoder(contracts: Contracts, services: Iterable[str], max_request_bytes: int) -> Config:
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


def _reasons() -> Config:
    source = importlib.resources.files("danbao_gateway").joinpath("reasons.lua").read_text(encoding="utf-8")
    source = source.replace("--[[answers]]", lua_answers())
    lua = {
        "name": "envoy.filters.http.lua",
        "typed_config": typed(
            "envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": source}
        ),
    }
    # An answer that is one has its status behind it. To begin a script, if only for it to see that, takes five times
    # as long as to see it.
    return _unless_answer(lua, ("grpc-status", "x-danbao-replayed"))


def _unless_answer(wrapped: Config, headers: Iterable[str]) -> Config:
    """The filter, passed by where the answer begins with none of these headers."""
    begins = [
        {
            "single_predicate": {
                "input": {
                    "name": header,
                    "typed_config": typed("envoy.type.matcher.v3.HttpResponseHeaderMatchInput", header_name=header),
                },
                "value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}},
            }
        }
        for header in headers
    ]
    skip = {"name": "skip", "typed_config": typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")}
    matcher = {"predicate": {"not_matcher": {"or_matcher": {"predicate": begins}}}, "on_match": {"action": skip}}
    return {
        "name": "danbao.reasons",
        "typed_config": typed(
            "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            xds_matcher={"matcher_list": {"matchers": [matcher]}},
            extension_config=wrapped,
        ),
    }
