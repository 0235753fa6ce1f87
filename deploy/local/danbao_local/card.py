"""The running stack's card, local.json: how to call it, what runs, and what to send."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from danbao_local.errors import NotRunning
from danbao_local.layout import StateLayout, write_atomically


@dataclass(slots=True)
class Card:
    """Everything a caller, a test or a tool needs to know. Contains secrets: only we can read it."""

    gateway: str
    """host:port for gRPC."""
    json: str
    """Base URL for JSON."""
    ca: str | None
    """Certificate to trust, or null where the gateway listens in plain text."""
    token: dict[str, str]
    """By role."""
    pids: dict[str, int]
    """By process, PostgreSQL and Envoy included."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """For each unary RPC: rpc, method, path, role, body."""
    services: dict[str, str] = field(default_factory=dict)
    """host:port behind the gateway, by service; callers need the operator's certificate."""
    operator: dict[str, str] = field(default_factory=dict)
    """Paths of the operator's own ca, cert and key."""
    databases: dict[str, str] = field(default_factory=dict)
    """DSN of each service's own role."""
    otlp: str = ""
    """host:port of the span receiver."""
    clock: str = "real"
    """real or test."""

    def write(self, path: Path) -> None:
        """Replace the file as a whole."""
        write_atomically(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Card":
        """Read it back. Raises OSError or ValueError."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def of_running_stack(cls, state_dir: Path) -> "Card":
        """The card of the stack on a state directory. Raises NotRunning."""
        try:
            return cls.read(StateLayout.at(state_dir).card)
        except (OSError, ValueError, TypeError):
            raise NotRunning(state_dir) from None
