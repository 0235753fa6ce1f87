"""A profile seen at one moment: what indicators are computed from."""

from __future__ import annotations

from itertools import pairwise

from danbao_credit.domain.peers import Peers
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.windows import DAY_S, WINDOWS

# A window is added up on top of the next shorter one of the same tiles.
_WITHIN = {longer.name: shorter.name for shorter, longer in pairwise(WINDOWS.values()) if shorter.hop_s == longer.hop_s}


class SubjectFacts:
    """The facts of one profile. Windows are added up, and peers counted, when first asked for."""

    __slots__ = ("_as_of_s", "_marks", "_peers", "_profile", "_slots", "_totals")

    def __init__(self, profile: Profile, *, as_of_s: int, slots: int) -> None:
        self._profile = profile
        self._as_of_s = as_of_s
        self._slots = slots
        self._totals: dict[str, list[int]] = {}
        self._marks: dict[int, int] | None = None
        self._peers: Peers | None = None

    def totals(self, window: str) -> list[int]:
        """By slot id."""
        totals = self._totals.get(window)
        if totals is None:
            span, within = WINDOWS[window], _WITHIN.get(window)
            newer = (WINDOWS[within].tiles, self.totals(within)) if within else None
            totals = self._totals[window] = self._profile.totals(
                hop_s=span.hop_s, tiles=span.tiles, as_of_s=self._as_of_s, slots=self._slots, newer=newer
            )
        return totals

    def total(self, slot: int, window: str) -> int:
        return self.totals(window)[slot]

    def days_since(self, slot: int) -> int | None:
        if self._marks is None:
            self._marks = self._profile.marks()
        moment = self._marks.get(slot)
        return None if moment is None else max(self._as_of_s - moment, 0) // DAY_S

    def distinct(self, slot: int, window: str) -> int | None:
        return self.peers.distinct(slot, window) or None

    def repeated(self, slot: int, window: str) -> int | None:
        return self.peers.repeated(slot, window) if self.peers.distinct(slot, window) else None

    def top_share(self, slot: int, window: str) -> float | None:
        return self.peers.top_share(slot, window)

    def capped(self, slot: int, most: int, window: str) -> int:
        return self.peers.capped(slot, most, window)

    def mutual(self, slot: int, other: int, window: str) -> int:
        return self.peers.mutual(slot, other, window)

    def orders(self, slot: int, window: str) -> int:
        return self.peers.distinct(slot, window)

    @property
    def peers(self) -> Peers:
        """Peers and orders in their windows."""
        if self._peers is None:
            self._peers = Peers(self._profile, as_of_s=self._as_of_s)
        return self._peers
