"""How a test stands up a service of ours and calls it as one of its peers, with real certificates."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc

from danbao_kit.rpc_client import channel
from danbao_kit.settings import ServiceSettings
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase

S = TypeVar("S", bound=ServiceSettings)


def settings_for(
    settings_type: type[S], *, name: str, database: ServiceDatabase, authority: CertificateAuthority, **others: Any
) -> S:
    """Settings of a service under test, on a free port of 127.0.0.1."""
    files = authority.issue(name)
    return settings_type(
        listen="127.0.0.1:0",
        database_dsn=database.dsn,
        tls_cert=files.cert,
        tls_key=files.key,
        tls_ca=files.ca,
        drain_seconds=1,
        **others,
    )


def channel_as(peer: str, *, authority: CertificateAuthority, service: str, port: int) -> grpc.aio.Channel:
    """A channel to `service` on this machine that shows the certificate of `peer`, such as "gateway"."""
    files = authority.issue(peer)
    return channel(f"127.0.0.1:{port}", service=service, tls_cert=files.cert, tls_key=files.key, tls_ca=files.ca)


def as_caller(*, subject: str = "", roles: str = "", partner: str = "") -> tuple[tuple[str, str], ...]:
    """The headers by which the gateway says whose call it is."""
    headers = {"x-danbao-subject": subject, "x-danbao-roles": roles, "x-danbao-partner": partner}
    return tuple((key, value) for key, value in headers.items() if value)
