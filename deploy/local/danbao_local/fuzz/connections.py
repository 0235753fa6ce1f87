"""Connections that carry no call, or one whose frames are broken: nothing to read from them, only to survive."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

from danbao_kit.testing.certificates import CertificateFiles

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _CONTINUATION = 0, 1, 4, 9
_END_STREAM, _END_HEADERS = 1, 4
_KINDS = 11
"""One more than HTTP/2 has."""


async def garble(address: str, data: bytes, context: ssl.SSLContext | None, host: str) -> None:
    """Sends bytes on a connection of their own; how it is ended is the server's affair."""
    with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
        async with asyncio.timeout(3):
            where, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(
                where, int(port), ssl=context, server_hostname=host if context else None
            )
            writer.write(data)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1024)
            writer.close()


def tls_context(files: CertificateFiles) -> ssl.SSLContext:
    """As a peer of the services, speaking HTTP/2."""
    context = ssl.create_default_context(cafile=str(Path(files.ca)))
    context.load_cert_chain(str(files.cert), str(files.key))
    context.set_alpn_protocols(["h2"])
    return context


def broken(rng: Random, path: str, token: str, message: bytes) -> bytes:
    """Bytes of a connection: none of HTTP, HTTP/2 that means nothing, or a call whose frames are wrong."""
    return rng.choice((_no_http, _odd_frames, _broken_call, _broken_call))(rng, path, token, message)


def _no_http(rng: Random, _path: str, _token: str, message: bytes) -> bytes:
    return rng.choice((b"", b"\0" * 9, b"\x16\x03\x01\x02\0", b"GET / HTTP/0.9\r\n\r\n")) + rng.randbytes(200) + message


def _odd_frames(rng: Random, _path: str, _token: str, _message: bytes) -> bytes:
    """Frames of every kind, with flags and streams that mean nothing."""
    frames = b"".join(
        _frame(rng.randrange(_KINDS), rng.randrange(256), rng.randrange(40), rng.randbytes(rng.randrange(40)))
        for _ in range(20)
    )
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + frames


def _broken_call(rng: Random, path: str, token: str, message: bytes) -> bytes:
    """Headers that are right, mostly, and then a message whose frame, length, flags or end are not."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "danbao"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", f"Bearer {token}"),
    ]
    if rng.random() < 0.3:
        rng.choice(_HEADER_FAULTS)(rng, headers)
    block = b"".join(_literal(name, value) for name, value in headers)
    data = rng.choice(_DATA_FAULTS)(rng, struct.pack(">BI", 0, len(message)) + message)
    cut = rng.randrange(len(data) + 1)
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, b""),
            _frame(_HEADERS, _END_HEADERS, 1, block),
            _frame(_DATA, 0, 1, data[:cut]),
            _frame(_DATA, rng.choice((_END_STREAM, _END_STREAM, 0)), 1, data[cut:]),
            rng.choice((b"", b"", _frame(_HEADERS, _END_HEADERS, 1, block), _frame(_CONTINUATION, 0, 1, block))),
        )
    )


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def _literal(name: str, value: str) -> bytes:
    """A header that enters no table, in HPACK (RFC 7541, 6.2.2)."""
    return b"\0" + _text(name.encode()) + _text(value.encode())


def _text(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, length = len(text) - 127, bytearray([127])
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*length, rest]) + text


_Headers = list[tuple[str, str]]
_HEADER_FAULTS: tuple[Callable[[Random, _Headers], object], ...] = (
    lambda _, headers: headers.append((":path", "/second")),
    lambda _, headers: headers.append(("Upper", "case")),
    lambda _, headers: headers.append(("connection", "keep-alive")),
    lambda _, headers: headers.append(("content-length", "3")),
    lambda _, headers: headers.append(("grpc-encoding", "gzip")),
    lambda _, headers: headers.append(("x\0y", "a\r\nb: c")),
    lambda rng, headers: headers.pop(rng.randrange(len(headers))),
)
_DATA_FAULTS: tuple[Callable[[Random, bytes], bytes], ...] = (
    lambda _, data: b"\x01" + data[1:],
    lambda _, data: b"\xff" + data[1:],
    lambda _, data: data[:1] + b"\xff\xff\xff\xff" + data[5:],
    lambda _, data: data[:1] + b"\0\0\0\0" + data[5:],
    lambda _, data: data[:3],
    lambda _, data: data[:-1],
    lambda _, data: data + data,
    lambda _, data: data + b"\0\0",
    lambda rng, _: rng.randbytes(60),
    lambda _, __: b"",
)
