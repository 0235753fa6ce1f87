"""What the write path puts on the wire for credit: nothing yet. Its commands come from streams and emit no events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.message import Message


class CreditCodec:
    """Answers and events of credit's commands."""

    def reply(self, command: Any, reply: Any) -> Message:
        raise _none("reply")

    def parse_reply(self, method: str, data: bytes) -> Message:
        raise _none("recorded reply")

    def event(self, event: Any, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        raise _none("event")


def _none(what: str) -> AssertionError:
    return AssertionError(f"credit's commands have no {what}")
