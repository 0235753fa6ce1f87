"""What a rail's statement says, what the books say of the same rail, and how the one is matched with the other: pure.

In this order, and the same whatever order the lines come in:

1. A line whose external id an earlier statement of the rail had is a DUPLICATE, and takes no further part.
2. Exact: a line's reference, or else its external id, is a movement's rail reference, name or id, and both have the
   same direction and amount. Of several such movements the earliest is taken; a movement is matched once.
3. Of lines left that share an external id, one goes on; the others, and those whose twin was matched, are DUPLICATE.
4. Sums: all lines left with one reference (or, where nothing left carries that, external id), and all movements left
   that carry it, be it their own or that of a settlement: where both sums of a direction are the same, they match. So
   one line may stand for many movements, and many for one.
5. Where lines and movements of one reference are left with other sums, AMOUNT_DIFFERS holds all of them.
6. A line left that says the same (reference, direction, amount) as one that was matched, here or in an earlier
   statement of the rail, is a DUPLICATE; every other line left is MISSING_HERE.
7. A movement left that counts within the time that the statement answers for is MISSING_THERE, unless it is in an item
   of an earlier statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from danbao_kit.money import MAX_MINOR
from danbao_payments.domain.chart import RAIL_IN_TRANSIT, RAIL_SETTLED

RAIL_KINDS = (RAIL_IN_TRANSIT, RAIL_SETTLED)
# How many of its lines and movements an item shows.
SHOWN = 20


class RailDirection(StrEnum):
    """Which way money went over a rail."""

    IN = "IN"
    OUT = "OUT"


class BreakKind(StrEnum):
    MISSING_HERE = "MISSING_HERE"
    MISSING_THERE = "MISSING_THERE"
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
    DUPLICATE = "DUPLICATE"


class ReconciliationState(StrEnum):
    """Of a reconciliation, and of each of its items."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class StatementLine(NamedTuple):
    """One movement as the rail tells it; `position` counts from 0 in the statement as it came. Minor units."""

    position: int
    external_id: str
    direction: str
    amount_minor: int
    booking_date: date
    reference: str
    description: str


class RailMovement(NamedTuple):
    """One movement as the books have it: what one transaction moved over the rail in one direction. Minor units."""

    transaction_id: UUID
    direction: str
    # The resource: topUps/{uuid} and so on.
    name: str
    amount_minor: int
    rail_reference: str
    # Of settlements in which it was, and its own where another told of it first.
    settlements: tuple[str, ...]
    effective_time: datetime
    sequence: int
    # It is in an item of an earlier statement: it may still be matched, and is not missed again.
    reported: bool = False

    @property
    def own_keys(self) -> tuple[str, ...]:
        """What a line may call it."""
        return self.rail_reference, self.name, self.name.rpartition("/")[2]


class Earlier(NamedTuple):
    """What earlier statements of the rail said, as far as it concerns this one."""

    external_ids: AbstractSet[str] = frozenset()
    # Reference, direction and amount of lines that were matched.
    matched: AbstractSet[tuple[str, str, int]] = frozenset()


class Match(NamedTuple):
    """Lines and movements that are the same money."""

    lines: tuple[StatementLine, ...]
    movements: tuple[RailMovement, ...]


class Break(NamedTuple):
    """Lines and movements, or one of either, that are not."""

    kind: BreakKind
    lines: tuple[StatementLine, ...]
    movements: tuple[RailMovement, ...]

    @property
    def direction(self) -> str:
        """Of all its lines and movements."""
        return self.lines[0].direction if self.lines else self.movements[0].direction

    @property
    def lines_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)

    @property
    def movements_minor(self) -> int:
        return sum(movement.amount_minor for movement in self.movements)

    @property
    def minor(self) -> int:
        """What it comes to."""
        return abs(self.lines_minor - self.movements_minor)


class Matching(NamedTuple):
    """Every line, and every movement that was matched or had to be there, in exactly one of these."""

    matches: tuple[Match, ...]
    breaks: tuple[Break, ...]


class BreakTotal(NamedTuple):
    """Breaks of one kind, and what they come to. Minor units."""

    kind: str
    items: int
    minor: int


class Reconciliation(NamedTuple):
    """A reconciliation's row. `number` counts the statements of its rail, whatever their currency. Minor units."""

    id: UUID
    number: int
    state: str
    rail: str
    currency: str
    start_time: datetime
    end_time: datetime
    source: str
    movements_from: datetime
    movements_until: datetime
    ledger_sequence: int
    lines: int
    in_minor: int
    out_minor: int
    matched_lines: int
    matched_movements: int
    matched_minor: int
    breaks: tuple[BreakTotal, ...]
    open_items: int
    create_time: datetime
    update_time: datetime


class ReconciliationItem(NamedTuple):
    """A break's row: the first of its lines and movements, and how many there are. Minor units."""

    reconciliation_id: UUID
    number: int
    kind: str
    state: str
    direction: str
    currency: str
    lines_minor: int
    movements_minor: int
    lines: tuple[StatementLine, ...]
    line_count: int
    movements: tuple[RailMovement, ...]
    movement_count: int
    # What explains it: a transaction, or words.
    transaction_id: UUID | None
    reason: str
    resolved_by: str
    resolve_time: datetime | None

    @property
    def name(self) -> str:
        return f"reconciliations/{self.reconciliation_id}/items/{self.number}"


class ImportedStatement(NamedTuple):
    """A new reconciliation with the lines and movements that it accounts for."""

    reconciliation: Reconciliation
    matching: Matching


def match_statement(
    lines: Iterable[StatementLine],
    movements: Iterable[RailMovement],
    *,
    movements_from: datetime,
    movements_until: datetime,
    earlier: Earlier = Earlier(),  # noqa: B008 - immutable
) -> Matching:
    """Matches by the rules above. `movements`: all that no earlier statement has matched, in its time and around it."""
    return _Matcher(lines, movements, earlier).run(movements_from, movements_until)


def totals_of(breaks: Collection[Break]) -> tuple[BreakTotal, ...]:
    """By kind, those of which there are any."""
    totals = []
    for kind in BreakKind:
        these = [each for each in breaks if each.kind is kind]
        if these:
            totals.append(BreakTotal(kind.value, len(these), min(MAX_MINOR, sum(each.minor for each in these))))
    return tuple(totals)


class _Matcher:
    """One statement while it is matched. Lines and movements are taken once."""

    def __init__(self, lines: Iterable[StatementLine], movements: Iterable[RailMovement], earlier: Earlier) -> None:
        # The order in which lines come means nothing.
        self._lines = sorted(lines, key=_line_order)
        self._movements = sorted(movements, key=lambda each: (each.effective_time, each.sequence, each.direction))
        self._earlier = earlier
        self._line_left = [True] * len(self._lines)
        self._movement_left = [True] * len(self._movements)
        self._matches: list[Match] = []
        self._breaks: list[Break] = []
        # What matched lines said.
        self._said: set[tuple[str, str, int]] = set(earlier.matched)

    def run(self, movements_from: datetime, movements_until: datetime) -> Matching:
        self._told_before()
        self._exact()
        self._told_twice()
        self._by_reference()
        for at, line in enumerate(self._lines):
            if self._line_left[at]:
                kind = BreakKind.DUPLICATE if _saying(line) in self._said else BreakKind.MISSING_HERE
                self._breaks.append(Break(kind, (line,), ()))
        for at, movement in enumerate(self._movements):
            due = movements_from <= movement.effective_time < movements_until
            if self._movement_left[at] and due and not movement.reported:
                self._breaks.append(Break(BreakKind.MISSING_THERE, (), (movement,)))
        order = list(BreakKind)
        # Sorting is stable: within a kind they stay in the lines' or the movements' own order.
        breaks = sorted(self._breaks, key=lambda each: order.index(each.kind))
        return Matching(tuple(self._matches), tuple(breaks))

    def _told_before(self) -> None:
        for at, line in enumerate(self._lines):
            if line.external_id in self._earlier.external_ids:
                self._duplicate(at)

    def _exact(self) -> None:
        named: dict[tuple[str, str, int], list[int]] = {}
        for at, movement in enumerate(self._movements):
            for key in dict.fromkeys(movement.own_keys):
                if key:
                    named.setdefault((key, movement.direction, movement.amount_minor), []).append(at)
        # The earliest is the last of a list, to be popped.
        for several in named.values():
            several.reverse()
        told: set[str] = set()
        for key_of in (_reference, _external_id):
            for at, line in enumerate(self._lines):
                if not self._line_left[at] or line.external_id in told:
                    continue
                candidates = named.get((key_of(line), line.direction, line.amount_minor), [])
                while candidates and not self._movement_left[candidates[-1]]:
                    candidates.pop()
                if candidates:
                    told.add(line.external_id)
                    self._match([at], [candidates[-1]])

    def _told_twice(self) -> None:
        told = {line.external_id for match in self._matches for line in match.lines}
        for at, line in enumerate(self._lines):
            if not self._line_left[at]:
                continue
            if line.external_id in told:
                self._duplicate(at)
            told.add(line.external_id)

    def _by_reference(self) -> None:
        carried: dict[tuple[str, str], list[int]] = {}
        for at, movement in enumerate(self._movements):
            if self._movement_left[at]:
                for key in dict.fromkeys((*movement.own_keys, *movement.settlements)):
                    carried.setdefault((key, movement.direction), []).append(at)
        lines: dict[tuple[str, str], list[int]] = {}
        for at, line in enumerate(self._lines):
            if self._line_left[at]:
                named = (line.reference, line.direction), (line.external_id, line.direction)
                found = next((key for key in named if key[0] and key in carried), None)
                if found is not None:
                    lines.setdefault(found, []).append(at)
        for both in sorted(lines):
            these, those = lines[both], self._still(carried[both])
            moved_minor = sum(self._movements[at].amount_minor for at in those)
            if those and moved_minor == sum(self._lines[at].amount_minor for at in these):
                self._match(these, those)
        for both in sorted(lines):
            these, those = [at for at in lines[both] if self._line_left[at]], self._still(carried[both])
            if these and those:
                self._take(these, those)
                self._breaks.append(Break(BreakKind.AMOUNT_DIFFERS, *self._values(these, those)))

    def _still(self, movements: Sequence[int]) -> list[int]:
        return [at for at in movements if self._movement_left[at]]

    def _match(self, lines: Sequence[int], movements: Sequence[int]) -> None:
        self._take(lines, movements)
        match = Match(*self._values(lines, movements))
        self._said.update(_saying(line) for line in match.lines if line.reference)
        self._matches.append(match)

    def _duplicate(self, at: int) -> None:
        self._line_left[at] = False
        self._breaks.append(Break(BreakKind.DUPLICATE, (self._lines[at],), ()))

    def _take(self, lines: Sequence[int], movements: Sequence[int]) -> None:
        for at in lines:
            self._line_left[at] = False
        for at in movements:
            self._movement_left[at] = False

    def _values(
        self, lines: Sequence[int], movements: Sequence[int]
    ) -> tuple[tuple[StatementLine, ...], tuple[RailMovement, ...]]:
        return tuple(self._lines[at] for at in lines), tuple(self._movements[at] for at in movements)


def _line_order(line: StatementLine) -> tuple[object, ...]:
    said = (line.booking_date, line.external_id, line.reference, line.direction, line.amount_minor, line.description)
    return (*said, line.position)


def _saying(line: StatementLine) -> tuple[str, str, int]:
    return line.reference, line.direction, line.amount_minor


def _reference(line: StatementLine) -> str:
    return line.reference


def _external_id(line: StatementLine) -> str:
    return line.external_id
