"""Who acts by a privilege, upon what and why: read from the call and from what it asked, whatever the method is.

Nothing here knows a service. A contract says it by the names of its fields: `name` (or `subject`, or the first field
that holds a resource name) is what it is about, and one of `WHY_FIELDS` is why.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from danbao_kit.call import GATEWAY, Call
from danbao_kit.card_numbers import holds_card_number
from danbao_kit.errors import CardNumber, FieldInvalid, FieldViolation
from danbao_kit.privileged_actions import PrivilegedAction, Words

WHY_HEADER = "danbao-why"
"""Beside the headers that begin with x-danbao-, which are the gateway's own word and nobody else's."""
WHY_FIELDS = ("reason", "decision", "description", "failure", "purpose")
MOST_WHY_CHARACTERS = 500

_RESOURCE = re.compile(r"[a-z][A-Za-z]*/[^\s]{1,250}")
_SUBJECT = re.compile(r"subjects/[^\s/]{1,250}")
# Who asks, and not what is asked about.
_NOT_ABOUT = frozenset({"actor", "request_id", "page_token"})


def why_of_header(said: str) -> str:
    """The header's text. HTTP has ASCII only: other characters come as UTF-8, percent-encoded, as in grpc-message.

    Raises FieldInvalid, CardNumber.
    """
    try:
        text = unquote(said, errors="strict")
    except UnicodeDecodeError:
        raise FieldInvalid(FieldViolation(WHY_HEADER, "is not UTF-8, percent-encoded")) from None
    if len(text) > MOST_WHY_CHARACTERS:
        raise FieldInvalid(FieldViolation(WHY_HEADER, f"has more than {MOST_WHY_CHARACTERS} characters"))
    if not text.isprintable():
        raise FieldInvalid(FieldViolation(WHY_HEADER, "has characters that cannot be printed"))
    if holds_card_number(text):
        raise CardNumber(WHY_HEADER)
    return text


class Acting:
    """A call by privilege, or one operation of it. `asked`: the operation's own message; None: the call's."""

    __slots__ = ("_asked", "call")

    def __init__(self, call: Call, asked: Message | None = None) -> None:
        self.call = call
        self._asked = asked

    def upon(self, operation: Message) -> Acting:
        """The same call for one operation of its batch, given as it stands there: what another asks is not told of it,
        however alike their kinds and request ids are."""
        kind = operation.WhichOneof("operation")
        assert kind is not None, "what is none of the operations was refused before"
        return Acting(self.call, getattr(operation, kind))

    def action(self, *, operation: str, outcome: str, create_time: datetime, words: Words) -> PrivilegedAction:
        """What is told of the call itself."""
        call = self.call
        by_token = call.peer == GATEWAY
        parts = call.traceparent.split("-")
        return PrivilegedAction(
            create_time=create_time,
            method=call.method,
            operation=operation or call.method.rpartition("/")[2],
            caller_kind="TOKEN" if by_token else "CERTIFICATE",
            actor=call.subject if by_token else call.peer,
            roles=",".join(sorted(call.roles)),
            partner=call.partner,
            outcome=outcome,
            trace_id=parts[1] if len(parts) == 4 else "",
            words_digest=words.digest(),
        )

    def words(
        self,
        *,
        salt: bytes,
        request_id: str = "",
        fingerprint: bytes = b"",
        about: str = "",
        reply: Message | None = None,
    ) -> Words:
        """What the request says of it. `about`: what it is upon, where the request's own name is not to be kept."""
        asked = self._asked
        if asked is None and isinstance(self.call.request, Message):
            asked = self.call.request
        return Words(
            salt=salt,
            request_id=request_id,
            fingerprint=fingerprint,
            subject="" if about else subject_of(asked, reply),
            object=about or object_of(asked, reply),
            why=(why_of(asked) if asked is not None else "") or self.call.why,
        )


def object_of(asked: Message | None, reply: Message | None) -> str:
    """The resource that a request is upon, or that it made; empty where there is none."""
    return (
        _text(asked, "name")
        or _text(reply, "name")
        or _first(asked, _RESOURCE)
        or _first(reply, _RESOURCE, depth=1)
        or _first(asked, _RESOURCE, depth=1)
    )


def subject_of(asked: Message | None, reply: Message | None) -> str:
    """The person whose data a request is about, subjects/{id}; empty where it says none."""
    for message in (asked, reply):
        for text in (_text(message, "subject"), _text(message, "name")):
            if _SUBJECT.fullmatch(text):
                return text
    return _first(asked, _SUBJECT, depth=1) or _first(reply, _SUBJECT, depth=1)


def why_of(asked: Message) -> str:
    """What the request says in the first of WHY_FIELDS that says something."""
    for name in WHY_FIELDS:
        field = asked.DESCRIPTOR.fields_by_name.get(name)
        if field is None or field.is_repeated:
            continue
        value = getattr(asked, name)
        if field.type == FieldDescriptor.TYPE_STRING and value:
            return str(value)
        if field.type == FieldDescriptor.TYPE_ENUM and value:
            known = field.enum_type.values_by_number.get(value) if field.enum_type is not None else None
            return known.name if known is not None else str(value)
    return ""


def _text(message: Message | None, name: str) -> str:
    """A text field of the message; empty without it."""
    if message is None:
        return ""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None or field.is_repeated or field.type != FieldDescriptor.TYPE_STRING:
        return ""
    return str(getattr(message, name))


def _first(message: Message | None, form: re.Pattern[str], *, depth: int = 0) -> str:
    """The first text of that form, in the contract's order; looked for in messages below as deep as `depth`."""
    if message is None:
        return ""
    below: list[Any] = []
    for field, value in message.ListFields():
        if field.name in _NOT_ABOUT:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            for text in value if field.is_repeated else (value,):
                if form.fullmatch(text):
                    return str(text)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            below.extend(value if field.is_repeated else (value,))
    if depth:
        for inner in below:
            found = _text(inner, "name") if form is _RESOURCE else ""
            if found or (found := _first(inner, form, depth=depth - 1)):
                return found
    return ""
