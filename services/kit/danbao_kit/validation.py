"""Whether a message keeps the rules that its contract states (protovalidate)."""

from __future__ import annotations

from typing import Any

import protovalidate
from google.protobuf.message import Message

from danbao_kit.errors import FieldInvalid, FieldViolation


def check(message: Message) -> None:
    """Raises FieldInvalid with every violated field."""
    violations = protovalidate.collect_violations(message)
    if violations:
        raise FieldInvalid(
            *[
                FieldViolation(_path(violation.proto.field), violation.proto.message or violation.proto.rule_id)
                for violation in violations
            ]
        )


def _path(path: Any) -> str:
    parts: list[str] = []
    for element in path.elements if path is not None else ():
        part = element.field_name
        subscript = getattr(element, "subscript", None)
        if subscript is not None and getattr(subscript, "value", None) is not None:
            part += f"[{subscript.value}]"
        parts.append(part)
    return ".".join(parts)
