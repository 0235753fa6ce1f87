"""Made-up orders: the same from the same seed, in the files' format, with everything odd that a report can list."""

from pathlib import Path

import pytest

from danbao_local.olist import files
from danbao_local.olist.generator import generate, write
from danbao_local.olist.oddities import ODDITIES
from danbao_local.olist.orders import STATUSES, Order
from danbao_local.olist.population import generate_population
from danbao_local.olist.reader import read
from danbao_local.replay.money import money_in_by_files
from danbao_local.replay.odd import RULES, Odd
from danbao_local.replay.plan import make_plan

_OBSERVED = {Odd.TRADE_REFUSED}
"""What only a running stack can find."""


def test_the_same_seed_makes_the_same_orders(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        write(generate(80, seed), tmp_path / name)
    one, two, three = (files.fingerprint(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.parametrize("seed", [7, 11])
def test_every_oddity_of_the_report_is_among_them(tmp_path: Path, seed: int) -> None:
    write(generate(120, seed), tmp_path)
    found = read(tmp_path)
    assert len(found.orders) == 120
    kinds = {fact.kind for order in found.orders for fact in make_plan(order).odd}
    kinds |= {Odd(odd.kind) for odd in found.odd_rows}
    assert set(Odd) - kinds == _OBSERVED
    assert {order.status for order in found.orders} >= set(STATUSES)
    assert {review.score for order in found.orders for review in order.reviews} == {1, 2, 3, 4, 5}


def test_every_kind_has_a_rule() -> None:
    assert set(RULES) == set(Odd)


def test_some_files_are_packed_and_some_are_not(tmp_path: Path) -> None:
    write(generate(len(ODDITIES), 1), tmp_path)
    endings = {path.name.partition(".")[2] for path in tmp_path.iterdir()}
    assert endings == {"csv", "csv.gz"}
    write(generate(len(ODDITIES), 1), tmp_path, compressed=frozenset())
    assert {path.name.partition(".")[2] for path in tmp_path.iterdir()} == {"csv"}


def test_money_by_the_files_alone_is_what_the_orders_say(tmp_path: Path) -> None:
    write(generate(150, 3), tmp_path)
    for limit in (None, 20):
        orders = read(tmp_path, limit).orders
        assert money_in_by_files(tmp_path, orders) == sum(order.paid_minor for order in orders) > 0


def test_a_population_is_the_same_from_the_same_seed_and_nothing_in_it_is_odd(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        write(generate_population(600, seed, days=200), tmp_path / name)
    one, two, three = (files.fingerprint(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one != three
    found = read(tmp_path / "one")
    assert len(found.orders) == 600
    assert not found.odd_rows


def test_in_a_population_the_past_tells_of_the_future(tmp_path: Path) -> None:
    """Sellers who shipped late in the first half do so far more often in the second than those who did not."""
    write(generate_population(6000, 7, days=300), tmp_path)
    orders = [order for order in read(tmp_path).orders if order.handed_to_carrier is not None]
    middle = orders[len(orders) // 2].purchased

    def is_late(order: Order) -> bool:
        return order.handed_to_carrier > max(item.shipping_limit for item in order.items)

    late_before = {order.items[0].seller_id for order in orders if order.purchased < middle and is_late(order)}
    after = [order for order in orders if order.purchased >= middle]
    rates = []
    for was_late in (True, False):
        group = [order for order in after if (order.items[0].seller_id in late_before) is was_late]
        rates.append(sum(map(is_late, group)) / len(group))
    assert rates[0] > 2 * rates[1]
