"""How committed transfers are chained by hashes, so that a row that was changed afterwards can be told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from danbao_payments.domain.transfer import Transfer

ROW_BYTES = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = bytes(16)
_NUMBERS = struct.Struct(">13q")
_RANGE = struct.Struct(">2q")


@dataclass(frozen=True, slots=True)
class Break:
    """Where the books are not as they were committed: the first transfer that differs, and how."""

    sequence: int
    what: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What a look at the chain found: how far it came, the hash there, and the chain's first break if there is one.

    Not `complete`: batches follow that it did not look at.
    """

    last_sequence: int
    hash: bytes
    batches: int
    broken: Break | None
    complete: bool


def row_hash(transfer: Transfer) -> bytes:
    """A digest of everything a row says."""
    t = transfer
    numbers = _NUMBERS.pack(
        t.sequence,
        t.amount_minor,
        -1 if t.pending_id is None else t.pending_id,
        _micros(t.create_time),
        -1 if t.effective_time is None else _micros(t.effective_time),
        *t[11:19],
    )
    ids = t.transaction_id.bytes + t.debit_account.bytes + t.credit_account.bytes
    payment = _NOTHING if t.payment_id is None else t.payment_id.bytes
    words = f"{t.kind}|{t.currency}|{t.purpose}".encode()
    return sha256(numbers + ids + payment + words).digest()[:ROW_BYTES]


def row_hashes(transfers: Sequence[Transfer]) -> bytes:
    """One after the other."""
    return b"".join(map(row_hash, transfers))


def link(first_sequence: int, last_sequence: int, hashes: bytes) -> bytes:
    """What a batch adds to the chain: its hash is that of the batch before, followed by this."""
    return _RANGE.pack(first_sequence, last_sequence) + hashes


def chained(previous: bytes, added: bytes) -> bytes:
    """The hash of a batch."""
    return sha256(previous + added).digest()


def _micros(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
