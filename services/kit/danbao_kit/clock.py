"""What time it is for the business: timers, holds, windows. Leases, deadlines, logs and spans stay on real time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Business time."""

    def now(self) -> datetime:
        """Business time now, aware, in UTC."""
        ...


class RealClock:
    """Business time is real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SettableClock:
    """Business time that stands still until it is moved forward; an earlier time changes nothing."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def move_to(self, to: datetime) -> None:
        self._now = max(self._now, to)
