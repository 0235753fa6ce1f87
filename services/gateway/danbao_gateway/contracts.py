"""What the contracts say: every method of the installed protos, and the descriptor set that Envoy transcodes with."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from google.rpc import error_details_pb2


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC."""

    package: str
    service: str
    name: str
    streaming: bool

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
        content = importlib.resources.files("danbao").joinpath("descriptors.binpb").read_bytes()
        return cls.from_bytes(content)

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
        for file in self.descriptors.file:
            if file.package.split(".")[0] != "danbao":
                continue
            for service in file.service:
                for method in service.method:
                    yield Method(
                        package=file.package, service=service.name, name=method.name, streaming=_streams(method)
                    )


def _add(descriptors: FileDescriptorSet, file: FileDescriptor) -> None:
    """Adds a file after what it imports, unless it is there. A detail of an unknown type makes Envoy drop the error."""
    if any(present.name == file.name for present in descriptors.file):
        return
    for dependency in file.dependencies:
        _add(descriptors, dependency)
    file.CopyToProto(descriptors.file.add())


def _streams(method: MethodDescriptorProto) -> bool:
    return method.client_streaming or method.server_streaming
