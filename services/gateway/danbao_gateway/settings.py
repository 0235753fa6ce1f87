"""What can be set: one YAML file, read and checked as a whole before anything is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from danbao_gateway.roles import Rule

MIB = 1024 * 1024


def _host_and_port(address: str) -> str:
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return address


Address = Annotated[str, AfterValidator(_host_and_port)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Settings(BaseModel):
    """A part of the file: unknown keys are refused, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerCertificate(_Settings):
    """The certificate that callers see. Paths as Envoy sees them; the files are read by Envoy, not by us."""

    certificate: str
    key: str


class Listener(_Settings):
    """Where callers connect: gRPC over HTTP/2 and JSON over HTTP/1.1 or HTTP/2 on one port."""

    host: str = "127.0.0.1"
    port: Port
    tls: ServerCertificate | None = None
    """Left out: plain text, HTTP/2 by prior knowledge. Only for a laptop or behind something that ends TLS."""


class Admin(_Settings):
    """Envoy's own administration page (`/ready`, `/stats`). It can stop Envoy: never let callers reach it."""

    host: str = "127.0.0.1"
    port: Port


class Upstream(_Settings):
    """The replicas of one service."""

    addresses: list[Address] = Field(min_length=1)
    """host:port of each replica; a name is looked up by DNS, and every address it has is used."""
    san: str
    """The DNS name that the service's certificate must carry, `payments.danbao.internal`."""
    max_connections: int = Field(default=64, ge=1)
    max_pending_requests: int = Field(default=1024, ge=1)
    max_requests: int = Field(default=1024, ge=1)
    """Calls in flight; one more is answered UNAVAILABLE at once."""


class UpstreamTls(_Settings):
    """The gateway's own identity towards the services, and the authority it trusts. Paths as Envoy sees them."""

    certificate: str
    key: str
    ca: str


class Issuer(_Settings):
    """Who may issue tokens."""

    issuer: str
    """The `iss` claim, compared exactly."""
    audiences: list[str] = Field(min_length=1)
    """A token must name at least one of them in `aud`."""
    jwks_file: Path
    """The issuer's public keys (RFC 7517); read when rendering, so a new key needs a new rendering.
    A relative path starts at the settings file's folder."""

    def jwks(self) -> str:
        """The key set as JSON text, refused if it holds a private or symmetric key."""
        keys = json.loads(self.jwks_file.read_text(encoding="utf-8"))
        for key in keys["keys"]:
            if "d" in key or "k" in key:
                raise ValueError(f"{self.jwks_file} holds a secret key; it must hold public keys only")
        return json.dumps(keys)


class Telemetry(_Settings):
    """Where spans go. The caller's own sampling decision (the flag in its `traceparent`) wins over the ratio."""

    otlp_endpoint: Address | None = None
    """host:port of an OTLP/gRPC collector, plain text; left out: no spans, `traceparent` passes through."""
    sampling_ratio: float = Field(default=1.0, ge=0, le=1)
    service_name: str = "gateway"
    flush_seconds: float = Field(default=1.0, gt=0)
    """How long a finished span may wait for others before it is sent."""


class Deadlines(_Settings):
    """How long a unary call may take. Streams end only with the caller's own deadline."""

    default_seconds: float = Field(default=5, gt=0)
    """`grpc-timeout` of a call that came without one."""
    maximum_seconds: float = Field(default=30, gt=0)
    """A longer `grpc-timeout` is cut to this before the service sees it."""

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Deadlines:
        if self.default_seconds > self.maximum_seconds:
            raise ValueError("default_seconds is above maximum_seconds")
        return self


class Limits(_Settings):
    """What one Envoy process accepts."""

    max_request_bytes: int = Field(default=4 * MIB, ge=1024)
    """A larger body is RESOURCE_EXHAUSTED, 413 for JSON."""
    max_connections: int = Field(default=10_000, ge=1)
    max_streams_per_connection: int = Field(default=1024, ge=1)


class GatewaySettings(_Settings):
    """The whole file. `listener`, `upstreams`, `upstream_tls` and `issuers` must be given."""

    listener: Listener
    admin: Admin | None = None
    upstreams: dict[str, Upstream] = Field(min_length=1)
    """By name: `payments` receives every routed method of the package `danbao.payments.v1`. Methods of a package whose
    upstream is left out answer UNIMPLEMENTED."""
    upstream_tls: UpstreamTls
    issuers: list[Issuer] = Field(min_length=1)
    telemetry: Telemetry = Telemetry()
    deadlines: Deadlines = Deadlines()
    limits: Limits = Limits()
    roles: dict[str, Rule] = {}
    """Rules that replace those of the shipped `roles.yaml`, by full method name."""
    access_log: str = "/dev/stdout"
    """A file that Envoy appends one JSON line a call to."""
    allow_testing: bool = False
    """Lets an upstream `testing` exist, for a bench's echo. `danbao.testing.*` is refused otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    @field_validator("issuers")
    @classmethod
    def _issuers_differ(cls, issuers: list[Issuer]) -> list[Issuer]:
        if len({item.issuer for item in issuers}) != len(issuers):
            raise ValueError("two issuers have the same name")
        return issuers

    @model_validator(mode="after")
    def _testing_stays_inside(self) -> GatewaySettings:
        if "testing" in self.upstreams and not self.allow_testing:
            raise ValueError("an upstream 'testing' needs allow_testing: true")
        return self

    @classmethod
    def from_yaml(cls, path: Path) -> GatewaySettings:
        """Reads a settings file; a relative `jwks_file` is beside it. Raises ValidationError with each wrong field."""
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings = cls.model_validate(content)
        beside = [item.model_copy(update={"jwks_file": path.parent / item.jwks_file}) for item in settings.issuers]
        return settings.model_copy(update={"issuers": beside})

    def to_yaml(self) -> str:
        """The file that reads back to these settings; what was left out stays out."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_unset=True), sort_keys=False)
