"""What protovalidate's rules are in JSON Schema; what it has no word for is said in the description."""

from __future__ import annotations

import re
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

Schema = dict[str, Any]

_LENGTHS = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern"}
_FORMATS = {"uuid": "uuid", "email": "email", "hostname": "hostname", "ipv4": "ipv4", "ipv6": "ipv6", "uri": "uri"}
_COUNTS = {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"}
_UUID = "01a206af-b5a5-7c9f-aa29-c082bc40fd78"
_WORDS = {"gt": "above", "gte": "at least", "lt": "below", "lte": "at most", "const": "exactly"}
_NUMBERS = frozenset(
    "float double int32 int64 uint32 uint64 sint32 sint64 fixed32 fixed64 sfixed32 sfixed64".split()  # noqa: SIM905
)


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without it is refused: marked so, or its empty value is against its own rules."""
    rules = _of(field)
    if rules is None:
        return False
    if rules.required:
        return True
    if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE or field.has_presence:
        return False
    kind = rules.WhichOneof("type")
    if kind == "string":
        pattern = rules.string.pattern
        return bool(rules.string.min_len or rules.string.len or (pattern and re.search(pattern, "") is None))
    if kind == "repeated":
        return bool(rules.repeated.min_items)
    if kind in _NUMBERS:
        limits = getattr(rules, kind)
        return (limits.HasField("gt") and limits.gt >= 0) or (limits.HasField("gte") and limits.gte > 0)
    return kind == "enum" and 0 in rules.enum.not_in


def constrain(schema: Schema, field: FieldDescriptor) -> Schema:
    """The schema of a field with what its rules add."""
    rules = _of(field)
    return schema if rules is None else _constrained(schema, rules)


def said(field: FieldDescriptor) -> list[str]:
    """Sentences for rules that stand in words only: CEL expressions, limits of numbers that are strings in JSON."""
    rules = _of(field)
    if rules is None:
        return []
    sentences = [rule.message or rule.expression for rule in rules.cel]
    kind = rules.WhichOneof("type")
    if kind in {"int64", "uint64", "sint64", "fixed64", "sfixed64"}:
        limits = getattr(rules, kind)
        sentences += [
            f"{word.capitalize()} {getattr(limits, name)}" for name, word in _WORDS.items() if limits.HasField(name)
        ]
    return [sentence if sentence.endswith(".") else f"{sentence}." for sentence in sentences]


def _of(field: FieldDescriptor) -> Any:
    options = field.GetOptions()
    return options.Extensions[validate_pb2.field] if options.HasExtension(validate_pb2.field) else None


def _constrained(schema: Schema, rules: Any) -> Schema:
    kind = rules.WhichOneof("type")
    if kind is None or "$ref" in schema:
        return schema
    limits = getattr(rules, kind)
    if kind == "string":
        return {**schema, **_set(limits, _LENGTHS), **_text(limits)}
    if kind == "repeated":
        items = _constrained(schema["items"], limits.items) if limits.HasField("items") else schema["items"]
        return {**schema, **_set(limits, _COUNTS), "items": items}
    if kind == "map":
        return {**schema, **_set(limits, {"min_pairs": "minProperties", "max_pairs": "maxProperties"})}
    if kind in _NUMBERS and schema.get("type") in {"integer", "number"}:
        return {**schema, **_number(limits)}
    return schema


def _set(limits: Any, names: dict[str, str]) -> Schema:
    return {ours: getattr(limits, theirs) for theirs, ours in names.items() if limits.HasField(theirs)}


def _text(limits: Any) -> Schema:
    found: Schema = {}
    well_known = limits.WhichOneof("well_known")
    if well_known in _FORMATS and getattr(limits, well_known):
        found["format"] = _FORMATS[well_known]
    if getattr(limits, "in"):
        found["enum"] = list(getattr(limits, "in"))
    if limits.pattern:
        found |= _example(limits.pattern)
    if limits.HasField("len"):
        found |= {"minLength": limits.len, "maxLength": limits.len}
    if limits.HasField("const"):
        found["enum"] = [limits.const]
    return found


def _example(pattern: str) -> Schema:
    """A name that fits, `trades/01a2…`: what the page would make up from the pattern nobody can read."""
    named = re.match(r"\^\(?\(?([A-Za-z]+)", pattern)
    if named is None:
        return {}
    candidates = (f"{named[1]}/{_UUID}", f"{named[1]}/1")
    return next(({"example": text} for text in candidates if re.search(pattern, text)), {})


def _number(limits: Any) -> Schema:
    found: Schema = {}
    if limits.HasField("gte"):
        found["minimum"] = limits.gte
    if limits.HasField("gt"):
        found |= {"minimum": limits.gt, "exclusiveMinimum": True}
    if limits.HasField("lte"):
        found["maximum"] = limits.lte
    if limits.HasField("lt"):
        found |= {"maximum": limits.lt, "exclusiveMaximum": True}
    return found
