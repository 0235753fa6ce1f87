"""Which port does each process listen on? The one asked for, else the last one if free, else any."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from danbao_kit.testing.free_ports import free_ports, is_free
from danbao_local.errors import PortTaken, StackFailed
from danbao_local.layout import write_atomically

VARIABLES: Mapping[str, str] = {
    "gateway": "GATEWAY_PORT",
    "gateway_admin": "GATEWAY_ADMIN_PORT",
    "payments": "PAYMENTS_PORT",
    "escrow": "ESCROW_PORT",
    "credit": "CREDIT_PORT",
    "otlp": "OTLP_PORT",
    "postgres": "POSTGRES_PORT",
}
"""The environment (or make) variable that sets each port."""


def wanted_from_environment() -> dict[str, int]:
    """The ports that were asked for. Raises StackFailed for one that is no port."""
    wanted = {}
    for name, variable in VARIABLES.items():
        text = os.environ.get(variable, "").strip()
        if not text:
            continue
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise StackFailed(f"{variable} is {text!r}: it must be a port, 1 to 65535.")
        wanted[name] = int(text)
    return wanted


def choose(*, wanted: Mapping[str, int], remembered_in: Path) -> dict[str, int]:
    """A port for each name of VARIABLES, kept for the next start. Raises PortTaken."""
    remembered = _read(remembered_in)
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        if port in chosen.values() or not is_free(port):
            raise PortTaken(port=port, variable=VARIABLES[name])
        chosen[name] = port
    for name in VARIABLES:
        last = remembered.get(name)
        if name not in chosen and last is not None and last not in chosen.values() and is_free(last):
            chosen[name] = last
    missing = [name for name in VARIABLES if name not in chosen]
    chosen |= dict(zip(missing, free_ports(len(missing), avoid=chosen.values()), strict=True))
    write_atomically(remembered_in, json.dumps(chosen, indent=2))
    return chosen


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {name: port for name, port in content.items() if isinstance(port, int)}
