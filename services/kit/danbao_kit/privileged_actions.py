"""How entries of the log of privileged actions are chained by hashes, and what is found when one is not as it was.

The hash of an entry covers the one before, so an entry cannot be changed, taken away, put in or moved without every
later hash. What may name a person lies apart, as `Words`: the entry's hash covers only a salted digest of them, so they
can be taken away with their salt, and what remains still verifies and tells nothing of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

SALT_BYTES = 16

OK = "OK"
UNDER_WAY = "UNDER_WAY"
"""The outcome of a command whose answer a later one gives."""

_FORM = b"danbao privileged action 1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = struct.Struct(">2q")


@dataclass(frozen=True, slots=True)
class Words:
    """What an entry says that may name a person. `subject`: whose erasure takes the words away; may be empty."""

    salt: bytes
    request_id: str = ""
    fingerprint: bytes = b""
    subject: str = ""
    object: str = ""
    why: str = ""

    def digest(self) -> bytes:
        """What the entry's hash covers of them."""
        texts = (self.request_id, self.subject, self.object, self.why)
        return sha256(self.salt + _packed(self.fingerprint, *[text.encode() for text in texts])).digest()


@dataclass(frozen=True, slots=True)
class PrivilegedAction:
    """What somebody did, or was refused to do, by a privilege."""

    create_time: datetime
    method: str
    operation: str
    # TOKEN or CERTIFICATE.
    caller_kind: str
    # The token's subject, or the name in the certificate.
    actor: str
    # Sorted, comma-separated.
    roles: str
    partner: str
    # OK, UNDER_WAY, or the reason of a refusal.
    outcome: str
    trace_id: str
    words_digest: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An action in its place. `words` None: they are not there."""

    sequence: int
    action: PrivilegedAction
    previous_hash: bytes
    hash: bytes
    words: Words | None


@dataclass(frozen=True, slots=True)
class Place:
    """An entry, by its sequence and hash: 0 is before the first."""

    sequence: int = 0
    hash: bytes = b""


BEGINNING = Place()


@dataclass(frozen=True, slots=True)
class Break:
    """The first entry that is not as it was written, and how."""

    sequence: int
    what: str


def entry_hash(sequence: int, action: PrivilegedAction, previous_hash: bytes) -> bytes:
    """SHA-256 over the form's name, the two numbers (sequence, microseconds since 1970; 8 bytes each, big-endian), then
    every other field as UTF-8 after its length (4 bytes, big-endian), in the order below."""
    a = action
    texts = (a.method, a.operation, a.caller_kind, a.actor, a.roles, a.partner, a.outcome, a.trace_id)
    numbers = _NUMBERS.pack(sequence, _micros(a.create_time))
    return sha256(_FORM + numbers + _packed(*[text.encode() for text in texts], a.words_digest, previous_hash)).digest()


def chained(head: Place, told: Iterable[tuple[PrivilegedAction, Words]]) -> list[Entry]:
    """The actions as the entries that follow the head, in their order."""
    entries: list[Entry] = []
    sequence, previous = head.sequence, head.hash
    for action, words in told:
        sequence += 1
        made = entry_hash(sequence, action, previous)
        entries.append(Entry(sequence, action, previous, made, words))
        previous = made
    return entries


def can_be_told(moment: datetime) -> bool:
    """Whether it is a time at all. The store has an infinity too, which the driver gives without a zone."""
    return moment.tzinfo is not None


def broken(entry: Entry, before: Place, *, words_may_go: bool) -> Break | None:
    """What is wrong with the entry that should follow `before`; None: nothing."""
    expected = before.sequence + 1
    if entry.sequence != expected:
        if entry.sequence < expected:
            return Break(entry.sequence, "stands where no entry belongs")
        return Break(expected, "is missing")
    if entry.previous_hash != before.hash:
        return Break(expected, "does not follow from the entry before it")
    if not can_be_told(entry.action.create_time) or entry_hash(expected, entry.action, before.hash) != entry.hash:
        return Break(expected, "was changed")
    if entry.words is None:
        return None if words_may_go else Break(expected, "lacks its words")
    if entry.words.digest() != entry.action.words_digest:
        return Break(expected, "says other words than were written")
    return None


def broken_at_end(reached: Place, head: Place | None, last_sequence: int) -> Break | None:
    """What is wrong where no entry follows `reached`: of the head (None: gone), and of the last entry that there is."""
    if head is None:
        return Break(reached.sequence + 1, "may be missing: the head is gone")
    if last_sequence > head.sequence:
        return Break(head.sequence + 1, "stands behind the head")
    if head.sequence > reached.sequence:
        return Break(reached.sequence + 1, f"is missing: the head is {head.sequence}")
    if head.hash != reached.hash:
        return Break(reached.sequence, "is not the one that the head names")
    return None


def _packed(*parts: bytes) -> bytes:
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def _micros(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
