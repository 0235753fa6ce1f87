"""Which token roles may call which method: the shipped table, what a rule is, and how the table is checked."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Literal

import yaml
from pydantic import TypeAdapter


class Role(StrEnum):
    """The roles a token may carry, beside those that a deployment adds in its settings. Any other name means nothing to
    the gateway and never reaches a service."""

    USER = "user"
    PARTNER = "partner"
    OPERATOR = "operator"
    ARBITER = "arbiter"
    RAIL = "rail"


INTERNAL: Literal["internal"] = "internal"
"""A method that only peer services call, by their certificates; the gateway answers UNIMPLEMENTED."""

Rule = list[str] | Literal["internal"]
"""The roles that may call a method (any one of them is enough), or INTERNAL."""

TESTING_PACKAGE_PREFIX = "danbao.testing."


class RoleUnknown(ValueError):
    """A rule names roles that neither Role nor the settings know."""

    def __init__(self, *, method: str, roles: Iterable[str]) -> None:
        super().__init__(f"{method} names unknown roles: {', '.join(sorted(roles))}")


class RolesIncomplete(Exception):
    """The table and the contracts differ: methods without a rule, rules without a method, or rules without a role."""

    def __init__(
        self, *, without_rule: Iterable[str], without_method: Iterable[str], without_role: Iterable[str]
    ) -> None:
        self.without_rule = sorted(without_rule)
        self.without_method = sorted(without_method)
        self.without_role = sorted(without_role)
        super().__init__(
            f"methods without a rule: {self.without_rule}; rules without a method: {self.without_method}; "
            f"rules without a role: {self.without_role}"
        )


def shipped_rules() -> dict[str, Rule]:
    """The table in `roles.yaml`, by full method name (`danbao.payments.v1.PaymentService/CreatePayment`)."""
    text = importlib.resources.files("danbao_gateway").joinpath("roles.yaml").read_text(encoding="utf-8")
    rules = TypeAdapter(dict[str, Rule]).validate_python(yaml.safe_load(text) or {})
    check_names(rules, list(Role))
    return rules


def check_names(rules: Mapping[str, Rule], names: Iterable[str]) -> None:
    """Raises RoleUnknown for the first rule that names a role outside `names`."""
    known = set(names)
    for method, rule in rules.items():
        unknown = set() if rule == INTERNAL else set(rule) - known
        if unknown:
            raise RoleUnknown(method=method, roles=unknown)


def check(rules: Mapping[str, Rule], methods: Iterable[str]) -> None:
    """Raises RolesIncomplete unless every method has exactly one rule and every rule names a role and a method."""
    known = set(methods)
    without_rule = known - rules.keys()
    without_method = rules.keys() - known
    without_role = {method for method, rule in rules.items() if not rule}
    if without_rule or without_method or without_role:
        raise RolesIncomplete(without_rule=without_rule, without_method=without_method, without_role=without_role)
