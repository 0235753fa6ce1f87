"""How new ids are made: in the order of time, and as the driver's own kind of UUID."""

from __future__ import annotations

import os
import time
from uuid import UUID

from asyncpg.pgproto import pgproto

# How many ids' random bytes are asked of the system at once.
_AT_ONCE = 256
_RANDOM_BYTES = 10
# What makes of a random byte the one that holds the version, and the variant.
_VERSION = bytes(byte & 0x0F | 0x70 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))


class TimeOrderedIds:
    """UUIDv7 (RFC 9562): new rows go to the right edge of an index.

    They are UUIDs as the driver reads them: equal to uuid.UUID in every way, and several times as fast to make, to
    hash, to write as text and to store.
    """

    def __init__(self) -> None:
        self._random = b""
        self._at = 0
        self._milliseconds = -1
        self._time = b""

    def new(self) -> UUID:
        at = self._at
        if at == len(self._random):
            self._random, at = _random(), 0
        self._at = end = at + _RANDOM_BYTES
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds != self._milliseconds:
            self._milliseconds, self._time = milliseconds, milliseconds.to_bytes(6, "big")
        made: UUID = pgproto.UUID(self._time + self._random[at:end])
        return made


def _random() -> bytes:
    """All but the time of so many ids."""
    made = bytearray(os.urandom(_AT_ONCE * _RANDOM_BYTES))
    made[0::_RANDOM_BYTES] = made[0::_RANDOM_BYTES].translate(_VERSION)
    made[2::_RANDOM_BYTES] = made[2::_RANDOM_BYTES].translate(_VARIANT)
    return bytes(made)
