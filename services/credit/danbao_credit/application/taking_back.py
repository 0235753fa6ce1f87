"""How an event of a subject's log is taken back: by a row that subtracts, at the time at which it was added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from danbao_credit.application.marking import touch, turn_mark
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.appeal import EventKey
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Telling
from danbao_credit.domain.log import LogRow, changes_of_row, decoded
from danbao_credit.domain.marks import MarkTold, marks_told
from danbao_credit.domain.profile import Profile
from danbao_kit.decision import Moment, Need


def find_events(subject: str, keys: Iterable[EventKey], working: CreditSet) -> list[LogRow]:
    """What these events told of the subject, as far as it was not taken back."""
    wanted = list(keys)
    unread = {(subject, key) for key in wanted} - working.events_looked_up.keys()
    if unread:
        raise Need(logged_events=unread)
    return [row for key in wanted for row in _kept(working.events_looked_up[subject, key], working)]


def find_behind(subject: str, about: str, at_us: int, by: str, working: CreditSet) -> list[LogRow]:
    """What the event told of the subject by which a mark began; empty where the log does not reach back so far."""
    matter = (subject, about, at_us)
    if matter not in working.matters_looked_up:
        raise Need(logged_matters={matter})
    rows = [row for row in working.matters_looked_up[matter] if f"{row.source}.{row.kind}" == by]
    return list(_kept(rows, working))


def take_back(
    subject: str,
    rows: Sequence[LogRow],
    working: CreditSet,
    moment: Moment,
    catalogue: Catalogue,
    *,
    untells: bool = False,
) -> tuple[EventKey, ...]:
    """Subtracts these rows of one subject from its log and profile; which events they were.

    `untells`: what they told of marks is taken out of these as well.
    """
    if not rows:
        return ()
    if subject not in working.subjects_looked_up:
        raise Need(subjects={subject})
    changes = []
    taken: dict[EventKey, None] = {}
    for row in rows:
        assert (row.subject, row.sign) == (subject, 1), "only what was added to the subject is taken back"
        # The same event's number below zero: nobody else gives such numbers, and no event is taken back twice.
        opposite = row._replace(number=-row.number, sign=-1)
        working.log_rows.append(opposite)
        changes += changes_of_row(opposite, catalogue)
        key = EventKey(row.source, row.number)
        taken[key] = None
        _reverse_report(row, working)
        for told in _marks_told(row, working) if untells else ():
            if told.key not in working.marks_loaded:
                raise Need(marks={told.key})
            turn_mark(working, replace(told, turn=replace(told.turn, traceparent=moment.traceparent)), sign=-1)
        working.taken_back.put((subject, key), True)
    if changes:
        profile = working.subjects.get(subject) or Profile.empty()
        working.subjects.put(subject, profile.with_changes(changes))
    touch(working, subject, moment.traceparent, urgent=True)
    return tuple(taken)


def _kept(rows: Iterable[LogRow], working: CreditSet) -> Iterable[LogRow]:
    """Those that added something and were not taken back."""
    for row in rows:
        report = working.reports.get(working.report_keys.get(row.number, b"")) if row.source == Source.REPORTS else None
        if report is not None and (report.reversed_by is not None or report.reverses is not None):
            continue
        if row.sign > 0 and not working.taken_back.get((row.subject, EventKey(row.source, row.number))):
            yield row


def _reverse_report(row: LogRow, working: CreditSet) -> None:
    """Whoever reported it cannot take it back once more."""
    key = working.report_keys.get(row.number) if row.source == Source.REPORTS else None
    report = None if key is None else working.reports.get(key)
    if key is not None and report is not None:
        working.reports.put(key, replace(report, reversed_by=-row.number))


def _marks_told(row: LogRow, working: CreditSet) -> tuple[MarkTold, ...]:
    report = working.reports.get(working.report_keys.get(row.number, b"")) if row.source == Source.REPORTS else None
    telling = Telling(row.about, row.currency, ((row.role, row.subject),), decoded(row.measures))
    teller = "" if report is None else report.teller
    source = Source(row.source)
    return marks_told(row.kind, telling, source=source, at_us=row.at_us, number=row.number, teller=teller)
