"""Chargebacks and late money, decided: what they take of lines and fees, and what they end."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_escrow.domain import case_commands, commands, money_legs
from danbao_escrow.domain.case_model import DisputeState, RefundCaseState
from danbao_escrow.domain.commands import StepDone, StepRefused
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import LineState as L
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.model import TradeState as T
from danbao_escrow.domain.payment_events import ApplyPaymentEvents, Brought, ChargebackReversed, ChargedBack, Declined
from danbao_escrow.domain.step_model import StepKind, StepState
from danbao_escrow.domain.trade import transition
from danbao_escrow.testing.world import World, new_trade
from danbao_kit.errors import DanbaoError

RAIL = "rails/a"
TOO_LITTLE = StepRefused("INSUFFICIENT_FUNDS", "there is too little")
FROZEN = StepRefused("ACCOUNT_FROZEN", "the seller's account is frozen")
LATE = StepRefused("HOLD_ALREADY_CAPTURED", "it was captured")


class Railed(World):
    """With events of payments, each the next of its stream."""

    def __init__(self):
        super().__init__()
        self.applied = 0

    def tell(self, effect, *, own=True):
        self.applied += 1
        self.run(ApplyPaymentEvents(self.applied - 1, self.applied, effects=(effect,)), own=own)
        return self.trades[effect.trade_id]

    def asked(self, amounts=(3000, 5000), **options):
        trade = self.run(new_trade(amounts, **options))
        return self.give(commands.PayTrade, trade, Role.BUYER, rail=RAIL, instrument="card")

    def on_its_way(self, amounts=(3000, 5000), **options):
        return self.settle(self.asked(amounts, **options))

    def brought(self, trade, payment="payments/1"):
        return self.tell(Brought(trade.trade_id, payment, 1, 0, trade.price_minor))

    def charge_back(self, trade, taken_minor, amount_minor=0):
        return self.tell(
            ChargedBack(trade.trade_id, "payments/1", "transactions/cb", amount_minor or taken_minor, taken_minor)
        )

    def step(self, trade):
        current = self.trades[trade.trade_id]
        return self.steps[(trade.trade_id, current.last_step)]

    def commands(self):
        return [entry.command for entry in self.timeline]


def test_the_rails_word_may_come_before_the_answer_to_our_own_call():
    world = Railed()
    paid = world.brought(world.asked())
    assert (paid.state, paid.payment, paid.payment_pending, paid.is_pending) == (
        T.AWAITING_SHIPMENT,
        "payments/1",
        False,
        False,
    )
    assert world.commands() == ["CreateTrade", "PayTrade", "PaymentCaptured"]
    # The request is answered by its own step, once; the answer that comes late changes nothing.
    assert [answer.reply.payment_pending for answer in world.answers] == [True]
    world.run(commands.SettleStep(paid.trade_id, 1, 0, StepDone("payments/1")), own=True)
    assert world.trades[paid.trade_id] == paid


def test_a_refusal_of_the_rail_may_come_before_the_answer_too():
    world = Railed()
    asked = world.asked()
    after = world.tell(Declined(asked.trade_id, "payments/1", 1, 0, "no"))
    assert (after.state, after.payment, after.step_refusal) == (T.PENDING_PAYMENT, "", "no")


def test_the_word_on_another_payment_changes_nothing():
    world = Railed()
    trade = world.on_its_way()
    for effect in (
        Brought(trade.trade_id, "payments/2", 9, 0, 8000),
        Declined(trade.trade_id, "payments/2", 9, 0, "no"),
        ChargedBack(trade.trade_id, "payments/2", "transactions/2", 1, 1),
        ChargebackReversed(trade.trade_id, "payments/2", "transactions/2", 1),
    ):
        assert world.tell(effect) == trade


def test_the_same_word_twice_changes_nothing():
    world = Railed()
    trade = world.brought(world.on_its_way())
    assert world.brought(trade) == trade
    world.applied = 0
    assert world.brought(trade) == trade


def test_a_chunk_that_does_not_follow_is_refused():
    world = Railed()
    with pytest.raises(DanbaoError) as refused:
        world.run(ApplyPaymentEvents(5, 6), own=True)
    assert refused.value.reason == "STREAM_GAP"


@pytest.mark.parametrize("told", ["before", "after", "never"])
def test_money_that_came_first_goes_back_whenever_it_is_told(told):
    world = Railed()
    trade = world.on_its_way()
    cancelled = world.give(commands.CancelTrade, trade, Role.SELLER)
    assert (cancelled.state, world.step(trade).kind) == (T.CANCELLED, StepKind.VOID)
    if told == "before":
        world.brought(trade)
    returning = world.settle(trade, LATE)
    assert (returning.is_pending, world.step(trade).kind) == (True, StepKind.RETURN)
    if told == "after":
        world.brought(trade)
    over = world.settle(trade)
    assert (over.state, over.funded_minor, over.refunded_minor, over.is_pending) == (T.CANCELLED, 8000, 8000, False)
    assert EventKind.LATE_PAYMENT_RETURNING in [event.kind for event in world.events]


@pytest.mark.parametrize("reason", ["HOLD_ALREADY_VOIDED", "PAYMENT_STATE_INVALID"])
def test_what_came_to_nothing_needs_no_void(reason):
    world = Railed()
    trade = world.on_its_way()
    world.give(commands.CancelTrade, trade, Role.BUYER)
    over = world.settle(trade, StepRefused(reason, "no"))
    assert (over.state, over.is_pending, over.funded_minor) == (T.CANCELLED, False, 0)


def test_a_void_that_is_refused_otherwise_is_tried_again():
    world = Railed()
    trade = world.on_its_way()
    world.give(commands.CancelTrade, trade, Role.BUYER)
    assert world.settle(trade, StepRefused("KIND_NOT_ALLOWED", "no")).step_blocked
    assert not world.settle(trade).is_pending


def test_late_money_that_is_charged_back_on_its_way_out_goes_back_once():
    world = Railed()
    trade = world.on_its_way()
    world.give(commands.CancelTrade, trade, Role.BUYER)
    world.settle(trade, LATE)
    world.charge_back(trade, 3000)
    again = world.settle(trade, TOO_LITTLE)
    step = world.step(trade)
    assert (step.kind, step.movement.refunded_minor, again.charged_back_minor) == (StepKind.RETURN, 5000, 3000)
    over = world.settle(trade)
    assert (over.funded_minor, over.refunded_minor, over.is_pending) == (8000, 8000, False)


def test_late_money_that_is_all_charged_back_is_over():
    world = Railed()
    trade = world.on_its_way()
    world.give(commands.CancelTrade, trade, Role.BUYER)
    world.settle(trade, LATE)
    world.charge_back(trade, 8000)
    over = world.settle(trade, TOO_LITTLE)
    assert (over.funded_minor, over.refunded_minor, over.is_pending) == (8000, 8000, False)


def railed(amounts=(3000, 5000), **options):
    world = Railed()
    return world, world.brought(world.on_its_way(amounts, **options))


def test_a_release_that_was_first_stands_and_the_chargeback_takes_the_rest():
    world, trade = railed(fee_bps=0)
    world.give(commands.ShipLines, trade, Role.SELLER)
    world.give(commands.ConfirmLines, trade, Role.BUYER, line_ids=("1",))
    world.charge_back(trade, 5000, 6000)
    over = world.settle(trade)
    assert (over.state, over.released_minor, over.refunded_minor) == (T.COMPLETED, 3000, 5000)
    assert [line.state for line in over.lines] == [L.RELEASED, L.REFUNDED]
    # It leaves what the release moves, so it need not wait for it.
    assert world.commands()[-2:] == ["ChargedBack", "ConfirmLines"]


def test_a_release_that_came_second_ends_and_is_refused():
    world, trade = railed(fee_bps=0)
    world.give(commands.ShipLines, trade, Role.SELLER)
    world.give(commands.ConfirmLines, trade, Role.BUYER)
    world.charge_back(trade, 5000)
    after = world.settle(trade, TOO_LITTLE)
    assert (after.is_pending, after.refunded_minor, after.released_minor) == (False, 5000, 0)
    assert [(line.state, line.refunded_minor) for line in after.lines] == [(L.REFUNDED, 3000), (L.SHIPPED, 2000)]
    assert world.step(trade).state is StepState.REFUSED
    assert world.answers[-1].error.reason == "PAYMENT_REFUSED"
    assert EventKind.STEP_ENDED in [event.kind for event in world.events]


def test_a_step_that_waits_out_a_refusal_ends_at_its_next_one():
    world, trade = railed(fee_bps=0)
    world.give(commands.ShipLines, trade, Role.SELLER)
    world.give(commands.ConfirmLines, trade, Role.BUYER)
    assert world.settle(trade, TOO_LITTLE).step_blocked
    waiting = world.charge_back(trade, 8000)
    assert waiting.is_pending
    assert world.step(trade).attempt_in_ms == 0
    over = world.settle(trade, TOO_LITTLE)
    assert (over.state, over.refunded_minor, over.step_blocked) == (T.CLOSED, 8000, False)


def test_a_payout_is_not_touched():
    world, trade = railed(fee_bps=0)
    world.give(commands.ShipLines, trade, Role.SELLER)
    after = world.charge_back(trade, 8000)
    assert (after.state, after.is_pending) == (T.CLOSED, False)


def test_the_case_whose_step_it_ended_is_withdrawn():
    world, trade = railed()
    case = world.open_case(trade, "2", 5000)
    world.ask(case_commands.AcceptRefundCase, case, Role.SELLER)
    world.charge_back(trade, 4000)
    after = world.settle(trade, TOO_LITTLE)
    ended = world.proceedings[case.name]
    assert (ended.state, ended.is_over, ended.step_pending) == (RefundCaseState.WITHDRAWN, True, False)
    assert (after.open_cases, after.refunded_minor) == (0, 4000)


def test_a_case_on_a_line_that_was_not_touched_goes_on():
    world, trade = railed()
    case = world.open_case(trade, "2", 5000)
    after = world.charge_back(trade, 3000)
    assert (after.open_cases, world.proceedings[case.name]) == (1, case)


def test_a_dispute_is_closed_and_its_case_over():
    world, trade = railed()
    dispute = world.open_dispute(world.open_case(trade, "1", 1000))
    world.charge_back(trade, 1)
    assert world.proceedings[dispute.name].state is DisputeState.CLOSED
    assert world.proceedings[dispute.refund_case].is_over


def test_the_postage_goes_with_the_last_line():
    world, trade = railed((3000, 5000), postage_minor=1000)
    after = world.charge_back(trade, 8400)
    assert [(line.state, line.refunded_minor, line.postage_minor) for line in after.lines] == [
        (L.REFUNDED, 3000, 0),
        (L.PAID, 5400, 1000),
    ]
    over = world.charge_back(trade, 600)
    assert (over.state, over.refunded_minor) == (T.CLOSED, 9000)


AMOUNTS = st.lists(st.integers(1, 400), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(AMOUNTS, st.integers(0, 200), st.integers(0, 10_000), st.lists(st.integers(1, 500), max_size=6), st.booleans())
def test_whatever_is_charged_back_in_whatever_parts_nothing_is_left_and_nothing_too_much(
    amounts, postage_minor, buyer_fee_bps, taken, is_released
):
    world, trade = railed(tuple(amounts), postage_minor=postage_minor, buyer_fee_bps=buyer_fee_bps, fee_bps=333)
    for minor in taken:
        left_minor = trade.funded_minor - trade.released_minor - trade.refunded_minor
        if not left_minor:
            break
        trade = world.charge_back(trade, min(minor, left_minor))
        assert trade.refunded_of_total_minor == sum(line.refunded_minor for line in trade.lines)
        assert 0 <= trade.buyer_fee_refunded_minor <= trade.buyer_fee_minor
        is_over = trade.funded_minor == trade.refunded_minor
        assert (trade.state is T.CLOSED) == is_over
        if is_released and not is_over:
            open_lines = [line for line in trade.lines if line.state is L.PAID]
            movement = money_legs.release(trade, open_lines)
            moved_minor = sum(leg.amount_minor for leg in movement.legs)
            assert moved_minor == trade.funded_minor - trade.refunded_minor
    if not trade.end_time:
        world.give(commands.CancelLines, trade, Role.SELLER)
        trade = world.settle(trade)
    assert trade.refunded_minor == trade.funded_minor == trade.price_minor
    assert trade.buyer_fee_refunded_minor == trade.buyer_fee_minor
    assert trade.state is T.CLOSED


def agreed(world, trade, line_id="2", buyer_minor=4900, seller_minor=100):
    """The parties divide it: the settlement is under way."""
    case = world.open_case(trade, line_id, buyer_minor + seller_minor)
    dispute = world.open_dispute(case)
    parts = {"buyer_minor": buyer_minor, "seller_minor": seller_minor}
    dispute = world.ask(case_commands.MakeOffer, dispute, Role.SELLER, **parts)
    return world.ask(case_commands.AcceptOffer, dispute, Role.BUYER)


def decided(world, trade, line_id="2", buyer_minor=4900, seller_minor=100):
    """An arbiter divides it, finally: the settlement is under way."""
    dispute = world.open_dispute(world.open_case(trade, line_id, buyer_minor + seller_minor))
    parts = {"buyer_minor": buyer_minor, "seller_minor": seller_minor}
    dispute = world.ask(case_commands.DecideDispute, dispute, Role.ARBITER, **parts)
    dispute = world.ask(case_commands.AppealDispute, dispute, Role.SELLER)
    return world.ask(case_commands.DecideDispute, dispute, Role.ARBITER, **parts)


def shipped(amounts=(3000, 5000), **options):
    world, trade = railed(amounts, fee_bps=0, **options)
    return world, world.give(commands.ShipLines, trade, Role.SELLER)


@pytest.mark.parametrize("divided", [agreed, decided])
@pytest.mark.parametrize("told", ["before the refusal", "after the refusal"])
def test_a_blocked_settlement_outlives_a_chargeback_that_leaves_what_it_moves(divided, told):
    world, trade = shipped()
    dispute = divided(world, trade)
    if told == "after the refusal":
        assert world.settle(trade, FROZEN).step_blocked
    world.charge_back(trade, 1)
    after = world.settle(trade, FROZEN)
    assert (after.is_pending, after.step_blocked, after.step_refusal) == (True, True, "ACCOUNT_FROZEN")
    assert [line.refunded_minor for line in after.lines] == [1, 0]
    assert (after.charged_back_minor, after.chargeback_due_minor, after.open_cases) == (1, 0, 1)
    standing = world.proceedings[dispute.name]
    assert (standing.state, standing.is_over, standing.step_pending) == (dispute.state, False, True)
    assert EventKind.STEP_ENDED not in [event.kind for event in world.events]
    paid = world.settle(trade)
    assert [(line.released_minor, line.refunded_minor) for line in paid.lines] == [(0, 1), (100, 4900)]
    assert (world.proceedings[dispute.name].state, paid.open_cases) == (DisputeState.CLOSED, 0)


@pytest.mark.parametrize("number", [1, 2])
def test_a_chargeback_takes_first_what_the_pending_step_does_not_move(number):
    world, trade = shipped((4000, 4000))
    dispute = agreed(world, trade, str(number), 1900, 100)
    assert world.settle(trade, FROZEN).step_blocked
    after = world.charge_back(trade, 4000)
    other = 2 - number
    assert [line.refunded_minor for line in after.lines] == [4000 * (place == other) for place in (0, 1)]
    assert after.lines[other].state is L.REFUNDED
    # Then what of the step's own line it leaves: its case is not over by that, and its timers stand still.
    after = world.charge_back(trade, 1500)
    own = after.lines[number - 1]
    assert (own.refunded_minor, own.open_case, own.state) == (1500, dispute.name, L.SHIPPED)
    assert (after.step_blocked, own.pause_time is None) == (True, False)
    paid = world.settle(trade)
    assert (paid.lines[number - 1].unsettled_minor, paid.refunded_minor, paid.released_minor) == (500, 7400, 100)


@pytest.mark.parametrize("divided", [agreed, decided])
@pytest.mark.parametrize("refused", [FROZEN, TOO_LITTLE])
def test_a_chargeback_that_takes_of_what_a_blocked_step_moves_ends_it(divided, refused):
    world, trade = shipped()
    dispute = divided(world, trade)
    assert world.settle(trade, FROZEN).step_blocked
    waiting = world.charge_back(trade, 3001)
    assert (waiting.is_pending, waiting.chargeback_due_minor, world.step(trade).attempt_in_ms) == (True, 3001, 0)
    after = world.settle(trade, refused)
    assert (after.is_pending, after.step_blocked, after.open_cases) == (False, False, 0)
    assert [line.refunded_minor for line in after.lines] == [3000, 1]
    assert world.proceedings[dispute.name].state is DisputeState.CLOSED
    assert world.proceedings[dispute.refund_case].is_over
    (ended,) = [event for event in world.events if event.kind is EventKind.STEP_ENDED]
    assert ended.reason == "CHARGED_BACK"
    entry = world.timeline[-2]
    assert (entry.subject, entry.line_ids, entry.reason) == (dispute.name, ("2",), "CHARGED_BACK")
    assert (world.step(trade).state, world.step(trade).refusal) == (StepState.REFUSED, refused.reason)


@pytest.mark.parametrize("divided", [agreed, decided])
def test_a_chargeback_of_everything_ends_a_blocked_settlement(divided):
    world, trade = shipped()
    dispute = divided(world, trade)
    assert world.settle(trade, FROZEN).step_blocked
    world.charge_back(trade, 8000)
    over = world.settle(trade, FROZEN)
    assert (over.state, over.refunded_minor, over.is_pending, over.open_cases) == (T.CLOSED, 8000, False, 0)
    assert world.proceedings[dispute.name].state is DisputeState.CLOSED


def test_chargebacks_that_leave_enough_one_by_one_end_a_step_once_they_do_not():
    world, trade = shipped()
    dispute = agreed(world, trade)
    assert world.settle(trade, FROZEN).step_blocked
    for _ in range(3):
        assert world.charge_back(trade, 1000).chargeback_due_minor == 0
    assert world.charge_back(trade, 1).chargeback_due_minor == 1
    over = world.settle(trade, FROZEN)
    assert (over.is_pending, over.refunded_minor) == (False, 3001)
    assert world.proceedings[dispute.name].is_over


def test_a_case_on_another_line_is_over_while_the_pending_step_goes_on():
    world, trade = shipped()
    other = world.open_case(trade, "1", 1000)
    dispute = agreed(world, trade)
    assert world.settle(trade, FROZEN).step_blocked
    after = world.charge_back(trade, 1)
    assert world.proceedings[other.name].state is RefundCaseState.WITHDRAWN
    assert (after.open_cases, after.lines[0].open_case, after.lines[1].open_case) == (1, "", dispute.name)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(2, 400), min_size=2, max_size=4),
    st.integers(0, 200),
    st.integers(0, 10_000),
    st.lists(st.integers(1, 300), min_size=1, max_size=4),
    st.data(),
)
def test_a_pending_step_moves_what_it_said_or_ends_whatever_is_charged_back(
    amounts, postage_minor, buyer_fee_bps, taken, data
):
    world, trade = railed(tuple(amounts), postage_minor=postage_minor, buyer_fee_bps=buyer_fee_bps, fee_bps=333)
    trade = world.give(commands.ShipLines, trade, Role.SELLER)
    number = data.draw(st.integers(1, len(amounts)))
    buyer_minor = data.draw(st.integers(1, amounts[number - 1] - 1))
    agreed(world, trade, str(number), buyer_minor, data.draw(st.integers(1, amounts[number - 1] - buyer_minor)))
    movement = world.step(trade).movement
    trade = world.settle(trade, FROZEN)
    for minor in taken:
        left_minor = trade.funded_minor - trade.refunded_minor - trade.chargeback_due_minor
        if not left_minor:
            break
        trade = world.charge_back(trade, min(minor, left_minor))
    left_minor = trade.funded_minor - trade.refunded_minor - trade.chargeback_due_minor
    assert bool(trade.chargeback_due_minor) == (left_minor < movement.amount_minor)
    if trade.chargeback_due_minor:
        trade = world.settle(trade, FROZEN)
        assert not trade.is_pending
    else:
        before_minor = trade.refunded_minor
        trade = world.settle(trade)
        assert trade.refunded_minor == before_minor + movement.refunded_minor
        assert trade.released_minor == movement.released_minor
    assert trade.refunded_of_total_minor == sum(line.refunded_minor for line in trade.lines)
    assert trade.released_of_total_minor == sum(line.released_minor for line in trade.lines)
    if not trade.end_time:
        world.give(commands.ConfirmLines, trade, Role.BUYER)
        trade = world.settle(trade)
    assert trade.refunded_minor + trade.released_minor == trade.funded_minor
    assert trade.buyer_fee_moved_minor == trade.buyer_fee_minor
    assert trade.end_time


CANCELLING = {Role.BUYER, Role.SELLER, Role.OPERATOR}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("command", "role"), list(product(commands.CommandName, Role)))
def test_what_is_legal_while_a_rail_brings_the_money(command, role, late, together):
    world = Railed()
    trade = world.on_its_way()
    if together:
        trade = replace(trade, checkout="checkouts/1")
    now = trade.pay_by_time if late else world.now
    ends = role is Role.SYSTEM if late else role in CANCELLING
    legal = command is commands.CommandName.CANCEL_TRADE and ends and not together
    assert [bool(transition(trade, line, command, role, now)) for line in trade.lines] == [legal] * 2
