"""How an event of a subject's log is taken back: by a row that subtracts, at the time at which it was added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danbao_credit.application.marking import touch
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.appeal import EventKey
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.log import LogRow, changes_of_row
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
    subject: str, rows: Sequence[LogRow], working: CreditSet, moment: Moment, catalogue: Catalogue
) -> tuple[EventKey, ...]:
    """Subtracts these rows of one subject from its log and profile; which events they were."""
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
        working.taken_back.put((subject, key), True)
    if changes:
        profile = working.subjects.get(subject) or Profile.empty()
        working.subjects.put(subject, profile.with_changes(changes))
    touch(working, subject, moment.traceparent, urgent=True)
    return tuple(taken)


def _kept(rows: Iterable[LogRow], working: CreditSet) -> Iterable[LogRow]:
    """Those that added something and were not taken back."""
    for row in rows:
        if row.sign > 0 and not working.taken_back.get((row.subject, EventKey(row.source, row.number))):
            yield row
