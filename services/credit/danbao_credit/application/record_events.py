"""How what other teams report moves profiles: each event once, whenever and however often it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from danbao_credit.application.apply_events import AHEAD_US, FUTURE, Book, microseconds
from danbao_credit.application.ports import StreamProgress
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import (
    AlreadyReversed,
    FieldInvalid,
    FieldViolation,
    ReportNotAllowed,
    ReportNotFound,
)
from danbao_credit.domain.events import ReportedEvent, Source
from danbao_credit.domain.facts import Telling, changes_of, telling_of
from danbao_credit.domain.log import encoded, taken_back
from danbao_credit.domain.marks import MarkKey, marks_told, may_tell_marks
from danbao_credit.domain.profile import Change
from danbao_credit.domain.report_record import ReportRecord, report_key
from danbao_credit.domain.reports import check_report
from danbao_kit.decision import Moment, Need
from danbao_kit.errors import DanbaoError, RequestIdReused
from danbao_kit.fingerprint import differing_field, fingerprint

_BY_OPERATORS = "operator"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as it was told. A reversal has only its id and `reverses`; `at_us` is then None."""

    event_id: str
    kind: str = ""
    subject: str = ""
    peer: str = ""
    about: str = ""
    currency: str = ""
    at_us: int | None = None
    measures: tuple[tuple[str, int], ...] = ()
    reverses: str = ""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("event_id",)

    def check(self, field: str, catalogue: Catalogue, *, by_operator: bool) -> None:
        """Raises FieldInvalid, then ReportNotAllowed. `field` is the path of the event in its call, with a dot."""
        if self.reverses:
            given = ("kind", "subject", "peer", "about", "currency", "measures")
            wrong = [FieldViolation(f"{field}{name}", "a reversal has none") for name in given if getattr(self, name)]
            if self.at_us is not None:
                wrong.append(FieldViolation(f"{field}occur_time", "a reversal has none"))
            if self.reverses == self.event_id:
                wrong.append(FieldViolation(f"{field}reverses", "must be another event"))
            if wrong:
                raise FieldInvalid(*wrong)
            return
        if self.at_us is None or self.at_us < 0:
            raise FieldInvalid(FieldViolation(f"{field}occur_time", "must be given, and not before 1970"))
        check_report(
            self.kind,
            dict(self.measures),
            subject=self.subject,
            peer=self.peer,
            about=self.about,
            currency=self.currency,
            kinds=catalogue.reports,
            field=field,
        )
        if not by_operator and catalogue.reports[self.kind].by == _BY_OPERATORS:
            raise ReportNotAllowed(self.kind)


class RecordState(StrEnum):
    """What came of one event."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    PARKED = "PARKED"
    REFUSED = "REFUSED"
    ERASED = "ERASED"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of one event; `error` where it was refused, `park_reason` where it was parked."""

    event_id: str
    state: RecordState
    park_reason: str = ""
    error: DanbaoError | None = None


@dataclass(frozen=True, slots=True)
class RecordEvents:
    """Events that one caller tells. Idempotent by their ids, whatever else becomes of the call."""

    caller: str
    by_operator: bool
    events: tuple[NewEvent, ...]
    catalogue: Catalogue
    traceparent: str = ""

    @property
    def teller(self) -> str:
        """The partner that tells; empty for officers of the platform, whom the trace finds."""
        return "" if self.by_operator else self.caller

    def keys(self) -> set[bytes]:
        """Of the reports that it tells, and of those that it takes back."""
        ids = {event.event_id for event in self.events} | {event.reverses for event in self.events if event.reverses}
        return {report_key(self.caller, event_id) for event_id in ids}

    def subjects(self) -> set[str]:
        """Of whom it tells; of whom its reversals do stands in the reports they take back."""
        return {who for event in self.events for who in (event.subject, event.peer) if who}


def record_events(command: RecordEvents, working: CreditSet, moment: Moment) -> tuple[Recorded, ...]:
    """Applies what is new, in order. An event that is refused or parked leaves the others alone."""
    # All at once: a command that asks again and again for what the next event needs would be given up.
    missing = _marks_needed(command, working) - working.marks_loaded
    if missing:
        raise Need(marks=missing)
    recorder = _Recorder(command, working, moment)
    results = tuple(recorder.record(event, f"events[{position}].") for position, event in enumerate(command.events))
    recorder.close()
    return results


def _marks_needed(command: RecordEvents, working: CreditSet) -> set[MarkKey]:
    """Of every event of the call, also of those that will be refused or are known."""
    needed: set[MarkKey] = set()
    for event in command.events:
        if event.reverses:
            original = working.reports.get(report_key(command.caller, event.reverses))
            if original is None or not original.subject or not may_tell_marks(original.kind, Source.REPORTS):
                continue
            kind, at_us, telling = original.kind, original.at_us, original.telling
        elif may_tell_marks(event.kind, Source.REPORTS):
            kind, at_us = event.kind, event.at_us or 0
            telling = Telling(event.about, "", (("subject", event.subject),), {})
        else:
            continue
        needed.update(told.key for told in marks_told(kind, telling, source=Source.REPORTS, at_us=at_us, number=0))
    return needed


class _Recorder:
    def __init__(self, command: RecordEvents, working: CreditSet, moment: Moment) -> None:
        self._command = command
        self._working = working
        self._moment = moment
        self._latest_us = microseconds(moment.now) + AHEAD_US
        self._progress = working.progress.get(Source.REPORTS) or StreamProgress()
        self._book = Book(working, Source.REPORTS)
        self._erased_before = self._progress.erased

    def record(self, event: NewEvent, field: str) -> Recorded:
        try:
            return self._decided(event, field)
        except DanbaoError as error:
            return Recorded(event.event_id, RecordState.REFUSED, error=error.kept())

    def close(self) -> None:
        self._book.close()
        self._working.progress.put(
            Source.REPORTS, replace(self._progress, erased=self._erased_before + self._book.erased)
        )

    def _decided(self, event: NewEvent, field: str) -> Recorded:
        command, working = self._command, self._working
        event.check(field, command.catalogue, by_operator=command.by_operator)
        key = report_key(command.caller, event.event_id)
        known = working.reports.get(key)
        if known is not None:
            differing = differing_field(event, known.fingerprint)
            if differing is not None:
                raise RequestIdReused(event.event_id, "occur_time" if differing == "at_us" else differing)
            self._count(duplicates=1)
            return Recorded(event.event_id, RecordState.DUPLICATE)
        if event.at_us is not None and event.at_us > self._latest_us:
            self._count(parked=1)
            return Recorded(event.event_id, RecordState.PARKED, park_reason=FUTURE)
        if event.reverses:
            return self._reversed(event, key, field)
        assert event.at_us is not None, "checked: only a reversal has no time of its own"
        reported = ReportedEvent(
            sequence=0,
            kind=event.kind,
            at_us=event.at_us,
            traceparent=command.traceparent,
            subject=event.subject,
            peer=event.peer,
            about=event.about,
            currency=event.currency,
            measures=dict(event.measures),
        )
        telling = telling_of(reported)
        changes = changes_of(event.kind, telling, command.catalogue, Source.REPORTS)
        return self._entered(event, key, event.kind, event.at_us, telling, changes)

    def _reversed(self, event: NewEvent, key: bytes, field: str) -> Recorded:
        command, working = self._command, self._working
        original_key = report_key(command.caller, event.reverses)
        original = working.reports.get(original_key)
        if original is None or not original.subject:
            raise ReportNotFound(event.reverses)
        if original.reverses is not None:
            raise FieldInvalid(FieldViolation(f"{field}reverses", "is a reversal itself: tell the event again"))
        if original.reversed_by is not None:
            raise AlreadyReversed(event.reverses)
        changes = taken_back(changes_of(original.kind, original.telling, command.catalogue, Source.REPORTS))
        kind, at_us, telling = original.kind, original.at_us, original.telling
        recorded = self._entered(event, key, kind, at_us, telling, changes, original=original)
        working.reports.put(original_key, replace(original, reversed_by=self._progress.sequence))
        return recorded

    def _entered(
        self,
        event: NewEvent,
        key: bytes,
        kind: str,
        at_us: int,
        telling: Telling,
        changes: tuple[tuple[str, Change], ...],
        *,
        original: ReportRecord | None = None,
    ) -> Recorded:
        number = self._moment.next_number()
        sign, traceparent = 1 if original is None else -1, self._command.traceparent
        teller = self._command.teller if original is None else original.teller
        erased = self._book.enter(number, kind, at_us, telling, changes, sign=sign, traceparent=traceparent)
        # A reversal takes back what its own event told, whoever else told the same.
        told_by = number if original is None else original.number
        marks = marks_told(
            kind,
            telling,
            source=Source.REPORTS,
            at_us=at_us,
            number=told_by,
            traceparent=traceparent,
            teller=teller,
        )
        missing = {told.key for told in marks} - self._working.marks_loaded
        if missing:
            raise Need(marks=missing)
        self._book.mark(marks, sign=sign)
        roles = dict(telling.roles)
        peer = roles.get("peer", "")
        is_erased = roles["subject"] in erased
        record = ReportRecord(
            fingerprint=fingerprint(event),
            number=number,
            subject="" if is_erased else roles["subject"],
            peer="" if is_erased or peer in erased else peer,
            kind=kind,
            at_us=at_us,
            currency=telling.currency,
            about="" if is_erased else telling.about,
            measures=encoded({} if is_erased else telling.measures),
            reverses=None if original is None else original.number,
            teller=teller,
        )
        self._working.reports.put(key, record)
        last_us = self._progress.last_event_us
        self._progress = replace(
            self._progress, sequence=number, last_event_us=at_us if last_us is None else max(last_us, at_us)
        )
        self._count(applied=1)
        return Recorded(event.event_id, RecordState.ERASED if is_erased else RecordState.APPLIED)

    def _count(self, *, applied: int = 0, duplicates: int = 0, parked: int = 0) -> None:
        progress = self._progress
        self._progress = replace(
            progress,
            applied=progress.applied + applied,
            duplicates=progress.duplicates + duplicates,
            parked=progress.parked + parked,
        )
