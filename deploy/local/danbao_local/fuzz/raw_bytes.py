"""How a message's bytes are made wrong, whatever they mean."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_LARGEST = 5 * 1024 * 1024


def spoil(data: bytes, rng: Random) -> bytes:
    """The bytes with something wrong; of few bytes, or one time in twelve, others altogether."""
    if len(data) < 2 or rng.randrange(12) == 0:
        return _others(rng)
    return rng.choice(_WAYS)(data, rng)


def _others(rng: Random) -> bytes:
    kind = rng.randrange(40)
    if kind == 0:
        return rng.randbytes(1024) * rng.choice((100, 1_000, 4_095, _LARGEST // 1024))
    if kind == 1:
        return b"\x0a\xff\xff\xff\x7f" + b"x" * 1000  # a text of 256 MiB, of which 1000 bytes are there
    if kind == 2:
        return b"\x0b" * rng.choice((50, 101, 20_000))  # groups that never end
    if kind == 3:
        return b"\x0a\x00" * rng.choice((1_000, 100_000))
    return rng.randbytes(rng.choice((0, 1, 2, 5, 16, 100, 1_000)))


def _truncated(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _flipped(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut_out(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 9) :]


def _put_in(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


def _twice(data: bytes, rng: Random) -> bytes:
    return data * rng.choice((2, 3, 200))  # scalars: the last holds; lists and maps grow; messages merge


def _not_utf8(data: bytes, rng: Random) -> bytes:
    """In place of letters: a byte that begins nothing, half a surrogate pair, an overlong slash, beyond every plane."""
    bad = rng.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80"))
    places = [at for at in range(len(data) - len(bad)) if data[at : at + len(bad)].isalnum()]
    if not places:
        return _flipped(data, rng)
    at = rng.choice(places)
    return data[:at] + bad + data[at + len(bad) :]


def _long_number(data: bytes, rng: Random) -> bytes:
    number = rng.randrange(1, 30) << 3
    return data + bytes([number & 0x7F]) + b"\xff" * rng.choice((9, 10, 11, 30)) + b"\x01"


def _wrong_wire_type(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    out[0] = out[0] & 0xF8 | rng.randrange(8)
    return bytes(out)


def _lying_length(data: bytes, rng: Random) -> bytes:
    return (
        data[:1]
        + rng.choice((b"\xff\xff\xff\xff\x0f", b"\x00", b"\xff\x7f", b"\x80\x80\x80\x80\x80\x80\x01"))
        + data[2:]
    )


def _nested(data: bytes, rng: Random) -> bytes:
    """Inside itself, field by field: deeper than a reader goes."""
    for _ in range(rng.choice((5, 101, 150))):
        if len(data) > 100_000:
            break
        length, prefix = len(data), bytearray([rng.randrange(1, 16) << 3 | 2])
        while length > 0x7F:
            prefix.append(length & 0x7F | 0x80)
            length >>= 7
        data = bytes([*prefix, length]) + data
    return data


def _group(data: bytes, rng: Random) -> bytes:
    tag = rng.randrange(1, 16) << 3
    return bytes([tag | 3]) + data + (bytes([tag | 4]) if rng.random() < 0.5 else b"")


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _truncated,
    _flipped,
    _flipped,
    _cut_out,
    _put_in,
    _twice,
    _not_utf8,
    _not_utf8,
    _long_number,
    _wrong_wire_type,
    _lying_length,
    _nested,
    _group,
)
