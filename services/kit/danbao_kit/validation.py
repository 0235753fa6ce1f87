"""Whether a message keeps the rules that its contract states (protovalidate)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import protovalidate
from google.protobuf.message import Message

from danbao_kit.errors import FieldInvalid, FieldViolation

# Answered one by one, each in its place: a fault in one is no fault of the call.
_CHECKED_LATER = "operations"


def check(message: Message) -> None:
    """Raises FieldInvalid with every violated field; a text with U+0000, which no store takes, is one."""
    if b"\0" in message.SerializeToString():
        nul = [FieldViolation(path, "must not contain U+0000") for path in _nul_paths(message, "")]
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


def _nul_paths(message: Message, prefix: str) -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.name == _CHECKED_LATER:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in value:
                if "\0" in f"{key}{value[key]}":
                    yield path
            continue
        for index, item in enumerate(value if field.is_repeated else (value,)):
            at = f"{path}[{index}]" if field.is_repeated else path
            if isinstance(item, str) and "\0" in item:
                yield at
            elif isinstance(item, Message):
                yield from _nul_paths(item, f"{at}.")


def _path(path: Any) -> str:
    parts: list[str] = []
    for element in path.elements if path is not None else ():
        part = element.field_name
        subscript = getattr(element, "subscript", None)
        if subscript is not None and getattr(subscript, "value", None) is not None:
            part += f"[{subscript.value}]"
        parts.append(part)
    return ".".join(parts)
