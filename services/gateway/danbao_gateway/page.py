"""The page of the JSON API: which files it is made of, and the routes that serve them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import swagger_ui_bundle

from danbao_gateway import identity
from danbao_gateway.shapes import Config

DOCUMENT_PATH = "/openapi.json"
PAGE_PATH = "/docs/"
_JAVASCRIPT, _CSS, _HTML = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "text/html; charset=utf-8"
_BUNDLE = {"swagger-ui.css": _CSS, "swagger-ui-bundle.js": _JAVASCRIPT}
"""What is taken of the installed package, as it is."""

_INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Danbao's JSON API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  filter: true,
  validatorUrl: null,
});
"""
_SECURITY = {
    # The page needs nothing from elsewhere, so nothing from there gets into it. Swagger UI sets style attributes.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class ServedPage:
    """Where Envoy finds the page's files, and which ones they are: it reads them again when the version changes."""

    folder: str
    version: str


def version_of(page_files: Mapping[str, bytes]) -> str:
    """Changes exactly when a file of the page does."""
    return hashlib.sha256(b"".join(page_files[name] for name in sorted(page_files))).hexdigest()[:16]


def files(document: Mapping[str, object]) -> dict[str, bytes]:
    """Every file of the page by name; the OpenAPI document is one of them."""
    bundle = Path(swagger_ui_bundle.swagger_ui_path)
    return {
        "openapi.json": json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(),
        "index.html": _INDEX.encode(),
        "start.js": _START.encode(),
        **{name: (bundle / name).read_bytes() for name in _BUNDLE},
    }


def routes(page: ServedPage) -> list[Config]:
    """What Envoy answers from the page's files; for everybody, with or without a token."""
    served = {
        DOCUMENT_PATH: ("openapi.json", "application/json"),
        PAGE_PATH: ("index.html", _HTML),
        f"{PAGE_PATH}start.js": ("start.js", _JAVASCRIPT),
        **{f"{PAGE_PATH}{name}": (name, content_type) for name, content_type in _BUNDLE.items()},
    }
    redirect = {
        "name": "docs",
        "match": {"path": PAGE_PATH.rstrip("/"), "headers": [_GET]},
        "redirect": {"path_redirect": PAGE_PATH, "response_code": "FOUND"},
        "decorator": {"operation": "page", "propagate": False},
        "typed_per_filter_config": identity.no_caller_needed(),
    }
    parts = [_file(path, str(PurePosixPath(page.folder) / name), kind) for path, (name, kind) in served.items()]
    return [{**redirect, "metadata": {"filter_metadata": {"danbao": {"page": page.version}}}}, *parts]


_GET = {"name": ":method", "string_match": {"exact": "GET"}}


def _file(path: str, file: str, content_type: str) -> Config:
    headers = {"content-type": content_type, "cache-control": "no-cache", **_SECURITY}
    return {
        "name": path,
        "match": {"path": path, "headers": [_GET]},
        "direct_response": {"status": 200, "body": {"filename": file}},
        "decorator": {"operation": "page", "propagate": False},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
        "typed_per_filter_config": identity.no_caller_needed(),
    }
