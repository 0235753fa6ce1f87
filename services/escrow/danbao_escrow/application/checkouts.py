"""Checkouts: trades that are paid together, each by a step of its own that asks for the one payment of all."""

from __future__ import annotations

from typing import Any

from danbao_escrow.application import actors, steps
from danbao_escrow.application.checkout_ends import write_checkout
from danbao_escrow.application.records import cause_of, record
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.checkout import (
    Checkout,
    CheckoutNotFound,
    CheckoutState,
    CheckoutStateInvalid,
    TradeInCheckout,
)
from danbao_escrow.domain.commands import CommandName, CreateCheckout, PayCheckout
from danbao_escrow.domain.errors import (
    AmountMismatch,
    RoleNotAllowed,
    StepInFlight,
    SubjectBlocked,
    TradeNotFound,
    TradeStateInvalid,
)
from danbao_escrow.domain.model import Role, Trade, TradeState
from danbao_escrow.domain.step_model import Cause, Share, StepKind, Together
from danbao_escrow.domain.trade import legal_commands, transition
from danbao_kit.decision import DEFERRED, Moment
from danbao_kit.immutable import replace
from danbao_kit.money import MAX_MINOR


def create_checkout(command: CreateCheckout, working: EscrowSet, moment: Moment) -> Checkout:
    """Puts unpaid trades together. Raises TradeNotFound, RoleNotAllowed, NotAParty, AmountMismatch, StepInFlight,
    TradeStateInvalid, TradeInCheckout."""
    trades = []
    for trade_id in command.trades:
        trade = working.trades.get(trade_id)
        if trade is None or not _sees(command, trade):
            raise TradeNotFound(f"trades/{trade_id}")
        trades.append(trade)
    _check_role(command)
    for trade in trades:
        actors.check_party(command.actor, command.token, buyer=trade.buyer, seller=trade.seller, partner=trade.partner)
    first = trades[0]
    if any(trade.currency != first.currency for trade in trades):
        raise AmountMismatch("trades", "must all be of one currency")
    amount_minor = sum(trade.price_minor for trade in trades)
    if amount_minor > MAX_MINOR:
        raise AmountMismatch("trades", "cost more together than an amount can hold")
    for trade in trades:
        _check_payable(command, trade, moment)
        bound_by = working.checkouts.get(trade.checkout)
        if bound_by is not None and bound_by.is_open:
            raise TradeInCheckout(trade.name, command.name_of_command, trade.state, trade.checkout)
    checkout = Checkout(
        checkout_id=moment.new_id(),
        state=CheckoutState.OPEN,
        buyer=first.buyer,
        # Of several partners' trades none sees the whole.
        partner=first.partner if all(trade.partner == first.partner for trade in trades) else "",
        currency=first.currency,
        trade_ids=command.trades,
        amount_minor=amount_minor,
        create_time=moment.now,
        update_time=moment.now,
        revision=1,
    )
    working.checkouts.put(checkout.name, checkout)
    for trade in trades:
        record(working, moment, replace(trade, checkout=checkout.name), _cause(command, moment), subject=checkout.name)
    return checkout


def pay_checkout(command: PayCheckout, working: EscrowSet, moment: Moment) -> Any:
    """One payment for all. Raises CheckoutNotFound, RoleNotAllowed, NotAParty, StepInFlight, CheckoutStateInvalid,
    TradeStateInvalid, SubjectBlocked."""
    name = f"checkouts/{command.checkout}"
    checkout = working.checkouts.get(name)
    if checkout is None or not may_see(command.token, checkout):
        raise CheckoutNotFound(name)
    _check_role(command)
    actors.check_party(command.actor, command.token, buyer=checkout.buyer, seller="", partner=checkout.partner)
    trades = [working.trades.get(trade_id) for trade_id in checkout.trade_ids]
    for trade in trades:
        assert trade is not None, "a checkout is loaded with its trades"
        if trade.is_pending:
            raise StepInFlight(trade.name, trade.pending_step)
    if checkout.state is not CheckoutState.OPEN:
        raise CheckoutStateInvalid(name, command.name_of_command, checkout.state)
    for trade in trades:
        assert trade is not None
        _check_payable(command, trade, moment)
    if command.blocked:
        raise SubjectBlocked(command.blocked)
    shares = tuple(Share(trade.name, trade.seller, trade.price_minor) for trade in trades if trade is not None)
    together = Together(name, checkout.generation, shares)
    cause = _cause(command, moment)
    asker = actors.asker_of(command.token, checkout.partner)
    for trade in trades:
        assert trade is not None
        movement = money_legs.funding(trade, rail=command.rail, instrument=command.instrument, together=together)
        steps.begin(working, moment, trade, StepKind.PAY, movement, cause, lines=trade.lines, subject=name, asker=asker)
    changes = {"state": CheckoutState.PAYING, "waiting": len(trades), "rail": command.rail, "refusal": ""}
    write_checkout(working, moment, checkout, **changes)
    return DEFERRED


def may_see(token: Any, checkout: Checkout) -> bool:
    """As for a trade; sellers are not shown what else the buyer buys."""
    return actors.may_see(token, buyer=checkout.buyer, seller=checkout.buyer, partner=checkout.partner)


def _check_role(command: CreateCheckout | PayCheckout) -> None:
    if command.actor.role is not Role.BUYER:
        raise RoleNotAllowed(command.actor.role, command.name_of_command, (Role.BUYER,))


def _check_payable(command: CreateCheckout | PayCheckout, trade: Trade, moment: Moment) -> None:
    if trade.is_pending:
        raise StepInFlight(trade.name, trade.pending_step)
    if any(transition(trade, line, CommandName.PAY_TRADE, Role.BUYER, moment.now) is None for line in trade.lines):
        legal = legal_commands(trade, moment.now)
        raise TradeStateInvalid(trade.name, command.name_of_command, trade.state, legal)
    assert trade.state is TradeState.PENDING_PAYMENT, "only unpaid trades are paid"


def _sees(command: CreateCheckout, trade: Trade) -> bool:
    return actors.may_see(command.token, buyer=trade.buyer, seller=trade.seller, partner=trade.partner)


def _cause(command: CreateCheckout | PayCheckout, moment: Moment) -> Cause:
    return cause_of(moment, command=command.name_of_command, actor=command.actor, token_subject=command.token.subject)
