"""Which stretch of time an event must lie in to count.

An event at t counts at `as_of` iff 0 <= floor(as_of / hop) - floor(t / hop) < size / hop, with a hop of an hour up to
seven days and of a UTC day from thirty days on. So what happened on 1 January at 10:15Z is in the 24 hours of 2 January
09:59:59Z and no longer in those of 10:00:00Z.

Peers are kept by months of 30 days. A month counts in a window of days as long as a day of it lies in the window, so a
window holds up to 29 days more of peers than of counts; none that belongs to it is ever missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

HOUR_S = 3_600
DAY_S = 86_400
HOUR_US = HOUR_S * 1_000_000
DAY_US = DAY_S * 1_000_000
# Peers are kept by months of so many days, counted from the epoch.
MONTH_DAYS = 30


@dataclass(frozen=True, slots=True)
class Window:
    """`tiles` tiles of `hop_s` seconds, the one that `as_of` lies in included; no tiles: for life."""

    name: str
    hop_s: int
    tiles: int
    # For people: "in the last 30 days".
    words: str

    @property
    def is_life(self) -> bool:
        return self.tiles == 0

    def holds(self, at_us: int, as_of_us: int) -> bool:
        """Whether an event at `at_us` counts at `as_of_us`, both in microseconds since the epoch."""
        if self.is_life:
            return True
        hop_us = self.hop_s * 1_000_000
        return 0 <= as_of_us // hop_us - at_us // hop_us < self.tiles


LIFE = Window("life", 0, 0, "so far")

WINDOWS: MappingProxyType[str, Window] = MappingProxyType(
    {
        window.name: window
        for window in (
            Window("24h", HOUR_S, 24, "in the last 24 hours"),
            Window("7d", HOUR_S, 7 * 24, "in the last 7 days"),
            Window("30d", DAY_S, 30, "in the last 30 days"),
            Window("60d", DAY_S, 60, "in the last 60 days"),
            Window("90d", DAY_S, 90, "in the last 90 days"),
            Window("365d", DAY_S, 365, "in the last 365 days"),
            LIFE,
        )
    }
)

# How long tiles are kept, counted from the newest event of the subject: hours for as_of up to a day back in windows of
# seven days, days for a year and the day that has begun.
HOUR_TILES = 8 * 24
DAY_TILES = 366
