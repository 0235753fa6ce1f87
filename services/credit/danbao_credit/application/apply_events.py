"""How a chunk of another service's events moves profiles: all of it with the cursor, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from danbao_credit.application.ports import RawEvent, StreamProgress
from danbao_credit.application.working_set import CreditSet, ParkedEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import StreamGap
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Facts, facts_of
from danbao_credit.domain.profile import Change, Profile


@dataclass(frozen=True, slots=True)
class ApplyEvents:
    """A chunk of `source`: everything after one sequence up to and with another."""

    source: Source
    after_sequence: int
    through_sequence: int
    facts: tuple[Facts | ParkedEvent, ...]

    def subjects(self) -> set[str]:
        """Whose profiles it may change."""
        return {subject for fact in self.facts if isinstance(fact, Facts) for subject, _ in fact.changes}


def command_for(
    source: Source, after_sequence: int, through_sequence: int, events: Iterable[RawEvent], catalogue: Catalogue
) -> ApplyEvents:
    """The command for a chunk. What cannot be understood is parked and holds up nothing that follows."""
    facts: list[Facts | ParkedEvent] = []
    for event in events:
        try:
            facts.append(facts_of(event.read(), source, catalogue))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one event, the stream goes on
            facts.append(ParkedEvent(source, event.sequence, f"{type(error).__name__}: {error}"[:500], event.payload))
    return ApplyEvents(source, after_sequence, through_sequence, tuple(facts))


def apply_events(command: ApplyEvents, working: CreditSet, moment: object = None) -> None:
    """Applies what lies beyond the cursor and moves the cursor; what lies before it was applied already.

    Raises StreamGap if the chunk does not follow on the cursor.
    """
    progress = working.progress.get(command.source) or StreamProgress()
    if command.after_sequence > progress.sequence:
        raise StreamGap(command.source, progress.sequence, command.after_sequence)
    applied = duplicates = parked = 0
    last_event_us = progress.last_event_us
    changes: dict[str, list[tuple[int, Change]]] = {}
    reached = progress.sequence
    for fact in command.facts:
        if fact.sequence <= reached:
            duplicates += 1
            continue
        reached = fact.sequence
        if isinstance(fact, ParkedEvent):
            working.parked.append(fact)
            parked += 1
            continue
        applied += 1
        last_event_us = fact.at_us if last_event_us is None else max(last_event_us, fact.at_us)
        for subject, change in fact.changes:
            changes.setdefault(subject, []).append((fact.at_us, change))
    for subject, moved in changes.items():
        profile = working.subjects.get(subject) or Profile.empty()
        working.subjects.put(subject, profile.with_changes(moved))
    working.progress.put(
        command.source,
        replace(
            progress,
            sequence=max(reached, command.through_sequence),
            applied=progress.applied + applied,
            duplicates=progress.duplicates + duplicates,
            parked=progress.parked + parked,
            last_event_us=last_event_us,
        ),
    )
