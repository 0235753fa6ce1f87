"""What makes two requests the same: a hash over a command's business fields, not over wire bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from typing import Any

DIGEST_BYTES = 16
_NAME_BYTES = 2
_ENTRY_BYTES = _NAME_BYTES + 4

_Field = tuple[str, bytes, Any]
_known_fields: dict[type, tuple[_Field, ...]] = {}


def _business_fields(command_type: Any) -> tuple[_Field, ...]:
    """Name, the name's digest, and the default of each field that is the caller's business."""
    known = _known_fields.get(command_type)
    if known is None:
        left_out = getattr(command_type, "not_fingerprinted", ())
        known = tuple(
            (field.name, _name_digest(field.name), field.default)
            for field in dataclasses.fields(command_type)
            if field.name not in left_out
        )
        digests = [digest for _, digest, _ in known]
        assert len(set(digests)) == len(digests), f"two fields of {command_type.__name__} look the same"
        _known_fields[command_type] = known
    return known


def _name_digest(name: str) -> bytes:
    return zlib.crc32(name.encode()).to_bytes(4, "big")[:_NAME_BYTES]


def fingerprint(command: Any) -> bytes:
    """A digest of the whole command, then an entry for each field, so that a difference can be named.

    `command` is a frozen dataclass of plain values, whose repr is therefore canonical. A field at its default leaves
    no mark: a version of the service that knows one field more still knows the requests recorded before it.
    """
    said: list[bytes] = []
    entries = b""
    for name, name_digest, default in _business_fields(type(command)):
        value = getattr(command, name)
        if value is default or value == default:
            continue
        text = repr(value).encode()
        said.append(name_digest + text + b"\x00")
        entries += name_digest + zlib.crc32(text).to_bytes(4, "big")
    return hashlib.sha256(b"".join(said)).digest()[:DIGEST_BYTES] + entries


def differing_field(command: Any, recorded: bytes) -> str | None:
    """The first field in which the command differs from the recorded fingerprint; None when they are the same."""
    now = fingerprint(command)
    if now[:DIGEST_BYTES] == recorded[:DIGEST_BYTES]:
        return None
    before, after = _entries(recorded), _entries(now)
    for name, name_digest, _ in _business_fields(type(command)):
        if before.get(name_digest) != after.get(name_digest):
            return name
    return "body"


def _entries(mark: bytes) -> dict[bytes, bytes]:
    return {
        mark[at : at + _NAME_BYTES]: mark[at + _NAME_BYTES : at + _ENTRY_BYTES]
        for at in range(DIGEST_BYTES, len(mark), _ENTRY_BYTES)
    }
