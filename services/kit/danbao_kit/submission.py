"""What goes into the write path and what comes out: submissions, outcomes, and a service's own part in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import asyncpg
from google.protobuf.message import Message
from opentelemetry.trace import SpanContext

from danbao_kit.acting import Acting
from danbao_kit.decision import RequestKey
from danbao_kit.errors import DanbaoError
from danbao_kit.working_set import WorkingSet


class Store(Protocol):
    """What a service reads and writes for a batch; inside the write transaction, set-based."""

    async def load(
        self, connection: asyncpg.Connection, commands: Sequence[Any], needs: Mapping[str, set[Any]], now: datetime
    ) -> WorkingSet:
        """Locks and reads every row that the commands (and `needs`) may touch."""
        ...

    async def save(self, connection: asyncpg.Connection, working_set: Any) -> None:
        """Writes what accepted commands changed."""
        ...


class Codec(Protocol):
    """How a service's answers and events look on the wire."""

    def reply(self, command: Any, reply: Any) -> Message:
        """The response message of a decided command."""
        ...

    def parse_reply(self, method: str, data: bytes) -> Message:
        """A recorded response of `method`."""
        ...

    def event(self, event: Any, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        """The event's kind and its message's bytes."""
        ...


# An event as it is written: its sequence, kind and time, and its message's bytes.
WrittenEvent = tuple[int, str, datetime, bytes]


@dataclass(slots=True)
class Outcome:
    """What came of a command: a message or an error. `replayed`: an earlier request with the same id has done it."""

    message: Message | None = None
    error: DanbaoError | None = None
    replayed: bool = False


@dataclass(slots=True, eq=False)
class Submission:
    """A command on its way. `request` None: the service's own work, made idempotent by the state it meets."""

    command: Any
    request: RequestKey | None = None
    traceparent: str = ""
    # time.monotonic() after which nobody waits for it any more: it is then not begun.
    deadline: float | None = None
    # The span below which waiting and committing are shown; None: not shown.
    span: SpanContext | None = None
    # Without a request: whether its reply is to be encoded and given all the same. It is not recorded.
    wants_reply: bool = False
    # Who acts by a privilege: what comes of the command is then told in the log of privileged actions, in the same
    # transaction. None: nobody does, as with the service's own work.
    acting: Acting | None = None
    # What that log names in place of what the request names; empty: what the request names.
    about: str = ""
    record_key: bytes = b""

    def __post_init__(self) -> None:
        if self.request is not None:
            self.record_key = record_key(self.request)


def record_key(request: RequestKey) -> bytes:
    """The record's primary key: a digest of whose request it is. 16 bytes."""
    text = f"{request.caller}\x00{request.method}\x00{request.request_id}".encode()
    return hashlib.blake2b(text, digest_size=16).digest()
