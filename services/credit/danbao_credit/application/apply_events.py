"""How a chunk of another service's events moves profiles: all of it with the cursor, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from danbao_credit.application.marking import touch, turn_mark
from danbao_credit.application.membership_events import hear
from danbao_credit.application.ports import RawEvent, StreamProgress
from danbao_credit.application.working_set import CreditSet, ParkedEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import StreamGap
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Telling, changes_of, telling_of
from danbao_credit.domain.hearsay import Hearsay, hearsay_of, without
from danbao_credit.domain.log import LogRow, encoded
from danbao_credit.domain.marks import MarkKey, MarkTold, marks_told
from danbao_credit.domain.membership_model import Heard
from danbao_credit.domain.profile import Change, Profile
from danbao_kit.decision import Moment

# An event may be ahead of our clock by this much, as clocks are; beyond, its time is wrong and it is set aside.
AHEAD_US = 5 * 60 * 1_000_000
FUTURE = "FutureEvent: it is more than five minutes ahead of business time"

_NOBODY: frozenset[str] = frozenset()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Told(NamedTuple):
    """One event: what it tells, what the catalogue takes of it, and the event as it came."""

    sequence: int
    kind: str
    at_us: int
    traceparent: str
    telling: Telling
    changes: tuple[tuple[str, Change], ...]
    raw: RawEvent | None = None
    marks: tuple[MarkTold, ...] = ()
    # Whom it may concern by hearsay only.
    hearsay: Hearsay | None = None

    @property
    def about(self) -> str:
        """The trade, payment or top-up it is about."""
        return self.telling.about


@dataclass(frozen=True, slots=True)
class ApplyEvents:
    """A chunk of `source`: everything after one sequence up to and with another."""

    source: Source
    after_sequence: int
    through_sequence: int
    events: tuple[Told | ParkedEvent, ...]
    # Whether an event that is ahead of our clock is set aside. Not so on test clocks, which are moved one by one: an
    # event of a service whose clock was moved first is no mistake.
    parks_future: bool = True
    # What they say about memberships.
    heard: tuple[Heard, ...] = ()

    def subjects(self) -> set[str]:
        """Of whom it tells anything."""
        return {subject for event in self.events if isinstance(event, Told) for _, subject in event.telling.roles}

    def mark_keys(self) -> set[MarkKey]:
        """Which marks it may turn."""
        return {told.key for event in self.events if isinstance(event, Told) for told in event.marks}


def command_for(
    source: Source,
    after_sequence: int,
    through_sequence: int,
    events: Iterable[RawEvent],
    catalogue: Catalogue,
    *,
    parks_future: bool = True,
) -> ApplyEvents:
    """The command for a chunk. What cannot be understood is parked and holds up nothing that follows."""
    told: list[Told | ParkedEvent] = []
    heard: list[Heard] = []
    for event in events:
        try:
            understood, said = _told(event, source, catalogue), event.heard()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one event, the stream goes on
            told.append(ParkedEvent(source, event.sequence, f"{type(error).__name__}: {error}"[:500], event.payload))
        else:
            told.append(understood)
            heard += said
    return ApplyEvents(source, after_sequence, through_sequence, tuple(told), parks_future, tuple(heard))


def apply_events(command: ApplyEvents, working: CreditSet, moment: Moment) -> None:
    """Applies what lies beyond the cursor and moves the cursor; what lies before it was applied already.

    Raises StreamGap if the chunk does not follow on the cursor.
    """
    progress = working.progress.get(command.source) or StreamProgress()
    if command.after_sequence > progress.sequence:
        raise StreamGap(command.source, progress.sequence, command.after_sequence)
    latest_us = microseconds(moment.now) + AHEAD_US
    applied = duplicates = parked = hearsay = 0
    last_event_us = progress.last_event_us
    book = Book(working, command.source)
    reached = progress.sequence
    for event in command.events:
        if event.sequence <= reached:
            duplicates += 1
            continue
        reached = event.sequence
        if isinstance(event, Told) and event.at_us > latest_us and command.parks_future:
            payload = b"" if event.raw is None else event.raw.payload
            event = ParkedEvent(command.source, event.sequence, FUTURE, payload)
        if isinstance(event, ParkedEvent):
            working.parked.append(event)
            parked += 1
            continue
        applied += 1
        last_event_us = event.at_us if last_event_us is None else max(last_event_us, event.at_us)
        telling, changes = event.telling, event.changes
        if event.hearsay is not None:
            hearsay += event.hearsay.is_invoice
            foreign = _brought_by_others(event.hearsay, working)
            if foreign:
                telling, changes = without(foreign, telling, changes)
                hearsay += len(foreign)
        book.enter(event.sequence, event.kind, event.at_us, telling, changes, traceparent=event.traceparent)
        if event.marks:
            book.mark(event.marks)
    book.close()
    hear(command.heard, working, after_sequence=progress.sequence)
    working.progress.put(
        command.source,
        replace(
            progress,
            sequence=max(reached, command.through_sequence),
            applied=progress.applied + applied,
            duplicates=progress.duplicates + duplicates,
            parked=progress.parked + parked,
            erased=progress.erased + book.erased,
            hearsay=progress.hearsay + hearsay,
            last_event_us=last_event_us,
        ),
    )


class Book:
    """Enters events of one source into the log and, once closed, into the profiles.

    What an event told of a subject that was erased later than it happened is dropped and counted in `erased`.
    """

    def __init__(self, working: CreditSet, source: Source) -> None:
        self._working = working
        self._source = source.value
        self._changes: dict[str, list[tuple[int, Change]]] = {}
        # By subject: the trace of the last event that moved it.
        self._causes: dict[str, str] = {}
        # Mostly nobody whom a batch tells of was erased.
        self._any_erased = next(working.tombstones.values(), None) is not None
        self.erased = 0

    def enter(
        self,
        number: int,
        kind: str,
        at_us: int,
        telling: Telling,
        changes: tuple[tuple[str, Change], ...],
        *,
        sign: int = 1,
        traceparent: str = "",
    ) -> frozenset[str]:
        """One event; of whom nothing was entered, because they were erased.

        `changes` are what its telling changes, already negative where `sign` is.
        """
        if not telling.roles:
            return _NOBODY
        dropped: set[str] = set()
        entered, append = self._changes, self._working.log_rows.append
        source, measures = self._source, encoded(telling.measures)
        currency, about = telling.currency, telling.about
        for role, subject in telling.roles:
            if self._any_erased and self._is_erased(subject, at_us):
                self.erased += 1
                dropped.add(subject)
                continue
            append(LogRow(subject, source, number, role, kind, at_us, currency, about, measures, sign))
            if subject not in entered:
                entered[subject] = []
        for subject, change in changes:
            if subject not in dropped:
                entered[subject].append((at_us, change))
                self._causes[subject] = traceparent
        return frozenset(dropped) if dropped else _NOBODY

    def mark(self, marks: Iterable[MarkTold], *, sign: int = 1) -> None:
        """Turns marks, which must be loaded, or takes back what turned them, unless their subject was erased later."""
        for told in marks:
            if not self._is_erased(told.subject, told.turn.at_us):
                turn_mark(self._working, told, sign=sign)

    def close(self) -> None:
        """Moves the profiles. Whoever was told of has one from then on, if with nothing in it."""
        for subject, moved in self._changes.items():
            profile = self._working.subjects.get(subject)
            if moved or profile is None:
                self._working.subjects.put(subject, (profile or Profile.empty()).with_changes(moved))
                touch(self._working, subject, self._causes.get(subject, ""))

    def _is_erased(self, subject: str, at_us: int) -> bool:
        tombstone = self._working.tombstones.get(subject)
        return tombstone is not None and tombstone.covers(at_us)


def microseconds(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND


def _brought_by_others(hearsay: Hearsay, working: CreditSet) -> list[str]:
    return [subject for subject in hearsay.doubted if hearsay.is_of_others(working.subjects.get(subject))]


def _told(event: RawEvent, source: Source, catalogue: Catalogue) -> Told:
    read = event.read()
    telling = telling_of(read)
    changes = changes_of(read.kind, telling, catalogue, source)
    marks = marks_told(
        read.kind, telling, source=source, at_us=read.at_us, number=event.sequence, traceparent=read.traceparent
    )
    return Told(
        event.sequence, read.kind, read.at_us, read.traceparent, telling, changes, event, marks, hearsay_of(read)
    )
