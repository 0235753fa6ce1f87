"""What a score would be if some facts were others: both evaluations, side by side. Nothing is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from danbao_credit.application.evaluate import Evaluated, seconds
from danbao_credit.application.ports import CreditReader
from danbao_credit.domain.catalogue import Catalogue, Slot, SubjectKind
from danbao_credit.domain.errors import FieldInvalid, FieldViolation
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.expression import Value
from danbao_credit.domain.profile import Change, peer_hash
from danbao_kit.clock import Clock

# So many new peers at the most: each is an entry of the profile.
_MOST_PEERS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AssumedFact:
    """`amount` more of what a slot counts, at a time; None: now."""

    slot: str
    amount: int
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class AssumedValue:
    """Another value of an indicator; None: as if it could not be computed."""

    indicator: str
    value: Value


@dataclass(frozen=True, slots=True)
class Simulated:
    """What it is, and what it would be."""

    before: Evaluated
    after: Evaluated

    @property
    def differences(self) -> list[tuple[str, int]]:
        """Points by category: after less before."""
        before = dict(self.before.evaluation.sub_scores)
        return [(category, points - before[category]) for category, points in self.after.evaluation.sub_scores]

    @property
    def adjustments_difference(self) -> int:
        """What adjustments move the sum by: after less before."""
        before, after = (
            sum(item.points for item in evaluated.evaluation.adjustments) for evaluated in (self.before, self.after)
        )
        return after - before


async def simulate_score(
    subject: str,
    kind: SubjectKind | None,
    facts: Sequence[AssumedFact],
    values: Sequence[AssumedValue],
    *,
    judge: Judge,
    reader: CreditReader,
    clock: Clock,
) -> Simulated:
    """Raises FieldInvalid for a slot or indicator that the catalogue does not have, or what cannot be assumed of it."""
    as_of = clock.now()
    changes = _changes(facts, judge.catalogue, as_of)
    assumed = _values(values, judge.catalogue)
    snapshot = await reader.snapshot([subject])
    profile, as_of_s = snapshot.profile(subject), seconds(as_of)
    kind = kind or judge.kind_of(profile)
    stands = snapshot.standing(subject, as_of_s)
    before = judge.evaluate(profile, kind=kind, as_of_s=as_of_s, standing=stands)
    after = judge.evaluate(
        profile.with_changes(changes) if changes else profile,
        kind=kind,
        as_of_s=as_of_s,
        standing=stands,
        assumed=assumed,
    )
    return Simulated(Evaluated(subject, before, as_of, snapshot), Evaluated(subject, after, as_of, snapshot))


def _changes(facts: Iterable[AssumedFact], catalogue: Catalogue, as_of: datetime) -> list[tuple[int, Change]]:
    slots = {slot.name: slot for slot in catalogue.slots}
    changes: list[tuple[int, Change]] = []
    for position, fact in enumerate(facts):
        field = f"facts[{position}]"
        slot = slots.get(fact.slot)
        if slot is None:
            raise FieldInvalid(FieldViolation(f"{field}.slot", f"the catalogue counts no {fact.slot}"))
        at = fact.time or as_of
        if not _EPOCH <= at <= as_of:
            raise FieldInvalid(FieldViolation(f"{field}.time", "must not be later than now"))
        at_us = int((at - _EPOCH).total_seconds()) * 1_000_000
        changes += [(at_us, change) for change in _changes_of(slot, fact.amount, f"{field}.amount")]
    return changes


def _changes_of(slot: Slot, amount: int, field: str) -> list[Change]:
    if slot.keep == "sum":
        return [Change(slot.id, slot.keep, amount)] if amount else []
    if slot.keep in ("first", "last"):
        if amount != 1:
            raise FieldInvalid(FieldViolation(field, "must be 1: only the time of it is kept"))
        return [Change(slot.id, slot.keep, 1)]
    if not 0 <= amount <= _MOST_PEERS:
        raise FieldInvalid(FieldViolation(field, f"must be 0 to {_MOST_PEERS} new ones"))
    # Names that no subject has: nobody who was met is met again.
    return [Change(slot.id, slot.keep, peer_hash(f"simulated/{number}")) for number in range(amount)]


def _values(values: Iterable[AssumedValue], catalogue: Catalogue) -> dict[str, Value]:
    assumed: dict[str, Value] = {}
    for position, item in enumerate(values):
        field = f"values[{position}].indicator"
        if item.indicator not in catalogue.by_name:
            raise FieldInvalid(FieldViolation(field, f"the catalogue has no indicator {item.indicator}"))
        if item.indicator in assumed:
            raise FieldInvalid(FieldViolation(field, "is given twice"))
        assumed[item.indicator] = item.value
    return assumed
