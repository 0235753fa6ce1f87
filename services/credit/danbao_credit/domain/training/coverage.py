"""Which indicators say something about somebody, and which of them say the same about everybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from danbao_credit.domain.catalogue import Catalogue, SubjectFacts, SubjectKind
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.training.histories import Histories, History
from danbao_credit.domain.windows import DAY_US

_MICROSECONDS = 1_000_000
_LATER_DAYS = (31, 91, 366)
_MISSING = np.uint64(0x7FF8_0000_0000_0001)
# An odd multiplier and a shift: values that differ anywhere give other signatures (Knuth, TAOCP 6.4).
_MULTIPLIER = np.uint64(0x9E37_79B9_7F4A_7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of one kind, over all subjects and moments that were looked at, by name.

    `missing`: had a value for nobody. `constant`: never had another value than one, such as a count or a share of what
    did not happen. `equal`: groups of others that had the same value, or none, for everybody at every moment.
    """

    kind: SubjectKind
    indicators: int
    missing: tuple[str, ...]
    constant: tuple[str, ...]
    equal: tuple[tuple[str, ...], ...]

    @property
    def known(self) -> int:
        """How many had a value for somebody."""
        return self.indicators - len(self.missing)

    @property
    def share(self) -> float:
        """Of all indicators."""
        return self.known / max(self.indicators, 1)


def coverage_of(
    histories: Histories, catalogue: Catalogue, *, step_days: int
) -> tuple[dict[SubjectKind, Coverage], int]:
    """By kind, and how often values were looked at.

    Every subject is looked at as of each cut (every `step_days` at midnight UTC) since the one before which something
    happened to it, right after its own last event, when the shortest windows still hold it, and 31, 91 and 366 days
    after that, when one window after the other holds nothing any more. So an indicator's windows can be told apart.
    """
    seen = _Seen(len(catalogue.indicators))
    listed = catalogue.listed(category="", kind=None)
    for subject in sorted(histories.by_subject):
        for profile, at_us in _moments(histories.by_subject[subject], step_days):
            facts = SubjectFacts(profile, as_of_s=at_us // _MICROSECONDS, slots=catalogue.slot_ids)
            seen.take(catalogue.values(facts, None))
    found = {}
    for kind in SubjectKind:
        places = [place for place, item in enumerate(listed) if item.applies(kind)]
        found[kind] = seen.coverage(kind, places, [item.name for item in listed])
    return found, seen.moments


def _moments(history: History, step_days: int) -> Iterator[tuple[Profile, int]]:
    """Profiles, each as of a moment later than all that is in it."""
    step_us = step_days * DAY_US
    profile, played = Profile.empty(), 0
    last_us = history.times_us[-1] + _MICROSECONDS
    cuts = sorted({-(-(time_us + 1) // step_us) * step_us for time_us in history.times_us})
    later = (last_us + days * DAY_US for days in _LATER_DAYS)
    for at_us in (*(cut for cut in cuts if cut < last_us), last_us, *later):
        until = history.before(at_us)
        if until > played:
            profile = profile.with_changes(
                zip(history.times_us[played:until], history.changes[played:until], strict=True)
            )
            played = until
        yield profile, at_us


class _Seen:
    """Signatures of columns of values, a column an indicator: equal columns have equal ones."""

    def __init__(self, indicators: int) -> None:
        self.moments = 0
        self._signatures = np.zeros(indicators, np.uint64)
        self._known = np.zeros(indicators, bool)
        self._varies = np.zeros(indicators, bool)
        self._first = np.full(indicators, _MISSING, np.uint64)

    def take(self, values: Sequence[float | int | None]) -> None:
        numbers = np.array([np.nan if value is None else value for value in values], float) + 0.0
        bits = np.where(np.isnan(numbers), _MISSING, numbers.view(np.uint64))
        self.moments += 1
        known = bits != _MISSING
        self._first = np.where(self._known, self._first, bits)
        self._known |= known
        self._varies |= known & (bits != self._first)
        mixed = (self._signatures ^ bits) * _MULTIPLIER
        self._signatures = mixed ^ (mixed >> _SHIFT)

    def coverage(self, kind: SubjectKind, places: Sequence[int], names: Sequence[str]) -> Coverage:
        groups: dict[int, list[str]] = defaultdict(list)
        for place in places:
            if self._known[place] and self._varies[place]:
                groups[int(self._signatures[place])].append(names[place])
        return Coverage(
            kind=kind,
            indicators=len(places),
            missing=tuple(names[place] for place in places if not self._known[place]),
            constant=tuple(names[place] for place in places if self._known[place] and not self._varies[place]),
            equal=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        )
