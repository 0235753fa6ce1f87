"""How a message is put together from others that are bytes already: what was encoded once is not encoded again.

By protobuf's wire format a message is its fields one after the other, each a tag and a value, and a field that holds a
message is that message's bytes after their length (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_HOLDS_BYTES = 2
_COMMON_LENGTHS = 2048


def with_field(message: Message, field: str, payload: bytes) -> bytes:
    """The bytes of `message` with `field` besides, which holds the message whose bytes `payload` is."""
    return message.SerializeToString() + _tag(message.DESCRIPTOR, field) + _length(payload) + payload


def append_all(message: Message, field: str, payloads: Iterable[bytes]) -> None:
    """Appends messages, given as their bytes, to the repeated `field`."""
    tag = _tag(message.DESCRIPTOR, field)
    message.MergeFromString(b"".join([tag + _length(payload) + payload for payload in payloads]))


@lru_cache(maxsize=1000)
def _tag(descriptor: Descriptor, field: str) -> bytes:
    return varint(descriptor.fields_by_name[field].number << 3 | _HOLDS_BYTES)


def _length(payload: bytes) -> bytes:
    length = len(payload)
    return _LENGTHS[length] if length < _COMMON_LENGTHS else varint(length)


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte say that another follows."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


_LENGTHS = [varint(length) for length in range(_COMMON_LENGTHS)]
