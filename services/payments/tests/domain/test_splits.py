"""How amounts are split: published examples, caps, what remains, and that nothing is ever lost."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danbao_payments.domain.errors import SplitNotWhole
from danbao_payments.domain.splits import Part, RemainderPolicy, share_of, split

FIRST, LARGEST = RemainderPolicy.FIRST, RemainderPolicy.LARGEST_REMAINDER
REST = Part()


def shares(*texts: str) -> list[Part]:
    return [Part(share=Fraction(text)) for text in texts]


@pytest.mark.parametrize(
    ("source", "amount", "of", "policy", "parts"),
    [
        ("Formance docs, rounding", 99, ["1/5"] * 5, FIRST, (20, 20, 20, 20, 19)),
        ("Formance docs, rounding", 99, ["1/2", "1/2"], FIRST, (50, 49)),
        ("numscript allocation", 15, ["80/100", "8/100", "12/100"], FIRST, (13, 1, 1)),
        ("numscript allocation, other policy", 15, ["80/100", "8/100", "12/100"], LARGEST, (12, 1, 2)),
        ("moneyphp#492", 9999, ["75/100", "25/100"], FIRST, (7500, 2499)),
        ("moneyphp#492, other policy", 9999, ["75/100", "25/100"], LARGEST, (7499, 2500)),
    ],
)
def test_published_examples_come_out(source, amount, of, policy, parts):
    assert split(amount, shares(*of), policy) == parts, source


def test_a_lone_share_is_rounded_to_the_nearest_unit_beside_what_remains():
    fee = [Part(share=share_of(250)), REST]
    assert [split(total, fee, LARGEST)[0] for total in (333, 666, 999)] == [8, 17, 25]
    assert split(10_000, [Part(share=share_of(1000)), REST], FIRST) == (1000, 9000)


def test_what_remains_is_taken_in_order_up_to_each_cap():
    parts = [Part(cap_minor=10), Part(cap_minor=25), REST]
    assert [split(minor, parts, FIRST) for minor in (7, 20, 100)] == [(7, 0, 0), (10, 10, 0), (10, 25, 65)]


def test_fixed_parts_come_off_the_whole_and_a_capped_share_leaves_its_surplus():
    parts = [Part(fixed_minor=30), Part(share=share_of(1000), cap_minor=50), REST]
    assert split(1000, parts, LARGEST) == (30, 50, 920)
    assert split(100, parts, LARGEST) == (30, 10, 60)


@pytest.mark.parametrize(
    "parts",
    [
        [Part(fixed_minor=101), REST],
        [Part(fixed_minor=99)],
        shares("1/2", "1/3"),
        shares("1/2", "2/3"),
        [Part(fixed_minor=60), Part(share=Fraction(1, 2)), REST],
        [Part(cap_minor=99)],
        [],
    ],
)
def test_parts_that_are_not_the_amount_are_refused(parts):
    for policy in RemainderPolicy:
        with pytest.raises(SplitNotWhole):
            split(100, parts, policy)


@given(
    amount=st.integers(1, 2**63 - 1),
    weights=st.lists(st.integers(0, 10_000), min_size=1, max_size=8).filter(any),
    policy=st.sampled_from(list(RemainderPolicy)),
)
def test_no_unit_is_lost_or_made_and_no_part_is_a_unit_off(amount, weights, policy):
    whole = sum(weights)
    parts = [Part(share=Fraction(weight, whole)) for weight in weights]
    got = split(amount, parts, policy)
    assert sum(got) == amount
    assert all(abs(each - amount * part.share) <= 1 for each, part in zip(got, parts, strict=True))


@given(
    amount=st.integers(1, 10**6),
    points=st.integers(0, 10_000),
    caps=st.lists(st.none() | st.integers(0, 10**6), min_size=2, max_size=4),
    policy=st.sampled_from(list(RemainderPolicy)),
)
def test_no_part_passes_its_cap(amount, points, caps, policy):
    parts = [Part(share=share_of(points), cap_minor=caps[0]), *[Part(cap_minor=cap) for cap in caps[1:]], REST]
    got = split(amount, parts, policy)
    assert sum(got) == amount
    assert all(part.cap_minor is None or each <= part.cap_minor for each, part in zip(got, parts, strict=True))
