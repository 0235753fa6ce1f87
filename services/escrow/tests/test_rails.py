"""Trades paid over a rail, chargebacks and checkouts: escrow and payments, both for real."""

import asyncio
import time
from uuid import uuid4

import pytest

from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import account_pb2
from danbao_payments.testing.stack import OPERATOR, rail_report

T, L, C = trade_pb2.Trade.State, trade_pb2.Line.State, trade_pb2.Checkout.State
BUYER, SELLER, OTHER = "subjects/buyer", "subjects/seller", "subjects/other-seller"
RAIL = "rails/simulated"
PAYABLE = "seller.payable"


@pytest.fixture
def stack(real_stack):
    return real_stack


async def until(client, trade, seen, seconds=8):
    """The trade once it looks so."""
    end = time.monotonic() + seconds
    while True:
        found = await client.trade(trade.name)
        if seen(found):
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)


async def over_rail(client, trade, instrument="silent", **fields):
    return await client.give("PayTrade", trade, "BUYER", rail=RAIL, instrument=instrument, **fields)


async def report(books, trade, result, **fields):
    await books.call("ReportRailResult", rail_report(trade.payment, result, **fields), as_=OPERATOR)


async def charge_back(books, trade, minor=None):
    amount = {} if minor is None else {"amount": {"currency": "CNY", "amount_minor": minor}}
    await report(books, trade, "CHARGEBACK", **amount)


async def opened(books, owner, kind):
    account = account_pb2.NewAccount(owner=owner, kind=kind, currency="CNY")
    request = account_pb2.CreateAccountRequest(request_id=str(uuid4()), account=account)
    return (await books.call("CreateAccount", request, as_=OPERATOR)).name


async def escrow_of(books, trade):
    return await books.available(trade.name, "escrow.trade")


async def commands(client, trade):
    return [entry.command for entry in await client.timeline(trade)]


async def refused(refusal, call, reason):
    with pytest.raises(refusal) as caught:
        await call
    assert caught.value.reason == reason
    return caught.value


async def test_a_rail_pays_a_trade(client, books):
    trade = await client.created(3000, 5000, buyer_fee_bps=100)
    waiting = await over_rail(client, trade)
    assert (waiting.state, waiting.payment_pending, waiting.rail) == (T.STATE_PENDING_PAYMENT, True, RAIL)
    assert waiting.payment
    assert not waiting.step_pending
    assert await escrow_of(books, trade) == 0
    await report(books, waiting, "SUCCEEDED")
    paid = await until(client, trade, lambda found: found.state == T.STATE_AWAITING_SHIPMENT)
    assert (paid.funded_minor, paid.payment, paid.payment_pending) == (8080, waiting.payment, False)
    assert paid.HasField("pay_time")
    assert paid.HasField("ship_by_time")
    assert await escrow_of(books, trade) == 8080
    assert await books.available(BUYER) == 1_000_000
    captured = (await client.timeline(trade))[-1]
    assert (captured.command, captured.ledger_reference, captured.amount.amount_minor) == (
        "PaymentCaptured",
        waiting.payment,
        8080,
    )


async def test_a_rail_that_answers_at_once_pays_too(client, books):
    trade = await client.created()
    await over_rail(client, trade, "ok")
    paid = await until(client, trade, lambda found: found.state == T.STATE_AWAITING_SHIPMENT)
    assert await escrow_of(books, trade) == paid.funded_minor == 8000


async def test_what_a_rail_brought_goes_back_over_it(client, books):
    trade = await client.created()
    await over_rail(client, trade, "ok")
    await until(client, trade, lambda found: found.state == T.STATE_AWAITING_SHIPMENT)
    closed = await client.give("CancelLines", trade, "SELLER")
    assert (closed.state, closed.refunded_minor) == (T.STATE_CLOSED, 8000)
    assert await books.available(BUYER) == 1_000_000
    rows = await books.sql("SELECT amount_minor, rail FROM rail_refunds")
    assert [tuple(row) for row in rows] == [(8000, RAIL)]


async def test_a_declined_trade_is_paid_again(client, books):
    trade = await client.created()
    await over_rail(client, trade, "decline")
    declined = await until(client, trade, lambda found: not found.payment_pending)
    assert (declined.state, declined.payment, bool(declined.step_refusal)) == (T.STATE_PENDING_PAYMENT, "", True)
    paid = await client.give("PayTrade", trade, "BUYER")
    assert (paid.state, paid.rail, paid.step_refusal) == (T.STATE_AWAITING_SHIPMENT, "", "")
    assert await escrow_of(books, trade) == 8000
    assert (await commands(client, trade))[1:] == ["PayTrade", "PaymentDeclined", "PayTrade"]


async def test_while_a_rail_works_a_trade_is_neither_paid_nor_adjusted(client, refusal):
    trade = await over_rail(client, await client.created())
    await refused(refusal, client.give("PayTrade", trade, "BUYER"), "TRADE_STATE_INVALID")
    await refused(refusal, over_rail(client, trade), "TRADE_STATE_INVALID")
    error = await refused(refusal, client.give("AdjustPrice", trade, "SELLER"), "TRADE_STATE_INVALID")
    assert error.metadata["legal_commands"] == "CancelTrade"


async def test_an_instrument_needs_a_rail(client, refusal):
    trade = await client.created()
    error = await refused(refusal, client.give("PayTrade", trade, "BUYER", instrument="card"), "FIELD_INVALID")
    assert error.fields == ["instrument"]


async def test_an_unknown_rail_is_refused_and_the_trade_waits(client, refusal):
    trade = await client.created()
    error = await refused(refusal, client.give("PayTrade", trade, "BUYER", rail="rails/none"), "PAYMENT_REFUSED")
    assert error.metadata["payment_reason"] == "RAIL_UNKNOWN"
    assert (await client.trade(trade.name)).payment_pending is False


async def test_cancelling_voids_what_is_on_its_way_and_late_money_goes_back_by_itself(client, books):
    trade = await over_rail(client, await client.created())
    cancelled = await client.give("CancelTrade", trade, "BUYER")
    assert cancelled.state == T.STATE_CANCELLED
    over = await until(client, trade, lambda found: not found.step_pending)
    assert not over.payment_pending
    assert (await commands(client, trade))[-2:] == ["CancelTrade", "VoidPayment"]
    await report(books, trade, "SUCCEEDED")
    rows = await books.sql("SELECT amount_minor FROM rail_refunds")
    assert [row["amount_minor"] for row in rows] == [8000]
    still = await client.trade(trade.name)
    assert (still.state, still.funded_minor) == (T.STATE_CANCELLED, 0)
    assert await escrow_of(books, trade) == 0


async def test_pay_by_voids_what_is_on_its_way(stack, client, books):
    trade = await over_rail(client, await client.created())
    await stack.advance(hours=24)
    over = await until(client, trade, lambda found: not found.step_pending)
    assert (over.state, over.payment_pending) == (T.STATE_CANCELLED, False)
    rows = await books.sql("SELECT state FROM payments")
    assert [row["state"] for row in rows] == ["VOIDED"]


async def test_money_that_comes_before_the_void_goes_back_over_the_rail(stack, client, books):
    """The rail's word is with payments, but escrow has not read it when it cancels."""
    trade = await over_rail(client, await client.created(3000, 5000, buyer_fee_bps=100))
    [replica] = stack.replicas
    reader = next(task for task in replica._tasks if task.get_name() == "payments reader")
    reader.cancel()
    await report(books, trade, "SUCCEEDED")
    assert await escrow_of(books, trade) == 8080
    await client.give("CancelTrade", trade, "BUYER")
    over = await until(client, trade, lambda found: found.refunded_minor)
    assert (over.state, over.funded_minor, over.refunded_minor) == (T.STATE_CANCELLED, 8080, 8080)
    assert (over.buyer_fee_refunded_minor, over.step_pending, over.payment_pending) == (80, False, False)
    assert await escrow_of(books, trade) == 0
    assert await books.available(BUYER) == 1_000_000
    assert (await commands(client, trade))[-3:] == ["CancelTrade", "VoidPayment", "ReturnPayment"]
    assert [row["amount_minor"] for row in await books.sql("SELECT amount_minor FROM rail_refunds")] == [8080]
    # The event that comes after all of it changes nothing.
    before = await client.trade(trade.name)
    await stack.add_replica()
    await asyncio.sleep(0.5)
    assert await client.trade(trade.name) == before


async def test_two_replicas_apply_each_event_once(stack, client, books):
    await stack.add_replica()
    trades = [await over_rail(client, await client.created(), "ok") for _ in range(5)]
    for trade in trades:
        await until(client, trade, lambda found: found.state == T.STATE_AWAITING_SHIPMENT)
        assert (await commands(client, trade)).count("PaymentCaptured") == 1
    rows = await stack.rows("SELECT trade_id, count(*) AS n FROM payment_movements GROUP BY trade_id")
    assert [row["n"] for row in rows] == [1] * 5


async def paid_by_rail(client, *amounts, **fields):
    trade = await client.created(*(amounts or (3000, 5000)), **fields)
    await over_rail(client, trade, "ok")
    return await until(client, trade, lambda found: found.state == T.STATE_AWAITING_SHIPMENT)


async def test_a_chargeback_counts_as_refunded(client, books):
    trade = await paid_by_rail(client, 3000, 5000, buyer_fee_bps=100)
    await charge_back(books, trade)
    over = await until(client, trade, lambda found: found.state == T.STATE_CLOSED)
    assert (over.refunded_minor, over.charged_back_minor, over.buyer_fee_refunded_minor) == (8080, 8080, 80)
    assert [line.state for line in over.lines] == [L.STATE_REFUNDED] * 2
    entry = (await client.timeline(trade))[-1]
    assert (entry.command, entry.amount.amount_minor, list(entry.line_ids)) == ("ChargedBack", 8080, ["1", "2"])
    assert entry.ledger_reference.startswith("transactions/")


async def test_a_part_is_charged_back_of_the_lines_in_their_order(client, books):
    trade = await paid_by_rail(client, 3000, 5000, fee_bps=500)
    await charge_back(books, trade, 4000)
    after = await until(client, trade, lambda found: found.charged_back_minor)
    assert [(line.state, line.refunded_minor) for line in after.lines] == [
        (L.STATE_REFUNDED, 3000),
        (L.STATE_PAID, 1000),
    ]
    await client.give("ShipLines", trade, "SELLER")
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert (done.state, done.released_minor, done.fees_minor) == (T.STATE_COMPLETED, 4000, 200)
    assert await books.available(SELLER, PAYABLE) == 3800
    assert await escrow_of(books, trade) == 0


async def test_a_chargeback_after_the_end_is_told_only(client, books):
    trade = await paid_by_rail(client, fee_bps=0)
    await client.give("ShipLines", trade, "SELLER")
    done = await client.give("ConfirmLines", trade, "BUYER")
    await charge_back(books, trade)
    told = await until(client, trade, lambda found: found.etag != done.etag)
    assert (told.state, told.refunded_minor, told.charged_back_minor) == (T.STATE_COMPLETED, 0, 0)
    assert await books.available(SELLER, PAYABLE) == 0
    await report(books, trade, "CHARGEBACK_REVERSED")
    told = await until(client, trade, lambda found: found.etag not in (done.etag, told.etag))
    assert (await commands(client, trade))[-2:] == ["ChargedBack", "ChargebackReversed"]
    assert await books.available(SELLER, PAYABLE) == 8000


async def test_a_chargeback_ends_the_dispute_of_its_line(client, books):
    trade = await paid_by_rail(client)
    dispute = await client.disputed(trade, line_id="1")
    await charge_back(books, trade, 3000)
    after = await until(client, trade, lambda found: found.charged_back_minor)
    assert [line.open_case for line in after.lines] == ["", ""]
    closed = await client.seen(dispute)
    assert closed.State.Name(closed.state) == "STATE_CLOSED"
    assert not closed.HasField("decision")
    shipped = await client.give("ShipLines", trade, "SELLER")
    assert shipped.state == T.STATE_AWAITING_CONFIRMATION


async def test_a_decision_that_a_freeze_blocks_outlives_the_chargeback_of_another_line(client, books, monkeypatch):
    monkeypatch.setattr("danbao_escrow.application.steps.LAST_BACKOFF_MS", 1000)
    trade = await paid_by_rail(client, fee_bps=0)
    await client.give("ShipLines", trade, "SELLER")
    dispute = await client.disputed(trade, line_id="2", amount={"currency": "CNY", "amount_minor": 5000})
    held = [await opened(books, SELLER, kind) for kind in (PAYABLE, "seller.payable_held")]
    for name in held:
        freeze = account_pb2.FreezeAccountRequest(request_id=str(uuid4()), name=name, scope="FREEZE_SCOPE_ALL")
        await books.call("FreezeAccount", freeze, as_=OPERATOR)
    parts = {"buyer_minor": 4900, "seller_minor": 100}
    await client.ask("DecideDispute", dispute, "ARBITER", **parts)
    await client.ask("AppealDispute", dispute, "SELLER")
    blocked = await client.ask("DecideDispute", dispute, "ARBITER", **parts)
    assert (blocked.step_blocked, blocked.step_refusal) == (True, "ACCOUNT_FROZEN")
    await charge_back(books, trade, 1)
    after = await until(client, trade, lambda found: found.charged_back_minor)
    assert (after.step_blocked, [line.refunded_minor for line in after.lines]) == (True, [1, 0])
    for name in held:
        unfreeze = account_pb2.UnfreezeAccountRequest(request_id=str(uuid4()), name=name)
        await books.call("UnfreezeAccount", unfreeze, as_=OPERATOR)
    paid = await until(client, trade, lambda found: not found.step_pending, 20)
    assert [(line.released_minor, line.refunded_minor) for line in paid.lines] == [(0, 1), (100, 4900)]
    closed = await client.seen(dispute)
    assert closed.State.Name(closed.state) == "STATE_CLOSED"
    assert await escrow_of(books, trade) == 2999


async def test_a_release_that_comes_after_the_chargeback_ends(stack, client, books, refusal):
    """Escrow has not read of the chargeback when it asks for the money that is gone."""
    trade = await paid_by_rail(client, fee_bps=0)
    await client.give("ShipLines", trade, "SELLER")
    [replica] = stack.replicas
    next(task for task in replica._tasks if task.get_name() == "payments reader").cancel()
    await charge_back(books, trade, 5000)
    blocked = await client.give("ConfirmLines", trade, "BUYER")
    assert (blocked.step_blocked, blocked.step_refusal) == (True, "INSUFFICIENT_FUNDS")
    await stack.add_replica()
    after = await until(client, trade, lambda found: found.charged_back_minor and not found.step_pending)
    assert (after.refunded_minor, after.released_minor, after.step_blocked) == (5000, 0, False)
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert (done.state, done.released_minor) == (T.STATE_COMPLETED, 3000)
    assert await books.available(SELLER, PAYABLE) == 3000
    assert await escrow_of(books, trade) == 0


async def checkout_of(client, *trades):
    request = trade_pb2.CreateCheckoutRequest(
        request_id=client.next_id(), actor=client.request("PayTrade", trades[0], "BUYER").actor
    )
    request.trades.extend(trade.name for trade in trades)
    return await client.call("CreateCheckout", request)


async def two_trades(client):
    return await client.created(3000), await client.created(5000, seller=OTHER, role="BUYER", buyer_fee_bps=100)


async def test_a_checkout_pays_several_sellers_by_one_payment(client, books):
    trades = await two_trades(client)
    checkout = await checkout_of(client, *trades)
    assert (checkout.state, checkout.amount.amount_minor) == (C.STATE_OPEN, 8050)
    paid = await client.give("PayCheckout", checkout, "BUYER")
    assert paid.state == C.STATE_PAID
    assert paid.HasField("end_time")
    for trade, minor in zip(trades, (3000, 5050), strict=True):
        found = await client.trade(trade.name)
        assert (found.state, found.payment, found.funded_minor) == (T.STATE_AWAITING_SHIPMENT, paid.payment, minor)
        assert await escrow_of(books, trade) == minor
    assert len(await books.sql("SELECT id FROM payments")) == 1
    assert await books.available(BUYER) == 1_000_000 - 8050
    # Each is settled by itself, and gives back no more than its own.
    closed = await client.give("CancelLines", trades[1], "SELLER", actor={"subject": OTHER, "role": "ROLE_SELLER"})
    assert (closed.state, closed.refunded_minor) == (T.STATE_CLOSED, 5050)
    await client.give("ShipLines", trades[0], "SELLER")
    done = await client.give("ConfirmLines", trades[0], "BUYER")
    assert done.state == T.STATE_COMPLETED
    assert [await escrow_of(books, trade) for trade in trades] == [0, 0]


async def test_a_refused_checkout_leaves_all_its_trades_unpaid_and_is_paid_later(client, books, refusal):
    trades = await client.created(600_000), await client.created(500_000, seller=OTHER, role="BUYER")
    checkout = await checkout_of(client, *trades)
    error = await refused(refusal, client.give("PayCheckout", checkout, "BUYER"), "PAYMENT_REFUSED")
    assert error.metadata["payment_reason"] == "INSUFFICIENT_FUNDS"
    for trade in trades:
        found = await client.trade(trade.name)
        assert (found.state, found.step_pending, found.step_refusal) == (
            T.STATE_PENDING_PAYMENT,
            False,
            "INSUFFICIENT_FUNDS",
        )
    await books.fund(BUYER, 100_000)
    paid = await client.give("PayCheckout", checkout, "BUYER")
    assert paid.state == C.STATE_PAID


async def test_a_rail_pays_a_checkout(client, books, refusal):
    trades = await two_trades(client)
    checkout = await checkout_of(client, *trades)
    paying = await client.give("PayCheckout", checkout, "BUYER", rail=RAIL, instrument="silent")
    assert (paying.state, bool(paying.payment)) == (C.STATE_PAYING, True)
    for method, role in (("CancelTrade", "BUYER"), ("AdjustPrice", "SELLER"), ("PayTrade", "BUYER")):
        error = await refused(refusal, client.give(method, trades[0], role), "TRADE_STATE_INVALID")
        assert error.metadata["checkout"] == checkout.name
    await report(books, paying, "SUCCEEDED")
    for trade, minor in zip(trades, (3000, 5050), strict=True):
        await until(client, trade, lambda found: found.state == T.STATE_AWAITING_SHIPMENT)
        assert await escrow_of(books, trade) == minor
    request = trade_pb2.GetCheckoutRequest(name=checkout.name)
    assert (await client.call("GetCheckout", request)).state == C.STATE_PAID


async def test_pay_by_does_not_end_a_trade_whose_checkout_a_rail_is_paying(stack, client, books):
    trades = await two_trades(client)
    paying = await client.give(
        "PayCheckout", await checkout_of(client, *trades), "BUYER", rail=RAIL, instrument="silent"
    )
    await stack.advance(hours=25)
    assert (await client.trade(trades[0].name)).state == T.STATE_PENDING_PAYMENT
    await report(books, paying, "FAILED")
    for trade in trades:
        await until(client, trade, lambda found: found.state == T.STATE_CANCELLED)


async def test_a_declined_checkout_is_paid_again_under_another_id(client, books):
    trades = await two_trades(client)
    checkout = await checkout_of(client, *trades)
    await client.give("PayCheckout", checkout, "BUYER", rail=RAIL, instrument="decline")
    for trade in trades:
        await until(client, trade, lambda found: not found.payment_pending)
    paid = await client.give("PayCheckout", checkout, "BUYER")
    assert paid.state == C.STATE_PAID
    assert len(await books.sql("SELECT id FROM payments")) == 2


@pytest.mark.parametrize(
    ("method", "role"), [("CancelTrade", "BUYER"), ("PayTrade", "BUYER"), ("AdjustPrice", "SELLER")]
)
async def test_what_happens_to_one_trade_voids_its_checkout(client, refusal, method, role):
    trades = await two_trades(client)
    checkout = await checkout_of(client, *trades)
    await client.give(method, trades[0], role)
    await refused(refusal, client.give("PayCheckout", checkout, "BUYER"), "TRADE_STATE_INVALID")
    # The other is free.
    assert (await client.give("PayTrade", trades[1], "BUYER")).state == T.STATE_AWAITING_SHIPMENT


async def test_checkouts_refuse_what_does_not_belong_together(client, refusal):
    trades = await two_trades(client)
    other = await client.created(3000, currency="BRL")
    await refused(refusal, checkout_of(client, trades[0], other), "AMOUNT_MISMATCH")
    await refused(refusal, checkout_of(client, trades[0]), "FIELD_INVALID")
    foreign = await client.created(3000, buyer="subjects/third")
    await refused(refusal, checkout_of(client, trades[0], foreign), "NOT_A_PARTY")
    bound = await checkout_of(client, *trades)
    error = await refused(refusal, checkout_of(client, *trades), "TRADE_STATE_INVALID")
    assert error.metadata["checkout"] == bound.name
    await client.give("PayCheckout", bound, "BUYER")
    await refused(refusal, client.give("PayCheckout", bound, "BUYER"), "TRADE_STATE_INVALID")
    await refused(refusal, checkout_of(client, trades[0], await client.created(1)), "TRADE_STATE_INVALID")


async def test_a_checkout_is_not_shown_to_sellers(stack, client, refusal):
    checkout = await checkout_of(client, *await two_trades(client))
    seller = client.as_(subject="seller", roles="user")
    request = trade_pb2.GetCheckoutRequest(name=checkout.name)
    await refused(refusal, seller.call("GetCheckout", request), "CHECKOUT_NOT_FOUND")
    buyer = client.as_(subject="buyer", roles="user")
    assert (await buyer.call("GetCheckout", request)) == checkout


async def test_a_checkout_goes_through_a_batch(client):
    trades = await two_trades(client)
    checkout = await checkout_of(client, *trades)
    pay = client.request("PayCheckout", checkout, "BUYER")
    ship = client.request("ShipLines", trades[0], "SELLER")
    request = trade_pb2.BatchExecuteRequest(operations=[{"pay_checkout": pay}, {"ship_lines": ship}])
    reply = await client.call("BatchExecute", request)
    assert reply.results[0].checkout.state == C.STATE_PAID
    assert reply.results[1].trade.state == T.STATE_AWAITING_CONFIRMATION
