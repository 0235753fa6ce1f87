"""How lines of a statement and movements of the books find one another: each rule, and what holds whatever comes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danbao_payments.domain.reconciliation import (
    BreakKind,
    Earlier,
    Matching,
    RailMovement,
    StatementLine,
    match_statement,
    totals_of,
)

DAY = date(2026, 3, 2)
BEGINS = datetime(2026, 3, 2, tzinfo=UTC)
ENDS = BEGINS + timedelta(days=1)
NOON = BEGINS + timedelta(hours=12)


def movement(number: int, minor: int, **others: Any) -> RailMovement:
    """A top-up whose rail calls it r1, r2 and so on."""
    key = uuid5(UUID(int=0), str(number))
    fields = {
        "transaction_id": uuid5(key, "transaction"),
        "direction": "IN",
        "name": f"topUps/{key}",
        "amount_minor": minor,
        "rail_reference": f"r{number}",
        "settlements": (),
        "effective_time": NOON,
        "sequence": number,
    }
    return RailMovement(**(fields | others))


def line(position: int, reference: str, minor: int, **others: Any) -> StatementLine:
    fields = {
        "position": position,
        "external_id": f"e{position}",
        "direction": "IN",
        "amount_minor": minor,
        "booking_date": DAY,
        "reference": reference,
        "description": "",
    }
    return StatementLine(**(fields | others))


def match(lines: list[StatementLine], movements: list[RailMovement], earlier: Earlier = Earlier()) -> Matching:  # noqa: B008
    return match_statement(lines, movements, movements_from=BEGINS, movements_until=ENDS, earlier=earlier)


def told(matching: Matching) -> list[tuple[str, list[int], list[int]]]:
    """The breaks as kind, positions of lines, sequences of movements."""
    return [
        (each.kind.value, [line.position for line in each.lines], [moved.sequence for moved in each.movements])
        for each in matching.breaks
    ]


M = movement(1, 500)


@pytest.mark.parametrize("reference", [M.rail_reference, M.name, M.name.removeprefix("topUps/")])
def test_a_line_may_call_a_movement_by_each_of_its_names(reference: str):
    by_reference = match([line(0, reference, 500)], [M])
    by_external_id = match([line(0, "", 500, external_id=reference)], [M])
    for matching in (by_reference, by_external_id):
        assert told(matching) == []
        assert [len(each.lines) for each in matching.matches] == [1]


@pytest.mark.parametrize(
    ("lines", "movements", "breaks"),
    [
        ([line(0, "r1", 500)], [M], []),
        ([], [], []),
        ([line(0, "r9", 500)], [], [("MISSING_HERE", [0], [])]),
        ([], [M], [("MISSING_THERE", [], [1])]),
        ([line(0, "", 500)], [M], [("MISSING_HERE", [0], []), ("MISSING_THERE", [], [1])]),
        # Amounts.
        ([line(0, "r1", 499)], [M], [("AMOUNT_DIFFERS", [0], [1])]),
        ([line(0, "other", 499, external_id="r1")], [M], [("AMOUNT_DIFFERS", [0], [1])]),
        ([line(0, "r1", 500, direction="OUT")], [M], [("MISSING_HERE", [0], []), ("MISSING_THERE", [], [1])]),
        # Twice told.
        ([line(0, "r1", 500), line(1, "r1", 500)], [M], [("DUPLICATE", [1], [])]),
        ([line(0, "r1", 500), line(1, "r1", 400)], [M], [("MISSING_HERE", [1], [])]),
        ([line(0, "r1", 500), line(1, "r1", 400, external_id="e0")], [M], [("DUPLICATE", [1], [])]),
        ([line(0, "r1", 400), line(1, "r1", 500, external_id="e0")], [M], [("DUPLICATE", [0], [])]),
        (
            [line(0, "r8", 7), line(1, "r9", 8, external_id="e0")],
            [],
            [("MISSING_HERE", [0], []), ("DUPLICATE", [1], [])],
        ),
        (
            [line(0, "r1", 500), line(1, "r2", 500, external_id="e0")],
            [M, movement(2, 500)],
            [("MISSING_THERE", [], [2]), ("DUPLICATE", [1], [])],
        ),
        # A second line of the same words is one of the same money only while there is but one movement.
        ([line(0, "r1", 500), line(1, "r1", 500)], [M, movement(2, 500, rail_reference="r1")], []),
        # One line for many movements, and many for one.
        ([line(0, "b", 60)], [movement(n, 20, settlements=("b",)) for n in range(1, 4)], []),
        ([line(0, "b", 60)], [movement(n, 20, rail_reference="b") for n in range(1, 4)], []),
        ([line(0, "b", 59)], [movement(n, 20, settlements=("b",)) for n in (1, 2)], [("AMOUNT_DIFFERS", [0], [1, 2])]),
        ([line(0, "r1", 200), line(1, "r1", 300)], [M], []),
        ([line(0, "r1", 250), line(1, "r1", 250)], [M], []),
        ([line(0, "r1", 200), line(1, "r1", 301)], [M], [("AMOUNT_DIFFERS", [0, 1], [1])]),
        ([line(0, "r1", 200), line(1, "r1", 300, external_id="e0")], [M], [
            ("AMOUNT_DIFFERS", [0], [1]), ("DUPLICATE", [1], []),
        ]),
        # The part of a batch that was told by itself is not asked for again.
        (
            [line(0, "b", 40), line(1, "r3", 20)],
            [movement(n, 20, settlements=("b",)) for n in range(1, 4)],
            [],
        ),
        # Both ways over the same reference.
        (
            [line(0, "r1", 500), line(1, "r1", 500, direction="OUT")],
            [M, movement(2, 500, rail_reference="r1", direction="OUT")],
            [],
        ),
    ],
)  # fmt: skip
def test_every_break_is_found_and_none_invented(lines, movements, breaks):
    assert told(match(lines, movements)) == breaks
    assert told(match(lines[::-1], movements[::-1])) == breaks


@pytest.mark.parametrize(
    ("at", "missing"),
    [
        (BEGINS - timedelta(microseconds=1), False),
        (BEGINS, True),
        (ENDS - timedelta(microseconds=1), True),
        (ENDS, False),
    ],
)
def test_a_movement_is_missed_within_the_statement_s_time_only(at: datetime, missing: bool):
    moved = movement(1, 500, effective_time=at)
    assert told(match([], [moved])) == ([("MISSING_THERE", [], [1])] if missing else [])
    assert told(match([line(0, "r1", 500)], [moved])) == []


def test_what_an_earlier_statement_missed_is_not_missed_again_but_may_still_be_found():
    missed = movement(1, 500, reported=True)
    assert told(match([], [missed])) == []
    found = match([line(0, "r1", 500)], [missed])
    assert (told(found), len(found.matches)) == ([], 1)


def test_what_an_earlier_statement_told_is_a_duplicate():
    known = Earlier(frozenset({"e0"}), frozenset({("r1", "IN", 500)}))
    assert told(match([line(0, "r7", 1)], [movement(7, 1)], known)) == [
        ("MISSING_THERE", [], [7]),
        ("DUPLICATE", [0], []),
    ]
    assert told(match([line(1, "r1", 500)], [], known)) == [("DUPLICATE", [1], [])]
    assert told(match([line(1, "r1", 499)], [], known)) == [("MISSING_HERE", [1], [])]


def test_totals_tell_what_breaks_come_to():
    matching = match([line(0, "r1", 499), line(1, "x", 7), line(2, "y", 8)], [M, movement(2, 30)])
    assert {total.kind: (total.items, total.minor) for total in totals_of(matching.breaks)} == {
        "MISSING_HERE": (2, 15),
        "MISSING_THERE": (1, 30),
        "AMOUNT_DIFFERS": (1, 1),
    }


# --- whatever comes ---------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["", "a", "b", "c", "r1", "r2", "r3"])
MINOR = st.integers(1, 4)
WAY = st.sampled_from(["IN", "OUT"])


@st.composite
def statements(draw: st.DrawFn) -> tuple[list[StatementLine], list[RailMovement], Earlier]:
    """Lines and movements of few words and amounts, so that they meet in every way there is."""
    lines = [
        line(position, draw(WORDS), draw(MINOR), direction=draw(WAY), external_id=draw(WORDS) or f"e{position}")
        for position in range(draw(st.integers(0, 7)))
    ]
    movements = [
        movement(
            number,
            draw(MINOR),
            direction=draw(WAY),
            rail_reference=draw(WORDS),
            settlements=draw(st.sampled_from([(), ("a",), ("b", "c")])),
            effective_time=draw(st.sampled_from([BEGINS - timedelta(days=1), NOON, ENDS])),
            reported=draw(st.booleans()),
        )
        for number in range(1, draw(st.integers(0, 6)) + 1)
    ]
    said = st.frozensets(st.tuples(WORDS.filter(bool), WAY, MINOR), max_size=2)
    return lines, movements, Earlier(draw(st.frozensets(WORDS.filter(bool), max_size=1)), draw(said))


def content(matching: Matching) -> Counter[Any]:
    """What was found, without the places that lines happened to have."""
    return Counter(
        (
            getattr(each, "kind", "match"),
            tuple(sorted(line[1:] for line in each.lines)),
            tuple(sorted(moved.sequence for moved in each.movements)),
        )
        for each in (*matching.matches, *matching.breaks)
    )


@given(statements(), st.randoms(use_true_random=False))
def test_whatever_comes_everything_is_accounted_for_once(statement, chance):
    lines, movements, earlier = statement
    matching = match(lines, movements, earlier)
    both = (*matching.matches, *matching.breaks)
    assert sorted(line.position for each in both for line in each.lines) == list(range(len(lines)))
    counted = Counter(moved.sequence for each in both for moved in each.movements)
    due = {m.sequence for m in movements if m.effective_time == NOON and not m.reported}
    assert all(times == 1 for times in counted.values())
    assert due <= counted.keys() <= {m.sequence for m in movements}
    for each in matching.matches:
        assert each.lines
        assert each.movements
        assert sum(line.amount_minor for line in each.lines) == sum(m.amount_minor for m in each.movements)
        assert len({part.direction for part in (*each.lines, *each.movements)}) == 1
    for each in matching.breaks:
        has_both = each.kind is BreakKind.AMOUNT_DIFFERS
        assert bool(each.lines) == (each.kind is not BreakKind.MISSING_THERE)
        assert bool(each.movements) == (has_both or each.kind is BreakKind.MISSING_THERE)
        assert each.minor > 0
    shuffled = list(lines)
    chance.shuffle(shuffled)
    again = match([each._replace(position=at) for at, each in enumerate(shuffled)], movements[::-1], earlier)
    assert content(again) == content(matching)


@given(st.data())
def test_what_was_planted_is_found_and_nothing_else(data: st.DataObject):
    """Movements with lines of their own, in pieces or in batches; then each break planted where nothing else is."""
    lines: list[StatementLine] = []
    movements: list[RailMovement] = []
    planted: Counter[str] = Counter()

    def tell(reference: str, minor: int, **others: Any) -> None:
        lines.append(line(len(lines), reference, minor, **others))

    def move(minor: int, **others: Any) -> str:
        number = len(movements) + 1
        movements.append(movement(number, minor, direction=way, **others))
        return f"r{number}"

    kinds = st.sampled_from(
        ["one", "pieces", "batch", "here", "there", "differs", "same id", "same words", "before", "after"]
    )
    for number, kind in enumerate(data.draw(st.lists(kinds, max_size=25))):
        way, minor = data.draw(WAY), data.draw(st.integers(3, 10**12))
        if kind == "one":
            tell(move(minor), minor, direction=way)
        elif kind == "pieces":
            reference, first = move(minor), data.draw(st.integers(1, minor - 1))
            tell(reference, first, direction=way)
            tell(reference, minor - first, direction=way)
        elif kind == "batch":
            parts = data.draw(st.lists(st.integers(1, 10**9), min_size=2, max_size=5))
            for part in parts:
                move(part, settlements=(f"batch {number}",))
            tell(f"batch {number}", sum(parts), direction=way)
        elif kind == "here":
            tell(f"nobody {number}", minor, direction=way)
            planted["MISSING_HERE"] += 1
        elif kind == "there":
            move(minor)
            planted["MISSING_THERE"] += 1
        elif kind == "differs":
            tell(move(minor), minor + data.draw(st.sampled_from([-2, -1, 1, 10**6])), direction=way)
            planted["AMOUNT_DIFFERS"] += 1
        elif kind in ("same id", "same words"):
            reference = move(minor)
            tell(reference, minor, direction=way, external_id=f"twin {number}")
            other = {"external_id": f"twin {number}"} if kind == "same id" else {}
            tell(reference, minor, direction=way, **other)
            planted["DUPLICATE"] += 1
        else:
            outside = BEGINS - timedelta(seconds=1) if kind == "before" else ENDS
            reference = move(minor, effective_time=outside)
            if data.draw(st.booleans()):
                tell(reference, minor, direction=way)
    shuffled = data.draw(st.permutations(lines))
    matching = match([each._replace(position=at) for at, each in enumerate(shuffled)], movements)
    assert Counter(each.kind.value for each in matching.breaks) == planted
