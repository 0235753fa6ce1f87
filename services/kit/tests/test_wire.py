"""Messages that are put together from bytes are the very messages that would be encoded whole."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from danbao_kit.wire import append_all, with_field


@pytest.mark.parametrize("size", [0, 1, 127, 128, 2047, 2048, 70_000])
def test_a_field_is_added_by_its_bytes(size: int) -> None:
    head, inner = FieldDescriptorProto(name="head"), FieldDescriptorProto.DESCRIPTOR.fields_by_name["options"]
    options = inner.message_type._concrete_class()
    options.uninterpreted_option.add(identifier_value="x" * size)
    whole = FieldDescriptorProto(name="head", options=options)
    added = with_field(head, "options", options.SerializeToString())
    assert FieldDescriptorProto.FromString(added) == whole
    assert len(added) == whole.ByteSize()


def test_an_empty_message_is_there_all_the_same() -> None:
    added = FieldDescriptorProto.FromString(with_field(FieldDescriptorProto(), "options", b""))
    assert added.HasField("options")


def test_messages_are_appended_in_their_order() -> None:
    kinds = [DescriptorProto(name="x" * size) for size in (0, 1, 126, 127, 128, 3_000, 20_000)]
    made = FileDescriptorProto(name="file", message_type=[DescriptorProto(name="before")])
    append_all(made, "message_type", [kind.SerializeToString() for kind in kinds])
    assert made == FileDescriptorProto(name="file", message_type=[DescriptorProto(name="before"), *kinds])
    append_all(made, "message_type", [])
    assert len(made.message_type) == len(kinds) + 1
