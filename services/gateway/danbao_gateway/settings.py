"""What can be set: one YAML file, read and checked as a whole before anything is rendered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from danbao_gateway import settings_file
from danbao_gateway.rates import RateLimits
from danbao_gateway.roles import Role, Rule, check_names

MIB = 1024 * 1024
OWN_MACHINE = ("127.0.0.1", "localhost", "::1")


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
    jwks_file: Path | None = None
    """The issuer's public keys (RFC 7517); read when rendering: a new key is taken by a reload.
    A relative path starts at the settings file's folder."""
    jwks_url: str | None = None
    """Or where Envoy fetches them by itself; https, or http on this very machine. A new URL needs a restart."""
    jwks_cache_seconds: float = Field(default=300, ge=1)
    """How long fetched keys are used before they are fetched again."""
    jwks_ca: str = "/etc/ssl/certs/ca-certificates.crt"
    """Who vouches for the URL's certificate; a path as Envoy sees it."""

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Issuer:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("name either jwks_file or jwks_url")
        if self.jwks_url is not None:
            url = urlsplit(self.jwks_url)
            if url.scheme != "https" and (url.scheme, url.hostname) not in {("http", host) for host in OWN_MACHINE}:
                raise ValueError("jwks_url must be https")
        return self

    @property
    def cluster_name(self) -> str:
        """The name of the cluster that its keys come from."""
        return f"keys_{hashlib.sha256((self.jwks_url or '').encode()).hexdigest()[:12]}"

    def jwks(self) -> str:
        """The key set as JSON text, refused if it holds a private or symmetric key."""
        assert self.jwks_file is not None, "its keys are fetched by Envoy"
        try:
            keys = json.loads(self.jwks_file.read_text(encoding="utf-8"))
            listed = list(keys["keys"])
        except OSError as failure:
            raise settings_file.Unusable(f"{self.jwks_file}, a jwks_file, cannot be read: {failure.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise settings_file.Unusable(f"{self.jwks_file} is no key set (RFC 7517)") from None
        for key in listed:
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
    max_header_kib: int = Field(default=32, ge=1, le=96)
    """All headers of a call together, the token among them."""
    max_headers: int = Field(default=64, ge=16)
    """Those that Envoy adds among them, about six. Over HTTP/2 twice either limit is a stream that is reset."""
    max_heap_bytes: int = Field(default=1024 * MIB, ge=64 * MIB)
    """Envoy's memory: at 90 % it closes connections after their answer, at 95 % it answers OVERLOADED."""


class Retries(_Settings):
    """What the gateway sends again by itself: methods with a request id and reads, when a replica cannot be reached or
    answers UNAVAILABLE. Nothing else, ever."""

    most: int = Field(default=2, ge=0, le=5)
    """Of one call; 0 switches retries off."""
    budget_percent: float = Field(default=7, ge=0, le=100)
    """Retries under way at most, in percent of all calls under way to the service. 9 of 100 would be a tenth of the
    other 91; what is under way goes up and down, so a storm stays below a tenth with some to spare."""
    always_allowed: int = Field(default=2, ge=0)
    """Retries under way that need no budget, for services that are called seldom."""


class Cors(_Settings):
    """Which web pages of other origins may call, JSON and gRPC-Web alike."""

    allow_origins: list[str] = Field(min_length=1)
    """`https://shop.example`, compared exactly."""
    max_age_seconds: int = Field(default=600, ge=0)

    @field_validator("allow_origins")
    @classmethod
    def _origins_are_named(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            url = urlsplit(origin)
            if url.scheme not in {"http", "https"} or not url.netloc or origin != f"{url.scheme}://{url.netloc}":
                raise ValueError(f"{origin!r} is not an origin such as https://shop.example")
        return origins


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
    retries: Retries = Retries()
    cors: Cors | None = None
    """Left out: no web page of another origin may call."""
    roles: dict[str, Rule] = {}
    """Rules that replace those of the shipped `roles.yaml`, by full method name."""
    further_roles: list[Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,30}$")]] = Field(default=[], max_length=3)
    """Roles of this deployment beside the shipped ones; the roles header's expression doubles with each."""
    rate_limits: RateLimits = RateLimits()
    """What differs from the shipped `limits.yaml`."""
    api_page: bool = False
    """Serves `/openapi.json` and a page to read and try it, `/docs/`, to everybody who can connect."""
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

    @property
    def role_names(self) -> list[str]:
        """Every role a token may carry here, in the order of the roles header."""
        return [*(role.value for role in Role), *self.further_roles]

    @model_validator(mode="after")
    def _roles_are_known(self) -> GatewaySettings:
        if len(set(self.role_names)) != len(self.role_names):
            raise ValueError("further_roles names a role twice")
        check_names(self.roles, self.role_names)
        return self

    @model_validator(mode="after")
    def _testing_stays_inside(self) -> GatewaySettings:
        if "testing" in self.upstreams and not self.allow_testing:
            raise ValueError("an upstream 'testing' needs allow_testing: true")
        return self

    @classmethod
    def from_yaml(cls, path: Path) -> GatewaySettings:
        """Reads a settings file; a relative `jwks_file` is beside it. Raises ValidationError with each wrong field, and
        Unusable for what is no YAML, a key that stands twice and a rule for a method that there is not."""
        text = path.read_text(encoding="utf-8")
        lines = settings_file.lines_of_keys(text, path)
        settings = cls.model_validate(yaml.safe_load(text))
        settings_file.check_methods(settings.roles, ("roles",), lines, path)
        settings_file.check_methods(settings.rate_limits.methods, ("rate_limits", "methods"), lines, path)
        beside = [
            item
            if item.jwks_file is None
            else item.model_copy(update={"jwks_file": path.parent.absolute() / item.jwks_file})
            for item in settings.issuers
        ]
        return settings.model_copy(update={"issuers": beside})

    def to_yaml(self) -> str:
        """The file that reads back to these settings; what was left out stays out."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_unset=True), sort_keys=False)
