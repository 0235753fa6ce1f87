"""The whole product of state, command, role and time: every cell of it is asserted, refusals included."""

import itertools
from datetime import timedelta

import pytest

from danbao_escrow.domain import commands
from danbao_escrow.domain.commands import CommandName
from danbao_escrow.domain.errors import LineUnderCase, RoleNotAllowed, StepInFlight, TradeStateInvalid
from danbao_escrow.domain.model import LineState, Role, TradeState
from danbao_escrow.domain.reminders import next_look
from danbao_escrow.domain.trade import OUTSIDE_ROLES, TABLE
from danbao_escrow.testing.world import World, plain_terms

TYPES = {
    CommandName.PAY_TRADE: commands.PayTrade,
    CommandName.CANCEL_TRADE: commands.CancelTrade,
    CommandName.SHIP_LINES: commands.ShipLines,
    CommandName.REPORT_DELIVERY: commands.ReportDelivery,
    CommandName.CONFIRM_LINES: commands.ConfirmLines,
    CommandName.CANCEL_LINES: commands.CancelLines,
    CommandName.RELEASE_HELD: commands.ReleaseHeld,
    CommandName.ADJUST_PRICE: commands.AdjustPrice,
    CommandName.EXTEND_CONFIRMATION: commands.ExtendConfirmation,
}

# Written apart from the table under test. A time's column names the roles that may; "-" nobody.
# at once | ship-by passed | everything passed | everything passed, grade E
LEGAL = """
UNPAID    AdjustPrice     SELLER                   -                        -               -
UNPAID    PayTrade        BUYER                    -                        -               -
UNPAID    CancelTrade     BUYER,SELLER,OPERATOR    -                        -               -
PAID      ShipLines       SELLER                   SELLER                   -               -
PAID      CancelLines     SELLER                   SELLER,BUYER             SELLER,BUYER    SELLER,BUYER
SHIPPED   ReportDelivery  SELLER,CARRIER,OPERATOR  SELLER,CARRIER,OPERATOR  -               SELLER,CARRIER,OPERATOR
SHIPPED   ExtendConfirmation BUYER                 BUYER                    -               -
SHIPPED   ConfirmLines    BUYER                    BUYER                    BUYER           BUYER,OPERATOR
RELEASED  ReleaseHeld     OPERATOR                 OPERATOR                 OPERATOR        OPERATOR
"""
# Legal where something of the trade is kept back, whatever the line's state; of the trades made here it is in one.
HELD_ELSEWHERE = {(state, "ReleaseHeld", "OPERATOR") for state in ("PAID", "SHIPPED", "REFUNDED")}
# What a case that is open on the line leaves legal, at any time.
UNDER_CASE = """
PAID      -
SHIPPED   ReportDelivery,ExtendConfirmation
"""
TIMES = {"at once": 0, "ship-by passed": 4, "everything passed": 200, "grade E": 200}
GIVES_ROLE = {
    "PayTrade": {"BUYER"},
    "CancelTrade": {"BUYER", "SELLER", "OPERATOR"},
    "ShipLines": {"SELLER"},
    "ReportDelivery": {"SELLER", "CARRIER", "OPERATOR"},
    "ConfirmLines": {"BUYER", "OPERATOR"},
    "CancelLines": {"SELLER", "BUYER"},
    "ReleaseHeld": {"OPERATOR"},
    "AdjustPrice": {"SELLER"},
    "ExtendConfirmation": {"BUYER"},
}
STEPS = {"PayTrade": "PAY", "ConfirmLines": "RELEASE", "CancelLines": "REFUND", "ReleaseHeld": "PAYOUT_HELD"}
ENDS_OVERDUE = ("PayTrade", "CancelTrade", "AdjustPrice")
BECOMES = {
    "PayTrade": LineState.PAID,
    "CancelTrade": LineState.CANCELLED,
    "ShipLines": LineState.SHIPPED,
    "ReportDelivery": LineState.SHIPPED,
    "ConfirmLines": LineState.RELEASED,
    "CancelLines": LineState.REFUNDED,
    "ReleaseHeld": LineState.RELEASED,
    "AdjustPrice": LineState.UNPAID,
    "ExtendConfirmation": LineState.SHIPPED,
}


def legal():
    cells = {}
    for row in LEGAL.split("\n"):
        if not row:
            continue
        state, command, *columns = row.split()
        for time, column in zip(TIMES, columns, strict=True):
            cells[state, command, time] = set() if column == "-" else set(column.split(","))
    return cells


CELLS = legal()


def trade_in(world, state, time):
    terms = plain_terms(reserve_bps=1000)
    if time == "grade E":
        terms = plain_terms(reserve_bps=1000, auto_confirm_by_operator=True, payout_by_operator=True)
    make = {
        LineState.UNPAID: lambda: world.run(_new(terms)),
        LineState.PAID: lambda: world.paid((5000,), terms=terms),
        LineState.SHIPPED: lambda: world.shipped((5000,), terms=terms),
        LineState.RELEASED: lambda: world.released((5000,), terms=terms),
        LineState.REFUNDED: lambda: _refunded(world, terms),
        LineState.CANCELLED: lambda: world.give(commands.CancelTrade, world.run(_new(terms)), Role.BUYER),
    }
    trade = make[state]()
    assert {line.state for line in trade.lines} == {state}
    return trade


def _new(terms):
    from danbao_escrow.testing.world import new_trade

    return new_trade((5000,), terms=terms)


def _refunded(world, terms):
    trade = world.paid((5000,), terms=terms)
    world.give(commands.CancelLines, trade, Role.SELLER)
    return world.settle(trade)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("state", LineState)
def test_every_cell(state, time):
    for name, role in itertools.product(TYPES, Role):
        world = World()
        trade = trade_in(world, state, time)
        world.now += timedelta(days=TIMES[time])
        before = (world.trades[trade.trade_id], dict(world.steps), len(world.timeline), len(world.events))
        allowed = CELLS.get((state.value, name.value, time), set())
        cell = f"{state} {name} {role} {time}"
        if role.value in allowed:
            given = world.give(TYPES[name], trade, role)
            if name.value in STEPS:
                step = world.steps[(trade.trade_id, given.pending_step)]
                assert step.kind == STEPS[name.value], cell
                assert given.lines == before[0].lines, f"{cell}: nothing changes before payments has executed it"
                given = world.settle(trade)
            assert given.lines[0].state is BECOMES[name.value], cell
        elif role.value not in GIVES_ROLE[name.value]:
            with pytest.raises(RoleNotAllowed):
                world.give(TYPES[name], trade, role)
        elif (
            state is LineState.UNPAID and time != "at once" and name.value in ("PayTrade", "CancelTrade", "AdjustPrice")
        ):
            # Pay-by wins: the trade ends, and the command is refused in the same commit.
            world.give(TYPES[name], trade, role)
            (answer,) = world.answers[-1:]
            assert answer.error.reason == "TRADE_STATE_INVALID", cell
            assert answer.error.metadata["state"] == "CANCELLED", cell
            assert world.trades[trade.trade_id].state is TradeState.CANCELLED
            continue
        else:
            with pytest.raises(TradeStateInvalid) as refused:
                world.give(TYPES[name], trade, role)
            assert refused.value.metadata["state"] == before[0].state, cell
            expected = {
                command for (of, command, at), roles in CELLS.items() if of == state.value and at == time and roles
            }
            assert set(filter(None, refused.value.metadata["legal_commands"].split(","))) == expected, cell
        if role.value not in allowed:
            after = (world.trades[trade.trade_id], dict(world.steps), len(world.timeline), len(world.events))
            assert after == before, f"{cell}: a refusal changes nothing"


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", ["PAY", "RELEASE", "REFUND", "PAYOUT_HELD"])
def test_while_a_step_is_pending_money_waits_and_bound_lines_are_gone(kind, name):
    for role in OUTSIDE_ROLES:
        if role.value not in GIVES_ROLE[name.value]:
            continue
        world = World()
        trade = _with_pending(world, kind)
        before = world.trades[trade.trade_id]
        if name.value in STEPS or name in (CommandName.CANCEL_TRADE, CommandName.ADJUST_PRICE):
            with pytest.raises(StepInFlight):
                world.give(TYPES[name], trade, role)
        else:
            with pytest.raises(TradeStateInvalid):
                world.give(TYPES[name], trade, role)
        assert world.trades[trade.trade_id] == before


def _with_pending(world, kind):
    terms = plain_terms(reserve_bps=1000)
    if kind == "PAY":
        trade = world.run(_new(terms))
        world.give(commands.PayTrade, trade, Role.BUYER)
    elif kind == "RELEASE":
        trade = world.shipped((5000,), terms=terms)
        world.give(commands.ConfirmLines, trade, Role.BUYER)
    elif kind == "REFUND":
        trade = world.paid((5000,), terms=terms)
        world.give(commands.CancelLines, trade, Role.SELLER)
    else:
        trade = world.released((5000,), terms=terms)
        world.give(commands.ReleaseHeld, trade, Role.OPERATOR)
    return trade


def test_lines_that_are_not_bound_go_on_while_a_step_is_pending():
    world = World()
    trade = world.paid((3000, 5000))
    world.give(commands.CancelLines, trade, Role.SELLER, line_ids=("1",))
    shipped = world.give(commands.ShipLines, trade, Role.SELLER)
    assert [line.state for line in shipped.lines] == [LineState.PAID, LineState.SHIPPED]
    with pytest.raises(TradeStateInvalid):
        world.give(commands.ShipLines, trade, Role.SELLER, line_ids=("1",))
    settled = world.settle(trade)
    assert [line.state for line in settled.lines] == [LineState.REFUNDED, LineState.SHIPPED]
    assert settled.refunded_minor == 3000


@pytest.mark.parametrize(
    ("state", "time", "becomes", "kind"),
    [
        (LineState.UNPAID, "at once", LineState.UNPAID, None),
        (LineState.UNPAID, "everything passed", LineState.CANCELLED, None),
        (LineState.PAID, "at once", LineState.PAID, None),
        (LineState.PAID, "ship-by passed", LineState.PAID, None),
        (LineState.PAID, "everything passed", LineState.REFUNDED, "REFUND"),
        (LineState.SHIPPED, "at once", LineState.SHIPPED, None),
        (LineState.SHIPPED, "everything passed", LineState.RELEASED, "RELEASE"),
        (LineState.SHIPPED, "grade E", LineState.SHIPPED, None),
        (LineState.RELEASED, "at once", LineState.RELEASED, None),
        (LineState.RELEASED, "everything passed", LineState.RELEASED, "PAYOUT_HELD"),
        (LineState.REFUNDED, "everything passed", LineState.REFUNDED, None),
        (LineState.CANCELLED, "everything passed", LineState.CANCELLED, None),
    ],
)
def test_what_time_does(state, time, becomes, kind):
    world = World()
    trade = trade_in(world, state, time)
    world.now += timedelta(days=TIMES[time])
    fired = world.fire(trade)
    if kind is not None:
        assert world.steps[(trade.trade_id, fired.pending_step)].kind == kind
        assert next_look(fired) is None, "timers skip a trade with a step pending"
        fired = world.settle(trade)
    assert fired.lines[0].state is becomes
    assert next_look(fired) is None or next_look(fired) > world.now, "nothing stays due"


def test_the_table_knows_no_role_that_this_test_does_not():
    given = {(state.value, command.value, role.value) for state, command, role in TABLE if role is not Role.SYSTEM}
    expected = {(state, command, role) for (state, command, _), roles in CELLS.items() for role in roles}
    assert given == expected | HELD_ELSEWHERE


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("state", ["PAID", "SHIPPED"])
def test_every_cell_under_a_case(state, time):
    """Time stands still for the line; what would move or ship it is refused for the case, not for the state."""
    left = dict(row.split() for row in UNDER_CASE.strip().split("\n"))[state].split(",")
    for name, role in itertools.product(TYPES, Role):
        world = World()
        trade = trade_in(world, LineState(state), time)
        case = world.open_case(trade)
        world.now += timedelta(days=TIMES[time])
        before = world.trades[trade.trade_id]
        cell = f"{state} {name} {role} {time}"
        # The clock of the line stopped at once, and grade E's operator has nothing to do yet.
        allowed = CELLS.get((state, name.value, "at once"), set())
        if role.value in allowed and name.value in left:
            given = world.give(TYPES[name], trade, role)
            assert given.lines[0].state is BECOMES[name.value], cell
            assert given.lines[0].open_case == case.name, cell
            continue
        if role.value in allowed:
            with pytest.raises(LineUnderCase) as refused:
                world.give(TYPES[name], trade, role)
            assert refused.value.metadata["case"] == case.name, cell
            with pytest.raises(LineUnderCase):
                world.give(TYPES[name], trade, role, line_ids=("1",))
        elif role.value not in GIVES_ROLE[name.value]:
            with pytest.raises(RoleNotAllowed):
                world.give(TYPES[name], trade, role)
        else:
            with pytest.raises(TradeStateInvalid) as refused:
                world.give(TYPES[name], trade, role)
            assert set(filter(None, refused.value.metadata["legal_commands"].split(","))) == set(left) - {"-"}, cell
        assert world.trades[trade.trade_id] == before, f"{cell}: a refusal changes nothing"
        assert world.fire(trade) == before, f"{cell}: time stands still for the line"


def test_a_case_keeps_no_other_line_from_going_on():
    world = World()
    trade = world.paid((3000, 5000))
    case = world.open_case(trade, "1")
    shipped = world.give(commands.ShipLines, trade, Role.SELLER)
    assert [line.state for line in shipped.lines] == [LineState.PAID, LineState.SHIPPED]
    assert shipped.open_cases == 1
    world.give(commands.ConfirmLines, trade, Role.BUYER)
    assert world.settle(trade).released_minor == 5000
    with pytest.raises(LineUnderCase) as refused:
        world.give(commands.CancelLines, trade, Role.SELLER, line_ids=("1",))
    assert refused.value.metadata["case"] == case.name
