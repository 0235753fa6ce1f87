"""One request as it is sent, and what came of it; as JSON, so that it can be sent again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

Door = Literal["gateway", "service", "http"]
"""gRPC at the gateway, gRPC at the service's own port, or HTTP/1.1 at the gateway: JSON, gRPC-Web, and neither."""

NOBODY = "nobody"
"""A caller without a token."""
STRANGER = "stranger"
"""A caller with a token that nobody issued."""

REFUSED = "refused"
"""The family none of whose requests may be accepted: callers who may not, and bytes that are no message."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. In `http`, `{token}` stands for the role's token."""

    number: int
    family: str
    door: Door
    rpc: str
    role: str
    messages: tuple[bytes, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 10.0
    http: bytes = b""
    client_streaming: bool = False
    server_streaming: bool = False

    def with_messages(self, *messages: bytes) -> Attempt:
        """The same with other messages."""
        return replace(self, messages=messages)

    def to_json(self) -> str:
        """Bytes in hexadecimal."""
        fields = asdict(self)
        fields["messages"] = [message.hex() for message in self.messages]
        fields["http"] = self.http.hex()
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError or TypeError."""
        fields: dict[str, Any] = json.loads(text)
        fields["messages"] = tuple(bytes.fromhex(message) for message in fields["messages"])
        fields["http"] = bytes.fromhex(fields["http"])
        fields["metadata"] = tuple((key, value) for key, value in fields["metadata"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller saw."""

    code: str
    """gRPC's name of it, or HTTP's number where the answer is not gRPC."""
    reason: str
    seconds: float
    text: bytes = b""
    """Everything in it that a person may read: an error's message and details, or the body."""

    @property
    def is_accepted(self) -> bool:
        """Whether something may have been done."""
        return self.code == "OK" or self.code.startswith("2")
