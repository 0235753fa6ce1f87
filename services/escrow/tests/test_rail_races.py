"""Payments' word against everybody else's, at the same moment, on two replicas; and events that are poison."""

import asyncio
import random

import pytest

from danbao.escrow.v1 import audit_pb2, audit_pb2_grpc, trade_pb2
from danbao_escrow.application import payment_events
from danbao_escrow.clients.payment_events import PaymentEvents, escrow_account
from danbao_escrow.domain.payment_events import EventMalformed
from danbao_payments.domain.account import account_id
from danbao_payments.testing.stack import OPERATOR, rail_report

T = trade_pb2.Trade.State
RAIL = "rails/simulated"
ROUNDS = 12


@pytest.fixture
def stack(real_stack):
    return real_stack


async def intact(stack):
    operator = stack.client_of(stack.replicas[0], peer="operator")
    stub = audit_pb2_grpc.AuditServiceStub(operator.channel)
    look = await stub.GetAudit(audit_pb2.GetAuditRequest(), timeout=30)
    assert list(look.violations) == []
    assert look.intact


async def quiet(client, trades):
    """The trades once nothing is under way."""
    for _ in range(600):
        found = [await client.trade(trade.name) for trade in trades]
        if not any(trade.step_pending or trade.payment_pending for trade in found):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def on_their_way(client, count):
    """Trades whose rail says nothing until it is told to."""
    created = [await client.created() for _ in range(count)]
    return [await client.give("PayTrade", trade, "BUYER", rail=RAIL, instrument="silent") for trade in created]


async def later(call, chance):
    await asyncio.sleep(chance.random() / 50)
    return await call


async def test_whoever_is_first_the_money_is_in_one_place(stack, client, books, refusal):
    """The rail brings the money while the buyer cancels."""
    other = stack.client_of(await stack.add_replica())
    chance = random.Random(1)
    trades = [
        await client.give("PayTrade", await client.created(), "BUYER", rail=RAIL, instrument="silent")
        for _ in range(ROUNDS)
    ]

    async def race(trade):
        report = rail_report(trade.payment, "SUCCEEDED")
        await asyncio.gather(
            later(books.call("ReportRailResult", report, as_=OPERATOR), chance),
            later(other.give("CancelTrade", trade, "BUYER"), chance),
            return_exceptions=True,
        )

    for trade in trades:
        await race(trade)
    for trade in await quiet(client, trades):
        held = await books.available(trade.name, "escrow.trade")
        assert held == trade.funded_minor - trade.released_minor - trade.refunded_minor
        assert trade.state in (T.STATE_CANCELLED, T.STATE_AWAITING_SHIPMENT)
        assert held == (0 if trade.state == T.STATE_CANCELLED else 8000)
    await intact(stack)


async def test_a_release_and_a_chargeback_at_once_add_up(stack, client, books):
    other = stack.client_of(await stack.add_replica())
    chance = random.Random(2)
    trades = []
    for _ in range(ROUNDS):
        trade = await client.created(3000, 5000, fee_bps=500, buyer_fee_bps=100)
        trades.append(await client.give("PayTrade", trade, "BUYER", rail=RAIL, instrument="ok"))
    for trade in await quiet(client, trades):
        await client.give("ShipLines", trade, "SELLER")

    async def race(trade):
        amount = {"currency": "CNY", "amount_minor": chance.randint(1, 8080)}
        report = rail_report(trade.payment, "CHARGEBACK", amount=amount)
        lines = chance.choice([["1"], ["2"], []])
        await asyncio.gather(
            later(books.call("ReportRailResult", report, as_=OPERATOR), chance),
            later(other.give("ConfirmLines", trade, "BUYER", line_ids=lines), chance),
            return_exceptions=True,
        )

    for trade in trades:
        await race(trade)
    await asyncio.sleep(1)
    for trade in await quiet(client, trades):
        held = await books.available(trade.name, "escrow.trade")
        assert held == trade.funded_minor - trade.released_minor - trade.refunded_minor
    await intact(stack)


async def test_an_event_that_cannot_be_understood_is_parked(stack, client, monkeypatch):
    read = PaymentEvents.read

    async def choosy(self, event):
        if event.WhichOneof("payload") == "payment_captured" and event.payment_captured.metadata["step"] == "1":
            raise EventMalformed("not to my taste")
        return await read(self, event)

    monkeypatch.setattr(PaymentEvents, "read", choosy)
    await client.paid()
    monkeypatch.undo()
    trade = await client.give("PayTrade", await client.created(), "BUYER", rail=RAIL, instrument="ok")
    await quiet(client, [trade])
    parked = await stack.rows("SELECT reason FROM parked_payment_events")
    assert [row["reason"] for row in parked] == ["not to my taste"]


async def test_an_event_that_cannot_be_applied_is_parked_and_the_next_is_applied(stack, client, books, monkeypatch):
    trades = [
        await client.give("PayTrade", await client.created(), "BUYER", rail=RAIL, instrument="silent") for _ in range(2)
    ]

    def broken(effect, trade, working, moment):
        raise RuntimeError("a bug")

    monkeypatch.setattr(payment_events, "_brought", broken)
    await books.call("ReportRailResult", rail_report(trades[0].payment, "SUCCEEDED"), as_=OPERATOR)
    while not await stack.rows("SELECT reason FROM parked_payment_events"):
        await asyncio.sleep(0.02)
    monkeypatch.undo()
    await books.call("ReportRailResult", rail_report(trades[1].payment, "SUCCEEDED"), as_=OPERATOR)
    await quiet(client, [trades[1]])
    assert (await client.trade(trades[0].name)).payment_pending


@pytest.mark.parametrize("currency", ["CNY", "BRL"])
def test_an_account_of_a_trade_is_found_as_the_contract_says(currency):
    name = f"accounts/{account_id('trades/1', 'escrow.trade', currency)}"
    assert escrow_account("trades/1", currency) == name
