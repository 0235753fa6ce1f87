"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from danbao_credit.application.membership_commands import ClaimDepositStep, StepDone, StepRefused, Token
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.checkpoint import History
from danbao_credit.domain.events import Event, Source
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.marks import Mark, MarkKind, standing
from danbao_credit.domain.membership_model import DepositStep, Heard, MembershipView, Movement
from danbao_credit.domain.profile import Profile

# What was told to us has happened, although our own clock may be behind the teller's by this much.
AHEAD_S = 300


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """How far one stream was read, and what came of it. `last_event_us` is None before the first event."""

    sequence: int = 0
    applied: int = 0
    duplicates: int = 0
    parked: int = 0
    # What was told of subjects who have been erased since, and left out.
    erased: int = 0
    # What trades that nobody has paid told of parties who took no part in them, and left out.
    hearsay: int = 0
    last_event_us: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Profiles and how far the streams were read, seen at once. A subject nobody has seen has the empty profile."""

    sequences: Mapping[Source, int]
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    marks: Mapping[str, Sequence[Mark]] = field(default_factory=dict)
    # Of the credible merchants among them: the currencies that their guarantee covers.
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def profile(self, subject: str) -> Profile:
        return self.profiles.get(subject) or Profile.empty()

    def marks_of(self, subject: str) -> Sequence[Mark]:
        return self.marks.get(subject, ())

    def standing(self, subject: str, as_of_s: int, *, ahead_s: int = AHEAD_S) -> Mapping[MarkKind, int]:
        """What stands about a subject. For a moment of the past `ahead_s` is 0: only what stood then."""
        return standing(self.marks_of(subject), as_of_s, ahead_s=ahead_s)


@dataclass(frozen=True, slots=True)
class SeenHistory:
    """What is kept of a subject up to a moment, its profile as it is now, and how far the streams were read."""

    sequences: Mapping[Source, int]
    profile: Profile
    history: History
    marks: tuple[Mark, ...] = ()


class CreditReader(Protocol):
    """Reads of the store. Raise StoreUnavailable."""

    async def snapshot(self, subjects: Collection[str]) -> Snapshot:
        """The profiles of these subjects, and maybe of others that are asked for at the same time."""
        ...

    async def history(self, subject: str, until_us: int | None) -> SeenHistory:
        """What is kept of this subject: rows of what happened up to that moment, microseconds since the epoch.

        None: all rows.
        """
        ...

    async def subjects(self, after: str, *, most: int) -> Sequence[str]:
        """The next subjects in the order of their names: everybody of whom anything was ever told."""
        ...

    async def foldable(self, before_us: int, *, most: int) -> Sequence[str]:
        """Some subjects with rows from before a moment."""
        ...

    async def progress(self) -> Mapping[Source, StreamProgress]:
        """How far each stream was read; a stream never read is missing."""
        ...


@dataclass(frozen=True, slots=True)
class Scorable:
    """What a subject's scores are made from, and its version."""

    subject: str
    version: int
    profile: Profile
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """A place in the order in which changes of scores were recorded."""

    create_time: datetime
    subject: str
    kind: str


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """A change of a score as history keeps it. `previous_score` 0 and `previous_grade` empty: it was the first."""

    subject: str
    create_time: datetime
    kind: SubjectKind
    score: int
    grade: Grade
    blocked: bool
    previous_score: int
    previous_grade: str
    previously_blocked: bool
    sub_scores: tuple[tuple[str, int], ...]
    reason_codes: tuple[str, ...]
    model_version: str
    as_of: datetime
    traceparent: str

    @property
    def position(self) -> ChangePosition:
        return ChangePosition(self.create_time, self.subject, self.kind.value)


class ScoreReader(Protocol):
    """Reads of scores. Raise StoreUnavailable."""

    async def history(
        self, subject: str, kinds: Collection[SubjectKind], before: ChangePosition | None, most: int
    ) -> list[RecordedChange]:
        """Changes of a subject's scores before a position, newest first."""
        ...

    async def changes_after(
        self, position: ChangePosition | None, subjects: Sequence[str], most: int
    ) -> list[RecordedChange]:
        """Changes after a position in the order in which they were recorded; of nobody named: of all."""
        ...

    async def newest_change(self) -> ChangePosition:
        """Where the changes end."""
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

    async def statement(self, subject: str, currency: str) -> tuple[Movement, ...]:
        """What ever moved in a deposit, each transaction once. Raises StatementUnknown."""
        ...

    async def partner_of(self, subject: str) -> str:
        """The partner that has brought the subject; empty: nobody has. Raises OwnerUnknown."""
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
