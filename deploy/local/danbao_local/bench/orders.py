"""What the load client is asked to do, and what it reports: plain data that passes between processes as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

REQUEST_ID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of what a caller trusts and shows, and the name it expects."""

    ca: str
    cert: str
    key: str
    server_name: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where calls go, and with which metadata."""

    address: str
    tls: Tls | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """One load: a closed loop of `in_flight` callers, for `seconds` after `warm_up_seconds`.

    `load` names one of loads.LOADS, `parameters` are its own. Every request id begins with `id_prefix`.
    `most_items` ends it early once so many items were answered, for filling a database.
    """

    load: str
    target: Target
    in_flight: int
    seconds: float
    warm_up_seconds: float
    id_prefix: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 4
    most_items: int | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Order:
        """Read back."""
        content = json.loads(line)
        target = content.pop("target")
        tls = Tls(**target["tls"]) if target["tls"] else None
        metadata = tuple((key, value) for key, value in target["metadata"])
        return cls(target=Target(target["address"], tls, metadata), **content)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What came of an order. `items` were answered within the measured `seconds`; `replies`, `replayed` and `failures`
    count warm-up and end too."""

    seconds: float
    items: float
    replies: Mapping[str, int]
    """OK replies by operation, such as CreatePayment; each must have written one request record."""
    replayed: int
    failures: Mapping[str, int]
    """Anything but OK, by what it was."""
    remarks: Mapping[str, int]
    """What was answered OK and is still worth knowing, by what it was."""
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Items a second."""
        return self.items / self.seconds if self.seconds else 0.0

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> LoadReport:
        """Read back."""
        return cls(**content)
