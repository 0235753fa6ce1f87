"""To the second: when an event counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from danbao_credit.domain.profile import Change, Profile
from danbao_credit.domain.windows import WINDOWS

SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def total(profile: Profile, window: str, as_of: datetime) -> int:
    span = WINDOWS[window]
    return profile.totals(hop_s=span.hop_s, tiles=span.tiles, as_of_s=us(as_of) // 1_000_000, slots=10)[3]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "event", "last_in"),
    [
        ("24h", "2026-01-01T10:15:00", "2026-01-02T09:59:59"),
        ("24h", "2026-01-01T10:00:00", "2026-01-02T09:59:59"),
        ("24h", "2026-01-01T10:59:59", "2026-01-02T09:59:59"),
        ("7d", "2026-01-01T10:15:00", "2026-01-08T09:59:59"),
        ("30d", "2026-01-01T10:15:00", "2026-01-30T23:59:59"),
        ("60d", "2026-01-01T00:00:00", "2026-03-01T23:59:59"),
        ("90d", "2026-01-01T23:59:59", "2026-03-31T23:59:59"),
        ("365d", "2026-01-01T10:15:00", "2026-12-31T23:59:59"),
    ],
)
def test_an_event_is_in_its_window_to_the_second_and_out_a_second_later(window: str, event: str, last_in: str) -> None:
    profile = Profile.empty().with_changes([(us(at(event)), Change(3, "sum", 1))])
    for moment, counted in ((at(event), 1), (at(last_in), 1), (at(last_in) + SECOND, 0)):
        assert total(profile, window, moment) == counted, moment
        assert WINDOWS[window].holds(us(at(event)), us(moment)) is bool(counted)


def test_life_holds_everything() -> None:
    profile = Profile.empty().with_changes([(us(at("2016-01-01T00:00:00")), Change(3, "sum", 2))])
    assert total(profile, "life", at("2026-01-01T00:00:00")) == 2


def test_what_has_not_happened_yet_does_not_count() -> None:
    profile = Profile.empty().with_changes([(us(at("2026-01-01T10:15:00")), Change(3, "sum", 1))])
    assert total(profile, "24h", at("2026-01-01T09:59:59")) == 0


def test_tiles_agree_with_the_rule_event_by_event() -> None:
    """Every window, at moments around every edge, against a count over the events themselves."""
    events = [at("2026-05-01T00:00:00") + timedelta(hours=7 * number, seconds=number) for number in range(120)]
    profile = Profile.empty().with_changes([(us(event), Change(3, "sum", 1)) for event in events])
    newest = events[-1]
    for name, window in WINDOWS.items():
        for hours in (0, 1, 23, 24, 25, 24 * 29, 24 * 30, 24 * 89, 24 * 364):
            as_of = newest + timedelta(hours=hours)
            expected = sum(window.holds(us(event), us(as_of)) for event in events)
            assert total(profile, name, as_of) == expected, (name, as_of)


def test_hours_are_kept_so_that_short_windows_may_look_back_a_day() -> None:
    """At the newest event, the windows up to seven days are known as of any second of the 24 hours before."""
    events = [at("2026-05-01T00:00:00") + timedelta(minutes=97 * number) for number in range(200)]
    profile = Profile.empty().with_changes([(us(event), Change(3, "sum", 1)) for event in events])
    for name in ("24h", "7d"):
        for back in range(0, 24 * 3600 + 1, 1801):
            as_of = events[-1] - timedelta(seconds=back)
            expected = sum(WINDOWS[name].holds(us(event), us(as_of)) for event in events)
            assert total(profile, name, as_of) == expected, (name, back)
