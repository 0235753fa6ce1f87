"""A deployment's files: the bootstrap, the parts that Envoy watches beside it, and the API page."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from danbao_gateway import page
from danbao_gateway.bootstrap import render
from danbao_gateway.contracts import Contracts
from danbao_gateway.openapi import document
from danbao_gateway.settings import GatewaySettings
from danbao_gateway.shapes import Config
from danbao_gateway.sources import ROUTES_FILE, Watched

BOOTSTRAP_FILE = "envoy.json"
PAGE_FOLDER = "page"


@dataclass(frozen=True, slots=True)
class Rendering:
    """What Envoy reads: `bootstrap` once, when it starts; `watched`, by file name, whenever one is replaced."""

    bootstrap: Config
    watched: dict[str, Config]
    page: dict[str, bytes]


def render_files(
    settings: GatewaySettings, at: str, contracts: Contracts | None = None, *, page_folder: str | None = None
) -> Rendering:
    """Everything for an Envoy that finds it in the folder `at`; the page's files in `page_folder`, else below it."""
    sources = Watched(at)
    folder = page_folder or str(PurePosixPath(at) / PAGE_FOLDER)
    pages = page.files(document(settings)) if settings.api_page else {}
    served = page.ServedPage(folder, page.version_of(pages)) if pages else None
    bootstrap = render(settings, contracts, sources=sources, served_page=served)
    return Rendering(bootstrap=bootstrap, watched=sources.files, page=pages)


def write(rendering: Rendering, out: Path) -> Path:
    """Writes it all into a folder, readable by its owner only, each file in one step; the bootstrap's path."""
    write_watched(rendering, out)
    write_file(out / BOOTSTRAP_FILE, text_of(rendering.bootstrap))
    return out / BOOTSTRAP_FILE


def write_watched(rendering: Rendering, out: Path) -> list[str]:
    """Writes the page, and the parts that differ from those in the folder, the routes last, since they name what is in
    others; the names of the parts written."""
    for name, content in rendering.page.items():
        write_file(out / PAGE_FOLDER / name, content)
    names = sorted(rendering.watched, key=lambda name: (name == ROUTES_FILE, name))
    changed = [name for name in names if _read(out / name) != rendering.watched[name]]
    for name in changed:
        write_file(out / name, text_of(rendering.watched[name]))
    return changed


def text_of(configuration: Config) -> bytes:
    """How a configuration is written: JSON, which Envoy reads as it does YAML."""
    return json.dumps(configuration).encode()


def write_file(path: Path, content: bytes) -> None:
    """Replaces a file by a rename: a reader sees the old or the new one, and whoever watches the folder hears of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(name, path)


def _read(path: Path) -> Config | None:
    try:
        content: Config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content
