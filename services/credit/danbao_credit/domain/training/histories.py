"""What happened to whom and when: every subject's changes in the order of time, gathered from streams of events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from danbao_credit.domain.profile import Change


@dataclass(slots=True)
class History:
    """One subject's changes; `times_us` and `changes` belong together, sorted by time once `sort` was called."""

    times_us: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def sort(self) -> None:
        """By time; what is of the same moment stays in the order in which it came."""
        order = sorted(range(len(self.times_us)), key=self.times_us.__getitem__)
        self.times_us = [self.times_us[place] for place in order]
        self.changes = [self.changes[place] for place in order]

    def before(self, time_us: int) -> int:
        """How many changes are earlier than a time."""
        return bisect_left(self.times_us, time_us)

    def total(self, slots: Collection[int], *, from_us: int, before_us: int) -> int:
        """What went into these slots from one time on and before another: sums, and of orders how many there were."""
        total = 0
        orders: set[int] = set()
        for place in range(self.before(from_us), self.before(before_us)):
            change = self.changes[place]
            if change.slot not in slots:
                continue
            if change.keep == "orders":
                orders.add(change.amount)
            else:
                total += change.amount
        return total + len(orders)


class Histories:
    """By subject. Equal changes are one object, for there are millions of them."""

    def __init__(self) -> None:
        self.by_subject: dict[str, History] = {}
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._known: dict[Change, Change] = {}

    def add(self, at_us: int, changes: Iterable[tuple[str, Change]]) -> None:
        """What one event changes."""
        self.first_us = at_us if self.first_us is None else min(self.first_us, at_us)
        self.last_us = at_us if self.last_us is None else max(self.last_us, at_us)
        for subject, change in changes:
            history = self.by_subject.get(subject)
            if history is None:
                history = self.by_subject[subject] = History()
            history.times_us.append(at_us)
            history.changes.append(self._known.setdefault(change, change))

    def sort(self) -> None:
        """Every history by time."""
        for history in self.by_subject.values():
            history.sort()
