"""What stands about a subject until it ends: confirmed fraud, unpaid promises, overdue obligations, suspected takeover.

A mark is about one thing, its reference, and begins and ends once: with the earliest telling of its beginning and the
earliest of its end; an end that lies before the beginning means that it never stood. Whatever is told without any
reference is one mark that may stand again and again: from a beginning to the next end. All tellings are kept, each
with the number of its event, so a history that is shuffled, late or told twice gives the same marks, and what takes a
telling back takes back that one only. An annulled mark, of fraud whose appeal was upheld, never stood.

What a partner tells of an end ends only what the same partner told of the beginning. What the platform knows, by its
own services or its officers, ends everybody's, and no partner can end it: else any partner could whitewash a friend.

Times are microseconds since the epoch, in business time; evaluations look at whole seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from danbao_credit.domain.events import Source
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.telling import Telling

_SECOND_US = 1_000_000
# The measure of a claim's telling that is 1 where the arbiter found no fraud. Claims without a finding are of fraud: a
# claim is a buyer's word that the seller cheated.
GOODWILL = "goodwill"


class MarkKind(StrEnum):
    """What stands, in the order of the hard rules."""

    FRAUD = "fraud"
    PROMISE_UNPAID = "promise_unpaid"
    OVERDUE = "overdue"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """A beginning or an end: when, by what (source and kind of an event, an appeal's name), and the trace of its cause.

    `number` is the event's own at its source.
    """

    at_us: int
    by: str
    traceparent: str = ""
    # An end only: it is as if the mark had never stood.
    annuls: bool = False
    # Which partner told it, as the caller of its request; empty: the platform, by a service or an officer.
    teller: str = ""
    # 0: no event told it.
    number: int = 0

    @property
    def telling(self) -> tuple[int, str, str, int]:
        """Which telling it is: the same one again turns nothing."""
        return self.at_us, self.by, self.teller, self.number


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
    """A mark as far as it was told. `grade` is the subject's when a suspicion began; None where none was remembered.

    `begins` and `ends` are all tellings, each once, in the order of time.
    """

    subject: str
    kind: MarkKind
    reference: str
    begins: tuple[Turn, ...] = ()
    ends: tuple[Turn, ...] = ()
    grade: Grade | None = None

    @property
    def key(self) -> MarkKey:
        return MarkKey(self.subject, self.kind, self.reference)

    @property
    def is_annulled(self) -> bool:
        """Whether it is as if it had never stood."""
        return any(turn.annuls for turn in self.ends)

    @property
    def runs(self) -> list[tuple[Turn, Turn | None]]:
        """From when to when it stood, in order; None: it stands. With a reference once at the most, of each teller."""
        if self.is_annulled:
            return []
        told: list[_Run] = []
        for teller in sorted({turn.teller for turn in self.begins}):
            begins = [turn for turn in self.begins if turn.teller == teller]
            ends = [turn for turn in self.ends if turn.teller in ("", teller)]
            told += _once(begins, ends) if self.reference else _again_and_again(begins, ends)
        return _joined(told)

    @property
    def begin(self) -> Turn | None:
        """How it began, the last time that it stood; None: it never stood."""
        runs = self.runs
        return runs[-1][0] if runs else None

    @property
    def latest_begins(self) -> tuple[Turn, ...]:
        """All that told of its beginning, the last time that it stood. Of one with a reference: all that ever did."""
        begin = self.begin
        if self.reference or begin is None:
            return self.begins
        return tuple(turn for turn in self.begins if turn.at_us >= begin.at_us)

    @property
    def end(self) -> Turn | None:
        """What ended it; None: it stands, or never stood and was not annulled."""
        runs = self.runs
        if runs:
            return runs[-1][1]
        return next((turn for turn in self.ends if turn.annuls), None)

    def stood_s(self, as_of_s: int, *, ahead_s: int = 0) -> int | None:
        """For how many seconds it had stood; None where it did not. One that begins up to `ahead_s` later counts as 0.

        Services' clocks differ a little: what was told to us has happened, although our clock may not be there yet.
        """
        for begin, end in reversed(self.runs):
            begin_s = begin.at_us // _SECOND_US
            if begin_s <= as_of_s + ahead_s:
                ended = end is not None and end.at_us // _SECOND_US <= as_of_s
                return None if ended else max(as_of_s - begin_s, 0)
        return None

    def told(self, told: MarkTold) -> Mark:
        """The mark after one more telling of it."""
        assert told.key == self.key
        if told.begins:
            return replace(self, begins=_with(self.begins, told.turn))
        return replace(self, ends=_with(self.ends, told.turn))

    def without(self, told: MarkTold) -> Mark:
        """The mark as if that had never been told."""
        assert told.key == self.key
        if told.begins:
            return replace(self, begins=_without(self.begins, told.turn))
        return replace(self, ends=_without(self.ends, told.turn))


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


def may_tell_marks(kind: str, source: Source) -> bool:
    """Whether such an event says anything about marks."""
    return (source, kind) in _RULES


def marks_told(
    kind: str,
    telling: Telling,
    *,
    source: Source,
    at_us: int,
    number: int,
    traceparent: str = "",
    teller: str = "",
) -> tuple[MarkTold, ...]:
    """What an event says about marks; its reference is what it is about. `number`: the event's own at its source, of
    what takes an event back that event's. `teller`: which partner told it."""
    rules = _RULES.get((source, kind), ())
    if not rules:
        return ()
    told: list[MarkTold] = []
    for role, subject in telling.roles:
        for of_role, mark, begins in rules:
            if of_role != role:
                continue
            if mark is MarkKind.FRAUD and telling.measures.get(GOODWILL):
                continue
            turn = Turn(at_us, f"{source}.{kind}", traceparent, teller=teller, number=number)
            told.append(MarkTold(subject, mark, telling.about, begins, turn))
    return tuple(told)


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
    return min(
        suspected, key=lambda mark: (-(mark.stood_s(as_of_s, ahead_s=ahead_s) or 0), mark.reference), default=None
    )


_Run = tuple[Turn, Turn | None]


def _once(begins: list[Turn], ends: list[Turn]) -> list[_Run]:
    begin, end = begins[0], ends[0] if ends else None
    return [(begin, end)] if end is None or end.at_us > begin.at_us else []


def _again_and_again(begins: list[Turn], ends: list[Turn]) -> list[_Run]:
    runs: list[_Run] = []
    begun: Turn | None = None
    # Of a beginning and an end at the same moment the end is the later one.
    for is_end, turn in sorted(
        [(False, turn) for turn in begins] + [(True, turn) for turn in ends],
        key=lambda item: (item[1].at_us, item[0], item[1]),
    ):
        if is_end and begun is not None:
            runs.append((begun, turn))
            begun = None
        elif not is_end and begun is None:
            begun = turn
    return runs if begun is None else [*runs, (begun, None)]


def _joined(runs: Iterable[_Run]) -> list[_Run]:
    """When any of them ran, in order: what overlaps is one run, from the earlier beginning to the later end."""
    joined: list[_Run] = []
    for begin, end in sorted(runs, key=lambda run: run[0]):
        if joined and (joined[-1][1] is None or begin.at_us < joined[-1][1].at_us):
            first, last = joined[-1]
            later = None if last is None or end is None else max(last, end)
            joined[-1] = (first, later)
        else:
            joined.append((begin, end))
    return joined


def _with(turns: tuple[Turn, ...], turn: Turn) -> tuple[Turn, ...]:
    # Thousands may be told of one mark, under the lock of the writers: found by halving, not by looking at each.
    place = bisect_left(turns, turn.telling, key=_telling_of)
    known = place < len(turns) and turns[place].telling == turn.telling
    return turns if known else (*turns[:place], turn, *turns[place:])


def _without(turns: tuple[Turn, ...], turn: Turn) -> tuple[Turn, ...]:
    return tuple(known for known in turns if known.telling != turn.telling)


def _telling_of(turn: Turn) -> tuple[int, str, str, int]:
    return turn.telling
