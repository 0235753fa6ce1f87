"""Moves business time in all three services at once; only for a stack started on the test clock."""

import datetime
import re
from pathlib import Path
from typing import Any

from danbao_kit.testing.certificates import CertificateFiles
from danbao_local.card import Card
from danbao_local.client import RpcClient
from danbao_local.errors import StackFailed
from danbao_local.health import service_channel

_SERVICE = "danbao.testing.v1.ClockService"
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def advance_to(card: Card, to: datetime.datetime) -> dict[str, datetime.datetime]:
    """Move every service's clock forward to `to`; the time each one has afterwards."""
    if to.tzinfo is None:
        raise StackFailed("The time must say its zone, such as 2026-11-23T10:00:00Z.")
    stamp = to.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    return {name: _now(card, name, "AdvanceClock", {"to": stamp}) for name in card.services}


def advance_by(card: Card, by: datetime.timedelta) -> dict[str, datetime.datetime]:
    """Move every service's clock forward from the latest of the three."""
    return advance_to(card, max(read(card).values()) + by)


def read(card: Card) -> dict[str, datetime.datetime]:
    """The business time of each service."""
    return {name: _now(card, name, "GetClock", {}) for name in card.services}


def parse_duration(text: str) -> datetime.timedelta:
    """Such as 10d, 36h or 1d12h30m. Raises StackFailed."""
    parts = re.findall(r"(\d+)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise StackFailed(f"{text!r} is no duration: write 10d, 36h or 1d12h30m.")
    return datetime.timedelta(**{_UNITS[unit]: int(number) for number, unit in parts})


def parse_time(text: str) -> datetime.datetime:
    """ISO 8601 with a zone. Raises StackFailed."""
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        raise StackFailed(f"{text!r} is no time: write 2026-11-23T10:00:00Z.") from None


def _now(card: Card, service: str, method: str, body: dict[str, Any]) -> datetime.datetime:
    operator = CertificateFiles(**_paths(card))
    with service_channel(card.services[service], service=service, operator=operator) as channel:
        answer: Any = RpcClient(channel).call(f"{_SERVICE}/{method}", body)
    time: datetime.datetime = answer.now.ToDatetime(tzinfo=datetime.UTC)
    return time


def _paths(card: Card) -> dict[str, Any]:
    return {name: Path(card.operator[name]) for name in ("ca", "cert", "key")}
