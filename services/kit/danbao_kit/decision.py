"""What a decision may know and do besides changing its working set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from danbao_kit.errors import DanbaoError
from danbao_kit.ids import Ids


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Whose request: the caller (partner, else token subject, else peer), the operation, and the caller's own id."""

    caller: str
    method: str
    request_id: str


class _Deferred:
    def __repr__(self) -> str:
        return "DEFERRED"


# Returned by a decision whose request is answered by a later command (Moment.answer or Moment.refuse).
DEFERRED: Final = _Deferred()


class Need(Exception):
    """More rows are needed: the command is decided again in the next batch, with these keys loaded."""

    def __init__(self, **keys: set[Any]) -> None:
        super().__init__(f"needs {keys}")
        self.keys: Mapping[str, set[Any]] = keys


@dataclass(frozen=True, slots=True)
class Answer:
    """The late answer to a request that an earlier command left open: a reply or an error."""

    request: RequestKey
    reply: Any
    error: DanbaoError | None


class Moment:
    """The moment in which one command is decided."""

    __slots__ = ("_answers", "_events", "_numbers", "ids", "now", "request", "traceparent")

    def __init__(
        self, *, now: datetime, ids: Ids, last_number: int, request: RequestKey | None = None, traceparent: str = ""
    ) -> None:
        # Business time: unique and rising over the service, to the microsecond.
        self.now = now
        self.ids = ids
        self.request = request
        self.traceparent = traceparent
        self._numbers = last_number
        self._events: list[Any] = []
        self._answers: list[Answer] = []

    @property
    def trace_id(self) -> str:
        """The request's trace id in hex; empty without a trace."""
        parts = self.traceparent.split("-")
        return parts[1] if len(parts) == 4 else ""

    def emit(self, event: Any) -> None:
        """Something happened; it joins the event stream with this command's commit."""
        self._events.append(event)

    def next_number(self) -> int:
        """The next number of the service's own gapless row numbering."""
        self._numbers += 1
        return self._numbers

    def new_id(self) -> UUID:
        """An id nobody has."""
        return self.ids.new()

    def answer(self, request: RequestKey, reply: Any) -> None:
        """Ends a deferred request with a reply."""
        self._answers.append(Answer(request, reply, None))

    def refuse(self, request: RequestKey, error: DanbaoError) -> None:
        """Ends a deferred request with a refusal, which is recorded as its final answer."""
        self._answers.append(Answer(request, None, error))

    # What the group commit takes over when the command is accepted.
    @property
    def events(self) -> list[Any]:
        return self._events

    @property
    def answers(self) -> list[Answer]:
        return self._answers

    @property
    def last_number(self) -> int:
        return self._numbers
