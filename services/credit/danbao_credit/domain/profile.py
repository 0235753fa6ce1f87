"""What is remembered of a subject: sparse integer tiles in one packed row.

Every count goes into its hour, its day and the life total. Hours and days fall away by their distance from the newest
event of the subject, so what a profile holds depends on which events were applied and never on their order: replayed,
shuffled or cut into other chunks, the bytes are the same.

Peers are kept by month (30 days, counted from the epoch) and hash with how often they were met; orders that must count
once whatever happens to them are kept the same way, by day. What is kept of them is bounded and still never depends on
order: an entry stays if its hash is among the EXACT_PEERS + 1 lowest of its month, for the months that reach into the
last 365 days, or among the EXACT_PEERS + 1 lowest of the slot's whole life. Either set only ever loses what lower
hashes push out, and what was pushed out could never be in it again, so counts of what stays are complete.

Bytes, version 2: a version byte, then n keys, then n values, both little-endian int64, ascending by key.
Key: 5 bits kind | 43 bits hour or day | 16 bits slot; for peers and orders 5 bits kind | 11 bits slot | 32 bits hash |
16 bits month or day. Version 1 (other shifts, peers without months) is read: its peers count for life only, from month
0, until a rebuild from the log gives them their months.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from struct import pack
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.windows import DAY_S, DAY_TILES, DAY_US, HOUR_S, HOUR_TILES, HOUR_US, MONTH_DAYS

_VERSION = 2
KIND_SHIFT = 59
OWNER_SHIFT = 48
HASH_SHIFT = 16
TILE_MASK = 0xFFFF
_SLOT_MASK = 0xFFFF
_HASH_MASK = 0xFFFF_FFFF
_KIND_SHIFT_1, _PEER_SHIFT_1 = 48, 32
# Distinct peers are told apart up to this number; beyond, their number is estimated from the lowest hashes. One more is
# kept than that, to know that there are more.
EXACT_PEERS = 256
# Slots of peers and orders have 11 bits in a key.
PEER_SLOTS = 2_048
# Fewer entries than this are added up faster one by one.
_FEW = 200
# Up to so many are merged faster one by one. Peers among them are never too many.
_FEW_TO_MERGE = 96
# The slot that no catalogue may use: when the newest event happened.
NEWEST = 0

Integers: TypeAlias = npt.NDArray[np.int64]


class Kind(IntEnum):
    """What an entry of a profile is."""

    HOUR = 1
    DAY = 2
    LIFE = 3
    FIRST = 4
    LAST = 5
    PEER = 6
    ORDER = 7


@dataclass(frozen=True, slots=True)
class Change:
    """What one event does to one slot.

    sum: adds `amount`. first, last: marks its time. peers, orders: meets the one whose hash is `amount`, `times` times.
    """

    slot: int
    keep: str
    amount: int
    times: int = 1

    def reversed(self) -> Change | None:
        """What takes it back, applied at the same time; None: a moment that came stays."""
        if self.keep == "sum":
            return replace(self, amount=-self.amount)
        return replace(self, times=-self.times) if self.keep in ("peers", "orders") else None


def peer_hash(peer: str) -> int:
    """32 bits that stand for a peer or an order within a profile."""
    return int.from_bytes(blake2b(peer.encode(), digest_size=4, person=b"danbao-peer").digest(), "big")


class Profile:
    """A subject's facts; never changed, `with_changes` makes a new one."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: Integers, values: Integers) -> None:
        self.keys = keys
        self.values = values

    @classmethod
    def empty(cls) -> Profile:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """The profile of these bytes, of this version or the one before; no bytes are the empty profile."""
        if not data:
            return cls.empty()
        numbers = np.frombuffer(data, "<i8", offset=1)
        half = len(numbers) // 2
        keys, values = numbers[:half], numbers[half:]
        if data[0] == 1:
            return cls(_keys_of_version_1(keys), values)
        assert data[0] == _VERSION, f"profile version {data[0]}"
        return cls(keys, values)

    def to_bytes(self) -> bytes:
        return bytes((_VERSION,)) + self.keys.astype("<i8").tobytes() + self.values.astype("<i8").tobytes()

    def with_changes(self, changes: Iterable[tuple[int, Change]]) -> Profile:
        """The profile after changes, each with its time in microseconds since the epoch."""
        sums: dict[int, int] = {}
        firsts: dict[int, int] = {}
        lasts: dict[int, int] = {}
        newest_us = before_us = -1
        hour = day = 0
        known = sums.get
        for at_us, change in changes:
            if at_us != before_us:
                # Mostly several changes are of one event.
                before_us = at_us
                hour, day = _HOUR | at_us // HOUR_US << 16, _DAY | at_us // DAY_US << 16
                if at_us > newest_us:
                    newest_us = at_us
            keep, slot = change.keep, change.slot
            if keep == "sum":
                amount = change.amount
                key = hour | slot
                sums[key] = known(key, 0) + amount
                key = day | slot
                sums[key] = known(key, 0) + amount
                key = _LIFE | slot
                sums[key] = known(key, 0) + amount
            elif keep == "first":
                _mark(firsts, _FIRST | slot, at_us // 1_000_000, min)
            elif keep == "last":
                _mark(lasts, _LAST | slot, at_us // 1_000_000, max)
            else:
                today = at_us // DAY_US
                kind, tile = (Kind.ORDER, today) if keep == "orders" else (Kind.PEER, today // MONTH_DAYS)
                key = kind << KIND_SHIFT | slot << OWNER_SHIFT | (change.amount & _HASH_MASK) << HASH_SHIFT | tile
                sums[key] = known(key, 0) + change.times
        if newest_us >= 0:
            _mark(lasts, _LAST | NEWEST, newest_us // 1_000_000, max)
        entries = sums | firsts | lasts
        if not entries:
            return self
        if len(self.keys) + len(entries) <= _FEW_TO_MERGE:
            return _merged_one_by_one(self.keys, self.values, entries)
        return _trimmed(*_merged(self.keys, self.values, entries))

    def newest_s(self) -> int:
        """When the newest event happened, seconds since the epoch; 0 without any."""
        return self.mark(Kind.LAST, NEWEST) or 0

    def mark(self, kind: Kind, slot: int) -> int | None:
        """A remembered moment, seconds since the epoch."""
        key = _key(kind, 0, slot)
        place = int(self.keys.searchsorted(key))
        if place < len(self.keys) and self.keys[place] == key:
            return int(self.values[place])
        return None

    def marks(self) -> dict[int, int]:
        """All remembered moments by slot, seconds since the epoch; the newest event's is that of slot NEWEST."""
        low, high = self.keys.searchsorted((_FIRST, _PEER))
        slots, moments = (self.keys[low:high] & _SLOT_MASK).tolist(), self.values[low:high].tolist()
        return dict(zip(slots, moments, strict=True))

    def knows_others(self, slot: int, peer: int) -> bool:
        """Whether peers were met in a slot, and the one of this hash is none of them."""
        low, high = self.keys.searchsorted(_peers_of(slot)).tolist()
        return low < high and all(key >> HASH_SHIFT & _HASH_MASK != peer for key in self.keys[low:high].tolist())

    def totals(
        self, *, hop_s: int, tiles: int, as_of_s: int, slots: int, newer: tuple[int, list[int]] | None = None
    ) -> list[int]:
        """By slot id below `slots`: the sum of the last `tiles` tiles up to that of `as_of_s`; no tiles: for life.

        `newer`: the totals of that many of the tiles, if they are known already.
        """
        totals: list[int] = []
        if tiles == 0:
            first, beyond = _LIFE, _LIFE | 1 << 16
        else:
            kind = Kind.HOUR if hop_s == HOUR_S else Kind.DAY
            index = as_of_s // hop_s
            known, totals = newer or (0, [])
            first, beyond = _key(kind, max(index - tiles + 1, 0), 0), _key(kind, index + 1 - known, 0)
        low, high = self.keys.searchsorted((first, beyond))
        if high - low < _FEW:
            few = totals.copy() if totals else [0] * slots
            keys, values = self.keys[low:high].tolist(), self.values[low:high].tolist()
            for key, value in zip(keys, values, strict=True):
                few[key & _SLOT_MASK] += value
            return few
        sums = np.array(totals, np.int64) if totals else np.zeros(slots, np.int64)
        np.add.at(sums, self.keys[low:high] & _SLOT_MASK, self.values[low:high])
        many: list[int] = sums.tolist()
        return many

    def met(self) -> tuple[Integers, Integers]:
        """The entries of peers and orders: keys ascending by kind, slot, hash and tile, and how often."""
        low, high = self.keys.searchsorted((_PEER, _BEYOND))
        return self.keys[low:high], self.values[low:high]


def _key(kind: Kind, index: int, slot: int) -> int:
    return kind << KIND_SHIFT | index << 16 | slot


_HOUR, _DAY, _LIFE = (_key(kind, 0, 0) for kind in (Kind.HOUR, Kind.DAY, Kind.LIFE))
_FIRST, _LAST, _PEER = (_key(kind, 0, 0) for kind in (Kind.FIRST, Kind.LAST, Kind.PEER))
_BEYOND = (Kind.ORDER + 1) << KIND_SHIFT


@lru_cache(maxsize=64)
def _peers_of(slot: int) -> Integers:
    """Where the peers of a slot begin, and where they end. An array is made slower than it is looked for."""
    return np.array((_PEER | slot << OWNER_SHIFT, _PEER | (slot + 1) << OWNER_SHIFT), np.int64)


def _keys_of_version_1(keys: Integers) -> Integers:
    kinds = keys >> _KIND_SHIFT_1
    rest = keys & ((1 << _KIND_SHIFT_1) - 1)
    slots, hashes = rest >> _PEER_SHIFT_1, rest & _HASH_MASK
    peers = slots << OWNER_SHIFT | hashes << HASH_SHIFT
    return kinds << KIND_SHIFT | np.where(kinds == Kind.PEER, peers, rest)


def _mark(marks: dict[int, int], key: int, at_s: int, pick: Callable[[int, int], int]) -> None:
    known = marks.get(key)
    marks[key] = at_s if known is None else pick(known, at_s)


def _merged(keys: Integers, values: Integers, entries: Mapping[int, int]) -> tuple[Integers, Integers]:
    """With entries that are new put in their places, and the others added, or compared if they are moments."""
    ordered = sorted(entries)
    new_keys = np.array(ordered, np.int64)
    new_values = np.array([entries[key] for key in ordered], np.int64)
    places = keys.searchsorted(new_keys)
    known = keys.take(places, mode="clip") == new_keys if len(keys) else np.zeros(len(new_keys), np.bool_)
    values = values.copy()
    at, given = places[known], new_values[known]
    old, kinds = values[at], new_keys[known] >> KIND_SHIFT
    values[at] = np.where(
        kinds == Kind.FIRST,
        np.minimum(old, given),
        np.where(kinds == Kind.LAST, np.maximum(old, given), old + given),
    )
    unknown = ~known
    targets = places[unknown]
    if not len(targets):
        return keys, values
    targets += np.arange(len(targets))
    all_keys, all_values = np.empty((2, len(keys) + len(targets)), np.int64)
    is_old = np.ones(len(all_keys), np.bool_)
    is_old[targets] = False
    all_keys[targets], all_keys[is_old] = new_keys[unknown], keys
    all_values[targets], all_values[is_old] = new_values[unknown], values
    return all_keys, all_values


def _merged_one_by_one(keys: Integers, values: Integers, entries: Mapping[int, int]) -> Profile:
    """The same as `_merged` and then `_trimmed`; for few entries alone."""
    merged = dict(zip(keys.tolist(), values.tolist(), strict=True))
    before = len(merged)
    known = merged.get
    for key, given in entries.items():
        old = known(key)
        if old is None:
            merged[key] = given
        elif key < _FIRST or key >= _PEER:
            merged[key] = old + given
        elif key < _LAST:
            merged[key] = min(old, given)
        else:
            merged[key] = max(old, given)
    newest_s = merged.get(_LAST | NEWEST, 0)
    oldest_hour = _HOUR | max(newest_s // HOUR_S - HOUR_TILES + 1, 0) << 16
    oldest_day = _DAY | max(newest_s // DAY_S - DAY_TILES + 1, 0) << 16
    ordered = sorted(merged) if len(merged) > before else list(merged)
    days = bisect_left(ordered, _DAY)
    is_fresh = (not days or ordered[0] >= oldest_hour) and (days == len(ordered) or ordered[days] >= oldest_day)
    if is_fresh and 0 not in merged.values():
        # As it mostly is: nothing has become too old, or cancelled out.
        if len(merged) == before:
            return Profile(keys, np.frombuffer(pack(f"={before}q", *merged.values()), np.int64))
        kept = ordered
    else:
        kept = [
            key
            for key in ordered
            if key >= _FIRST or (merged[key] and (key >= oldest_day or oldest_hour <= key < _DAY))
        ]
    half = len(kept)
    numbers = np.frombuffer(pack(f"={2 * half}q", *kept, *map(merged.__getitem__, kept)), np.int64)
    return Profile(numbers[:half], numbers[half:])


def _trimmed(keys: Integers, values: Integers) -> Profile:
    """Drops what cancelled out, what is too old for any window, and peers beyond the lowest hashes."""
    profile = Profile(keys, values)
    newest_s = profile.newest_s()
    # A peer or order whose meetings were all taken back stays, with 0: else it would depend on order which are lowest.
    # So does a moment of 0, the first second of 1970: without it, what comes later would be the first.
    keep = (values != 0) | (keys >= _FIRST)
    for kind, oldest in (
        (Kind.HOUR, newest_s // HOUR_S - HOUR_TILES + 1),
        (Kind.DAY, newest_s // DAY_S - DAY_TILES + 1),
    ):
        low, high = keys.searchsorted((_key(kind, 0, 0), _key(kind, max(oldest, 0), 0)))
        keep[low:high] = False
    first = int(keys.searchsorted(_PEER))
    if len(keys) - first > EXACT_PEERS:
        keep[first:] &= _among_lowest(keys[first:], newest_s // DAY_S)
    return profile if keep.all() else Profile(keys[keep], values[keep])


def _among_lowest(keys: Integers, newest_day: int) -> npt.NDArray[np.bool_]:
    """Which of these entries of peers and orders stay, by the rule at the top."""
    owners = keys >> OWNER_SHIFT
    starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1], [True]]))
    if np.diff(starts).max() <= EXACT_PEERS:
        return np.ones(len(keys), np.bool_)
    pairs, hashes = keys >> HASH_SHIFT, (keys >> HASH_SHIFT) & _HASH_MASK
    keep = _ranks(owners, pairs) <= EXACT_PEERS
    months = months_of(keys)
    order = np.lexsort((hashes, months, owners))
    groups = owners[order] << 16 | months[order]
    lowest = np.empty(len(keys), np.bool_)
    lowest[order] = _ranks(groups, hashes[order]) <= EXACT_PEERS
    return keep | (lowest & (months >= oldest_month(newest_day)))


def _ranks(groups: Integers, items: Integers) -> Integers:
    """Of sorted items in sorted groups: how many distinct ones stand before each in its group."""
    new_group = np.concatenate([[True], groups[1:] != groups[:-1]])
    new_item = new_group | np.concatenate([[True], items[1:] != items[:-1]])
    ordinals = np.cumsum(new_item)
    starts = np.flatnonzero(new_group)
    ranks: Integers = ordinals - np.repeat(ordinals[starts], np.diff(np.append(starts, len(groups))))
    return ranks


def months_of(keys: Integers) -> Integers:
    """The 30-day months of entries of peers and orders."""
    tiles = keys & TILE_MASK
    months: Integers = np.where(keys >> KIND_SHIFT == Kind.ORDER, tiles // MONTH_DAYS, tiles)
    return months


def oldest_month(day: int) -> int:
    """The oldest month that reaches into the last 365 days before the end of a day, both counted from the epoch."""
    return max(day - 364, 0) // MONTH_DAYS
