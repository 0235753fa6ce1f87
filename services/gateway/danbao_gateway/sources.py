"""Where Envoy reads a part of its configuration from: the bootstrap itself, or a file that it watches."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import Protocol

from danbao_gateway.shapes import Config, typed

ROUTES_FILE = "routes.json"
"""Methods, roles, classes, deadlines, retries."""
TOKENS_FILE = "tokens.json"
"""Issuers and their keys."""
LIMITS_FILE = "limits.json"
SECRET_FILE = "secret-{name}.json"
"""Which files a certificate lies in; Envoy watches those files as well."""

TYPE_URL = "type.googleapis.com/"


class Sources(Protocol):
    """How the parts that may change while calls are under way get to Envoy."""

    def routes(self, configuration: Config) -> Config:
        """The connection manager's field for its routes."""

    def http_filter(self, name: str, file: str, configuration: Config) -> Config:
        """A filter of the connection manager."""

    def certificate(self, name: str, *, certificate: str, key: str) -> Config:
        """The field of a TLS context for the own certificate; paths as Envoy sees them."""

    def authority(self, name: str, *, ca: str, checks: Config) -> Config:
        """The field of a TLS context for whom to trust, with what else is checked of the peer's certificate."""


class Inline:
    """Everything in the bootstrap: for asking Envoy whether it would take it."""

    def routes(self, configuration: Config) -> Config:
        return {"route_config": configuration}

    def http_filter(self, name: str, file: str, configuration: Config) -> Config:
        return {"name": name, "typed_config": configuration}

    def certificate(self, name: str, *, certificate: str, key: str) -> Config:
        return {"tls_certificates": [_certificate(certificate, key)]}

    def authority(self, name: str, *, ca: str, checks: Config) -> Config:
        return {"validation_context": {"trusted_ca": {"filename": ca}, **checks}}


class Watched:
    """Files in one folder, which Envoy reads again when something in the folder is renamed; collected in `files`.

    `folder` is where Envoy finds them. A rename in it is what a Kubernetes volume does, and what we do.
    """

    def __init__(self, folder: str) -> None:
        self._folder = PurePosixPath(folder)
        self.files: dict[str, Config] = {}

    def routes(self, configuration: Config) -> Config:
        self._add(ROUTES_FILE, typed("envoy.config.route.v3.RouteConfiguration", **configuration))
        return {"rds": {"route_config_name": configuration["name"], "config_source": self._source(ROUTES_FILE)}}

    def http_filter(self, name: str, file: str, configuration: Config) -> Config:
        self._add(file, typed("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=configuration))
        discovery = {"config_source": self._source(file), "type_urls": [configuration["@type"]]}
        return {"name": name, "config_discovery": discovery}

    def certificate(self, name: str, *, certificate: str, key: str) -> Config:
        folder = str(PurePosixPath(certificate).parent)
        watched = {"watched_directory": {"path": folder}} if PurePosixPath(key).parent == PurePosixPath(folder) else {}
        return {
            "tls_certificate_sds_secret_configs": [
                self._secret(name, {"tls_certificate": {**_certificate(certificate, key), **watched}})
            ]
        }

    def authority(self, name: str, *, ca: str, checks: Config) -> Config:
        folder = str(PurePosixPath(ca).parent)
        content = {"trusted_ca": {"filename": ca}, "watched_directory": {"path": folder}}
        return {
            "combined_validation_context": {
                "default_validation_context": checks,
                "validation_context_sds_secret_config": self._secret(name, {"validation_context": content}),
            }
        }

    def _secret(self, name: str, content: Config) -> Config:
        file = SECRET_FILE.format(name=name)
        self._add(file, typed("envoy.extensions.transport_sockets.tls.v3.Secret", name=name, **content))
        return {"name": name, "sds_config": self._source(file)}

    def _add(self, file: str, resource: Config) -> None:
        self.files[file] = {"version_info": version_of(resource), "resources": [resource]}

    def _source(self, file: str) -> Config:
        path = {"path": str(self._folder / file), "watched_directory": {"path": str(self._folder)}}
        return {"path_config_source": path, "resource_api_version": "V3"}


def version_of(resource: Config) -> str:
    """A version that changes exactly when the content does."""
    return hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).hexdigest()[:16]


def _certificate(certificate: str, key: str) -> Config:
    return {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
