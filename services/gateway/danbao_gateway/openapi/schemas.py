"""How messages look in JSON: a schema for each message and enum that an operation needs, and no other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from danbao_gateway.openapi import rules

Schema = dict[str, Any]

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    **{
        kind: {"type": "integer", "format": "int32"}
        for kind in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32)
    },
    **{
        kind: {"type": "integer", "format": "int64", "minimum": 0}
        for kind in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32)
    },
    # A number in JSON loses digits above 2^53, so protobuf writes these as strings (it reads numbers too).
    **{
        kind: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
        for kind in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64)
    },
    **{
        kind: {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
        for kind in (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)
    },
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "example": "3.5s"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.StringValue": {"type": "string", "nullable": True},
    "google.protobuf.BoolValue": {"type": "boolean", "nullable": True},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}


def short_name(full_name: str) -> str:
    """`escrow.Trade` for `danbao.escrow.v1.Trade`."""
    return full_name.removeprefix("danbao.").replace(".v1.", ".")


class Schemas:
    """Collects the components that were referred to; a message is described once, however often it is used."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self._comments = comments
        self.components: dict[str, Schema] = {}

    def reference(self, message: Descriptor) -> Schema:
        """A reference to a message's schema, or the schema itself where JSON writes the message in a way of its own."""
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        name = short_name(message.full_name)
        if name not in self.components:
            self.components[name] = {}  # so that a message within itself ends
            self.components[name] = self.of(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def of(self, message: Descriptor, *, without: Collection[str] = ()) -> Schema:
        """The schema of a message; fields in `without` come by another way."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            **self._described(message.full_name),
            "properties": {field.name: self.field(field) for field in fields},
        }
        required = [field.name for field in fields if rules.is_required(field)]
        if required:
            schema["required"] = required
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of one field with its comment and rules."""
        schema = rules.constrain(self._repeated(field) if field.is_repeated else self._single(field), field)
        sentences = [self._comments.get(field.full_name, ""), *rules.said(field)]
        choice = field.containing_oneof
        if choice is not None and len(choice.fields) > 1:
            sentences.append(f"At most one of {', '.join(other.name for other in choice.fields)}.")
        description = " ".join(sentence for sentence in sentences if sentence)
        if not description:
            return schema
        # Beside a $ref everything else is ignored in OpenAPI 3.0.
        return (
            {"allOf": [schema], "description": description}
            if "$ref" in schema
            else {**schema, "description": description}
        )

    def _repeated(self, field: FieldDescriptor) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(entry.fields_by_name["value"])}
        return {"type": "array", "items": self._single(field)}

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.reference(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = short_name(enum.full_name)
        if name not in self.components:
            # A value's full name has its enum's scope in Python's descriptors; comments have the enum's name.
            meanings = [
                f"- `{value.name}`: {self._comments[f'{enum.full_name}.{value.name}']}"
                for value in enum.values
                if f"{enum.full_name}.{value.name}" in self._comments
            ]
            description = "\n".join([self._comments.get(enum.full_name, ""), *meanings]).strip()
            self.components[name] = {
                "type": "string",
                **({"description": description} if description else {}),
                "enum": [value.name for value in enum.values],
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _described(self, full_name: str) -> Schema:
        text = self._comments.get(full_name)
        return {"description": text} if text else {}
