"""One history, however it arrives, gives one profile: the same bytes."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_credit.application.apply_events import ApplyEvents, apply_events
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Facts
from danbao_credit.domain.profile import EXACT_PEERS, Change, Profile, peer_hash

DAY_US = 86_400_000_000
T0 = 1_700_000_000_000_000

times = st.integers(0, 500 * DAY_US).map(lambda offset: T0 + offset)
changes = st.one_of(
    st.builds(Change, st.integers(1, 5), st.just("sum"), st.integers(-3, 3).filter(bool)),
    st.builds(Change, st.integers(6, 7), st.just("first"), st.just(1)),
    st.builds(Change, st.integers(8, 9), st.just("last"), st.just(1)),
    st.builds(Change, st.integers(10, 11), st.just("peers"), st.integers(0, 2**32 - 1)),
)
histories = st.lists(st.tuples(times, changes), max_size=60)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(histories, st.randoms(use_true_random=False), st.integers(1, 9))
def test_order_and_chunks_never_matter(history, shuffler, chunk) -> None:
    at_once = Profile.empty().with_changes(history).to_bytes() if history else b""
    shuffled = list(history)
    shuffler.shuffle(shuffled)
    profile = Profile.empty()
    for start in range(0, len(shuffled), chunk):
        profile = Profile.from_bytes(profile.to_bytes()).with_changes(shuffled[start : start + chunk])
    assert (profile.to_bytes() if history else b"") == at_once


@settings(max_examples=100, deadline=None, derandomize=True)
@given(histories)
def test_bytes_round_trip(history) -> None:
    profile = Profile.empty().with_changes(history)
    again = Profile.from_bytes(profile.to_bytes())
    assert np.array_equal(again.keys, profile.keys)
    assert np.array_equal(again.values, profile.values)
    assert np.all(np.diff(profile.keys) > 0)


def test_a_reversal_leaves_nothing_behind_but_its_time() -> None:
    once = Profile.empty().with_changes([(T0, Change(1, "sum", 5))])
    reversed_ = once.with_changes([(T0, Change(1, "sum", -5))])
    assert len(once.keys) == 4  # its hour, its day, life, and when the newest event was
    assert len(reversed_.keys) == 1


def test_twenty_permutations_of_one_history_give_one_state() -> None:
    dice = random.Random(7)
    history = [(T0 + dice.randrange(400 * DAY_US), Change(dice.randrange(1, 9), "sum", 1)) for _ in range(1000)]
    states = set()
    for _ in range(20):
        dice.shuffle(history)
        profile = Profile.empty()
        for start in range(0, 1000, 100):
            profile = profile.with_changes(history[start : start + 100])
        states.add(profile.to_bytes())
    assert len(states) == 1


def test_a_thousand_events_sent_three_times_count_once() -> None:
    dice = random.Random(3)
    facts = [
        Facts(
            sequence,
            "x",
            T0 + sequence,
            "",
            "",
            ((f"subjects/{dice.randrange(20)}", Change(1 + sequence % 4, "sum", 1)),),
        )
        for sequence in range(1, 1001)
    ]
    once, thrice = CreditSet(), CreditSet()
    apply_events(ApplyEvents(Source.ESCROW, 0, 1000, tuple(facts)), once)
    sent = [(start, facts[start : start + 50]) for start in range(0, 1000, 50)]
    # Twice again, shuffled, after each first time: what lies before the cursor is left out wherever it comes from.
    for position, (start, chunk) in enumerate(sent):
        again = [dice.choice(sent[: position + 1]) for _ in range(2)]
        for after, events in [(start, chunk), *again]:
            apply_events(ApplyEvents(Source.ESCROW, after, after + len(events), tuple(events)), thrice)
    for profiles in (once, thrice):
        profiles.accept()
    assert {s: p.to_bytes() for s, p in once.subjects.created()} == {
        s: p.to_bytes() for s, p in thrice.subjects.created()
    }
    progress = thrice.progress.get(Source.ESCROW)
    assert progress is not None
    assert (progress.applied, progress.duplicates, progress.sequence) == (1000, 2000, 1000)


def test_distinct_peers_are_exact_up_to_their_number_and_near_beyond() -> None:
    for peers in (1, EXACT_PEERS, EXACT_PEERS + 1, 1000, 20_000):
        met = [(T0 + n, Change(4, "peers", peer_hash(f"subjects/{n}"))) for n in range(peers)]
        profile = Profile.empty().with_changes(met)
        distinct = profile.distinct_peers(4)
        if peers <= EXACT_PEERS:
            assert distinct == peers
        else:
            assert abs(distinct / peers - 1) < 0.2
        assert len(profile.keys) <= EXACT_PEERS + 2


def test_one_more_peer_never_makes_fewer() -> None:
    profile, before = Profile.empty(), 0
    for n in range(600):
        profile = profile.with_changes([(T0 + n, Change(4, "peers", peer_hash(f"subjects/{n}")))])
        assert profile.distinct_peers(4) >= before
        before = profile.distinct_peers(4)


def test_old_hours_and_days_fall_away_and_life_stays() -> None:
    profile = Profile.empty().with_changes([(T0, Change(1, "sum", 1))])
    later = profile.with_changes([(T0 + 400 * DAY_US, Change(1, "sum", 1))])
    assert later.totals(hop_s=86_400, tiles=0, as_of_s=0, slots=2)[1] == 2
    # newest mark, one hour, one day, life
    assert len(later.keys) == 4
