"""What is remembered of a subject: sparse integer tiles in one packed row.

Every count goes into its hour, its day and the life total. Hours and days fall away by their distance from the newest
event of the subject, so what a profile holds depends on which events were applied and never on their order: replayed,
shuffled or cut into other chunks, the bytes are the same.

Bytes: a version byte, then n keys, then n values, both little-endian int64, ascending by key.
Key: 8 bits kind | 32 bits hour or day | 16 bits slot; for a peer 8 bits kind | 16 bits slot | 32 bits hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.windows import DAY_S, DAY_TILES, DAY_US, HOUR_S, HOUR_TILES, HOUR_US

_VERSION = b"\x01"
_KIND_SHIFT = 48
_INDEX_SHIFT = 16
_PEER_SHIFT = 32
_SLOT_MASK = 0xFFFF
_HASH_MASK = 0xFFFF_FFFF
# Distinct peers are told apart up to this number; beyond, their number is estimated from the lowest hashes. One more is
# kept than that, to know that there are more.
EXACT_PEERS = 256
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


@dataclass(frozen=True, slots=True)
class Change:
    """What one event does to one slot: adds `amount`, marks its time, or meets a peer (`amount` is the peer's hash)."""

    slot: int
    keep: str
    amount: int


def peer_hash(peer: str) -> int:
    """32 bits that stand for a peer within a profile."""
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
        """The profile of these bytes; no bytes are the empty profile."""
        if not data:
            return cls.empty()
        assert data[:1] == _VERSION, f"profile version {data[0]}"
        numbers = np.frombuffer(data, "<i8", offset=1)
        half = len(numbers) // 2
        return cls(numbers[:half], numbers[half:])

    def to_bytes(self) -> bytes:
        return _VERSION + self.keys.astype("<i8").tobytes() + self.values.astype("<i8").tobytes()

    def with_changes(self, changes: Iterable[tuple[int, Change]]) -> Profile:
        """The profile after changes, each with its time in microseconds since the epoch."""
        sums: dict[int, int] = {}
        firsts: dict[int, int] = {}
        lasts: dict[int, int] = {}
        for at_us, change in changes:
            at_s = at_us // 1_000_000
            _mark(lasts, _key(Kind.LAST, 0, NEWEST), at_s, max)
            keep, slot, amount = change.keep, change.slot, change.amount
            if keep == "sum":
                for key in (
                    _key(Kind.HOUR, at_us // HOUR_US, slot),
                    _key(Kind.DAY, at_us // DAY_US, slot),
                    _key(Kind.LIFE, 0, slot),
                ):
                    sums[key] = sums.get(key, 0) + amount
            elif keep == "peers":
                key = Kind.PEER << _KIND_SHIFT | slot << _PEER_SHIFT | (amount & _HASH_MASK)
                sums[key] = sums.get(key, 0) + 1
            elif keep == "first":
                _mark(firsts, _key(Kind.FIRST, 0, slot), at_s, min)
            else:
                _mark(lasts, _key(Kind.LAST, 0, slot), at_s, max)
        keys, values = self.keys, self.values
        for entries, merge in ((sums, np.add), (firsts, np.minimum), (lasts, np.maximum)):
            keys, values = _merged(keys, values, entries, merge)
        return _trimmed(keys, values)

    def newest_s(self) -> int:
        """When the newest event happened, seconds since the epoch; 0 without any."""
        return self.mark(Kind.LAST, NEWEST) or 0

    def mark(self, kind: Kind, slot: int) -> int | None:
        """A remembered moment, seconds since the epoch."""
        key = _key(kind, 0, slot)
        place = int(np.searchsorted(self.keys, key))
        if place < len(self.keys) and self.keys[place] == key:
            return int(self.values[place])
        return None

    def totals(self, *, hop_s: int, tiles: int, as_of_s: int, slots: int) -> list[int]:
        """By slot id below `slots`: the sum of the last `tiles` tiles up to that of `as_of_s`; no tiles: for life."""
        if tiles == 0:
            first, beyond = _key(Kind.LIFE, 0, 0), _key(Kind.LIFE, 1, 0)
        else:
            kind = Kind.HOUR if hop_s == HOUR_S else Kind.DAY
            index = as_of_s // hop_s
            first, beyond = _key(kind, max(index - tiles + 1, 0), 0), _key(kind, index + 1, 0)
        low, high = np.searchsorted(self.keys, (first, beyond))
        sums = np.zeros(slots, np.int64)
        np.add.at(sums, self.keys[low:high] & _SLOT_MASK, self.values[low:high])
        totals: list[int] = sums.tolist()
        return totals

    def peers(self, slot: int) -> tuple[Integers, Integers]:
        """Hashes of the peers that are told apart, ascending, and how often each was met."""
        low, high = np.searchsorted(self.keys, (_peer_key(slot, 0), _peer_key(slot + 1, 0)))
        return self.keys[low:high] & _HASH_MASK, self.values[low:high]

    def distinct_peers(self, slot: int) -> int:
        """How many distinct peers were met: exact up to EXACT_PEERS, then by how low the lowest hashes are."""
        hashes, _ = self.peers(slot)
        kept = len(hashes)
        if kept <= EXACT_PEERS:
            return kept
        # The k-th lowest of n uniform hashes lies at k / (n + 1) of their range (Bar-Yossef et al., 2002).
        return max(kept, (kept - 1) * (_HASH_MASK + 1) // max(int(hashes[-1]), 1))


def _key(kind: Kind, index: int, slot: int) -> int:
    return kind << _KIND_SHIFT | index << _INDEX_SHIFT | slot


def _peer_key(slot: int, low: int) -> int:
    return Kind.PEER << _KIND_SHIFT | slot << _PEER_SHIFT | low


def _mark(marks: dict[int, int], key: int, at_s: int, pick: Callable[[int, int], int]) -> None:
    known = marks.get(key)
    marks[key] = at_s if known is None else pick(known, at_s)


def _merged(keys: Integers, values: Integers, entries: Mapping[int, int], merge: np.ufunc) -> tuple[Integers, Integers]:
    if not entries:
        return keys, values
    all_keys = np.concatenate([keys, np.fromiter(entries.keys(), np.int64, len(entries))])
    all_values = np.concatenate([values, np.fromiter(entries.values(), np.int64, len(entries))])
    order = np.argsort(all_keys, kind="stable")
    all_keys, all_values = all_keys[order], all_values[order]
    starts = np.flatnonzero(np.concatenate([[True], all_keys[1:] != all_keys[:-1]]))
    return all_keys[starts], merge.reduceat(all_values, starts)


def _trimmed(keys: Integers, values: Integers) -> Profile:
    """Drops what cancelled out, what is too old for any window, and peers beyond the lowest hashes."""
    profile = Profile(keys, values)
    newest = profile.newest_s()
    kinds = keys >> _KIND_SHIFT
    indexes = (keys >> _INDEX_SHIFT) & 0xFFFF_FFFF
    keep = values != 0
    keep &= (kinds != Kind.HOUR) | (indexes > newest // HOUR_S - HOUR_TILES)
    keep &= (kinds != Kind.DAY) | (indexes > newest // DAY_S - DAY_TILES)
    peers = np.flatnonzero(kinds == Kind.PEER)
    if len(peers) > EXACT_PEERS + 1:
        owners = (keys[peers] >> _PEER_SHIFT) & _SLOT_MASK
        ranks = np.arange(len(peers)) - np.searchsorted(owners, owners)
        keep[peers[ranks > EXACT_PEERS]] = False
    return Profile(keys[keep], values[keep])
