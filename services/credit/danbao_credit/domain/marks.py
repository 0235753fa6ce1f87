"""What stands about a subject until it ends: confirmed fraud, unpaid promises, overdue obligations, suspected takeover.

A mark is about one thing, its reference, and begins and ends once: who suspects or owes something anew names a new
reference. It begins with the earliest telling of its beginning and ends with the earliest of its end, so a history that
is shuffled, late or told twice gives the same marks. An end may be told before the beginning; an end that lies before
the beginning means that it never stood. An annulled mark, of fraud whose appeal was upheld, never stood either.

Times are microseconds since the epoch, in business time; evaluations look at whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Telling
from danbao_credit.domain.grades import Grade

_SECOND_US = 1_000_000
# The measure of a claim's telling that is 1 where the arbiter found no fraud. Claims without a finding are of fraud: that
# is what a claim is made of.
GOODWILL = "goodwill"


class MarkKind(StrEnum):
    """What stands, in the order of the hard rules."""

    FRAUD = "fraud"
    PROMISE_UNPAID = "promise_unpaid"
    OVERDUE = "overdue"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """A beginning or an end: when, by what (an event's kind, an appeal's name), and the trace that caused it."""

    at_us: int
    by: str
    traceparent: str = ""
    # An end only: it is as if the mark had never stood.
    annuls: bool = False


@dataclass(frozen=True, slots=True)
class MarkTold:
    """What one event says about one mark."""

    subject: str
    kind: MarkKind
    reference: str
    begins: bool
    turn: Turn

    @property
    def key(self) -> MarkKey:
        return MarkKey(self.subject, self.kind, self.reference)


@dataclass(frozen=True, slots=True, order=True)
class MarkKey:
    """Which mark."""

    subject: str
    kind: MarkKind
    reference: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark as far as it was told. `grade` is the subject's when a suspicion began; None where none was remembered."""

    subject: str
    kind: MarkKind
    reference: str
    begin: Turn | None = None
    end: Turn | None = None
    grade: Grade | None = None

    @property
    def key(self) -> MarkKey:
        return MarkKey(self.subject, self.kind, self.reference)

    @property
    def begin_s(self) -> int | None:
        """When it began; None while that was not told, or where it was annulled or ended before it began."""
        if self.begin is None or (self.end is not None and (self.end.annuls or self.end.at_us <= self.begin.at_us)):
            return None
        return self.begin.at_us // _SECOND_US

    @property
    def end_s(self) -> int | None:
        """When it ended; None: not yet."""
        return None if self.end is None else self.end.at_us // _SECOND_US

    def stood_s(self, as_of_s: int, *, ahead_s: int = 0) -> int | None:
        """For how many seconds it had stood; None where it did not. One that begins up to `ahead_s` later counts as 0.

        Services' clocks differ a little: what was told to us has happened, although our clock may not be there yet.
        """
        begin_s, end_s = self.begin_s, self.end_s
        if begin_s is None or begin_s > as_of_s + ahead_s or (end_s is not None and end_s <= as_of_s):
            return None
        return max(as_of_s - begin_s, 0)

    def told(self, told: MarkTold) -> Mark:
        """The mark after one more telling of it."""
        assert told.key == self.key
        if told.begins:
            return replace(self, begin=told.turn if self.begin is None else min(self.begin, told.turn))
        return replace(self, end=told.turn if self.end is None else _ended(self.end, told.turn))


def new_mark(key: MarkKey) -> Mark:
    """A mark of which nothing was told yet."""
    return Mark(key.subject, key.kind, key.reference)


# (source, kind of event) → (role of whom, kind of mark, whether it begins).
_RULES: Mapping[tuple[Source, str], tuple[tuple[str, MarkKind, bool], ...]] = MappingProxyType(
    {
        (Source.ESCROW, "claim_compensated"): (
            ("seller", MarkKind.FRAUD, True),
            ("seller", MarkKind.PROMISE_UNPAID, False),
        ),
        # Awarded, and neither the deposit nor the fund could pay it.
        (Source.ESCROW, "claim_payment_refused"): (("seller", MarkKind.PROMISE_UNPAID, True),),
        (Source.ESCROW, "claim_rejected"): (("seller", MarkKind.PROMISE_UNPAID, False),),
        (Source.REPORTS, "promise_made"): (("subject", MarkKind.PROMISE_UNPAID, True),),
        # Whoever was never told that it was made is told now.
        (Source.REPORTS, "promise_broken"): (("subject", MarkKind.PROMISE_UNPAID, True),),
        (Source.REPORTS, "promise_kept"): (("subject", MarkKind.PROMISE_UNPAID, False),),
        (Source.REPORTS, "obligation_due"): (("subject", MarkKind.OVERDUE, True),),
        (Source.REPORTS, "obligation_settled"): (("subject", MarkKind.OVERDUE, False),),
        (Source.REPORTS, "takeover_suspected"): (("subject", MarkKind.TAKEOVER, True),),
        (Source.REPORTS, "takeover_cleared"): (("subject", MarkKind.TAKEOVER, False),),
        (Source.REPORTS, "fraud_confirmed"): (("subject", MarkKind.FRAUD, True),),
    }
)
# Reports that turn a mark, hence must say by `about` which thing they mean.
MARKING_REPORTS = frozenset(kind for source, kind in _RULES if source is Source.REPORTS)
_FRAUDS = frozenset(
    (source.value, kind)
    for (source, kind), rules in _RULES.items()
    if any(mark is MarkKind.FRAUD and begins for _, mark, begins in rules)
)
# Only an operator may report these: they block a subject.
OPERATORS_REPORTS = frozenset({"fraud_confirmed"})


def marks_told(
    kind: str, telling: Telling, *, source: Source, at_us: int, traceparent: str = ""
) -> tuple[MarkTold, ...]:
    """What an event says about marks. Raises EventMalformed where it does not say which thing it means."""
    rules = _RULES.get((source, kind), ())
    if not rules:
        return ()
    if not telling.about:
        raise EventMalformed(f"{kind}: it does not say what it is about")
    told: list[MarkTold] = []
    for role, subject in telling.roles:
        for of_role, mark, begins in rules:
            if of_role != role:
                continue
            if mark is MarkKind.FRAUD and telling.measures.get(GOODWILL):
                continue
            turn = Turn(at_us, f"{source}.{kind}", traceparent)
            told.append(MarkTold(subject, mark, telling.about, begins, turn))
    return tuple(told)


def begins_fraud(source: str, kind: str) -> bool:
    """Whether such an event confirms fraud."""
    return (source, kind) in _FRAUDS


def taken_back(told: MarkTold, turn: Turn) -> MarkTold | None:
    """What the reversal of an event means: a mark that it began is annulled, one that it ended stays ended."""
    return replace(told, begins=False, turn=replace(turn, annuls=True)) if told.begins else None


def standing(marks: Iterable[Mark], as_of_s: int, *, ahead_s: int = 0) -> dict[MarkKind, int]:
    """What stands at a moment, and for how many seconds at the longest."""
    found: dict[MarkKind, int] = {}
    for mark in marks:
        stood_s = mark.stood_s(as_of_s, ahead_s=ahead_s)
        if stood_s is not None:
            found[mark.kind] = max(found.get(mark.kind, 0), stood_s)
    return found


def suspicion(marks: Iterable[Mark], as_of_s: int, *, ahead_s: int = 0) -> Mark | None:
    """The earliest suspicion of a takeover that stands at a moment: its grade is the one that terms are frozen at."""
    suspected = [
        mark for mark in marks if mark.kind is MarkKind.TAKEOVER and mark.stood_s(as_of_s, ahead_s=ahead_s) is not None
    ]
    return min(suspected, key=lambda mark: (mark.begin_s or 0, mark.reference), default=None)


def _ended(known: Turn, told: Turn) -> Turn:
    """Of two ends the earlier; one that annuls goes before one that does not."""
    return min(known, told, key=lambda turn: (not turn.annuls, turn))
