"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from danbao_credit.domain.events import Event, Source
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

    def profile(self, subject: str) -> Profile:
        return self.profiles.get(subject) or Profile.empty()


class CreditReader(Protocol):
    """Reads of the store. Raise StoreUnavailable."""

    async def snapshot(self, subjects: Collection[str]) -> Snapshot:
        """The profiles of these subjects."""
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
