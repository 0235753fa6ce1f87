"""What makes two requests the same: a hash over a command's business fields, not over wire bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from typing import Any

DIGEST_BYTES = 16


_known_fields: dict[type, tuple[str, ...]] = {}


def _business_fields(command_type: Any) -> tuple[str, ...]:
    known = _known_fields.get(command_type)
    if known is None:
        left_out = getattr(command_type, "not_fingerprinted", ())
        known = tuple(field.name for field in dataclasses.fields(command_type) if field.name not in left_out)
        _known_fields[command_type] = known
    return known


def fingerprint(command: Any) -> bytes:
    """A digest of the whole command, then four bytes for each business field, so that a difference can be named.

    `command` is a frozen dataclass of plain values, whose repr is therefore canonical.
    """
    digest = hashlib.sha256()
    fields = bytearray()
    for name in _business_fields(type(command)):
        value = repr(getattr(command, name)).encode()
        digest.update(value)
        digest.update(b"\x00")
        fields += zlib.crc32(value).to_bytes(4, "big")
    return digest.digest()[:DIGEST_BYTES] + bytes(fields)


def differing_field(command: Any, recorded: bytes) -> str | None:
    """The first field in which the command differs from the recorded fingerprint; None when they are the same."""
    now = fingerprint(command)
    if now[:DIGEST_BYTES] == recorded[:DIGEST_BYTES]:
        return None
    for position, name in enumerate(_business_fields(type(command))):
        at = DIGEST_BYTES + 4 * position
        if now[at : at + 4] != recorded[at : at + 4]:
            return name
    return "body"
