"""Which scores are the highest possible while a mark stands, whatever the points say.

Fraud: 350 and blocked until an appeal succeeds. A promise unpaid for more than 72 hours: at most 549, a grade E. An
obligation overdue for more than 30 days: at most 599, a grade D. A suspected takeover leaves the score alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from danbao_credit.domain.grades import LOWEST_SCORE
from danbao_credit.domain.marks import Mark, MarkKind
from danbao_credit.domain.windows import DAY_S, HOUR_S

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class HardRule:
    """The score is at most `at_most` once a mark of a kind has stood for more than `grace_s` seconds.

    `unit_s`: in what the text counts how long it has stood.
    """

    code: str
    kind: MarkKind
    grace_s: int
    at_most: int
    unit_s: int

    def binds(self, stood_s: int) -> bool:
        return stood_s > self.grace_s or self.grace_s == 0


# In the order in which they are applied, before the caps of the model.
HARD_RULES = (
    HardRule("FRAUD_CONFIRMED", MarkKind.FRAUD, 0, LOWEST_SCORE, DAY_S),
    HardRule("PROMISE_UNPAID", MarkKind.PROMISE_UNPAID, 72 * HOUR_S, 549, HOUR_S),
    HardRule("OVERDUE", MarkKind.OVERDUE, 30 * DAY_S, 599, DAY_S),
)


def binding(standing: Mapping[MarkKind, int]) -> list[tuple[HardRule, int]]:
    """The rules that bind, in order, each with how many of its units the mark has stood."""
    return [
        (rule, standing[rule.kind] // rule.unit_s)
        for rule in HARD_RULES
        if rule.kind in standing and rule.binds(standing[rule.kind])
    ]


def next_turn_s(marks: Iterable[Mark], as_of_s: int) -> int | None:
    """The first second after a moment at which a mark begins to stand or a rule begins to bind, by what is known."""
    graces = {rule.kind: rule.grace_s for rule in HARD_RULES}
    turns = [
        turn_s
        for mark in marks
        for begin, end in mark.runs
        for turn_s in (begin.at_us // _SECOND_US, begin.at_us // _SECOND_US + graces.get(mark.kind, 0) + 1)
        if turn_s > as_of_s and (end is None or turn_s < end.at_us // _SECOND_US)
    ]
    return min(turns, default=None)
