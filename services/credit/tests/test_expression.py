"""The language of indicators: what it computes and what it refuses."""

from __future__ import annotations

import pytest

from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.expression import Expression, compile_expression, spread
from danbao_credit.domain.vector import program_of

SLOTS = {("a", "sum"): 1, ("b", "sum"): 2, ("born", "mark"): 3, ("friends", "peers"): 4, ("faults", "orders"): 5}


class Slots:
    def find(self, name: str, *, keep: str) -> int | None:
        return SLOTS.get((name, keep))


class Facts:
    def __init__(self, **totals: int) -> None:
        self.totals_of = totals

    def total(self, slot: int, window: str) -> int:
        return self.totals_of.get(f"{'ab'[slot - 1]}_{window}", 0)

    def days_since(self, slot: int) -> int | None:
        return None

    def totals(self, window: str) -> list[int]:
        return [0, *(self.totals_of.get(f"{name}_{window}", 0) for name in "ab")]

    def distinct(self, slot: int, window: str) -> int | None:
        return {"30d": 7, "life": 9}[window]

    def repeated(self, slot: int, window: str) -> int | None:
        return 2

    def top_share(self, slot: int, window: str) -> float | None:
        return 0.5

    def capped(self, slot: int, most: int, window: str) -> int:
        return 10 * most

    def mutual(self, slot: int, other: int, window: str) -> int:
        return slot + other

    def orders(self, slot: int, window: str) -> int:
        return 3


class Written:
    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def written(self) -> str:
        return self.expression.write("30d")


def value(text: str, **totals: int) -> object:
    """Computed by itself and by a program, which must agree."""
    expression = compile_expression(text, Slots())
    alone = expression.value(Facts(**totals), "30d")
    assert program_of([Written(expression)])(Facts(**totals)) == [alone]
    return alone


def test_sums_quotients_and_other_windows() -> None:
    assert value("a + 2 * b - 1", a_30d=5, b_30d=3) == 10
    assert value("a / b", a_30d=3, b_30d=200) == 0.015
    assert value('a["7d"] / a', a_7d=1, a_30d=4) == 0.25
    assert value("a / max(b, a)", a_30d=3, b_30d=1) == 1.0
    assert value("min(a, b)", a_30d=3, b_30d=1) == 1
    assert value("distinct(friends) + a", a_30d=3) == 10
    assert value("top_share(friends)") == 0.5
    assert value('distinct(friends["life"]) - distinct(friends)') == 2
    assert value("repeated(friends) / distinct(friends)") == 2 / 7
    assert value("capped(friends, 6)") == 60
    assert value("mutual(friends, friends)") == 8
    assert value("orders(faults) / max(a, orders(faults))", a_30d=200) == 0.015
    assert value("(a / b) / (b / a)", a_30d=2, b_30d=1) == 4.0


def test_spread_is_the_standard_deviation_as_a_share_of_the_mean() -> None:
    amounts = [2, 4, 4, 4, 5, 5, 7, 9]
    assert spread(len(amounts), sum(amounts), sum(amount**2 for amount in amounts)) == pytest.approx(0.4)
    assert spread(1, 5, 25) is None
    assert spread(3, 0, 0) is None
    assert spread(2, 10, 50) == 0
    assert value("spread(a, a, b)", a_30d=2, b_30d=4) == 1.0


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
        "a // b", "-a", "True", "'a'", "days_since(x=born)", "distinct(faults)", "orders(friends)", "capped(friends)",
        "capped(friends, 0)", "capped(friends, a)", "mutual(friends)", "spread(a, b)", 'distinct(friends["1y"])',
        'days_since(born["30d"])', "hours(a)",
    ],
)  # fmt: skip
def test_anything_else_is_refused_when_the_catalogue_is_read(text: str) -> None:
    with pytest.raises(DefinitionInvalid):
        compile_expression(text, Slots())
