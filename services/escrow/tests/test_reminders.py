"""Reminders: a day before a deadline, or a quarter of the period when that is shorter; once, and never too late."""

from datetime import timedelta

import pytest

from danbao_escrow.domain import commands
from danbao_escrow.domain.deadlines import reminder_time
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.reminders import next_look
from danbao_escrow.testing.world import START, World, new_trade, plain_terms


def reminders(world):
    return [(event.reason, event.line_ids) for event in world.events if event.kind == "trade_reminder"]


def until_next(world, trade):
    """Moves time to what the trade waits for, and fires it; the time that passed since the beginning."""
    current = world.trades[trade.trade_id]
    world.now = max(world.now, next_look(current))
    world.fire(trade)
    return world.now - START


@pytest.mark.parametrize(
    ("period", "before"),
    [
        (timedelta(minutes=1), timedelta(seconds=15)),
        (timedelta(hours=24), timedelta(hours=6)),
        (timedelta(days=4), timedelta(hours=24)),
        (timedelta(days=60), timedelta(hours=24)),
    ],
)
def test_how_long_before(period, before):
    assert reminder_time(START, period) == START + period - before


def test_an_unpaid_trade_is_reminded_once():
    world = World()
    trade = world.run(new_trade((10, 20)))
    assert until_next(world, trade) // timedelta(hours=1) == 18
    assert reminders(world) == [("PayBy", ("1", "2"))]
    world.fire(trade)
    assert len(reminders(world)) == 1
    until_next(world, trade)
    assert world.trades[trade.trade_id].state == "CANCELLED"
    assert world.timeline[-2].command == "Reminder"


def test_a_seller_is_reminded_of_ship_by_and_of_the_end():
    world = World()
    trade = world.paid((10,))
    assert until_next(world, trade) // timedelta(hours=1) == 3 * 24 - 18
    assert until_next(world, trade) // timedelta(hours=1) == 9 * 24
    assert reminders(world) == [("ShipBy", ("1",)), ("SystemCancel", ("1",))]
    until_next(world, trade)
    assert world.settle(trade).state == "CLOSED"


def test_a_buyer_is_reminded_again_when_auto_confirm_moves():
    world = World()
    trade = world.shipped((10,))
    assert until_next(world, trade) // timedelta(days=1) == 19
    world.give(commands.ExtendConfirmation, trade, Role.BUYER, days=3)
    assert until_next(world, trade) // timedelta(days=1) == 22
    world.give(commands.ReportDelivery, trade, Role.CARRIER)
    until_next(world, trade)
    assert reminders(world) == [("AutoConfirm", ("1",))] * 3


def test_nobody_is_reminded_of_what_has_passed():
    world = World()
    trade = world.paid((10, 20))
    world.now += timedelta(days=4)
    before = world.trades[trade.trade_id]
    fired = world.fire(trade)
    assert reminders(world) == []
    assert (fired.revision, fired.timeline_length) == (before.revision, before.timeline_length)
    assert next_look(fired) > world.now, "and it is not looked at for ever"


def test_a_ship_by_in_the_past_has_no_reminder():
    world = World()
    trade = world.paid((10,), ship_by_time=START - timedelta(days=1))
    until_next(world, trade)
    assert reminders(world) == [("SystemCancel", ("1",))]


def test_lines_of_one_deadline_are_told_together_and_a_pending_step_waits():
    world = World()
    trade = world.shipped((10, 20))
    world.give(commands.ReportDelivery, trade, Role.CARRIER, line_ids=("2",))
    world.now += timedelta(days=9, hours=1)
    world.give(commands.ConfirmLines, trade, Role.BUYER, line_ids=("1",))
    world.fire(trade)
    assert reminders(world) == []
    settled = world.settle(trade)
    assert next_look(settled) <= world.now
    world.fire(trade)
    assert reminders(world) == [("AutoConfirm", ("2",))]


def test_what_waits_for_an_operator_reminds_nobody():
    world = World()
    trade = world.shipped((10,), terms=plain_terms(auto_confirm_by_operator=True))
    for _ in range(3):
        if next_look(world.trades[trade.trade_id]) is not None:
            until_next(world, trade)
    assert [event.kind for event in world.events][-2:] == ["trade_reminder", "operator_needed"]
    assert next_look(world.trades[trade.trade_id]) is None


async def test_reminders_go_out_when_time_passes(stack, client):
    trade = await client.shipped(1000)
    await stack.advance(days=19, hours=1)
    event = (await stack.events())[-1]
    assert (event.WhichOneof("payload"), event.reason, list(event.line_ids)) == ("trade_reminder", "AutoConfirm", ["1"])
    assert event.trade_reminder.lines[0].deadline_time.seconds
    await stack.advance(hours=1)
    assert (await stack.events())[-1] == event, "once"
    entries = await client.timeline(trade)
    assert (entries[-1].command, entries[-1].reason) == ("Reminder", "AutoConfirm")
