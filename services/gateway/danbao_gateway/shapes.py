"""The shape of rendered configuration, and how Envoy's typed extensions are written."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def typed(name: str, /, **fields: Any) -> Config:
    """The `Any` of an Envoy message: `typed("envoy.extensions.filters.http.router.v3.Router")`."""
    return {"@type": f"type.googleapis.com/{name}", **fields}


def socket_address(host: str, port: int) -> Config:
    """A core.v3.Address."""
    return {"socket_address": {"address": host, "port_value": port}}


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a checked `host:port`; brackets around an IPv6 address are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def seconds(value: float) -> str:
    """A protobuf Duration in JSON."""
    return f"{value:.3f}s"
