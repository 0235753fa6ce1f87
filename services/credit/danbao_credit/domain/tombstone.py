"""Who was erased, and which events must therefore not come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from danbao_credit.domain.events import Source


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of an erased subject: that everything up to `erase_us` is to be forgotten.

    `through` says how far each source had been applied then; for whoever looks into it, nothing is decided by it.
    """

    erase_us: int
    through: Mapping[Source, int]
    # Why, in one word of the contract's; nothing else is kept of it.
    reason: str = ""

    def covers(self, at_us: int) -> bool:
        """Whether an event of that time, microseconds since the epoch, is dropped, whenever it comes."""
        return at_us <= self.erase_us


def subject_key(subject: str, secret: bytes = b"") -> bytes:
    """16 bytes that stand for an erased subject: its name is not kept, nor found by trying names without the secret."""
    return blake2b(subject.encode(), digest_size=16, key=secret, person=b"danbao-erased").digest()


def secret_mark(secret: bytes) -> bytes:
    """8 bytes by which it is noticed that another secret is used than before; empty without a secret."""
    return blake2b(b"", digest_size=8, key=secret, person=b"danbao-secret").digest() if secret else b""
