"""Taking changed settings into a running Envoy: asked first whether it would, written, and seen to have arrived."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danbao_gateway import envoy
from danbao_gateway.bootstrap import render
from danbao_gateway.contracts import Contracts
from danbao_gateway.rendering import BOOTSTRAP_FILE, render_files, write_watched
from danbao_gateway.settings import Admin, GatewaySettings

TAKEN_WITHIN_SECONDS = 20.0


class RestartNeeded(Exception):
    """The change lies in what Envoy reads only when it starts: the listener, an upstream, the contracts."""


class NotTaken(Exception):
    """Envoy did not show the new configuration in time; it goes on with what it had."""

    def __init__(self, files: list[str]) -> None:
        super().__init__(f"Envoy did not take {', '.join(files)} within {TAKEN_WITHIN_SECONDS:.0f} s; its log says why")


def reload(settings: GatewaySettings, out: Path, contracts: Contracts | None = None) -> list[str]:
    """Brings the files in `out`, as `render` made them, to the settings; the names of those that changed.

    Where the settings name an admin address, returns once Envoy works with them. Raises RestartNeeded before anything
    is written, envoy.ConfigurationRefused when Envoy would not take it, NotTaken.
    """
    rendering = render_files(settings, str(out.absolute()), contracts)
    if json.loads((out / BOOTSTRAP_FILE).read_text(encoding="utf-8")) != rendering.bootstrap:
        raise RestartNeeded("this change needs a new start of Envoy: render again and restart")
    envoy.validate(render(settings, contracts))
    changed = write_watched(rendering, out)
    if settings.admin is not None:
        _wait_for(settings.admin, {name: rendering.watched[name]["version_info"] for name in changed})
    return changed


def _wait_for(admin: Admin, versions: dict[str, str]) -> None:
    end = time.monotonic() + TAKEN_WITHIN_SECONDS
    while missing := [name for name, version in versions.items() if version not in _shown(admin)]:
        if time.monotonic() > end:
            raise NotTaken(missing)
        time.sleep(0.05)


def _shown(admin: Admin) -> set[str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{admin.host}:{admin.port}/config_dump", timeout=5) as answer:
            return set(_versions(json.load(answer)))
    except urllib.error.URLError:
        return set()


def _versions(dump: Any) -> Iterator[str]:
    """Of what is in force: a refused update stands below `error_state` with a version of its own."""
    if isinstance(dump, dict):
        if isinstance(dump.get("version_info"), str):
            yield dump["version_info"]
        for key, value in dump.items():
            if key != "error_state":
                yield from _versions(value)
    elif isinstance(dump, list):
        for item in dump:
            yield from _versions(item)
