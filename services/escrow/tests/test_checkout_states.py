"""Checkouts, decided: every state × role × what happens, one id for one payment, and the last step answers for all."""

from itertools import product

import pytest

from danbao_escrow.clients.payments import operation_of
from danbao_escrow.domain import commands
from danbao_escrow.domain.checkout import CheckoutState as C
from danbao_escrow.domain.commands import StepDone, StepRefused
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.model import TradeState as T
from danbao_escrow.domain.payment_events import ApplyPaymentEvents, Brought, Declined
from danbao_escrow.testing.world import BUYER, PLATFORM_TOKEN, World, actor, new_trade
from danbao_kit.decision import DEFERRED
from danbao_kit.errors import DanbaoError

RAIL = "rails/a"


class Checkouts(World):
    def opened(self, amounts=(3000, 5000)):
        trades = tuple(self.run(new_trade((minor,))).trade_id for minor in amounts)
        return self.run(commands.CreateCheckout(actor(Role.BUYER), trades, PLATFORM_TOKEN))

    def pay(self, checkout, role=Role.BUYER, **fields):
        who = commands.Actor(BUYER, role) if role is not Role.BUYER else actor(role)
        values = {"actor": who, "token": PLATFORM_TOKEN, "blocked": "", **fields}
        reply = self.run(commands.PayCheckout(checkout=checkout.checkout_id, **values))
        return self.checkouts[checkout.name] if reply is DEFERRED else reply

    def members(self, checkout):
        return [self.trades[trade_id] for trade_id in checkout.trade_ids]

    def settle_all(self, checkout, outcome=None):
        for trade in self.members(checkout):
            self.settle(trade, outcome or StepDone("payments/1"))
        return self.checkouts[checkout.name]

    def tell(self, checkout, of, **fields):
        """One event of payments on all of its trades."""
        through = self.cursors.get("payments", 0) + 1
        effects = tuple(
            of(trade_id=trade.trade_id, payment="payments/1", step=0, generation=checkout.generation, **fields)
            for trade in self.members(checkout)
        )
        self.run(ApplyPaymentEvents(through - 1, through, effects=effects), own=True)
        return self.checkouts[checkout.name]


def in_state(state):
    world = Checkouts()
    checkout = world.opened()
    if state is C.PAYING:
        world.pay(checkout, rail=RAIL)
        world.settle_all(checkout)
    elif state is C.PAID:
        world.pay(checkout)
        world.settle_all(checkout)
    elif state is C.VOID:
        world.give(commands.CancelTrade, world.members(checkout)[0], Role.BUYER)
    found = world.checkouts[checkout.name]
    assert found.state is state
    return world, found


@pytest.mark.parametrize(("state", "role"), list(product(C, Role)))
def test_who_may_pay_a_checkout_when(state, role):
    world, checkout = in_state(state)
    before = (dict(world.trades), dict(world.checkouts))
    if state is C.OPEN and role is Role.BUYER:
        assert world.pay(checkout, role).state is C.PAYING
        return
    with pytest.raises(DanbaoError) as refused:
        world.pay(checkout, role)
    assert refused.value.reason == ("TRADE_STATE_INVALID" if role is Role.BUYER else "ROLE_NOT_ALLOWED")
    assert (world.trades, world.checkouts) == before


@pytest.mark.parametrize("state", list(C))
@pytest.mark.parametrize("command", [commands.PayTrade, commands.CancelTrade, commands.AdjustPrice])
def test_what_may_be_done_to_a_trade_of_a_checkout(state, command):
    world, checkout = in_state(state)
    trade = world.members(checkout)[1]
    role = Role.SELLER if command is commands.AdjustPrice else Role.BUYER
    if state in (C.PAYING, C.PAID):
        with pytest.raises(DanbaoError) as refused:
            world.give(command, trade, role)
        assert refused.value.reason == "TRADE_STATE_INVALID"
        assert refused.value.metadata.get("checkout", "") == (checkout.name if state is C.PAYING else "")
    else:
        world.give(command, trade, role)
        assert world.checkouts[checkout.name].state is C.VOID


def test_all_of_its_steps_ask_for_the_very_same():
    world = Checkouts()
    checkout = world.opened((3000, 5000, 1))
    world.pay(checkout)
    first, *others = [operation_of(step) for step in world.taken]
    assert len(others) == 2
    assert all(other == first for other in others)
    assert sum(split.fixed_minor for split in first.create_payment.splits) == 8001
    world.settle_all(checkout, StepRefused("INSUFFICIENT_FUNDS", "no"))
    world.pay(checkout)
    again = operation_of(world.taken[-1])
    assert again.create_payment.request_id != first.create_payment.request_id


def test_the_last_step_answers_for_all():
    world = Checkouts()
    checkout = world.opened()
    world.pay(checkout)
    one, other = world.members(checkout)
    world.settle(one, StepDone("payments/1"))
    assert world.answers == []
    assert world.checkouts[checkout.name].state is C.PAYING
    world.settle(other, StepDone("payments/1"))
    [answer] = world.answers
    assert (answer.reply.state, answer.reply.payment) == (C.PAID, "payments/1")
    assert [trade.state for trade in world.members(checkout)] == [T.AWAITING_SHIPMENT] * 2


def test_a_refusal_is_answered_once_with_payments_reason():
    world = Checkouts()
    checkout = world.opened()
    world.pay(checkout)
    refused = world.settle_all(checkout, StepRefused("INSUFFICIENT_FUNDS", "no"))
    assert (refused.state, refused.generation, refused.refusal) == (C.OPEN, 1, "INSUFFICIENT_FUNDS")
    [answer] = world.answers
    assert (answer.error.reason, answer.error.metadata["payment_reason"]) == ("PAYMENT_REFUSED", "INSUFFICIENT_FUNDS")
    assert [trade.state for trade in world.members(checkout)] == [T.PENDING_PAYMENT] * 2


@pytest.mark.parametrize("settled", [0, 1, 2])
def test_the_rails_word_may_come_before_any_of_the_answers(settled):
    world = Checkouts()
    checkout = world.opened()
    world.pay(checkout, rail=RAIL)
    for trade in world.members(checkout)[:settled]:
        world.settle(trade, StepDone("payments/1"))
    paid = world.tell(checkout, Brought, amount_minor=1)
    assert (paid.state, paid.waiting, paid.payment) == (C.PAID, 0, "payments/1")
    assert [trade.state for trade in world.members(checkout)] == [T.AWAITING_SHIPMENT] * 2
    assert len(world.answers) == 1


@pytest.mark.parametrize("settled", [0, 1, 2])
def test_a_rails_refusal_opens_it_again_once(settled):
    world = Checkouts()
    checkout = world.opened()
    world.pay(checkout, rail=RAIL)
    for trade in world.members(checkout)[:settled]:
        world.settle(trade, StepDone("payments/1"))
    again = world.tell(checkout, Declined, failure="no")
    assert (again.state, again.generation, again.payment, again.refusal) == (C.OPEN, 1, "", "no")
    assert [trade.payment_pending for trade in world.members(checkout)] == [False] * 2
    world.pay(checkout)
    assert world.settle_all(checkout).state is C.PAID
