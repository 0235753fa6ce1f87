"""What every service is told from outside, by environment variables that begin with DANBAO_."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Settings common to all services; a service subclasses it with its own."""

    model_config = SettingsConfigDict(env_prefix="DANBAO_", extra="ignore")

    listen: str = Field(default="127.0.0.1:0", description="host:port to serve on; port 0 takes a free one")
    database_dsn: str = Field(description="PostgreSQL, as the service's own role")
    tls_cert: Path | None = Field(default=None, description="this service's certificate chain, PEM")
    tls_key: Path | None = Field(default=None, description="its private key, PEM")
    tls_ca: Path | None = Field(default=None, description="the authorities whose certificates peers must show, PEM")
    connection_age_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="how long a peer's connection lasts, and with it a certificate that is trusted no more",
    )
    otlp_endpoint: str = Field(default="", description="host:port of an OTLP/gRPC collector; empty: no traces")
    trace_ratio: float = Field(default=1.0, ge=0, le=1, description="share of new traces that are sampled")
    clock: Literal["real", "test"] = Field(default="real", description="test: business time moves by ClockService only")
    reflection: bool = Field(default=False, description="serve gRPC reflection")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: float = Field(default=10.0, ge=0, description="how long calls under way may take after SIGTERM")
    max_concurrent_rpcs: int = Field(default=512, ge=1, description="beyond it, calls are refused at once")
    max_streams_per_caller: int = Field(default=32, ge=1, description="streams that one caller may have open")


class MigrationSettings(BaseSettings):
    """What `migrate` is told."""

    model_config = SettingsConfigDict(env_prefix="DANBAO_", extra="ignore")

    migration_dsn: str = Field(description="PostgreSQL, as the owner of the tables")
    database_role: str = Field(description="the service's own role, which is granted what it needs")
