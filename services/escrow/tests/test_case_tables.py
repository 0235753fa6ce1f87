"""Refund cases, disputes and claims: the whole product of state, command, role and time, refusals included."""

import itertools
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from danbao_escrow.application import chargebacks
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import case_commands as c
from danbao_escrow.domain import claim, dispute, refund_case
from danbao_escrow.domain.case_commands import CaseCommandName
from danbao_escrow.domain.case_errors import CaseStateInvalid, DisputeWindowClosed
from danbao_escrow.domain.case_model import ClaimState, DisputeState, RefundCaseState
from danbao_escrow.domain.errors import LineUnderCase, RoleNotAllowed, StepInFlight
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.step_model import StepKind
from danbao_escrow.testing.world import World, plain_terms
from danbao_kit.decision import Moment
from danbao_kit.time_ordered_ids import TimeOrderedIds

TERMS = plain_terms(member=True, compensation_limit_minor=10**9)

# Written apart from the tables under test. Each cell: role > what becomes of it; "+" after a step; "-" nobody.
# state | command | in time | time is up, and no timer was here yet
CASES = """
REQUESTED/money     AcceptRefundCase  SELLER>SUCCEEDED+        SELLER>SUCCEEDED+
REQUESTED/return    AcceptRefundCase  SELLER>AWAITING_RETURN   SELLER>AWAITING_RETURN
REQUESTED/money     RejectRefundCase  SELLER>REJECTED          -
REQUESTED/return    RejectRefundCase  SELLER>REJECTED          -
REQUESTED/money     CancelRefundCase  BUYER>WITHDRAWN          -
REQUESTED/return    CancelRefundCase  BUYER>WITHDRAWN          -
AWAITING_RETURN     SubmitReturn      BUYER>AWAITING_RECEIPT   -
AWAITING_RETURN     CancelRefundCase  BUYER>WITHDRAWN          BUYER>WITHDRAWN
AWAITING_RECEIPT    ConfirmReturn     SELLER>SUCCEEDED+        SELLER>SUCCEEDED+
AWAITING_RECEIPT    RejectRefundCase  SELLER>REJECTED          -
AWAITING_RECEIPT    CancelRefundCase  BUYER>WITHDRAWN          -
REJECTED            OpenDispute       BUYER>DISPUTED           -
REJECTED            CancelRefundCase  BUYER>WITHDRAWN          -
"""
CASE_ROLES = {
    "AcceptRefundCase": {"SELLER"},
    "RejectRefundCase": {"SELLER"},
    "SubmitReturn": {"BUYER"},
    "ConfirmReturn": {"SELLER"},
    "CancelRefundCase": {"BUYER"},
    "OpenDispute": {"BUYER"},
}
CASE_STATES = [
    "REQUESTED/money", "REQUESTED/return", "AWAITING_RETURN", "AWAITING_RECEIPT", "REJECTED", "REJECTED/over",
    "SUCCEEDED", "WITHDRAWN", "DISPUTED", "DISPUTED/over",
]  # fmt: skip

DISPUTES = """
OPEN              AddEvidence    BUYER>OPEN,SELLER>OPEN,ARBITER>OPEN              BUYER>OPEN,SELLER>OPEN,ARBITER>OPEN
OPEN              MakeOffer      BUYER>OFFERED,SELLER>OFFERED                     BUYER>OFFERED,SELLER>OFFERED
OPEN              DecideDispute  ARBITER>DECIDED                                  ARBITER>DECIDED
OFFERED/buyer     AddEvidence    BUYER>OFFERED,SELLER>OFFERED,ARBITER>OFFERED     BUYER>OFFERED,SELLER>OFFERED,ARBITER>OFFERED
OFFERED/buyer     MakeOffer      BUYER>OFFERED,SELLER>OFFERED                     BUYER>OFFERED,SELLER>OFFERED
OFFERED/buyer     AcceptOffer    SELLER>CLOSED+SETTLED                            SELLER>CLOSED+SETTLED
OFFERED/buyer     DecideDispute  ARBITER>DECIDED                                  ARBITER>DECIDED
OFFERED/seller    AddEvidence    BUYER>OFFERED,SELLER>OFFERED,ARBITER>OFFERED     BUYER>OFFERED,SELLER>OFFERED,ARBITER>OFFERED
OFFERED/seller    MakeOffer      BUYER>OFFERED,SELLER>OFFERED                     BUYER>OFFERED,SELLER>OFFERED
OFFERED/seller    AcceptOffer    BUYER>CLOSED+SETTLED                             BUYER>CLOSED+SETTLED
OFFERED/seller    DecideDispute  ARBITER>DECIDED                                  ARBITER>DECIDED
DECIDED           AddEvidence    BUYER>DECIDED,SELLER>DECIDED,ARBITER>DECIDED     BUYER>DECIDED,SELLER>DECIDED,ARBITER>DECIDED
DECIDED           AppealDispute  BUYER>APPEALED,SELLER>APPEALED                   -
APPEALED          AddEvidence    BUYER>APPEALED,SELLER>APPEALED,ARBITER>APPEALED  BUYER>APPEALED,SELLER>APPEALED,ARBITER>APPEALED
APPEALED          DecideDispute  ARBITER>CLOSED+DECIDED                           ARBITER>CLOSED+DECIDED
"""  # noqa: E501
DISPUTE_ROLES = {
    "AddEvidence": {"BUYER", "SELLER", "ARBITER"},
    "MakeOffer": {"BUYER", "SELLER"},
    "AcceptOffer": {"BUYER", "SELLER"},
    "DecideDispute": {"ARBITER"},
    "AppealDispute": {"BUYER", "SELLER"},
}
DISPUTE_STATES = ["OPEN", "OFFERED/buyer", "OFFERED/seller", "SETTLED", "DECIDED", "APPEALED", "CLOSED"]


def cells(table):
    found = {}
    for row in table.strip().split("\n"):
        state, command, *columns = row.split()
        for late, column in zip((False, True), columns, strict=True):
            pairs = [] if column == "-" else [cell.split(">") for cell in column.split(",")]
            found[state, command, late] = {role: becomes.partition("+") for role, becomes in pairs}
    return found


def case_in(world, state):
    with_return = state in ("REQUESTED/return", "AWAITING_RETURN", "AWAITING_RECEIPT")
    trade = world.shipped((5000,), terms=TERMS)
    case = world.open_case(trade, with_return=with_return)
    plain, _, how = state.partition("/")
    if plain in ("AWAITING_RETURN", "AWAITING_RECEIPT"):
        case = world.ask(c.AcceptRefundCase, case, Role.SELLER)
    if plain == "AWAITING_RECEIPT":
        case = world.ask(c.SubmitReturn, case, Role.BUYER)
    if plain in ("REJECTED", "DISPUTED"):
        case = world.ask(c.RejectRefundCase, case, Role.SELLER)
    if plain == "DISPUTED":
        found = world.open_dispute(case)
        if how == "over":
            world.ask(c.MakeOffer, found, Role.BUYER, buyer_minor=1000, seller_minor=0)
            world.ask(c.AcceptOffer, found, Role.SELLER)
            world.settle(trade)
    elif how == "over":
        world.now += timedelta(days=7)
        world.fire_case(case)
    if plain == "SUCCEEDED":
        world.ask(c.AcceptRefundCase, case, Role.SELLER)
        world.settle(trade)
    if plain == "WITHDRAWN":
        world.ask(c.CancelRefundCase, case, Role.BUYER)
    case = world.proceedings[case.name]
    assert (case.state.value, case.is_over) == (plain, how == "over" or plain in ("SUCCEEDED", "WITHDRAWN"))
    return case


def dispute_in(world, state):
    trade = world.shipped((5000,), terms=TERMS)
    found = world.open_dispute(world.open_case(trade))
    plain, _, who = state.partition("/")
    if plain in ("OFFERED", "SETTLED", "CLOSED"):
        role = Role.SELLER if who == "seller" else Role.BUYER
        found = world.ask(c.MakeOffer, found, role, buyer_minor=400, seller_minor=600)
    if plain in ("SETTLED", "CLOSED"):
        found = world.ask(c.AcceptOffer, found, Role.SELLER)
    if plain == "CLOSED":
        world.settle(trade)
        found = world.proceedings[found.name]
    if plain in ("DECIDED", "APPEALED"):
        found = world.ask(c.DecideDispute, found, Role.ARBITER, buyer_minor=400, seller_minor=600)
    if plain == "APPEALED":
        found = world.ask(c.AppealDispute, found, Role.SELLER)
    assert found.state.value == plain
    return found


def everything(world):
    return (dict(world.trades), dict(world.steps), dict(world.proceedings), len(world.timeline), len(world.events))


def late_by(thing, world):
    if thing.deadline_time is not None:
        world.now = thing.deadline_time


TYPES = {
    "AcceptRefundCase": c.AcceptRefundCase,
    "RejectRefundCase": c.RejectRefundCase,
    "SubmitReturn": c.SubmitReturn,
    "ConfirmReturn": c.ConfirmReturn,
    "CancelRefundCase": c.CancelRefundCase,
    "OpenDispute": c.OpenDispute,
    "AddEvidence": c.AddEvidence,
    "MakeOffer": c.MakeOffer,
    "AcceptOffer": c.AcceptOffer,
    "DecideDispute": c.DecideDispute,
    "AppealDispute": c.AppealDispute,
}
WINDOWS = {("OpenDispute", RefundCaseState.REJECTED), ("AppealDispute", DisputeState.DECIDED)}
PARTS = {"MakeOffer": {"buyer_minor": 1, "seller_minor": 999}, "DecideDispute": {"buyer_minor": 1, "seller_minor": 999}}


def check_cell(world, thing, name, role, expected, roles, cell, *, pending=False):
    before = everything(world)
    given = expected.get(role.value)
    if given is not None:
        after = world.ask(TYPES[name], thing, role, **PARTS.get(name, {}))
        becomes, has_step, meanwhile = given
        if name == "OpenDispute":
            after = world.proceedings[thing.name]
        if has_step:
            assert after.step_pending, cell
            assert after.state.value == (meanwhile or thing.state.value), cell
            trade = world.trades[thing.trade_id]
            step = world.steps[(trade.trade_id, trade.pending_step)]
            assert step.subject == thing.name, cell
            assert step.kind is (StepKind.SETTLE if name in DISPUTE_ROLES else StepKind.REFUND), cell
            world.settle(trade)
            after = world.proceedings[thing.name]
        assert after.state.value == becomes, cell
        assert len(world.timeline) > before[3], f"{cell}: it stands on the timeline"
        assert world.events[-1].about is not None, f"{cell}: it is told"
        return
    if role.value not in roles:
        refusal = RoleNotAllowed
    elif pending:
        refusal = StepInFlight
    elif (name, thing.state) in WINDOWS:
        refusal = DisputeWindowClosed
    else:
        refusal = CaseStateInvalid
    with pytest.raises(refusal) as refused:
        world.ask(TYPES[name], thing, role, **PARTS.get(name, {}))
    if refusal is CaseStateInvalid:
        assert refused.value.metadata["state"] == thing.state, cell
        assert refused.value.reason == "TRADE_STATE_INVALID"
    assert everything(world) == before, f"{cell}: a refusal changes nothing"


@pytest.mark.parametrize("late", [False, True], ids=["in time", "too late"])
@pytest.mark.parametrize("state", CASE_STATES)
def test_every_cell_of_a_refund_case(state, late):
    table = cells(CASES)
    for name, role in itertools.product(CASE_ROLES, Role):
        world = World()
        case = case_in(world, state)
        if late:
            late_by(case, world)
        expected = table.get((state, name, late), {})
        check_cell(world, case, name, role, expected, CASE_ROLES[name], f"{state} {name} {role} {late}")


@pytest.mark.parametrize("late", [False, True], ids=["in time", "too late"])
@pytest.mark.parametrize("state", DISPUTE_STATES)
def test_every_cell_of_a_dispute(state, late):
    table = cells(DISPUTES)
    for name, role in itertools.product(DISPUTE_ROLES, Role):
        world = World()
        found = dispute_in(world, state)
        if late:
            late_by(found, world)
        expected = table.get((state, name, late), {})
        cell = f"{state} {name} {role} {late}"
        check_cell(world, found, name, role, expected, DISPUTE_ROLES[name], cell, pending=state == "SETTLED")


@pytest.mark.parametrize("amount_minor", [0, 700])
@pytest.mark.parametrize("state", ClaimState)
def test_every_cell_of_a_claim(state, amount_minor):
    for role in Role:
        world = World()
        trade = world.released((5000,), terms=TERMS)
        found = world.open_claim(trade)
        if state is not ClaimState.OPEN:
            awarded = 500 if state is ClaimState.COMPENSATED else 0
            found = world.ask(c.DecideClaim, found, Role.ARBITER, compensation_minor=awarded)
            if awarded:
                world.settle(trade)
                found = world.proceedings[found.name]
        before = everything(world)
        if role is not Role.ARBITER:
            with pytest.raises(RoleNotAllowed):
                world.ask(c.DecideClaim, found, role, compensation_minor=amount_minor)
        elif state is not ClaimState.OPEN:
            with pytest.raises(CaseStateInvalid) as refused:
                world.ask(c.DecideClaim, found, role, compensation_minor=amount_minor)
            assert refused.value.metadata["legal_commands"] == ""
        else:
            after = world.ask(c.DecideClaim, found, role, compensation_minor=amount_minor)
            if amount_minor:
                assert (after.state, after.step_pending) == (ClaimState.OPEN, True)
                world.settle(trade)
                after = world.proceedings[found.name]
                assert (after.state, after.compensated_minor) == (ClaimState.COMPENSATED, amount_minor)
                assert world.trades[trade.trade_id].compensated_minor == amount_minor
            else:
                assert (after.state, after.compensated_minor) == (ClaimState.REJECTED, 0)
            assert world.trades[trade.trade_id].open_claim == ""
            continue
        assert everything(world) == before


@pytest.mark.parametrize(
    ("state", "becomes", "kind"),
    [
        ("REQUESTED/money", "SUCCEEDED", StepKind.REFUND),
        ("REQUESTED/return", "AWAITING_RETURN", None),
        ("AWAITING_RETURN", "WITHDRAWN", None),
        ("AWAITING_RECEIPT", "SUCCEEDED", StepKind.REFUND),
        ("REJECTED", "REJECTED", None),
        ("DISPUTED", "DISPUTED", None),
        ("SUCCEEDED", "SUCCEEDED", None),
        ("WITHDRAWN", "WITHDRAWN", None),
    ],
)
def test_what_time_does_to_a_case(state, becomes, kind):
    world = World()
    case = case_in(world, state)
    line = world.trades[case.trade_id].lines[0]
    before = everything(world)
    world.fire_case(case)
    assert everything(world) == before, "nothing before its time"
    if case.deadline_time is None:
        world.now += timedelta(days=400)
        world.fire_case(case)
        assert everything(world) == before
        return
    world.now = case.remind_time
    reminded = world.fire_case(case)
    assert (reminded.state, reminded.remind_time) == (case.state, None)
    assert world.events[-1].kind == "refund_case_reminder"
    count = len(world.events)
    world.fire_case(case)
    assert len(world.events) == count, "once"
    world.now = case.deadline_time
    fired = world.fire_case(case)
    if kind is not None:
        trade = world.trades[case.trade_id]
        assert world.steps[(trade.trade_id, trade.pending_step)].kind is kind
        world.settle(trade)
        fired = world.proceedings[case.name]
    assert fired.state.value == becomes
    assert fired.deadline_time is None or fired.deadline_time > world.now, "nothing stays due"
    assert fired.is_over == (becomes != "AWAITING_RETURN")
    after = world.trades[case.trade_id].lines[0]
    if fired.is_over and kind is None:
        stood_still = world.now - timedelta(microseconds=1) - line.pause_time
        assert after.deadline_time == line.deadline_time + stood_still, "the line's time moves by the pause"
        assert after.open_case == ""


@pytest.mark.parametrize(
    ("state", "becomes", "event"),
    [
        ("OPEN", "OPEN", "dispute_overdue"),
        ("OFFERED/buyer", "OFFERED", "dispute_overdue"),
        ("DECIDED", "CLOSED", "dispute_closed"),
        ("APPEALED", "APPEALED", None),
        ("SETTLED", "SETTLED", None),
        ("CLOSED", "CLOSED", None),
    ],
)
def test_what_time_does_to_a_dispute(state, becomes, event):
    world = World()
    found = dispute_in(world, state)
    if found.deadline_time is None:
        before = everything(world)
        world.now += timedelta(days=400)
        world.fire_case(found)
        assert everything(world) == before
        return
    world.now = found.remind_time
    world.fire_case(found)
    assert world.events[-1].kind == "dispute_reminder"
    world.now = found.deadline_time
    fired = world.fire_case(found)
    if world.trades[found.trade_id].is_pending:
        world.settle(world.trades[found.trade_id])
        fired = world.proceedings[found.name]
    assert fired.state.value == becomes
    assert world.events[-1].kind == event
    assert fired.deadline_time is None
    assert fired.arbiter_needed == (event == "dispute_overdue")
    count = len(world.events)
    world.now += timedelta(days=400)
    world.fire_case(found)
    assert len(world.events) == count, "an arbiter is called once"


@pytest.mark.parametrize("state", CASE_STATES)
def test_a_second_case_on_a_line_is_refused_while_one_is_open(state):
    world = World()
    case = case_in(world, state)
    trade = world.trades[case.trade_id]
    if case.is_over:
        assert not trade.open_cases
        assert world.open_case(trade, "1", 500).state is RefundCaseState.REQUESTED
        return
    with pytest.raises(LineUnderCase) as refused:
        world.open_case(trade, "1", 500)
    assert refused.value.metadata["case"] in (case.name, case.dispute)


@pytest.mark.parametrize("kind", ["case", "dispute"])
def test_while_its_own_money_is_under_way_everything_waits(kind):
    world = World()
    if kind == "case":
        thing = case_in(world, "REQUESTED/money")
        world.ask(c.AcceptRefundCase, thing, Role.SELLER)
        names = CASE_ROLES
    else:
        thing = dispute_in(world, "DECIDED")
        world.now = thing.deadline_time
        world.fire_case(thing)
        names = DISPUTE_ROLES
    before = everything(world)
    for name, roles in names.items():
        for role in roles:
            with pytest.raises(StepInFlight):
                world.ask(TYPES[name], thing, Role(role), **PARTS.get(name, {}))
    world.now += timedelta(days=400)
    world.fire_case(thing)
    assert everything(world) == before, "timers skip it"


def test_while_other_money_of_the_trade_is_under_way_only_money_waits():
    from danbao_escrow.domain import commands

    world = World()
    trade = world.shipped((3000, 5000), terms=TERMS)
    case = world.open_case(trade, "2")
    world.give(commands.ConfirmLines, trade, Role.BUYER, line_ids=("1",))
    with pytest.raises(StepInFlight):
        world.ask(c.AcceptRefundCase, case, Role.SELLER)
    rejected = world.ask(c.RejectRefundCase, case, Role.SELLER)
    found = world.open_dispute(rejected)
    world.ask(c.MakeOffer, found, Role.SELLER, buyer_minor=1000, seller_minor=0)
    with pytest.raises(StepInFlight):
        world.ask(c.AcceptOffer, found, Role.BUYER)
    world.settle(trade)
    world.ask(c.AcceptOffer, found, Role.BUYER)
    after = world.settle(trade)
    assert (after.released_minor, after.refunded_minor, after.open_cases) == (3000, 1000, 0)


def test_the_tables_know_no_cell_that_these_tests_do_not():
    def given(machine):
        return {
            (state.value, command.value, role.value)
            for state, command, role in machine.table
            if role is not Role.SYSTEM
        }

    for machine, table in ((refund_case.TABLE, CASES), (dispute.TABLE, DISPUTES)):
        expected = {
            (state.partition("/")[0], command, role)
            for (state, command, _), roles in cells(table).items()
            for role in roles
        }
        assert given(machine) == expected
    assert given(claim.TABLE) == {("OPEN", "DecideClaim", "ARBITER")}
    timed = {state.value for state, command, _ in refund_case.TABLE.table if command is CaseCommandName.TIME_PASSES}
    assert timed == {state.value for state in refund_case.TIMERS}
    assert timed == {"REQUESTED", "AWAITING_RETURN", "AWAITING_RECEIPT", "REJECTED"}
    timed = {state.value for state, command, _ in dispute.TABLE.table if command is CaseCommandName.TIME_PASSES}
    assert timed == {state.value for state in dispute.TIMERS}


@pytest.mark.parametrize("state", [*CASE_STATES, *[f"dispute {state}" for state in DISPUTE_STATES]])
def test_a_chargeback_ends_whatever_is_open_on_its_line(state):
    world = World()
    plain = state.removeprefix("dispute ")
    thing = dispute_in(world, plain) if plain != state else case_in(world, plain)
    working = EscrowSet()
    for name, each in world.proceedings.items():
        working.proceedings.load(name, each)
    trade = world.trades[thing.trade_id]
    working.trades.load(trade.trade_id, trade)
    moment = Moment(now=world.now, ids=TimeOrderedIds(), last_number=0)
    chargebacks.apply_due(working, moment, replace(trade, chargeback_due_minor=1, chargeback_due="transactions/cb"))
    ended, after = working.proceedings.get(thing.name), working.trades.get(trade.trade_id)
    told, *events = moment.events
    assert (told.kind, after.open_cases) == ("trade_charged_back", 0)
    if thing.is_over:
        assert (ended, events) == (thing, [])
        return
    assert (ended.is_over, ended.deadline_at, ended.step_pending) == (True, None, False)
    assert ended.state == ("CLOSED" if plain != state else "DISPUTED" if plain == "DISPUTED" else "WITHDRAWN")
    (event,) = events
    assert (event.kind, event.reason) == (
        "dispute_closed" if plain != state or plain == "DISPUTED" else "refund_case_withdrawn",
        "CHARGED_BACK",
    )


def test_what_is_not_there_is_not_found():
    world = World()
    case = case_in(world, "REQUESTED/money")
    for command_type, reason in ((c.AcceptRefundCase, "CASE_NOT_FOUND"), (c.MakeOffer, "DISPUTE_NOT_FOUND")):
        with pytest.raises(Exception, match="there is no") as refused:
            world.ask(command_type, case, Role.SELLER, name=uuid4(), **PARTS.get(command_type.__name__, {}))
        assert refused.value.reason == reason
