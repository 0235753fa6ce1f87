"""How a page token is made: opaque to the caller, bound to its list."""

from __future__ import annotations

import base64
import binascii
import zlib

from danbao_kit.errors import PageTokenInvalid

DEFAULT_PAGE_SIZE = 100


def page_size(asked: int) -> int:
    """The size to use: what was asked for, or the default for 0."""
    return asked or DEFAULT_PAGE_SIZE


def encode_token(scope: str, position: str) -> str:
    """A token for the page of `scope` (which list, with which filter) that begins after `position`."""
    check = zlib.crc32(scope.encode())
    return base64.urlsafe_b64encode(f"{check:08x}{position}".encode()).decode().rstrip("=")


def decode_token(scope: str, token: str) -> str:
    """The position in a token made for the same scope. Raises PageTokenInvalid."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise PageTokenInvalid from error
    if text[:8] != f"{zlib.crc32(scope.encode()):08x}":
        raise PageTokenInvalid
    return text[8:]
