"""How a request that failed is made small: whatever can be left out without the fault going away, is."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError, Message

from danbao_local.fuzz import mutations
from danbao_local.fuzz.attempt import Attempt
from danbao_local.fuzz.http_requests import places
from danbao_local.fuzz.methods import FuzzedMethod

_TRIES = 80
# Without these it is another request.
_KEPT = (b"host:", b"authorization:", b"content-length:", b"connection:")


async def shrunk(
    attempt: Attempt, method: FuzzedMethod, still_fails: Callable[[Attempt], Awaitable[bool]]
) -> tuple[Attempt, Message | None]:
    """The smallest found that still fails, and its message where it can be read as one."""
    best, tries, smaller = attempt, 0, True
    while smaller and tries < _TRIES:
        smaller = False
        for tried in _smaller(best, method):
            tries += 1
            if await still_fails(tried):
                best, smaller = tried, True
                break
            if tries >= _TRIES:
                break
    return best, _message(best, method)


def _smaller(attempt: Attempt, method: FuzzedMethod) -> Iterator[Attempt]:
    if attempt.door == "http":
        yield from _smaller_http(attempt)
        return
    for at in range(len(attempt.metadata)):
        yield replace(attempt, metadata=(*attempt.metadata[:at], *attempt.metadata[at + 1 :]))
    if len(attempt.messages) > 1:
        for at in range(len(attempt.messages)):
            yield attempt.with_messages(*attempt.messages[:at], *attempt.messages[at + 1 :])
    message = _message(attempt, method)
    if message is not None:
        for candidate in _smaller_messages(message):
            yield attempt.with_messages(candidate.SerializeToString())


def _message(attempt: Attempt, method: FuzzedMethod) -> Message | None:
    if attempt.door == "http" or len(attempt.messages) != 1:
        return None
    message = method.new_request()
    try:
        message.MergeFromString(attempt.messages[0])
    except DecodeError:
        return None
    return message


def _smaller_messages(message: Message) -> Iterator[Message]:
    """Copies with one thing less each: a field, or all of a list but its first item."""
    for position, node in enumerate(mutations.nodes(message)):
        for field, value in node.ListFields():
            if field.is_repeated and len(value) > 1:
                yield _copy(message, position, field.name, clear=False)
            yield _copy(message, position, field.name, clear=True)


def _copy(message: Message, position: int, field: str, *, clear: bool) -> Message:
    copied = type(message)()
    copied.CopyFrom(message)
    node = list(mutations.nodes(copied))[position]
    if clear:
        node.ClearField(field)
    else:
        items = getattr(node, field)
        if hasattr(items, "keys"):
            for key in list(items)[1:]:
                del items[key]
        else:
            del items[1:]
    return copied


def _smaller_http(attempt: Attempt) -> Iterator[Attempt]:
    """Without a header, or without a value of the JSON body."""
    head, gap, body = attempt.http.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for at, line in enumerate(lines):
        if at and not line.lower().startswith(_KEPT):
            yield replace(attempt, http=b"\r\n".join(lines[:at] + lines[at + 1 :]) + gap + body)
    try:
        content = json.loads(body)
    except ValueError:
        return
    for number, _ in enumerate(places(content)):
        shorter = json.dumps(_without(content, number)).encode()
        length = re.sub(rb"(?im)^content-length: \d+", b"content-length: %d" % len(shorter), head)
        yield replace(attempt, http=length + gap + shorter)


def _without(content: Any, number: int) -> Any:
    copied = json.loads(json.dumps(content))
    holder, key = list(places(copied))[number]
    del holder[key]
    return copied
