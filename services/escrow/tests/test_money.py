"""Where the money of a trade goes, to the last minor unit."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_escrow.domain import commands
from danbao_escrow.domain.commands import StepRefused
from danbao_escrow.domain.fees import Fee, Settled, rounded_half_up, scaled_fee_bps, split_release
from danbao_escrow.domain.model import LineState, Role, TradeState
from danbao_escrow.domain.reminders import next_look
from danbao_escrow.testing.world import BUYER, SELLER, World, new_trade, plain_terms

ESCROW, WALLET, FEE = "escrow.trade", "user.available", "fee.escrow"
PAYABLE, HELD = "seller.payable", "seller.payable_held"


def books_of(world):
    """Balances by (owner, kind), from the movements of done steps alone."""
    balances = {}
    for step in world.steps.values():
        if step.state == "DONE":
            for leg in step.movement.legs:
                debit, credit = (leg.debit_owner, leg.debit_kind), (leg.credit_owner, leg.credit_kind)
                balances[debit] = balances.get(debit, 0) - leg.amount_minor
                balances[credit] = balances.get(credit, 0) + leg.amount_minor
    return balances


def check(world, trade):
    """What must hold of a trade's books at any time."""
    trade = world.trades[trade.trade_id]
    books = books_of(world)
    held = books.get((trade.name, ESCROW), 0)
    assert held == trade.funded_minor - trade.released_minor - trade.refunded_minor >= 0
    assert books.get(("platform", FEE), 0) == trade.fees_minor
    assert books.get((SELLER, HELD), 0) == trade.held_back_minor
    seller_minor = books.get((SELLER, HELD), 0) + books.get((SELLER, PAYABLE), 0)
    assert seller_minor == trade.released_minor - trade.fees_minor
    assert sum(line.released_minor for line in trade.lines) == trade.released_minor
    assert sum(line.refunded_minor for line in trade.lines) == trade.refunded_minor
    if trade.state in (TradeState.COMPLETED, TradeState.CLOSED, TradeState.CANCELLED):
        assert held == 0
    assert sum(books.values()) == 0
    return books


def confirm(world, trade, *line_ids):
    world.give(commands.ConfirmLines, trade, Role.BUYER, line_ids=line_ids)
    return world.settle(trade)


def test_twenty_with_a_fifth_as_fee():
    world = World()
    trade = confirm(world, world.shipped((2000,), fee_bps=2000))
    books = check(world, trade)
    assert (books[SELLER, PAYABLE], books["platform", FEE], books[trade.name, ESCROW]) == (1600, 400, 0)
    assert trade.state is TradeState.COMPLETED


def test_two_lines_with_postage_are_released_one_after_the_other():
    world = World()
    trade = world.shipped((3000, 5000), postage_minor=1000, fee_bps=500)
    trade = confirm(world, trade, "1")
    books = check(world, trade)
    assert (books[SELLER, PAYABLE], books["platform", FEE], books[trade.name, ESCROW]) == (2850, 150, 6000)
    assert trade.state is TradeState.AWAITING_CONFIRMATION
    trade = confirm(world, trade, "2")
    books = check(world, trade)
    assert (books[SELLER, PAYABLE], books["platform", FEE], books[trade.name, ESCROW]) == (8550, 450, 0)
    assert [line.released_minor for line in trade.lines] == [3000, 6000]


def test_postage_goes_back_with_the_last_line_when_nothing_was_shipped():
    world = World()
    trade = world.paid((3000, 5000), postage_minor=1000)
    world.give(commands.CancelLines, trade, Role.SELLER, line_ids=("2",))
    trade = world.settle(trade)
    assert (trade.refunded_minor, trade.state) == (5000, TradeState.AWAITING_SHIPMENT)
    world.give(commands.CancelLines, trade, Role.SELLER)
    trade = world.settle(trade)
    assert check(world, trade)[BUYER, WALLET] == 0
    assert (trade.refunded_minor, trade.released_minor, trade.state) == (9000, 0, TradeState.CLOSED)
    assert [line.refunded_minor for line in trade.lines] == [4000, 5000]


def test_postage_goes_to_the_seller_when_any_line_was_shipped():
    world = World()
    trade = world.paid((3000, 5000), postage_minor=1000, fee_bps=500)
    world.give(commands.ShipLines, trade, Role.SELLER, line_ids=("1",))
    trade = confirm(world, trade, "1")
    assert trade.state is TradeState.PARTIALLY_SHIPPED
    world.give(commands.CancelLines, trade, Role.SELLER)
    trade = world.settle(trade)
    books = check(world, trade)
    assert (books[SELLER, PAYABLE], books["platform", FEE], books[BUYER, WALLET]) == (3800, 200, -4000)
    assert trade.state is TradeState.COMPLETED
    last = trade.lines[1]
    assert (last.state, last.released_minor, last.refunded_minor) == (LineState.REFUNDED, 1000, 5000)


def test_a_grade_keeps_back_its_reserve_and_delays_the_rest():
    world = World()
    terms = plain_terms(payout_delay_hours=48, reserve_bps=500)
    trade = confirm(world, world.shipped((10_000,), fee_bps=100, terms=terms))
    books = check(world, trade)
    assert (books[SELLER, HELD], books.get((SELLER, PAYABLE), 0), trade.held_back_minor) == (9900, 0, 9900)
    assert sorted(part.amount_minor for part in trade.held) == [500, 9400]
    world.now += timedelta(hours=47)
    assert not world.fire(trade).is_pending
    world.now += timedelta(hours=1)
    assert world.fire(trade).is_pending
    trade = world.settle(trade)
    assert check(world, trade)[SELLER, PAYABLE] == 9400
    world.now += timedelta(days=88)
    assert world.fire(trade).is_pending
    trade = world.settle(trade)
    assert check(world, trade)[SELLER, PAYABLE] == 9900
    assert (trade.held, next_look(trade)) == ((), None)


def test_an_operator_pays_out_what_grade_e_keeps_back():
    world = World()
    terms = plain_terms(payout_by_operator=True, reserve_bps=2000)
    trade = confirm(world, world.shipped((10_000,), fee_bps=150, terms=terms))
    assert (trade.held_back_minor, next_look(trade)) == (9850, trade.lines[0].settle_time + timedelta(days=90))
    world.give(commands.ReleaseHeld, trade, Role.OPERATOR)
    trade = world.settle(trade)
    assert check(world, trade)[SELLER, PAYABLE] == 9850
    assert trade.held_back_minor == 0


def test_a_leg_of_nothing_is_left_out():
    world = World()
    trade = confirm(world, world.shipped((1,), fee_bps=0))
    (leg,) = world.steps[(trade.trade_id, 2)].movement.legs
    assert (leg.credit_kind, leg.amount_minor) == (PAYABLE, 1)
    all_fee = confirm(world, world.shipped((7,), fee_bps=10_000))
    (leg,) = world.steps[(all_fee.trade_id, 2)].movement.legs
    assert (leg.credit_kind, leg.amount_minor) == (FEE, 7)


@pytest.mark.parametrize(("percent", "bps"), [(80, 80), (90, 90), (100, 100), (120, 120), (150, 150), (0, 0)])
def test_the_grade_scales_the_standard_fee(percent, bps):
    assert scaled_fee_bps(percent) == bps


def test_halves_go_up():
    assert [rounded_half_up(n, 10) for n in (0, 4, 5, 14, 15, 25)] == [0, 0, 1, 1, 2, 3]


def test_three_times_333_at_two_and_a_half_percent_takes_25_in_all():
    taken, released = [], 0
    for _ in range(3):
        split = split_release(Fee(250), Settled(999, released, 0), released_minor=333, reserve_bps=0)
        taken.append(split.fee_minor)
        released += 333
    assert taken == [8, 9, 8]


@settings(max_examples=300, deadline=None)
@given(
    releases=st.lists(st.integers(0, 10**12), min_size=1, max_size=12),
    fee_bps=st.integers(0, 10_000),
    reserve_bps=st.integers(0, 10_000),
)
def test_many_releases_take_the_fee_of_one(releases, fee_bps, reserve_bps):
    fees = released = seller = 0
    for amount in releases:
        before = Settled(sum(releases) or 1, released, 0)
        split = split_release(Fee(fee_bps), before, released_minor=amount, reserve_bps=reserve_bps)
        assert split.fee_minor + split.seller_minor == amount
        assert split.fee_minor >= 0
        assert 0 <= split.reserve_minor <= split.seller_minor
        released, fees, seller = released + amount, fees + split.fee_minor, seller + split.seller_minor
    assert fees == rounded_half_up(fee_bps * released, 10_000)
    assert fees + seller == released


MOVES = st.lists(
    st.tuples(st.sampled_from(["ship", "deliver", "confirm", "cancel", "time", "refuse", "held"]), st.integers(0, 3)),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(
    amounts=st.lists(st.integers(1, 10**9), min_size=1, max_size=4),
    postage_minor=st.integers(0, 10**6),
    fee_bps=st.integers(0, 10_000),
    reserve_bps=st.integers(0, 3000),
    delay_hours=st.sampled_from([0, 24]),
    moves=MOVES,
)
def test_whatever_happens_no_unit_is_lost_or_made(amounts, postage_minor, fee_bps, reserve_bps, delay_hours, moves):
    world = World()
    terms = plain_terms(reserve_bps=reserve_bps, payout_delay_hours=delay_hours)
    trade = world.paid(tuple(amounts), postage_minor=postage_minor, fee_bps=fee_bps, terms=terms)
    for move, number in moves:
        line_ids = (str(number + 1),) if number < len(amounts) else ()
        _move(world, trade, move, line_ids)
        if world.trades[trade.trade_id].is_pending:
            if move == "refuse":
                blocked = world.settle(trade, StepRefused("ACCOUNT_FROZEN", "frozen"))
                assert blocked.is_pending
                assert blocked.step_blocked
            world.settle(trade)
        check(world, trade)
    for _ in range(12):  # time ends every trade
        world.now += timedelta(days=100)
        if world.fire(trade).is_pending:
            world.settle(trade)
        check(world, trade)
    ended = world.trades[trade.trade_id]
    assert ended.state in (TradeState.COMPLETED, TradeState.CLOSED)
    assert (ended.held, next_look(ended)) == ((), None)
    assert [entry.position for entry in world.timeline] == list(range(1, ended.timeline_length + 1))


def _move(world, trade, move, line_ids):
    from danbao_kit.errors import DanbaoError

    given_by = {
        "ship": (commands.ShipLines, Role.SELLER, {"line_ids": line_ids}),
        "deliver": (commands.ReportDelivery, Role.CARRIER, {"line_ids": line_ids}),
        "confirm": (commands.ConfirmLines, Role.BUYER, {"line_ids": line_ids}),
        "refuse": (commands.ConfirmLines, Role.BUYER, {"line_ids": line_ids}),
        "cancel": (commands.CancelLines, Role.SELLER, {"line_ids": line_ids}),
        "held": (commands.ReleaseHeld, Role.OPERATOR, {}),
    }
    before = replace(world.trades[trade.trade_id])
    try:
        if move == "time":
            world.now += timedelta(days=5)
            world.fire(trade)
        else:
            command, role, fields = given_by[move]
            world.give(command, trade, role, **fields)
    except DanbaoError:
        assert world.trades[trade.trade_id] == before, "a refusal changes nothing"


def test_new_trades_names_are_unique():
    world = World()
    assert world.run(new_trade()).name != world.run(new_trade()).name
