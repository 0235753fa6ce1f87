"""What the contracts say in words: the comment in front of each message, field, enum, service and method."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

# Field numbers of FileDescriptorProto, DescriptorProto, EnumDescriptorProto and ServiceDescriptorProto, of which the
# paths in SourceCodeInfo are made (google/protobuf/descriptor.proto).
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM = 2, 3, 4
_VALUE, _METHOD = 2, 2


def comments(descriptors: FileDescriptorSet) -> dict[str, str]:
    """By full name, `danbao.escrow.v1.Trade.state`: the comment as running text; what has none is left out."""
    found: dict[str, str] = {}
    for file in descriptors.file:
        _Reader(file, found).read()
    return found


class _Reader:
    def __init__(self, file: FileDescriptorProto, found: dict[str, str]) -> None:
        self._file = file
        self._found = found
        self._texts: Mapping[tuple[int, ...], str] = {
            tuple(place.path): _as_text(place.leading_comments or place.trailing_comments)
            for place in file.source_code_info.location
        }

    def read(self) -> None:
        package = self._file.package
        for number, message in enumerate(self._file.message_type):
            self._message(message, f"{package}.{message.name}", (_MESSAGE, number))
        for number, enum in enumerate(self._file.enum_type):
            self._enum(enum, f"{package}.{enum.name}", (_ENUM, number))
        for number, service in enumerate(self._file.service):
            name, path = f"{package}.{service.name}", (_SERVICE, number)
            self._note(name, path)
            for place, method in enumerate(service.method):
                self._note(f"{name}.{method.name}", (*path, _METHOD, place))

    def _message(self, message: DescriptorProto, name: str, path: tuple[int, ...]) -> None:
        self._note(name, path)
        for number, field in enumerate(message.field):
            self._note(f"{name}.{field.name}", (*path, _FIELD, number))
        for number, nested in enumerate(message.nested_type):
            self._message(nested, f"{name}.{nested.name}", (*path, _NESTED, number))
        for number, enum in enumerate(message.enum_type):
            self._enum(enum, f"{name}.{enum.name}", (*path, _NESTED_ENUM, number))

    def _enum(self, enum: EnumDescriptorProto, name: str, path: tuple[int, ...]) -> None:
        self._note(name, path)
        for number, value in enumerate(enum.value):
            self._note(f"{name}.{value.name}", (*path, _VALUE, number))

    def _note(self, name: str, path: tuple[int, ...]) -> None:
        text = self._texts.get(path)
        if text:
            self._found[name] = text


def _as_text(comment: str) -> str:
    """Lines are joined, paragraphs stay."""
    paragraphs = "\n".join(line.strip() for line in comment.strip().splitlines()).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split("\n")).strip() for paragraph in paragraphs)
