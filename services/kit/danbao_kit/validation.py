"""Whether a message keeps the rules that its contract states (protovalidate), and those that hold for every text.

What is refused is told by its field's path and the rule, never by what the field holds: it may be anybody's secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import protovalidate
from google.protobuf.message import Message

from danbao_kit.card_numbers import holds_card_number, may_hold_card_number
from danbao_kit.errors import CardNumber, FieldInvalid, FieldViolation

# Answered one by one, each in its place: a fault in one is no fault of the call.
_CHECKED_LATER = "operations"


def check(message: Message) -> None:
    """Raises FieldInvalid with every violated field; a text with U+0000, which no store takes, is one. Of what keeps
    the contract, raises CardNumber with every field that holds a payment card's number."""
    wire = message.SerializeToString()
    if b"\0" in wire:
        nul = [FieldViolation(path, "must not contain U+0000") for path in _paths(message, lambda text: "\0" in text)]
        if nul:
            raise FieldInvalid(*nul)
    violations = protovalidate.collect_violations(message)
    if violations:
        raise FieldInvalid(
            *[
                FieldViolation(_path(violation.proto.field), violation.proto.message or violation.proto.rule_id)
                for violation in violations
            ]
        )
    if _CHECKED_LATER not in message.DESCRIPTOR.fields_by_name and may_hold_card_number(wire):
        found = _paths(message, holds_card_number)
        if found:
            raise CardNumber(*found)


def _paths(message: Message, wanted: Callable[[str], bool]) -> list[str]:
    """Where texts stand that are wanted, each place once."""
    return list(dict.fromkeys(path for path, text in _texts(message, "") if wanted(text)))


def _texts(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
    """Every text of a message and its field's path. A map is one place: its keys are texts too."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.name == _CHECKED_LATER:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in value:
                yield from _texts_of(key, path)
                yield from _texts_of(value[key], path)
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _texts_of(item, f"{path}[{index}]")
        else:
            yield from _texts_of(value, path)


def _texts_of(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Message):
        yield from _texts(value, f"{path}.")


def _path(path: Any) -> str:
    """Such as `lines[0].amount.currency`; a map's key is not told, it is what the caller wrote."""
    parts: list[str] = []
    for element in path.elements if path is not None else ():
        subscript = element.subscript
        is_index = subscript is not None and subscript.field == "index"
        parts.append(f"{element.field_name}[{subscript.value}]" if is_index else element.field_name)
    return ".".join(parts)
