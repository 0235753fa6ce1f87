"""Which errors cross a service's border, and what each says to the caller.

DanbaoError
├── FieldInvalid            INVALID_ARGUMENT     the message breaks a rule of its contract
│   └── CardNumber          INVALID_ARGUMENT     a text holds what looks like a payment card's number
├── MessageMalformed        INVALID_ARGUMENT     the bytes are not the message
├── DeadlineRequired        INVALID_ARGUMENT     a mutation without a deadline
├── PageTokenInvalid        INVALID_ARGUMENT     not a token of this list
├── TestClockOff            FAILED_PRECONDITION  business time is real here
├── RequestIdReused         ALREADY_EXISTS       the id stands for another body
├── RequestInProgress       ABORTED              the same request is under way
├── CursorTooOld            OUT_OF_RANGE         those events are not kept any more
├── CursorAhead             OUT_OF_RANGE         the stream has not come that far
├── PeerNotAllowed          PERMISSION_DENIED    this peer may not call this method
├── Overloaded              RESOURCE_EXHAUSTED   too much at once
├── TooManyStreams          RESOURCE_EXHAUSTED   this caller has as many open as one may
├── OutcomeUnknown          UNAVAILABLE          send the same request id again
├── StoreUnavailable        UNAVAILABLE          a read found no store
├── ActionLogHeadless       UNAVAILABLE          who acts by a privilege cannot be told in the log of that
├── DeadlineExceeded        DEADLINE_EXCEEDED    time is up; the outcome may be unknown
├── RecordedRefusal         as recorded          a refusal given before, word for word
└── Internal                INTERNAL             a fault of ours, told without detail

A service adds its own reasons in its `domain/errors.py`: one class per reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self


class Code(StrEnum):
    """The gRPC codes we answer with, by name, so that domains need no gRPC."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


# Refusals by a business rule are the request's final answer: they are recorded and given again. The others are not.
FINAL_CODES = frozenset({Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION})


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a message that breaks a rule; `field` is a path such as `lines[0].amount.currency`."""

    field: str
    description: str


class DanbaoError(Exception):
    """An error that the caller is told: a code, a reason that never changes its meaning, and facts as metadata."""

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    # None: by the code, see FINAL_CODES.
    recorded: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        fields: tuple[FieldViolation, ...] = (),
        retry_after_ms: int | None = None,
        **metadata: str | int,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        self.retry_after_ms = retry_after_ms
        self.metadata = {key: str(value) for key, value in metadata.items()}

    @property
    def is_final(self) -> bool:
        """Whether this is the request's recorded answer, so that the same id gets it again."""
        return self.code in FINAL_CODES if self.recorded is None else self.recorded

    def kept(self) -> Self:
        """Itself, to be kept. The frames between whoever raised it and whoever caught it go: they hold a whole call or
        batch, which holds it, and only the collector would ever free them all."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class FieldInvalid(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "FIELD_INVALID"

    def __init__(self, *fields: FieldViolation) -> None:
        first = fields[0] if fields else FieldViolation("", "invalid")
        super().__init__(f"{first.field}: {first.description}", fields=fields, field=first.field)


class CardNumber(FieldInvalid):
    """The fields are named, the texts never told."""

    reason = "CARD_NUMBER"

    def __init__(self, *paths: str) -> None:
        super().__init__(*[FieldViolation(path, "must not hold a payment card's number") for path in paths])


class MessageMalformed(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "MESSAGE_MALFORMED"

    def __init__(self, method: str) -> None:
        super().__init__("the request's bytes are not a message of this method", method=method)


class DeadlineRequired(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "DEADLINE_REQUIRED"

    def __init__(self, method: str) -> None:
        super().__init__("a call that changes something needs a deadline", method=method)


class PageTokenInvalid(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "the page token is not one of this list", fields=(FieldViolation("page_token", "not a token of this list"),)
        )


class TestClockOff(DanbaoError):
    __test__ = False
    code, reason = Code.FAILED_PRECONDITION, "TEST_CLOCK_OFF"

    def __init__(self) -> None:
        super().__init__("this service runs on real time; start it with CLOCK=test to move its clock")


class RequestIdReused(DanbaoError):
    code, reason = Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"

    def __init__(self, request_id: str, field: str) -> None:
        super().__init__(
            f"request id {request_id} was used before with another {field}", request_id=request_id, field=field
        )


class RequestInProgress(DanbaoError):
    code, reason = Code.ABORTED, "REQUEST_IN_PROGRESS"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request {request_id} is still under way; send it again", retry_after_ms=500, request_id=request_id
        )


class CursorTooOld(DanbaoError):
    code, reason = Code.OUT_OF_RANGE, "CURSOR_TOO_OLD"

    def __init__(self, oldest: int) -> None:
        super().__init__(f"events are kept from sequence {oldest} on", oldest=oldest)


class CursorAhead(DanbaoError):
    code, reason = Code.OUT_OF_RANGE, "CURSOR_AHEAD"

    def __init__(self, head: int) -> None:
        super().__init__(f"the stream ends at sequence {head}", head=head)


class PeerNotAllowed(DanbaoError):
    code, reason, recorded = Code.PERMISSION_DENIED, "PEER_NOT_ALLOWED", False

    def __init__(self, peer: str, method: str) -> None:
        super().__init__(f"peer {peer or 'without a name'} may not call {method}", peer=peer, method=method)


class Overloaded(DanbaoError):
    code, reason = Code.RESOURCE_EXHAUSTED, "OVERLOADED"

    def __init__(self) -> None:
        super().__init__("too many calls at once; try again later", retry_after_ms=200)


class TooManyStreams(DanbaoError):
    code, reason = Code.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS"

    def __init__(self, most: int) -> None:
        super().__init__(f"a caller may have {most} streams open; close one first", retry_after_ms=1000, most=most)


class OutcomeUnknown(DanbaoError):
    code, reason = Code.UNAVAILABLE, "OUTCOME_UNKNOWN"

    def __init__(self) -> None:
        super().__init__("the outcome is not known; send the same request id again to learn it", retry_after_ms=200)


class StoreUnavailable(DanbaoError):
    code, reason = Code.UNAVAILABLE, "STORE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the store cannot be reached; try again", retry_after_ms=500)


class ActionLogHeadless(DanbaoError):
    code, reason = Code.UNAVAILABLE, "STORE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the head of the log of privileged actions is gone: until it is back nobody acts by privilege")


class DeadlineExceeded(DanbaoError):
    code, reason = Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("the deadline passed; send the same request id again to learn the outcome")


class Internal(DanbaoError):
    code, reason = Code.INTERNAL, "INTERNAL"

    def __init__(self) -> None:
        super().__init__("a fault of the service; its log has it under this call's trace id")


class RecordedRefusal(DanbaoError):
    """A refusal that was recorded earlier, carried as the bytes of its google.rpc.Status."""

    def __init__(self, status: bytes) -> None:
        super().__init__("recorded refusal")
        self.status = status
