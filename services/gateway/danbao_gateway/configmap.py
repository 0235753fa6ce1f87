"""The same rendering as a Kubernetes ConfigMap: mounted as a folder, a change of it reaches a running Envoy."""

from __future__ import annotations

import re
from typing import Any

import yaml

from danbao_gateway.rendering import BOOTSTRAP_FILE, Rendering, text_of

MOUNTED_AT = "/etc/danbao-gateway"
PAGE_IN_IMAGE = "/etc/envoy/page"
"""A ConfigMap may hold 1 MiB, and the page's script is larger: the image brings it."""
MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class ConfigMapTooLarge(ValueError):
    """The rendering does not fit into a ConfigMap."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the rendering has {size_bytes} bytes, a ConfigMap holds {MAX_BYTES}")


def config_map(rendering: Rendering, *, name: str, namespace: str | None = None) -> dict[str, Any]:
    """The resource as a dict. Raises ValueError for a name that Kubernetes does not take, ConfigMapTooLarge."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a Kubernetes resource")
    files = {BOOTSTRAP_FILE: rendering.bootstrap, **rendering.watched}
    content = {file: text_of(configuration).decode() for file, configuration in sorted(files.items())}
    size_bytes = sum(len(text.encode()) for text in content.values())
    if size_bytes > MAX_BYTES:
        raise ConfigMapTooLarge(size_bytes)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "labels": {"app.kubernetes.io/name": "gateway", "app.kubernetes.io/part-of": "danbao"},
        },
        "data": content,
    }


def as_yaml(resource: dict[str, Any]) -> str:
    """As `kubectl apply` reads it."""
    return yaml.safe_dump(resource, sort_keys=False, width=1_000_000)
