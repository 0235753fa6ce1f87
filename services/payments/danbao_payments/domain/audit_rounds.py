"""What an auditor knows that looks at what is new all the time, and at everything bit by bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from danbao_payments.domain.audit import Checked, Counts, Flows, Look, Loss, Rule, Violation, added, lost

# The least that a look at what is new takes in, however slow it was.
LEAST = 1_000
# More at once would sort on disk.
MOST = 100_000


def joined(parts: Sequence[Look]) -> Look:
    """A round's looks, each at some of the rules, as one that is as old as the first of them."""
    return replace(
        parts[0],
        elapsed_s=sum(part.elapsed_s for part in parts),
        checked=tuple(checked for part in parts for checked in part.checked),
        counts=Counts(*[max(numbers) for numbers in zip(*[part.counts for part in parts], strict=True)]),
        currencies=tuple(sorted({currency for part in parts for currency in part.currencies})),
        flows=next((part.flows for part in parts if part.flows is not None), None),
    )


def most_next(most: int, looked_at: int, elapsed_s: float, may_take_s: float) -> int:
    """How many transfers the next look at what is new may take in, after one that might take in `most`."""
    if elapsed_s > may_take_s:
        return max(LEAST, int(min(most, looked_at) * may_take_s / elapsed_s))
    return min(MOST, most * 2) if elapsed_s < may_take_s / 2 else most


class Known:
    """What is known to be lost now, and what moved.

    What a look at new rows finds stands until a later look at all rows of the same rule says otherwise: the next look
    at new rows no longer sees it. Times are seconds on any one clock.
    """

    def __init__(self) -> None:
        self._whole: dict[str, Checked] = {}
        # By rule, then by currency and resource: the last time that it was found, and as what.
        self._new: dict[str, dict[tuple[str, str], tuple[float, Violation]]] = {}
        self._rules: dict[str, Rule] = {}
        self._moved: Mapping[str, Flows] = {}
        self._moved_to = 0
        # What moved since, and after which transfer.
        self._moved_since: list[tuple[int, Mapping[str, Flows]]] = []
        self._waits: Mapping[str, Flows] = {}
        self._currencies: set[str] = set()

    def take_whole(self, look: Look, began: float) -> None:
        """Of the rules that it looked at it says all; only what was found in rows that came since it began stands."""
        for checked in look.checked:
            if checked.done:
                name = checked.rule.name
                self._rules[name], self._whole[name] = checked.rule, checked
                self._new[name] = {key: found for key, found in self._new.get(name, {}).items() if found[0] >= began}
        if look.flows is not None:
            self._moved = self._waits = look.flows
            self._moved_to = look.sequence
            self._moved_since = [each for each in self._moved_since if each[0] >= look.sequence]
        self._currencies |= set(look.currencies)

    def take_new(self, look: Look, began: float) -> None:
        """Adds what a look at new rows found."""
        for checked in look.checked:
            self._rules[checked.rule.name] = checked.rule
            known = self._new.setdefault(checked.rule.name, {})
            others = dict(checked.off_minor or {})
            for violation in checked.violations:
                known[violation.currency, violation.resource] = (began, violation)
                others[violation.currency] = others.get(violation.currency, 0) - violation.off_minor
            for currency, off_minor in others.items():
                if off_minor > 0:
                    violation = Violation(checked.rule, f"others, {began}", currency, "", "", off_minor)
                    known[currency, violation.resource] = (began, violation)
        if look.flows is not None:
            # What may have been counted already is not counted again: a rate may be too high for a while, not too low.
            if look.since.sequence >= self._moved_to:
                self._moved_since.append((look.since.sequence, look.flows))
            self._waits = look.flows
        self._currencies |= set(look.currencies)

    def losses(self) -> Sequence[Loss]:
        """By currency."""
        moved = self._moved
        for _, flows in self._moved_since:
            moved = added(moved, flows)
        shown = {}
        for currency in sorted(self._currencies):
            waits = self._waits.get(currency, Flows())
            shown[currency] = moved.get(currency, Flows())._replace(
                limbo_minor=waits.limbo_minor, limbo_count=waits.limbo_count
            )
        return lost([self._checked(rule) for rule in self._rules.values()], list(shown), shown)

    def _checked(self, rule: Rule) -> Checked:
        whole = self._whole.get(rule.name, Checked(rule, done=False))
        told = {(violation.currency, violation.resource) for violation in whole.violations}
        off_minor = dict(whole.off_minor or {})
        for key, (_, violation) in self._new.get(rule.name, {}).items():
            if key not in told:
                off_minor[violation.currency] = off_minor.get(violation.currency, 0) + violation.off_minor
        return Checked(rule, whole.done, off_minor=off_minor)
