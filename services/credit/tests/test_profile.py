"""One history, however it arrives, gives one profile: the same bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_credit.application.apply_events import ApplyEvents, Told, apply_events
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain import profile as profile_module
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Telling
from danbao_credit.domain.peers import Peers
from danbao_credit.domain.profile import EXACT_PEERS, Change, Kind, Profile, peer_hash
from danbao_credit.testing.stories import moment

DAY_US = 86_400_000_000
T0 = 1_700_000_000_000_000

times = st.integers(0, 500 * DAY_US).map(lambda offset: T0 + offset)
changes = st.one_of(
    st.builds(Change, st.integers(1, 5), st.just("sum"), st.integers(-3, 3).filter(bool)),
    st.builds(Change, st.integers(6, 7), st.just("first"), st.just(1)),
    st.builds(Change, st.integers(8, 9), st.just("last"), st.just(1)),
    st.builds(Change, st.integers(10, 11), st.just("peers"), st.integers(0, 2**32 - 1), st.integers(1, 3)),
    st.builds(Change, st.integers(12, 12), st.just("orders"), st.integers(0, 9), st.integers(1, 3)),
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


@settings(max_examples=150, deadline=None, derandomize=True)
@given(histories, st.integers(1, 9))
def test_few_entries_are_merged_one_by_one_into_the_same_bytes(history, chunk) -> None:
    by_arrays = one_by_one = Profile.empty()
    for start in range(0, len(history), chunk):
        some = history[start : start + chunk]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(profile_module, "_FEW_TO_MERGE", -1)
            by_arrays = by_arrays.with_changes(some)
            patch.setattr(profile_module, "_FEW_TO_MERGE", EXACT_PEERS)
            one_by_one = one_by_one.with_changes(some)
        assert one_by_one.to_bytes() == by_arrays.to_bytes()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(histories)
def test_bytes_round_trip(history) -> None:
    profile = Profile.empty().with_changes(history)
    again = Profile.from_bytes(profile.to_bytes())
    assert np.array_equal(again.keys, profile.keys)
    assert np.array_equal(again.values, profile.values)
    assert np.all(np.diff(profile.keys) > 0)


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("keep", ["first", "last"])
def test_the_first_second_of_1970_is_a_moment_too(monkeypatch, few: bool, keep: str) -> None:
    if not few:
        monkeypatch.setattr(profile_module, "_FEW_TO_MERGE", 0)
    changes = [(at_us, Change(3, keep, 1)) for at_us in (5, T0, 999_999)]
    lived = Profile.empty()
    for change in changes:
        lived = lived.with_changes([change])
    assert lived.to_bytes() == Profile.empty().with_changes(changes).to_bytes()
    assert lived.mark(Kind.FIRST, 3) == (0 if keep == "first" else None)


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


def told(sequence: int, subject: str, slot: int) -> Told:
    telling = Telling("", "", (("buyer", subject),), {"one": 1})
    return Told(sequence, "x", T0 + sequence, "", telling, ((subject, Change(slot, "sum", 1)),))


def test_a_thousand_events_sent_three_times_count_once() -> None:
    dice = random.Random(3)
    events = [told(sequence, f"subjects/{dice.randrange(20)}", 1 + sequence % 4) for sequence in range(1, 1001)]
    once, thrice = CreditSet(), CreditSet()
    apply_events(ApplyEvents(Source.ESCROW, 0, 1000, tuple(events)), once, moment())
    sent = [(start, events[start : start + 50]) for start in range(0, 1000, 50)]
    # Twice again, shuffled, after each first time: what lies before the cursor is left out wherever it comes from.
    for position, (start, chunk) in enumerate(sent):
        again = [dice.choice(sent[: position + 1]) for _ in range(2)]
        for after, part in [(start, chunk), *again]:
            apply_events(ApplyEvents(Source.ESCROW, after, after + len(part), tuple(part)), thrice, moment())
    for profiles in (once, thrice):
        profiles.accept()
    assert {s: p.to_bytes() for s, p in once.subjects.created()} == {
        s: p.to_bytes() for s, p in thrice.subjects.created()
    }
    progress = thrice.progress.get(Source.ESCROW)
    assert progress is not None
    assert (progress.applied, progress.duplicates, progress.sequence) == (1000, 2000, 1000)


def met(profile: Profile, at_us: int = T0, slot: int = 4, window: str = "life") -> int:
    return Peers(profile, as_of_s=at_us // 1_000_000).distinct(slot, window)


def test_distinct_peers_are_exact_up_to_their_number_and_near_beyond() -> None:
    for peers in (1, EXACT_PEERS, EXACT_PEERS + 1, 1000, 20_000):
        history = [(T0 + n, Change(4, "peers", peer_hash(f"subjects/{n}"))) for n in range(peers)]
        profile = Profile.empty().with_changes(history)
        for window in ("30d", "life"):
            if peers <= EXACT_PEERS:
                assert met(profile, window=window) == peers
            else:
                assert abs(met(profile, window=window) / peers - 1) < 0.2
        assert len(profile.keys) <= EXACT_PEERS + 2


def test_one_more_peer_never_makes_fewer() -> None:
    profile, before = Profile.empty(), 0
    for n in range(600):
        profile = profile.with_changes([(T0 + n, Change(4, "peers", peer_hash(f"subjects/{n}")))])
        assert met(profile) >= before
        before = met(profile)


def test_peers_beyond_what_is_kept_still_never_depend_on_order() -> None:
    """Two years, 900 peers, some of them met again and again, so that months and life both overflow."""
    dice = random.Random(5)
    history = []
    for _ in range(6000):
        keep, slot = dice.choice((("peers", 4), ("orders", 5)))
        who = dice.randrange(900) if dice.random() < 0.5 else dice.randrange(90)
        history.append((T0 + dice.randrange(730) * DAY_US, Change(slot, keep, peer_hash(f"{who}"))))
    for rush in (5, 700):
        history += [(T0 + rush * DAY_US + n, Change(4, "peers", peer_hash(f"rush{n}"))) for n in range(700)]
    states = set()
    for _ in range(20):
        dice.shuffle(history)
        profile = Profile.empty()
        for start in range(0, len(history), 611):
            profile = profile.with_changes(history[start : start + 611])
        states.add(profile.to_bytes())
    assert len(states) == 1
    assert len(profile.met()[0]) < len(history) * 0.7, "much was left out"


def test_beyond_what_is_kept_windows_are_estimated() -> None:
    """1,200 peers a month over 20 months, each met twice, 300 of them every month."""
    month = 30 * DAY_US
    start = 690 * month
    history = []
    for number in range(20):
        names = [f"always{n}" for n in range(300)] + [f"{number}-{n}" for n in range(900)]
        history += [(start + number * month, Change(4, "peers", peer_hash(name), 2)) for name in names]
    profile = Profile.empty().with_changes(history)
    peers = Peers(profile, as_of_s=(start + 19 * month) // 1_000_000)
    # A window of 90 days reaches into four months here, of 365 into thirteen.
    for window, distinct, met_again in (("30d", 2100, 2100), ("90d", 3900, 3900), ("life", 18_300, 18_300)):
        assert abs(peers.distinct(4, window) / distinct - 1) < 0.2, window
        assert abs(peers.repeated(4, window) / met_again - 1) < 0.2, window
        assert peers.capped(4, 1, window) > EXACT_PEERS
    assert abs(peers.capped(4, 1, "life") / (20 * 1200) - 1) < 0.35
    assert len(profile.met()[0]) <= (14 + 20) * (EXACT_PEERS + 1)


def test_windows_of_peers_hold_every_month_that_reaches_into_them() -> None:
    start = 690 * 30 * DAY_US
    for day in (0, 29):
        profile = Profile.empty().with_changes([(start + day * DAY_US, Change(4, "peers", 77))])
        for window, days in (("30d", 30), ("90d", 90), ("365d", 365)):
            # The month's last day lies in the window for so many days.
            assert met(profile, start + (29 + days - 1) * DAY_US, window=window) == 1
            assert met(profile, start + (29 + days) * DAY_US, window=window) == 0
        assert met(profile, start + 9999 * DAY_US, window="life") == 1


def test_windows_of_orders_are_days() -> None:
    at = 20_700 * DAY_US + 5
    profile = Profile.empty().with_changes([(at, Change(5, "orders", 9)), (at + 20 * DAY_US, Change(5, "orders", 9))])
    for days, counted in ((0, 1), (49, 1), (50, 0)):
        assert met(profile, at + days * DAY_US, slot=5, window="30d") == counted, days


def test_meetings_are_capped_by_peer_and_month() -> None:
    month = 30 * DAY_US
    start = 690 * month
    meetings = {("a", 0): 9, ("a", 1): 2, ("b", 0): 6, ("c", 3): 1}
    history = [
        (start + at * month + n, Change(4, "peers", peer_hash(who)))
        for (who, at), times in meetings.items()
        for n in range(times)
    ]
    peers = Peers(Profile.empty().with_changes(history), as_of_s=(start + 3 * month + 29 * DAY_US) // 1_000_000)
    assert peers.capped(4, 6, "life") == 6 + 2 + 6 + 1
    assert peers.capped(4, 1, "life") == 4
    assert peers.capped(4, 6, "30d") == 1
    assert peers.capped(4, 6, "90d") == 2 + 1
    assert peers.repeated(4, "life") == 2
    assert peers.top_share(4, "life") == 11 / 18
    assert peers.top_share(4, "90d") == 2 / 3
    assert peers.capped(8, 6, "life") == 0
    assert peers.top_share(8, "life") is None


def test_peers_on_both_sides_are_mutual() -> None:
    history = [(T0, Change(slot, "peers", peer)) for slot, peer in ((4, 1), (4, 2), (4, 3), (6, 2), (6, 3), (6, 9))]
    peers = Peers(Profile.empty().with_changes(history), as_of_s=T0 // 1_000_000)
    assert (peers.mutual(4, 6, "30d"), peers.mutual(6, 4, "life"), peers.mutual(4, 7, "life")) == (2, 2, 0)


def test_a_reversed_change_leaves_nothing_behind_but_moments() -> None:
    taken = [Change(1, "sum", 5), Change(4, "peers", 9), Change(5, "orders", 9)]
    profile = Profile.empty().with_changes([(T0, change) for change in taken])
    reversals = [change.reversed() for change in taken]
    profile = profile.with_changes([(T0, change) for change in reversals if change is not None])
    # The newest moment; and who was met stays known, as met no more, so that the lowest ones never depend on order.
    assert sorted(profile.values.tolist()[1:]) == [0, 0]
    assert len(profile.keys) == 3
    peers = Peers(profile, as_of_s=T0 // 1_000_000)
    assert (peers.distinct(4, "life"), peers.distinct(5, "life")) == (0, 0)
    assert Change(7, "first", 1).reversed() is None


def test_version_1_is_read_and_its_peers_count_for_life() -> None:
    hour, day = T0 // 3_600_000_000, T0 // DAY_US
    old = {
        1 << 48 | hour << 16 | 3: 2, 2 << 48 | day << 16 | 3: 2, 3 << 48 | 3: 2, 4 << 48 | 7: T0 // 1_000_000,
        5 << 48: T0 // 1_000_000, 6 << 48 | 4 << 32 | 123: 3, 6 << 48 | 4 << 32 | 456: 1,
    }  # fmt: skip
    numbers = np.array([*sorted(old), *(old[key] for key in sorted(old))], "<i8")
    profile = Profile.from_bytes(b"\x01" + numbers.tobytes())
    assert profile.totals(hop_s=3_600, tiles=24, as_of_s=T0 // 1_000_000, slots=8)[3] == 2
    assert profile.totals(hop_s=86_400, tiles=30, as_of_s=T0 // 1_000_000, slots=8)[3] == 2
    assert profile.mark(Kind.FIRST, 7) == profile.newest_s() == T0 // 1_000_000
    assert (met(profile), met(profile, window="365d")) == (2, 0)
    assert Profile.from_bytes(profile.to_bytes()).to_bytes() == profile.to_bytes()
    grown = profile.with_changes([(T0, Change(4, "peers", 123)), (T0, Change(3, "sum", 1))])
    assert (met(grown), met(grown, window="30d")) == (2, 1)
    assert grown.totals(hop_s=0, tiles=0, as_of_s=0, slots=8)[3] == 3


def test_a_version_that_nobody_knows_is_refused() -> None:
    with pytest.raises(AssertionError, match="version 9"):
        Profile.from_bytes(b"\x09" + bytes(16))


def test_old_hours_and_days_fall_away_and_life_stays() -> None:
    profile = Profile.empty().with_changes([(T0, Change(1, "sum", 1))])
    later = profile.with_changes([(T0 + 400 * DAY_US, Change(1, "sum", 1))])
    assert later.totals(hop_s=86_400, tiles=0, as_of_s=0, slots=2)[1] == 2
    # newest mark, one hour, one day, life
    assert len(later.keys) == 4
