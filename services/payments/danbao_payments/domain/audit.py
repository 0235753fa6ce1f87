"""What an audit says: which rules it looked at, what it found, and what the books lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

BILLION = 1_000_000_000


class Term(StrEnum):
    """A part of the asset loss."""

    UNBALANCED = "UNBALANCED"  # debits and credits differ
    MISMATCHED = "MISMATCHED"  # a total is not the sum of its transfers
    HELD = "HELD"  # what is held is not what payments hold
    DUPLICATED = "DUPLICATED"  # an effect without a request, or a second one
    MISSING = "MISSING"  # answered as done, and not there
    OVERPAID = "OVERPAID"  # given back beyond what was taken


@dataclass(frozen=True, slots=True)
class Rule:
    """What must be. `invariant` is its number in the list of the whole system; 0: payments' own."""

    invariant: int
    name: str
    title: str
    term: Term | None = None


class Violation(NamedTuple):
    """One thing that is not as it must be. `currency` is empty and `off_minor` 0 where they say nothing."""

    rule: Rule
    resource: str
    currency: str
    expected: str
    found: str
    off_minor: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one rule: the first violations of each currency, how many there are, and what they are off by.

    Not `done`: the time did not suffice, nothing is known.
    """

    rule: Rule
    done: bool
    violations: tuple[Violation, ...] = ()
    counts: Mapping[str, int] | None = None
    off_minor: Mapping[str, int] | None = None

    def count(self, currency: str = "") -> int:
        """How many violations there are; with a currency those in it and those in none."""
        counts = self.counts or {}
        return sum(number for key, number in counts.items() if not currency or key in ("", currency))


class Flows(NamedTuple):
    """What moved in one currency within the window, and what waits now. Minor units."""

    settled_minor: int = 0
    limbo_minor: int = 0
    limbo_count: int = 0
    fraud_minor: int = 0


def added(one: Mapping[str, Flows], other: Mapping[str, Flows]) -> dict[str, Flows]:
    """What moved in either, by currency; what waits is what the first says."""
    sums = dict(one)
    for currency, flows in other.items():
        first = sums.get(currency, Flows())
        sums[currency] = first._replace(
            settled_minor=first.settled_minor + flows.settled_minor, fraud_minor=first.fraud_minor + flows.fraud_minor
        )
    return sums


class Counts(NamedTuple):
    """How many rows there were to look at."""

    accounts: int
    transactions: int
    transfers: int
    batches: int
    payments: int
    top_ups: int
    withdrawals: int
    refunds: int
    requests: int
    events: int


class Window(NamedTuple):
    """From `since` to before `until`, by recorded time; None: no bound."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Window()


class Part(NamedTuple):
    """Some of a look at all: the rules by name, or the sums beside them."""

    rules: frozenset[str] = frozenset()
    flows: bool = False
    counts: bool = False


class Position(NamedTuple):
    """How far books were looked at: the last transfer and the last event that were seen."""

    sequence: int
    event_sequence: int


_BEGINNING = Position(0, 0)


class Extent(StrEnum):
    """What was looked at."""

    WHOLE = "WHOLE"  # everything there is
    NEW = "NEW"  # what came after the last look, and what it touched


@dataclass(frozen=True, slots=True)
class Look:
    """One look at books. `flows` is None where the time did not suffice for it.

    `since` is the position of the last look, of a look at what is new; `skipped` are the transfers before it that
    neither look sees.
    """

    read_time: datetime
    elapsed_s: float
    sequence: int
    event_sequence: int
    chain_hash: bytes
    counts: Counts
    checked: tuple[Checked, ...]
    currencies: tuple[str, ...]
    flows: Mapping[str, Flows] | None
    extent: Extent = Extent.WHOLE
    since: Position = _BEGINNING
    skipped: int = 0

    @property
    def position(self) -> Position:
        """How far it saw."""
        return Position(self.sequence, self.event_sequence)

    @property
    def is_complete(self) -> bool:
        """Whether every check was made to its end."""
        return all(each.done for each in self.checked)

    def violations(self, currency: str = "") -> list[Violation]:
        """In the order of the checks; with a currency those in it and those in none."""
        return [
            violation
            for each in self.checked
            for violation in each.violations
            if not currency or violation.currency in ("", currency)
        ]

    def count(self, currency: str = "") -> int:
        """How many violations there are, shown or not."""
        return sum(each.count(currency) for each in self.checked)


@dataclass(frozen=True, slots=True)
class Loss:
    """What the books lack in one currency, beside what moved. Minor units."""

    currency: str
    terms: Mapping[Term, int]
    flows: Flows

    @property
    def total_minor(self) -> int:
        """0 in books that are right. One unit that is missing may show in several terms: it is never too small."""
        return sum(self.terms.values())

    @property
    def parts_per_billion(self) -> int:
        """Of the value settled, rounded up: a loss is never shown as none."""
        if self.flows.settled_minor == 0:
            return BILLION if self.total_minor else 0
        return -(-self.total_minor * BILLION // self.flows.settled_minor)


def losses(look: Look, currency: str = "") -> Sequence[Loss]:
    """By currency."""
    return lost(look.checked, [currency] if currency else look.currencies, look.flows or {})


def lost(checked: Sequence[Checked], currencies: Sequence[str], flows: Mapping[str, Flows]) -> Sequence[Loss]:
    """By currency. What is off in no currency is no sum of money, so it is violated but not lost."""
    found = []
    for currency in currencies:
        terms = dict.fromkeys(Term, 0)
        for each in checked:
            if each.rule.term is not None:
                terms[each.rule.term] += (each.off_minor or {}).get(currency, 0)
        found.append(Loss(currency, terms, flows.get(currency, Flows())))
    return found
