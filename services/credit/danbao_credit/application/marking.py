"""How marks are turned and ended, and how it is noticed whose score may have moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from danbao_credit.application.working_set import CreditSet, Touched
from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.log import LogRow, changes_of_row
from danbao_credit.domain.marks import Mark, MarkKey, MarkKind, MarkTold, Turn, begins_fraud, new_mark
from danbao_credit.domain.profile import Change, Profile
from danbao_credit.domain.scores import ScoreKey
from danbao_kit.decision import Moment, Need

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reversal:
    """What takes back what events told of one subject: rows for the log, and what they change in the profile."""

    rows: tuple[LogRow, ...] = ()
    changes: tuple[tuple[int, Change], ...] = ()


def reversal_of(key: MarkKey, rows: Iterable[LogRow], catalogue: Catalogue) -> Reversal:
    """The reversal of the fraud that began a mark. `rows`: what the log holds of the subject about the reference.

    Rows are immutable, so this is prepared before the command and needs no lock. What was reversed before stays so.
    """
    known = [row for row in rows if row.subject == key.subject and row.about == key.reference]
    reversed_before = {(row.source, -row.number, row.role) for row in known if row.sign < 0}
    back = tuple(
        row._replace(number=-row.number, sign=-1)
        for row in known
        if row.sign > 0
        and begins_fraud(row.source, row.kind)
        and (row.source, row.number, row.role) not in reversed_before
    )
    return Reversal(back, tuple(change for row in back for change in changes_of_row(row, catalogue)))


def touch(working: CreditSet, subject: str, traceparent: str, *, urgent: bool = False) -> None:
    """The subject's score may have moved, by the request of that trace. Urgent: before those that are not."""
    known = working.touched.get(subject)
    if known is not None:
        traceparent, urgent = traceparent or known.traceparent, urgent or known.urgent
    working.touched.put(subject, Touched(traceparent, urgent))


def turn_mark(working: CreditSet, told: MarkTold, *, sign: int = 1) -> None:
    """Tells the mark what was told of it, or takes it back. Marks, profile and scores of the subject must be loaded."""
    known = working.marks.get(told.key)
    mark = known or new_mark(told.key)
    mark = mark.told(told) if sign > 0 else mark.without(told)
    if (
        told.kind is MarkKind.TAKEOVER
        and told.begins
        and (known is None or known.begin is None or known.end is not None)
    ):
        # The seller's grade before: that of the score recorded last.
        score = working.scores.get(ScoreKey(told.subject, SubjectKind.MERCHANT))
        mark = replace(mark, grade=None if score is None else score.grade)
    if mark != known:
        _put(working, mark, told.turn.traceparent)


def end_mark(
    working: CreditSet, moment: Moment, key: MarkKey, *, by: str, reversal: Reversal | None = None
) -> Mark | None:
    """Ends a mark now, and gives it; `by` names what ends it, such as appeals/…. None: there is no such mark.

    With a reversal the mark is annulled: it never stood, and what its events told is taken back. A mark that was
    annulled stays as it is. Raises Need until mark and profile are loaded.
    """
    if key not in working.marks_loaded:
        raise Need(marks={key})
    mark = working.marks.get(key)
    if mark is None or not mark.begins:
        return None
    if mark.is_annulled:
        return mark
    turn = Turn((moment.now - _EPOCH) // _MICROSECOND, by, moment.traceparent, annuls=reversal is not None)
    ended = mark.told(MarkTold(key.subject, key.kind, key.reference, False, turn))
    if reversal is not None:
        for row in reversal.rows:
            working.log_rows.append(row)
        profile = working.subjects.get(key.subject) or Profile.empty()
        working.subjects.put(key.subject, profile.with_changes(reversal.changes))
    _put(working, ended, moment.traceparent)
    return ended


def _put(working: CreditSet, mark: Mark, traceparent: str) -> None:
    working.marks.put(mark.key, mark)
    # A score is made from marks, too: with them the version rises that it is made from.
    working.subjects.put(mark.subject, working.subjects.get(mark.subject) or Profile.empty())
    touch(working, mark.subject, traceparent, urgent=True)
