"""What the contracts say: every method of the installed protos, and the descriptor set that Envoy transcodes with."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from google.rpc import error_details_pb2


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC."""

    package: str
    service: str
    name: str
    client_streaming: bool
    server_streaming: bool
    verb: str
    """The HTTP method of its JSON form in small letters, `get`; empty for a method that JSON callers cannot reach."""
    has_request_id: bool
    """Whether its request carries a `request_id`: then a second execution answers what the first one did."""

    @property
    def streaming(self) -> bool:
        """Whether either side may send more than one message."""
        return self.client_streaming or self.server_streaming

    @property
    def full_name(self) -> str:
        """`danbao.payments.v1.PaymentService/CreatePayment`; a slash before it makes the gRPC path."""
        return f"{self.service_name}/{self.name}"

    @property
    def service_name(self) -> str:
        """`danbao.payments.v1.PaymentService`."""
        return f"{self.package}.{self.service}"

    @property
    def upstream(self) -> str:
        """The name of the upstream that answers: `payments` for the package `danbao.payments.v1`."""
        return self.package.split(".")[1]


@dataclass(frozen=True, slots=True)
class Contracts:
    """A descriptor set with everything it imports, and with the error details that no contract imports."""

    descriptors: FileDescriptorSet

    @classmethod
    def installed(cls) -> Contracts:
        """Those of the installed wheel `danbao-protos`."""
        return cls.from_bytes(_installed())

    @staticmethod
    def with_comments() -> FileDescriptorSet:
        """The installed descriptor set as it is, for those who read what the contracts say in words."""
        return FileDescriptorSet.FromString(_installed())

    @classmethod
    def from_bytes(cls, content: bytes) -> Contracts:
        """Those of a serialised FileDescriptorSet; comments in it are dropped, they only fatten the configuration."""
        descriptors = FileDescriptorSet.FromString(content)
        for file in descriptors.file:
            file.ClearField("source_code_info")
        _add(descriptors, error_details_pb2.DESCRIPTOR)
        return cls(descriptors)

    def methods(self) -> list[Method]:
        """Every method of every package below `danbao`, in the order of the files."""
        return list(self._methods())

    def _methods(self) -> Iterator[Method]:
        with_request_id = set(_messages_with(self.descriptors, field_name="request_id"))
        for file in self.descriptors.file:
            if file.package.split(".")[0] != "danbao":
                continue
            for service in file.service:
                for method in service.method:
                    yield Method(
                        package=file.package,
                        service=service.name,
                        name=method.name,
                        client_streaming=method.client_streaming,
                        server_streaming=method.server_streaming,
                        verb=_verb(method),
                        has_request_id=method.input_type in with_request_id,
                    )


def _installed() -> bytes:
    return importlib.resources.files("danbao").joinpath("descriptors.binpb").read_bytes()


def _add(descriptors: FileDescriptorSet, file: FileDescriptor) -> None:
    """Adds a file after what it imports, unless it is there. A detail of an unknown type makes Envoy drop the error."""
    if any(present.name == file.name for present in descriptors.file):
        return
    for dependency in file.dependencies:
        _add(descriptors, dependency)
    file.CopyToProto(descriptors.file.add())


def _messages_with(descriptors: FileDescriptorSet, *, field_name: str) -> Iterator[str]:
    """The messages of the first level that have such a field; those inside others are no requests."""
    for file in descriptors.file:
        for message in file.message_type:
            if any(field.name == field_name for field in message.field):
                yield f".{file.package}.{message.name}"


def _verb(method: MethodDescriptorProto) -> str:
    return method.options.Extensions[annotations_pb2.http].WhichOneof("pattern") or ""
