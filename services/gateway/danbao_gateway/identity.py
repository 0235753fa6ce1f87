"""Who calls: incoming identity headers stripped, the token verified, its claims turned into ours, its roles checked."""

from __future__ import annotations

from collections.abc import Sequence

from danbao_gateway.settings import Issuer
from danbao_gateway.shapes import Config, seconds, typed

JWT_FILTER = "envoy.filters.http.jwt_authn"
RBAC_FILTER = "envoy.filters.http.rbac"
CLAIMS = "claims"
SUBJECT_HEADER = "x-danbao-subject"
ROLES_HEADER = "x-danbao-roles"
PARTNER_HEADER = "x-danbao-partner"
STRIPPED_PREFIXES = ("x-danbao-", "x-envoy-", "tracestate", "baggage")
"""The services believe the first; Envoy itself obeys some of the second (timeouts, retries). The last two are words of
the caller's own beside its `traceparent`, which would stand in our spans."""
STRIPPED_SUFFIX = "-bin"
"""No service reads any, and one that is no base64 makes gRPC answer INTERNAL before a service sees the call."""

SUBJECT = "[!-~]+"
"""OpenID Connect Core 1.0, section 2: a `sub` is in ASCII. No spaces: at the ends of a header they are lost, and with
them the difference between two subjects."""
PARTNER = "[!-~]*"
"""The same for a `partner`, which may be empty, as it may be left out: it becomes a header, too."""
CLOCK_SKEW_SECONDS = 10
CACHED_TOKENS = 4096
FETCH_TIMEOUT_SECONDS = 5.0


def strip_incoming_headers() -> Config:
    """An early header mutation: what callers claim about themselves is gone before any filter runs."""
    return {
        "name": "strip_incoming_headers",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[
                {"remove_on_match": {"key_matcher": {**match, "ignore_case": True}}}
                for match in (*({"prefix": prefix} for prefix in STRIPPED_PREFIXES), {"suffix": STRIPPED_SUFFIX})
            ],
        ),
    }


def jwt_filter(issuers: Sequence[Issuer]) -> Config:
    """Verifies the bearer token by the issuers' keys; the token itself is not forwarded."""
    providers = {f"issuer_{number}": _provider(issuer) for number, issuer in enumerate(issuers)}
    names = [{"provider_name": name} for name in providers]
    requires: Config = names[0] if len(names) == 1 else {"requires_any": {"requirements": names}}
    return typed(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": requires}],
    )


def no_caller_needed() -> Config:
    """The per-route switches of answers that need neither token nor role."""
    return {
        JWT_FILTER: typed("envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig", disabled=True),
        **_rbac_rules({}),
    }


def _keys(issuer: Issuer) -> Config:
    if issuer.jwks_url is None:
        return {"local_jwks": {"inline_string": issuer.jwks()}}
    return {
        "remote_jwks": {
            "http_uri": {
                "uri": issuer.jwks_url,
                "cluster": issuer.cluster_name,
                "timeout": seconds(FETCH_TIMEOUT_SECONDS),
            },
            "cache_duration": seconds(issuer.jwks_cache_seconds),
            # Asked for before the first token comes, and again in time; calls go on with the keys there are.
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
            "retry_policy": {"num_retries": 2},
        }
    }


def _provider(issuer: Issuer) -> Config:
    return {
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        # A token of nobody has no owner, no limit and no name in any log.
        "subjects": {"safe_regex": {"regex": SUBJECT}},
        **_keys(issuer),
        # Named because the default also takes tokens from the query, which ends in logs.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "forward": False,
        "require_expiration": True,
        "clock_skew_seconds": CLOCK_SKEW_SECONDS,
        "payload_in_metadata": CLAIMS,
        "claim_to_headers": [
            {"header_name": SUBJECT_HEADER, "claim_name": "sub"},
            {"header_name": PARTNER_HEADER, "claim_name": "partner"},
        ],
        "jwt_cache_config": {"jwt_cache_size": CACHED_TOKENS},
    }


def roles_header(names: Sequence[str]) -> Config:
    """A header mutation: x-danbao-roles from the claim `roles`, comma-separated, of `names` only and in their order.

    claim_to_headers writes a list as base64 of JSON, and the expression language has no string joining, so the header
    is chosen by a tree of questions, one a role, whose leaves are all the possible values.
    """
    claim = f"metadata.filter_metadata['{JWT_FILTER}']['{CLAIMS}']['roles']"

    def choose(remaining: Sequence[str], held: tuple[str, ...]) -> str:
        if not remaining:
            return f"'{','.join(held)}'"
        role, *rest = remaining
        return f"('{role}' in {claim} ? {choose(rest, (*held, role))} : {choose(rest, held)})"

    return set_header(ROLES_HEADER, f"%CEL({choose(names, ())})%", overwrite=True)


def set_header(key: str, value: str, *, overwrite: bool) -> Config:
    """One request header mutation."""
    action = "OVERWRITE_IF_EXISTS_OR_ADD" if overwrite else "ADD_IF_ABSENT"
    return {"append": {"header": {"key": key, "value": value}, "append_action": action}}


def partner_readable_only(policy: str) -> Config:
    """Refuses a token whose partner is no text that a header can carry, by a policy of that name."""
    sent = {"header": {"name": PARTNER_HEADER, "present_match": True}}
    readable = _claim("partner", {"string_match": {"safe_regex": {"regex": PARTNER}}})
    principal = {"and_ids": {"ids": [sent, {"not_id": readable}]}}
    policies = {policy: {"permissions": [{"any": True}], "principals": [principal]}}
    return {
        "name": "danbao.partner",
        "typed_config": typed(
            "envoy.extensions.filters.http.rbac.v3.RBAC",
            rules={"action": "DENY", "policies": policies},
            rules_stat_prefix="partner_",
        ),
    }


def deny_by_default() -> Config:
    """The role check: without a rule of its own a route is refused."""
    return {
        "name": RBAC_FILTER,
        "typed_config": typed("envoy.extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": {}}),
    }


def allow(roles: Sequence[str]) -> Config:
    """The per-route rule: a token that holds any of the roles passes."""
    policy = {"permissions": [{"any": True}], "principals": [_holds(role) for role in roles]}
    return _rbac_rules({"rules": {"action": "ALLOW", "policies": {"roles": policy}}})


def refuse(policy: str) -> Config:
    """The per-route switches of a route that nobody passes; the policy's name is in Envoy's response code details."""
    anything = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    return no_caller_needed() | _rbac_rules({"rules": {"action": "DENY", "policies": {policy: anything}}})


def _rbac_rules(rbac: Config) -> Config:
    return {
        RBAC_FILTER: typed("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", **({"rbac": rbac} if rbac else {}))
    }


def _holds(role: str) -> Config:
    return _claim("roles", {"list_match": {"one_of": {"string_match": {"exact": role}}}})


def _claim(name: str, value: Config) -> Config:
    path = [{"key": CLAIMS}, {"key": name}]
    return {"sourced_metadata": {"metadata_matcher": {"filter": JWT_FILTER, "path": path, "value": value}}}
