"""Wherever a history is cut into checkpoint and log, and whenever, it gives the same bytes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.checkpoint import Checkpoint, History, differing
from danbao_credit.domain.log import LogRow, encoded, replayed
from danbao_credit.domain.profile import Change, Profile, peer_hash
from danbao_credit.domain.tombstone import Tombstone

DAY_US = 86_400_000_000
T0 = 1_700_000_000_000_000

KINDS = (
    ("escrow", "trade_created", "buyer"),
    ("escrow", "trade_paid", "seller"),
    ("escrow", "lines_shipped", "seller"),
    ("escrow", "lines_refunded", "seller"),
    ("payments", "top_up_succeeded", "owner"),
    ("reports", "review_received", "subject"),
)


def row(number: int, kind: int, day: float, amount: int, peer: int, sign: int) -> LogRow:
    source, name, role = KINDS[kind]
    measures = {
        "one": 1,
        "amount_minor": amount,
        "first": amount % 2,
        "late": amount % 3 == 0,
        "rating": 1 + amount % 5,
        "defective": amount % 2,
        "buyer": peer_hash(f"subjects/{peer}"),
        "seller": peer_hash(f"subjects/{peer}"),
        "source": peer_hash(f"cards/{peer}"),
    }
    at_us = T0 + int(day * DAY_US)
    counted = {key: int(value) for key, value in measures.items()}
    return LogRow("subjects/x", source, number, role, name, at_us, "CNY", "trades/1", encoded(counted), sign)


histories = st.lists(
    st.tuples(
        st.integers(0, len(KINDS) - 1),
        st.floats(0, 900),
        st.integers(0, 10**6),
        st.integers(0, 400),
        st.sampled_from([1, 1, 1, -1]),
    ),
    min_size=1,
    max_size=60,
).map(lambda drawn: [row(number, *fields) for number, fields in enumerate(drawn)])
folds = st.lists(st.tuples(st.integers(0, 60), st.floats(0, 950), st.integers(1, 40)), max_size=6)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(rows=histories, plan=folds)
def test_folding_while_events_come_in_gives_what_living_through_them_gives(
    catalogue: Catalogue, rows: list[LogRow], plan: list[tuple[int, float, int]]
) -> None:
    history, lived = History(), Profile.empty()
    for position, each in enumerate(rows):
        history = history.plus([each])
        lived = replayed(lived, [each], catalogue)
        for when, before, most in plan:
            if when == position:
                history, gone = history.folded(T0 + int(before * DAY_US), catalogue, most=most)
                assert all(old.at_us < T0 + int(before * DAY_US) for old in gone)
                assert len(gone) <= most
        assert history.replay(catalogue).to_bytes() == lived.to_bytes()
    assert replayed(Profile.empty(), rows, catalogue).to_bytes() == lived.to_bytes()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(rows=histories, plan=folds, day=st.floats(0, 950))
def test_a_moment_after_the_checkpoint_is_the_same_with_and_without_it(
    catalogue: Catalogue, rows: list[LogRow], plan: list[tuple[int, float, int]], day: float
) -> None:
    history = History(None, tuple(rows))
    for _, before, most in plan:
        history, _ = history.folded(T0 + int(before * DAY_US), catalogue, most=most)
    until_us = T0 + int(day * DAY_US)
    if history.checkpoint is not None and until_us < history.checkpoint.through_us:
        return
    then = replayed(Profile.empty(), [each for each in rows if each.at_us <= until_us], catalogue)
    kept = History(history.checkpoint, tuple(each for each in history.rows if each.at_us <= until_us))
    assert kept.replay(catalogue).to_bytes() == then.to_bytes()


def test_more_peers_than_are_told_apart_are_folded_without_a_trace(catalogue: Catalogue) -> None:
    dice = random.Random(3)
    rows = [row(n, 1, dice.random() * 700, 7, dice.randrange(700), 1 if n % 9 else -1) for n in range(1500)]
    whole = replayed(Profile.empty(), rows, catalogue).to_bytes()
    for cuts in ((100,), (350, 699), (1, 2, 3, 600)):
        history = History(None, tuple(rows))
        for day in cuts:
            history, gone = history.folded(T0 + day * DAY_US, catalogue, most=2000)
        assert gone
        assert history.replay(catalogue).to_bytes() == whole


def test_a_checkpoint_reaches_as_far_as_its_newest_event(catalogue: Catalogue) -> None:
    rows = tuple(row(n, 1, day, 1, 1, 1) for n, day in enumerate((5, 1, 3)))
    history, gone = History(None, rows).folded(T0 + 4 * DAY_US, catalogue, most=10)
    assert [each.number for each in gone] == [1, 2]
    assert [each.number for each in history.rows] == [0]
    assert history.checkpoint is not None
    assert history.checkpoint.through_us == T0 + 3 * DAY_US
    late = history.plus([row(9, 1, 2, 1, 1, 1)])
    again, _ = late.folded(T0 + 4 * DAY_US, catalogue, most=10)
    assert again.checkpoint is not None
    assert again.checkpoint.through_us == T0 + 3 * DAY_US
    assert again.folded(T0 + 4 * DAY_US, catalogue, most=10) == (again, ())


def test_an_erased_history_is_what_came_after(catalogue: Catalogue) -> None:
    checkpoint = Checkpoint(Profile.empty().with_changes([(T0, Change(1, "sum", 1))]), T0)
    history = History(checkpoint, (row(1, 1, 1, 1, 1, 1), row(2, 1, 3, 1, 1, 1)))
    left = history.without(Tombstone(T0 + 2 * DAY_US, {}))
    assert (left.checkpoint, [each.number for each in left.rows]) == (None, [2])
    assert history.without(None) is history
    kept = history.without(Tombstone(T0 - 1, {}))
    assert kept.checkpoint is checkpoint
    assert len(kept.rows) == 2


def test_differing_entries_are_counted() -> None:
    one = Profile.empty().with_changes([(T0, Change(1, "sum", 1))])
    assert differing(one, one) == 0
    assert differing(one, Profile.empty()) == len(one.keys) == 4
    # hour, day and life of slot 1 are another number; the newest moment is the same
    assert differing(one, Profile.empty().with_changes([(T0, Change(1, "sum", 2))])) == 3
