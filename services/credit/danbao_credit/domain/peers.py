"""Who was met, and how often: distinct peers and orders in windows, exact up to EXACT_PEERS, estimated beyond.

All slots and all windows are counted in one pass over a profile's entries. Where a slot has more peers than are kept,
its windows are estimated from those below a threshold that every month of the window knows completely: the k-th lowest
of n uniform hashes lies at k / (n + 1) of their range (Bar-Yossef et al., 2002; for unions Dasgupta et al., 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from danbao_credit.domain.profile import (
    EXACT_PEERS,
    HASH_SHIFT,
    KIND_SHIFT,
    OWNER_SHIFT,
    TILE_MASK,
    Integers,
    Kind,
    Profile,
    months_of,
    oldest_month,
)
from danbao_credit.domain.windows import DAY_S, MONTH_DAYS, WINDOWS

# Windows in which peers are counted: whole days, and life.
PEER_WINDOWS = tuple(name for name, window in WINDOWS.items() if window.is_life or window.hop_s == DAY_S)
_ROWS = {name: row for row, name in enumerate(PEER_WINDOWS)}
_LIFE = _ROWS["life"]
_HASHES = 1 << 32


@dataclass(slots=True)
class _Counts:
    """By window: distinct peers, those met more than once, meetings, and those with the most frequent peer."""

    distinct: list[int]
    repeated: list[int]
    times: list[int]
    most: list[int]


class Peers:
    """The peers and orders of a profile as seen at one moment."""

    __slots__ = (
        "_capped",
        "_columns",
        "_day",
        "_keys",
        "_owner_starts",
        "_pair_starts",
        "_per_pair",
        "_slots",
        "_values",
        "_within",
    )

    def __init__(self, profile: Profile, *, as_of_s: int) -> None:
        self._keys, self._values = profile.met()
        self._day = as_of_s // DAY_S
        self._capped: dict[tuple[int, int], list[int]] = {}
        self._columns: dict[int, int] = {}
        self._slots: dict[int, _Counts] = {}
        if len(self._keys):
            self._count()

    def distinct(self, slot: int, window: str) -> int:
        """How many distinct peers were met in the window, or orders concerned."""
        counts = self._slots.get(slot)
        return counts.distinct[_ROWS[window]] if counts else 0

    def repeated(self, slot: int, window: str) -> int:
        """How many peers were met more than once in the window."""
        counts = self._slots.get(slot)
        return counts.repeated[_ROWS[window]] if counts else 0

    def top_share(self, slot: int, window: str) -> float | None:
        """The most frequent peer's share of all meetings in the window; None without any."""
        counts = self._slots.get(slot)
        if counts is None or counts.times[_ROWS[window]] <= 0:
            return None
        return counts.most[_ROWS[window]] / counts.times[_ROWS[window]]

    def capped(self, slot: int, most: int, window: str) -> int:
        """Meetings in the window, of each peer and month at most `most`."""
        if slot not in self._columns:
            return 0
        capped = self._capped.get((slot, most))
        if capped is None:
            capped = self._capped[slot, most] = self._count_capped(slot, most)
        return capped[_ROWS[window]]

    def mutual(self, slot: int, other: int, window: str) -> int:
        """How many peers were met in both slots in the window."""
        if slot not in self._columns or other not in self._columns:
            return 0
        row = _ROWS[window]
        (one, one_limit), (two, two_limit) = self._sample(slot, row), self._sample(other, row)
        limit = min(one_limit, two_limit)
        both = np.intersect1d(one, two, assume_unique=True)
        return round(int((both < limit).sum()) * _HASHES / limit)

    def _count(self) -> None:
        keys = self._keys
        self._within = within = self._values * _within(keys, self._day)
        pairs = keys >> HASH_SHIFT
        owners = keys >> OWNER_SHIFT
        self._pair_starts = _starts(pairs)
        per_pair = np.add.reduceat(within, self._pair_starts, axis=1)
        pair_owners = owners[self._pair_starts]
        self._owner_starts = starts = _starts(pair_owners)
        self._per_pair = per_pair
        met = per_pair > 0
        distinct = np.add.reduceat(met, starts, axis=1, dtype=np.int64).T.tolist()
        repeated = np.add.reduceat(per_pair > 1, starts, axis=1, dtype=np.int64).T.tolist()
        times = np.add.reduceat(per_pair, starts, axis=1).T.tolist()
        most = np.maximum.reduceat(per_pair, starts, axis=1).T.tolist()
        for column, owner in enumerate(pair_owners[starts].tolist()):
            slot = owner & ((1 << KIND_SHIFT - OWNER_SHIFT) - 1)
            self._columns[slot] = column
            self._slots[slot] = counts = _Counts(distinct[column], repeated[column], times[column], most[column])
            if counts.distinct[_LIFE] > EXACT_PEERS:
                self._estimate(slot, counts)

    def _estimate(self, slot: int, counts: _Counts) -> None:
        low, high = self._pairs_of(slot)
        hashes = self._hashes(low, high)
        for row in range(len(PEER_WINDOWS)):
            limit = self._limit(slot, row)
            if limit == _HASHES:
                continue
            times = self._per_pair[row, low:high]
            sample = times[hashes < limit]
            counts.distinct[row] = max(round(int((sample > 0).sum()) * _HASHES / limit), int((times > 0).sum()))
            counts.repeated[row] = round(int((sample > 1).sum()) * _HASHES / limit)

    def _count_capped(self, slot: int, most: int) -> list[int]:
        low, high = self._entries_of(slot)
        counted = np.minimum(self._within[:, low:high], most)
        capped: list[int] = counted.sum(axis=1).tolist()
        if self._slots[slot].distinct[_LIFE] > EXACT_PEERS:
            hashes = (self._keys[low:high] >> HASH_SHIFT) & (_HASHES - 1)
            for row in range(len(PEER_WINDOWS)):
                limit = self._limit(slot, row)
                if limit < _HASHES:
                    capped[row] = max(round(int(counted[row, hashes < limit].sum()) * _HASHES / limit), capped[row])
        return capped

    def _sample(self, slot: int, row: int) -> tuple[Integers, int]:
        low, high = self._pairs_of(slot)
        limit = self._limit(slot, row) if self._slots[slot].distinct[_LIFE] > EXACT_PEERS else _HASHES
        return self._hashes(low, high)[self._per_pair[row, low:high] > 0], limit

    def _limit(self, slot: int, row: int) -> int:
        """Below which hash the window's peers are completely known; _HASHES: all of them are."""
        low, high = self._entries_of(slot)
        keys = self._keys[low:high]
        if row == _LIFE:
            return _next_lowest(np.unique((keys >> HASH_SHIFT) & (_HASHES - 1)))
        days = WINDOWS[PEER_WINDOWS[row]].tiles
        months = months_of(keys)
        limit = _HASHES
        oldest = max(max(self._day - days + 1, 0) // MONTH_DAYS, oldest_month(self._day))
        for month in range(oldest, self._day // MONTH_DAYS + 1):
            hashes = np.unique((keys[months == month] >> HASH_SHIFT) & (_HASHES - 1))
            limit = min(limit, _next_lowest(hashes))
        return limit

    def _pairs_of(self, slot: int) -> tuple[int, int]:
        column = self._columns[slot]
        starts = self._owner_starts
        last = column + 1 == len(starts)
        return int(starts[column]), len(self._pair_starts) if last else int(starts[column + 1])

    def _entries_of(self, slot: int) -> tuple[int, int]:
        low, high = self._pairs_of(slot)
        starts = self._pair_starts
        return int(starts[low]), len(self._keys) if high == len(starts) else int(starts[high])

    def _hashes(self, low: int, high: int) -> Integers:
        hashes: Integers = (self._keys[self._pair_starts[low:high]] >> HASH_SHIFT) & (_HASHES - 1)
        return hashes


def _within(keys: Integers, day: int) -> Integers:
    """By window and entry: 1 if it counts there."""
    tiles = keys & TILE_MASK
    is_order = keys >> KIND_SHIFT == Kind.ORDER
    days = np.array([[max(day - WINDOWS[name].tiles + 1, 0)] for name in PEER_WINDOWS], np.int64)
    firsts = np.where(is_order, days, days // MONTH_DAYS)
    within = (tiles >= firsts) & (tiles <= np.where(is_order, day, day // MONTH_DAYS))
    within[_LIFE] = True
    return within.view(np.int8)


def _starts(sorted_values: Integers) -> Integers:
    return np.flatnonzero(np.concatenate([[True], sorted_values[1:] != sorted_values[:-1]]))


def _next_lowest(hashes: Integers) -> int:
    """The lowest hash beyond the EXACT_PEERS that are known completely."""
    return int(hashes[EXACT_PEERS]) if len(hashes) > EXACT_PEERS else _HASHES
