"""How limits become Envoy's: a bucket for each caller and class of method, counted by each process for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danbao_gateway.contracts import Method
from danbao_gateway.identity import PARTNER_HEADER, SUBJECT_HEADER
from danbao_gateway.rates import MethodClass, Rate, RateLimits
from danbao_gateway.shapes import Config, typed

LIMIT_FILTER = "envoy.filters.http.local_ratelimit"
_NAMESPACE = "danbao"
_CLASS, _PARTNER, _ALONE, _SUBJECT = "class", "partner", "without_partner", "subject"
_NEVER_EMPTY = 1_000_000_000
"""Of the filter's own bucket, which counts calls without a descriptor: answers that need no caller."""


def class_of(method: Method, named: Mapping[str, MethodClass]) -> MethodClass:
    """The table's word, else what the contract says: stream, bulk by name, read by GET, else write."""
    if method.full_name in named:
        return named[method.full_name]
    if method.streaming:
        return MethodClass.STREAM
    if method.name.startswith("Batch"):
        return MethodClass.BULK
    return MethodClass.READ if method.verb == "get" else MethodClass.WRITE


def may_be_retried(method: Method, method_class: MethodClass) -> bool:
    """Whether executing it twice does no more than once: it carries a request id, or it only reads."""
    if method.streaming:
        return False
    return method.has_request_id or method.verb == "get" or method_class is MethodClass.READ


def class_metadata(method_class: MethodClass) -> Config:
    """A route's metadata: the class that its calls are counted in."""
    return {"filter_metadata": {_NAMESPACE: {_CLASS: method_class.value}}}


def _rate_limits() -> list[Config]:
    """Of each call one of two descriptors: by partner, or by subject where the token names no partner."""
    named = {
        "metadata": {
            "descriptor_key": _CLASS,
            "source": "ROUTE_ENTRY",
            "metadata_key": {"key": _NAMESPACE, "path": [{"key": _CLASS}]},
        }
    }
    partner = {"request_headers": {"header_name": PARTNER_HEADER, "descriptor_key": _PARTNER}}
    alone = {
        "header_value_match": {
            "descriptor_key": _ALONE,
            "descriptor_value": "yes",
            "expect_match": False,
            "headers": [{"name": PARTNER_HEADER, "present_match": True}],
        }
    }
    subject = {"request_headers": {"header_name": SUBJECT_HEADER, "descriptor_key": _SUBJECT}}
    return [{"actions": [named, partner]}, {"actions": [named, alone, subject]}]


def limit_filter(limits: RateLimits) -> Config:
    """The filter's configuration: everybody's buckets (an empty value makes one per value), then the exceptions."""
    descriptors = [
        descriptor
        for method_class in MethodClass
        for descriptor in _descriptors(method_class, "", limits.classes[method_class])
    ]
    for caller, rates in limits.callers.items():
        for method_class, rate in rates.items():
            descriptors += _descriptors(method_class, caller, rate)
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="callers",
        token_bucket=_bucket(Rate(per_second=10_000_000), burst=_NEVER_EMPTY),
        always_consume_default_token_bucket=False,
        filter_enabled=_always("enabled"),
        filter_enforced=_always("enforced"),
        rate_limited_as_resource_exhausted=True,
        max_dynamic_descriptors=limits.remembered_callers,
        rate_limits=_rate_limits(),
        descriptors=descriptors,
    )


def _descriptors(method_class: MethodClass, caller: str, rate: Rate) -> list[Config]:
    named = {"key": _CLASS, "value": method_class.value}
    value: dict[str, Any] = {"value": caller} if caller else {}
    bucket = _bucket(rate)
    return [
        {"entries": [named, {"key": _PARTNER, **value}], "token_bucket": bucket},
        {"entries": [named, {"key": _ALONE, "value": "yes"}, {"key": _SUBJECT, **value}], "token_bucket": bucket},
    ]


def _bucket(rate: Rate, *, burst: int | None = None) -> Config:
    return {
        "max_tokens": burst or rate.burst or rate.per_second,
        "tokens_per_fill": rate.per_second,
        "fill_interval": "1s",
    }


def _always(what: str) -> Config:
    return {"runtime_key": f"caller_limits_{what}", "default_value": {"numerator": 100, "denominator": "HUNDRED"}}
