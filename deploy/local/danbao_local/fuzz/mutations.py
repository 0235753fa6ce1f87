"""How a message is made wrong by its structure: the fields of its descriptor, each by its type."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from danbao_kit.wire import varint
from danbao_local.fuzz import values
from danbao_local.fuzz.values import Known

_DEEPEST = 4
_MOST_NODES = 200
_MANY = (2, 3, 21, 101, 1001, 3000)
# Of a mutated request: how often it is new, and not one that was answered before.
_NEW_ID = 0.9


def mutate(message: Message, rng: Random, known: Known) -> None:
    """One to four changes, somewhere in the message."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 4))):
        _change(rng.choice(list(nodes(message))), rng, known)


def renew_ids(message: Message, rng: Random) -> None:
    """Gives every request in the message an id of its own, mostly."""
    for node in nodes(message):
        for name in ("request_id", "event_id"):
            field = node.DESCRIPTOR.fields_by_name.get(name)
            if field is not None and getattr(node, name) and rng.random() < _NEW_ID:
                setattr(node, name, str(uuid.UUID(int=rng.getrandbits(128), version=4)))


def generate(message: Message, rng: Random, known: Known, depth: int = 0) -> None:
    """Fills an empty message at random."""
    field: Any
    for field in message.DESCRIPTOR.fields:
        if rng.random() < (0.7 if depth == 0 else 0.5):
            _set(message, field, rng, known, depth)


def nodes(message: Message) -> Iterator[Message]:
    """The message and those inside it, some at least."""
    waiting, seen = [message], 0
    while waiting and seen < _MOST_NODES:
        node = waiting.pop(0)
        seen += 1
        yield node
        for field, value in node.ListFields():
            if field.message_type is None or _is_map(field):
                continue
            waiting.extend(list(value)[:50] if field.is_repeated else [value])


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _change(node: Message, rng: Random, known: Known) -> None:
    descriptor = node.DESCRIPTOR
    if values.is_time(descriptor.full_name) or not descriptor.fields:
        _set_time(node, rng)
        return
    field: Any = rng.choice(list(descriptor.fields))
    kind = rng.random()
    present = [item for item, _ in node.ListFields()]
    if kind < 0.12 and present:
        node.ClearField(rng.choice(present).name)
    elif kind < 0.17:
        _add_unknown(node, rng)
    elif kind < 0.27 and any(item.is_repeated and not _is_map(item) for item in present):
        _multiply(node, rng.choice([item for item in present if item.is_repeated and not _is_map(item)]), rng)
    elif kind < 0.6 and any(values.is_single(item) for item in present):
        chosen = rng.choice([item for item in present if values.is_single(item)])
        setattr(node, chosen.name, values.another(chosen, getattr(node, chosen.name), rng, known))
    else:
        _set(node, field, rng, known, 0)


def _set_time(node: Message, rng: Random) -> None:
    if "seconds" in node.DESCRIPTOR.fields_by_name:
        for name, value in zip(("seconds", "nanos"), values.seconds_and_nanos(rng), strict=True):
            setattr(node, name, value)


def _set(node: Message, field: FieldDescriptor, rng: Random, known: Known, depth: int) -> None:
    if _is_map(field):
        _set_map(node, field, rng, known, depth)
    elif field.is_repeated:
        items = getattr(node, field.name)
        for _ in range(rng.choice((1, 1, 2, 3))):
            if field.message_type is not None:
                if depth < _DEEPEST:
                    _fill(items.add(), rng, known, depth + 1)
            else:
                items.append(values.scalar(field, rng, known))
    elif field.message_type is not None:
        inner = getattr(node, field.name)
        inner.SetInParent()
        if depth < _DEEPEST and rng.random() < 0.85:
            inner.Clear()
            _fill(inner, rng, known, depth + 1)
            inner.SetInParent()
    else:
        setattr(node, field.name, values.scalar(field, rng, known))


def _fill(message: Message, rng: Random, known: Known, depth: int) -> None:
    if values.is_time(message.DESCRIPTOR.full_name):
        _set_time(message, rng)
    else:
        generate(message, rng, known, depth)


def _set_map(node: Message, field: FieldDescriptor, rng: Random, known: Known, depth: int) -> None:
    assert field.message_type is not None, "an entry is a message"
    entry = field.message_type.fields_by_name
    entries: Any = getattr(node, field.name)
    for _ in range(rng.choice((1, 1, 2, 17, 300))):
        key = values.scalar(entry["key"], rng, known)
        if entry["value"].message_type is not None:
            if depth < _DEEPEST:
                _fill(entries[key], rng, known, depth + 1)
        else:
            entries[key] = values.scalar(entry["value"], rng, known)


def _multiply(node: Message, field: FieldDescriptor, rng: Random) -> None:
    """The first item many times over: duplicates, and more than the contract allows."""
    items = getattr(node, field.name)
    times = rng.choice(_MANY)
    if field.message_type is not None and items[0].ByteSize() * times > 1_000_000:
        times = 3
    items.extend([items[0]] * times)


def _add_unknown(node: Message, rng: Random) -> None:
    """Fields that no contract knows, of every wire type; among them one nested deeply."""
    number = rng.choice((999, 15_000, 2**29 - 1))
    tag = lambda wire: varint(number << 3 | wire)  # noqa: E731
    node.MergeFromString(
        rng.choice(
            (
                tag(0) + varint(rng.getrandbits(64)),
                tag(1) + rng.randbytes(8),
                tag(5) + rng.randbytes(4),
                tag(2) + varint(100) + rng.randbytes(100),
                tag(3) * 50 + tag(4) * 50,
            )
        )
    )
