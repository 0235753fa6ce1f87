"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from danbao_credit.application.membership_commands import ClaimDepositStep, StepDone, StepRefused, Token
from danbao_credit.domain.checkpoint import History
from danbao_credit.domain.events import Event, Source
from danbao_credit.domain.membership_model import DepositStep, Heard, MembershipView
from danbao_credit.domain.profile import Profile


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """How far one stream was read, and what came of it. `last_event_us` is None before the first event."""

    sequence: int = 0
    applied: int = 0
    duplicates: int = 0
    parked: int = 0
    # What was told of subjects who have been erased since, and left out.
    erased: int = 0
    last_event_us: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Profiles and how far the streams were read, seen at once. A subject nobody has seen has the empty profile."""

    sequences: Mapping[Source, int]
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    # Of the credible merchants among them: the currencies that their guarantee covers.
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def profile(self, subject: str) -> Profile:
        return self.profiles.get(subject) or Profile.empty()


@dataclass(frozen=True, slots=True)
class SeenHistory:
    """What is kept of a subject up to a moment, its profile as it is now, and how far the streams were read."""

    sequences: Mapping[Source, int]
    profile: Profile
    history: History


class CreditReader(Protocol):
    """Reads of the store. Raise StoreUnavailable."""

    async def snapshot(self, subjects: Collection[str]) -> Snapshot:
        """The profiles of these subjects."""
        ...

    async def history(self, subject: str, until_us: int) -> SeenHistory:
        """What is kept of this subject: rows of what happened up to that moment, microseconds since the epoch."""
        ...

    async def progress(self) -> Mapping[Source, StreamProgress]:
        """How far each stream was read; a stream never read is missing."""
        ...


class RawEvent(Protocol):
    """An event as it came: its sequence, its bytes, and its meaning once read."""

    @property
    def sequence(self) -> int: ...

    @property
    def payload(self) -> bytes: ...

    def read(self) -> Event:
        """Raises whatever is wrong with it."""
        ...

    def heard(self) -> Sequence[Heard]:
        """What it says about memberships. Raises whatever is wrong with it."""
        ...


class EventChunk(Protocol):
    """Some events in order, and the sequence up to which the stream was looked at."""

    @property
    def events(self) -> Sequence[RawEvent]: ...

    @property
    def through_sequence(self) -> int: ...


class EventSource(Protocol):
    """Another service's stream."""

    @property
    def source(self) -> Source: ...

    def open(self, after_sequence: int) -> AsyncIterator[EventChunk]:
        """Everything after a sequence, then what follows. Raises whatever breaks it."""
        ...


@dataclass(frozen=True, slots=True)
class StepUnknown:
    """Whether money has moved is not known: the same id must be sent again."""

    reason: str


StepResult: TypeAlias = StepDone | StepRefused | StepUnknown


class DepositMoney(Protocol):
    """Payments, as far as deposits go."""

    async def execute(self, step: DepositStep) -> StepResult:
        """Moves the step's money under its own id, the same however often it is sent."""
        ...


@dataclass(frozen=True, slots=True)
class DueLook:
    """A membership that is to be looked at, and the trace of what made that necessary; empty for time alone."""

    membership_id: UUID
    cause: str


class MembershipReads(Protocol):
    """Reads of memberships. Raise StoreUnavailable."""

    async def membership(self, membership_id: UUID) -> MembershipView | None:
        """One as it is now."""
        ...

    async def membership_of(self, subject: str) -> MembershipView | None:
        """The one of a subject that is not LEFT."""
        ...

    async def memberships(
        self, token: Token, *, subject: str, state: str, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[MembershipView]:
        """Those that the caller may see, by creation, after a position."""
        ...

    async def due_looks(self, now: datetime, limit: int) -> list[DueLook]:
        """Those whose time has come, the longest due first."""
        ...

    async def abandoned_steps(self, limit: int) -> list[ClaimDepositStep]:
        """Pending steps whose lease or backoff is over, as claims of them."""
        ...

    async def steps_under_way(self) -> int:
        """Pending steps that were not refused."""
        ...
