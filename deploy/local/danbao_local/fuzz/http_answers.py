"""What an HTTP/1.1 answer says: where it ends, and its code and reason, be it JSON, gRPC-Web or neither."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from danbao_local.fuzz.attempt import Answer

LONGEST_WAIT_S = 15.0
_PAUSE_S = 2.0
"""Of an answer that has begun and does not say where it ends, as a stream's: nothing more for so long."""
_LARGEST = 32 * 1024 * 1024
_INTERIM = b"HTTP/1.1 1"
_Bytes = TypeVar("_Bytes", bytes, bytearray)
_CODE_NAMES = {str(code.value[0]): code.name for code in grpc.StatusCode}


async def read_answer(reader: asyncio.StreamReader, *, bodiless: bool) -> bytes:
    """All of it: to the end that its headers name, or until the connection closes or nothing more comes."""
    received = bytearray()
    while len(received) < _LARGEST and not _is_whole(received, bodiless=bodiless):
        try:
            async with asyncio.timeout(_PAUSE_S if received else LONGEST_WAIT_S):
                part = await reader.read(65_536)
        except TimeoutError:
            if received:
                break
            raise
        except OSError:
            break
        if not part:
            break
        received += part
    return bytes(received)


def _is_whole(received: bytearray, *, bodiless: bool) -> bool:
    received = _final(received)
    at = received.find(b"\r\n\r\n")
    if at < 0:
        return False
    headers = _headers(received[:at].decode("latin-1").split("\r\n")[1:])
    if bodiless or received.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
        return True
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return received.endswith(b"\r\n0\r\n\r\n")
    length = headers.get("content-length", "")
    return length.isdigit() and len(received) - at - 4 >= int(length)


def _final(received: _Bytes) -> _Bytes:
    """Without the interim answers before it, such as 100 Continue."""
    while received.startswith(_INTERIM) and b"\r\n\r\n" in received:
        received = received[received.index(b"\r\n\r\n") + 4 :]
    return received


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def answer_of(received: bytes, seconds: float) -> Answer:
    """The code is gRPC's name of it where the answer says one, else HTTP's number."""
    if not received:
        return Answer("CLOSED", "", seconds)
    head, _, body = _final(received).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    number = [*lines[0].split(" "), "", ""][1]
    headers = _headers(lines[1:])
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _joined(body)
    if "grpc-web-text" in headers.get("content-type", ""):
        body = _plain(body)
    text = head + b"\n" + body
    if "grpc" in headers.get("content-type", "") or "grpc-status" in headers:
        trailers = headers | _web_trailers(body)
        if "grpc-status" in trailers:
            code = _CODE_NAMES.get(trailers["grpc-status"], f"grpc {trailers['grpc-status']}")
            reason, details = read_details(trailers.get("grpc-status-details-bin", ""))
            return Answer(code, reason, seconds, text + unquote_to_bytes(trailers.get("grpc-message", "")) + details)
    reason = headers.get("x-danbao-reason", "") or _json_reason(body)
    return Answer(number or "GARBLED", reason, seconds, text)


def _joined(body: bytes) -> bytes:
    """A body without the lengths of its chunks."""
    joined = bytearray()
    while body:
        length, _, body = body.partition(b"\r\n")
        try:
            size = int(length, 16)
        except ValueError:
            break
        joined += body[:size]
        body = body[size + 2 :]
    return bytes(joined)


def _plain(text: bytes) -> bytes:
    """Base64 in parts, each with a padding of its own."""
    try:
        return b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+=*", text))
    except ValueError:
        return text


def _json_reason(body: bytes) -> str:
    at = body.find(b"{")
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        found: Any = json.JSONDecoder().raw_decode(body[at:].decode("utf-8", "replace"))[0] if at >= 0 else {}
        for detail in found.get("details", ()):
            if detail.get("reason"):
                return str(detail["reason"])
    return ""


def _web_trailers(body: bytes) -> dict[str, str]:
    at = body.find(b"grpc-status:")
    if at < 0:
        return {}
    pairs = (line.partition(b":") for line in body[at:].split(b"\r\n"))
    return {key.decode("latin-1").strip(): value.decode("latin-1").strip() for key, _, value in pairs if value}


def read_details(encoded: str | bytes) -> tuple[str, bytes]:
    """The reason in a `grpc-status-details-bin`, and its bytes."""
    if isinstance(encoded, str):
        try:
            encoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            return "", b""
    try:
        status = status_pb2.Status.FromString(encoded)
    except DecodeError:
        return "", encoded
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason, encoded
    return "", encoded
