"""How an RPC is reached as JSON: its path with parameters, its query and its body, from google.api.http."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from danbao_gateway.openapi.schemas import Schema, Schemas

_VERBS = ("get", "post", "put", "patch", "delete")
_VARIABLE = re.compile(r"\{([a-z0-9_.]+)(?:=([^}]*))?\}")
MAX_QUERY_DEPTH = 3


@dataclass(frozen=True, slots=True)
class HttpForm:
    """One RPC in HTTP's words."""

    verb: str
    path: str
    parameters: list[Schema]
    body: Schema | None


def http_form(method: MethodDescriptor, schemas: Schemas) -> HttpForm | None:
    """The JSON form of an RPC; None when it has none."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return None
    rule: Any = options.Extensions[annotations_pb2.http]
    verb = next(name for name in _VERBS if getattr(rule, name))
    path, parameters, in_path = _path(getattr(rule, verb))
    request = method.input_type
    if rule.body == "*":
        return HttpForm(verb, path, parameters, schemas.of(request, without=in_path))
    queries = [
        parameter
        for field in request.fields
        if field.name not in in_path
        for parameter in _query(field, schemas, prefix="")
    ]
    return HttpForm(verb, path, [*parameters, *queries], None)


def _path(template: str) -> tuple[str, list[Schema], set[str]]:
    """`/v1/{name=trades/*}:pay` is `/v1/trades/{trade}:pay`: what a caller fills in is the last part of the name."""
    parameters: list[Schema] = []
    in_path: set[str] = set()

    def replace(variable: re.Match[str]) -> str:
        field, pattern = variable[1], variable[2] or "*"
        in_path.add(field)
        segments = pattern.split("/")
        shown = []
        for position, segment in enumerate(segments):
            if segment != "*":
                shown.append(segment)
                continue
            name = _singular(segments[position - 1]) if position else field
            shown.append(f"{{{name}}}")
            parameters.append(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": f"Part of `{field}`, which is `{pattern}`." if position else f"The field `{field}`.",
                    "schema": {"type": "string"},
                }
            )
        return "/".join(shown)

    return _VARIABLE.sub(replace, template), parameters, in_path


def _singular(collection: str) -> str:
    return collection.removesuffix("s")


def _query(field: FieldDescriptor, schemas: Schemas, *, prefix: str) -> list[Schema]:
    """A query parameter a field; a message's own fields are reached by dots, as the transcoder reads them."""
    name = f"{prefix}{field.name}"
    message: Descriptor | None = field.message_type
    schema = schemas.field(field)
    if message is None or not _has_fields(schema):
        described = {"description": schema["description"]} if "description" in schema else {}
        return [{"name": name, "in": "query", **described, "schema": schema}]
    if field.is_repeated or prefix.count(".") >= MAX_QUERY_DEPTH:
        return []
    return [parameter for inner in message.fields for parameter in _query(inner, schemas, prefix=f"{name}.")]


def _has_fields(schema: Schema) -> bool:
    """Whether JSON writes the message as an object; timestamps, durations and the like are values."""
    return "$ref" in schema or "allOf" in schema or schema.get("type") in {"object", "array"}
