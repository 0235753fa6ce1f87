"""What an audit of escrow looks for, and what a look found. Numbers are those of the whole system's invariants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold. Of two services: only what is seen twice counts, for both go on meanwhile."""

    invariant: int
    name: str
    title: str
    of_two: bool = False


COUNTERS = Rule(5, "counters", "what a trade released and refunded is what its steps and chargebacks moved")
FUNDED_ONCE = Rule(5, "funded_once", "a funded trade has exactly one step that paid it")
ENDED_EMPTY = Rule(6, "ended_empty", "a trade that has ended holds nothing")
NEVER_MORE = Rule(7, "never_more", "released and refunded are never more than funded, and nothing is negative")
PARTIES = Rule(9, "parties", "a step's parties and currency are its trade's")
TIMELINE = Rule(11, "timeline", "a timeline has no gaps and is as long as its trade says")
STEP_ENTRIES = Rule(11, "step_entries", "each step that is done stands on the timeline once")
EVENTS = Rule(11, "events", "there is one event for each transition, and one transition for each event")
STATES = Rule(16, "states", "a trade's state follows from its lines, and its sums are its lines'")
STEPS_MATCH = Rule(
    9, "steps_match", "each step that is done is exactly one transaction of payments, of its amount", True
)
MOVEMENTS_MATCH = Rule(9, "movements_match", "each transaction upon a trade's account is a step that is done", True)
CHARGEBACKS_MATCH = Rule(9, "chargebacks_match", "what chargebacks took of a trade is what payments told", True)
TOLD = Rule(5, "told", "what payments' events moved in a trade's account is funded − released − refunded", True)
HELD = Rule(5, "held", "what a trade's account holds in payments' books is funded − released − refunded", True)
STRAY = Rule(
    9, "stray", "payments' books have no transaction upon a trade's account that its events did not tell", True
)

RULES = (
    COUNTERS,
    FUNDED_ONCE,
    ENDED_EMPTY,
    NEVER_MORE,
    PARTIES,
    TIMELINE,
    STEP_ENTRIES,
    EVENTS,
    STATES,
    STEPS_MATCH,
    MOVEMENTS_MATCH,
    CHARGEBACKS_MATCH,
    TOLD,
    HELD,
    STRAY,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is not as it must be."""

    rule: Rule
    resource: str
    expected: str
    found: str
    off_minor: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What there was to look at."""

    trades: int
    steps: int
    movements: int
    parked: int
    payments_sequence: int


@dataclass(frozen=True, slots=True)
class Look:
    """One look; `done` are the rules that were looked at to their end."""

    read_time: datetime
    elapsed_s: float
    counts: Counts
    done: frozenset[str]
    violations: tuple[Violation, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every rule was looked at."""
        return all(rule.name in self.done for rule in RULES)

    @property
    def is_intact(self) -> bool:
        """Whether every rule was looked at, and holds."""
        return self.is_complete and not self.violations

    @property
    def must_be_seen_twice(self) -> bool:
        """Whether anything was found that may be nothing but the time between two reads."""
        return any(violation.rule.of_two for violation in self.violations)

    def confirmed_by(self, again: Look) -> Look:
        """The later look, of what concerns two services only what this one saw too."""
        seen = {(violation.rule.name, violation.resource) for violation in self.violations}
        kept = tuple(
            violation
            for violation in again.violations
            if not violation.rule.of_two or (violation.rule.name, violation.resource) in seen
        )
        return replace(again, violations=kept, elapsed_s=self.elapsed_s + again.elapsed_s)


def by_rule(violations: Iterable[Violation]) -> tuple[Violation, ...]:
    """In the order of the rules, then by resource."""
    order = {rule.name: place for place, rule in enumerate(RULES)}
    return tuple(sorted(violations, key=lambda each: (order[each.rule.name], each.resource)))
