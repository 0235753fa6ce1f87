"""Where new ids come from."""

from __future__ import annotations

import os
import time
from typing import Protocol
from uuid import UUID


class Ids(Protocol):
    """Makes ids."""

    def new(self) -> UUID:
        """An id nobody has."""
        ...


class TimeOrderedIds:
    """UUIDv7 (RFC 9562): new rows go to the right edge of an index."""

    def new(self) -> UUID:
        milliseconds = time.time_ns() // 1_000_000
        value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
        value = (value & ~(0xF << 76)) | (0x7 << 76)
        value = (value & ~(0x3 << 62)) | (0x2 << 62)
        return UUID(int=value)
