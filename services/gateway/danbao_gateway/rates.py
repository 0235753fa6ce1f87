"""How much one caller may call of which class of method: the shipped table, and what a deployment changes of it."""

from __future__ import annotations

import importlib.resources
from enum import StrEnum

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class MethodClass(StrEnum):
    """What kind of work a method is; each has a limit of its own."""

    READ = "read"
    WRITE = "write"
    BULK = "bulk"
    STREAM = "stream"


class Rate(BaseModel):
    """A token bucket."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: int = Field(ge=1, le=10_000_000)
    burst: int | None = Field(default=None, ge=1, le=10_000_000)
    """Calls that a caller who was quiet may make at once; left out: those of one second."""


class RateLimits(BaseModel):
    """What a deployment changes of the shipped `limits.yaml`, and callers that have limits of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: dict[MethodClass, Rate] = {}
    callers: dict[str, dict[MethodClass, Rate]] = {}
    """By the token's `partner`, or its `sub` where there is none; classes that are left out have everybody's limit."""
    methods: dict[str, MethodClass] = {}
    """By full method name."""
    remembered_callers: int = Field(default=10_000, ge=1)
    """Buckets kept; beyond, the one that was used longest ago is forgotten, and is full when its caller comes back."""


def shipped_limits() -> RateLimits:
    """Those of `limits.yaml`: every class has a rate there."""
    text = importlib.resources.files("danbao_gateway").joinpath("limits.yaml").read_text(encoding="utf-8")
    return TypeAdapter(RateLimits).validate_python(yaml.safe_load(text))


def merged(shipped: RateLimits, own: RateLimits) -> RateLimits:
    """The shipped limits with a deployment's own in their place."""
    return own.model_copy(
        update={"classes": {**shipped.classes, **own.classes}, "methods": {**shipped.methods, **own.methods}}
    )
