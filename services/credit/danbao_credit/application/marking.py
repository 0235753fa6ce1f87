"""How marks are turned and annulled, and how it is noticed whose score may have moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from danbao_credit.application.working_set import CreditSet, Touched
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.marks import Mark, MarkKey, MarkKind, MarkTold, Turn, new_mark
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.scores import ScoreKey
from danbao_kit.decision import Moment, Need

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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


def annul_mark(working: CreditSet, moment: Moment, key: MarkKey, *, by: str) -> Mark | None:
    """The mark never stood, from now on and at every moment before; `by` names what says so, such as appeals/….

    What its events counted is taken back by `taking_back`. None: there is no such mark. One that was annulled stays as
    it is. Raises Need until mark and profile are loaded.
    """
    if key not in working.marks_loaded:
        raise Need(marks={key})
    mark = working.marks.get(key)
    if mark is None or not mark.begins:
        return None
    if mark.is_annulled:
        return mark
    turn = Turn((moment.now - _EPOCH) // _MICROSECOND, by, moment.traceparent, annuls=True)
    annulled = mark.told(MarkTold(key.subject, key.kind, key.reference, False, turn))
    _put(working, annulled, moment.traceparent)
    return annulled


def _put(working: CreditSet, mark: Mark, traceparent: str) -> None:
    working.marks.put(mark.key, mark)
    # A score is made from marks, too: with them the version rises that it is made from.
    working.subjects.put(mark.subject, working.subjects.get(mark.subject) or Profile.empty())
    touch(working, mark.subject, traceparent, urgent=True)
