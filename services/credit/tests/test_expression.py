"""The language of indicators: what it computes and what it refuses."""

from __future__ import annotations

import pytest

from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.expression import compile_expression

SLOTS = {("a", "sum"): 1, ("b", "sum"): 2, ("born", "mark"): 3, ("friends", "peers"): 4}


class Slots:
    def find(self, name: str, *, keep: str) -> int | None:
        return SLOTS.get((name, keep))


class Facts:
    def __init__(self, **totals: int) -> None:
        self.totals = totals

    def total(self, slot: int, window: str) -> int:
        return self.totals.get(f"{'ab'[slot - 1]}_{window}", 0)

    def days_since(self, slot: int) -> int | None:
        return None

    def distinct(self, slot: int) -> int | None:
        return 7

    def top_share(self, slot: int) -> float | None:
        return 0.5


def value(text: str, **totals: int) -> object:
    return compile_expression(text, Slots()).value(Facts(**totals), "30d")


def test_sums_quotients_and_other_windows() -> None:
    assert value("a + 2 * b - 1", a_30d=5, b_30d=3) == 10
    assert value("a / b", a_30d=3, b_30d=200) == 0.015
    assert value('a["7d"] / a', a_7d=1, a_30d=4) == 0.25
    assert value("a / max(b, a)", a_30d=3, b_30d=1) == 1.0
    assert value("min(a, b)", a_30d=3, b_30d=1) == 1
    assert value("distinct(friends) + a", a_30d=3) == 10
    assert value("top_share(friends)") == 0.5


def test_a_denominator_that_is_not_above_zero_is_missing_and_never_zero() -> None:
    assert value("a / b", a_30d=3) is None
    assert value("a / b", a_30d=0) is None
    assert value("a / b", a_30d=3, b_30d=-1) is None
    assert value("1 + a / b") is None
    assert value("days_since(born) * 2") is None


@pytest.mark.parametrize(
    "text",
    [
        "", "a +", "c", "born", "friends", "days_since(a)", "distinct(born)", 'a["1y"]', "a[7]", "1.5 * a", "a ** 2",
        "__import__('os')", "a.real", "(lambda: 1)()", "[a]", "a if a else b", "max(a)", "max(*a)", "min(a, b, a)",
        "a // b", "-a", "True", "'a'", "days_since(x=born)",
    ],
)  # fmt: skip
def test_anything_else_is_refused_when_the_catalogue_is_read(text: str) -> None:
    with pytest.raises(DefinitionInvalid):
        compile_expression(text, Slots())
