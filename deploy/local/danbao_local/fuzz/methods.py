"""Which RPCs are fuzzed, and what is known of each: its messages, its roles, its JSON form and a body that works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from danbao_gateway.contracts import Contracts
from danbao_gateway.roles import INTERNAL, Role, shipped_rules
from danbao_local import client as _client  # noqa: F401 - registers the contracts

_TESTS_ONLY = "danbao.testing."
_VERBS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class FuzzedMethod:
    """One RPC."""

    rpc: str
    """`danbao.payments.v1.PaymentService/CreatePayment`."""
    request: Descriptor
    client_streaming: bool
    server_streaming: bool
    roles: tuple[str, ...]
    """Whose token may call it; the first is the working body's."""
    verb: str
    """Of its JSON form, in capitals; empty without one."""
    template: str
    bodies: tuple[Mapping[str, Any], ...]
    """A body that works, or the messages of a stream; none where no example is known."""

    @property
    def service(self) -> str:
        """`payments` for `danbao.payments.v1`: the process that answers."""
        return self.rpc.split(".")[1]

    def new_request(self) -> Message:
        """An empty request."""
        return message_factory.GetMessageClass(self.request)()

    def working_requests(self) -> list[Message]:
        """The bodies as messages."""
        return [json_format.ParseDict(dict(body), self.new_request()) for body in self.bodies]


def fuzzed_methods(
    calls: Sequence[Mapping[str, Any]], streams: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[FuzzedMethod]:
    """All RPCs there are; `calls` as on the card, `streams` the messages of the others."""
    known = {entry["rpc"]: entry for entry in calls}
    rules = shipped_rules()
    pool = descriptor_pool.Default()
    found = []
    for method in Contracts.installed().methods():
        if method.package.startswith(_TESTS_ONLY):
            continue
        descriptor = pool.FindMethodByName(method.full_name.replace("/", "."))
        rule: http_pb2.HttpRule = descriptor.GetOptions().Extensions[annotations_pb2.http]
        verb = next((name for name in _VERBS if getattr(rule, name)), "")
        entry = known.get(method.full_name)
        allowed = rules[method.full_name]
        roles = (Role.OPERATOR.value,) if allowed == INTERNAL else tuple(allowed)
        if entry is not None:
            roles = (entry["role"], *[role for role in roles if role != entry["role"]])
        found.append(
            FuzzedMethod(
                rpc=method.full_name,
                request=descriptor.input_type,
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
                roles=roles,
                verb=verb.upper(),
                template=getattr(rule, verb) if verb else "",
                bodies=(entry["body"],) if entry is not None else tuple(streams.get(method.full_name, ())),
            )
        )
    return found
