"""Prices and time to confirm, through the real service: what is adjusted, what is put off, and what bounds both."""

from datetime import timedelta

import pytest

from danbao.escrow.v1 import trade_pb2

S = trade_pb2.Trade.State
L = trade_pb2.Line.State


def price(helpers, line_id, amount):
    return trade_pb2.LinePrice(line_id=line_id, amount=helpers.money(amount))


async def test_the_designs_numbers_come_out(stack, client):
    fixed = await client.give("ConfirmLines", await client.shipped(2000, fee_fixed_minor=400), "BUYER")
    assert (fixed.fees_minor, fixed.released_minor, fixed.terms.fee_fixed_minor) == (400, 2000, 400)
    trade = await client.shipped(20_000, fee_bps=300, buyer_fee_bps=100)
    assert (trade.total_minor, trade.buyer_fee_minor, trade.funded_minor) == (20_000, 200, 20_200)
    assert stack.payments.escrow_of(trade.name) == 20_200
    done = await client.give("ConfirmLines", trade, "BUYER")
    assert (done.fees_minor, done.buyer_fee_released_minor, done.released_minor) == (800, 200, 20_200)
    assert stack.payments.escrow_of(trade.name) == 0
    back = await client.give("CancelLines", await client.paid(20_000, buyer_fee_bps=100), "SELLER")
    assert (back.refunded_minor, back.buyer_fee_refunded_minor, back.state) == (20_200, 200, S.STATE_CLOSED)
    stack.assert_each_step_moved_once()


async def test_who_pays_the_fee_is_frozen_and_shown(client):
    for payer, seller_bps, buyer_bps, buyer_fee in (
        (trade_pb2.FEE_PAYER_SELLER, 501, 0, 0),
        (trade_pb2.FEE_PAYER_BUYER, 0, 501, 501),
        (trade_pb2.FEE_PAYER_SPLIT, 251, 250, 250),
    ):
        trade = await client.created(10_000, fee_bps=501, fee_payer=payer)
        terms = trade.terms
        assert (terms.fee_payer, terms.fee_bps, terms.buyer_fee_bps) == (payer, seller_bps, buyer_bps)
        assert trade.buyer_fee_minor == buyer_fee
    assert (await client.created(10_000)).terms.fee_payer == trade_pb2.FEE_PAYER_SELLER


async def test_a_seller_adjusts_the_price_and_pay_by_starts_again(stack, client, helpers, times):
    trade = await client.created(3000, 5000, postage=1000, fee_bps=0, buyer_fee_bps=1000)
    await stack.advance(hours=23)
    adjusted = await client.give(
        "AdjustPrice",
        trade,
        "SELLER",
        lines=[price(helpers, "2", 4000)],
        postage=helpers.money(0),
        total=helpers.money(7000),
        reason="a friend",
    )
    assert [line.amount_minor for line in adjusted.lines] == [3000, 4000]
    assert (adjusted.total_minor, adjusted.postage_minor, adjusted.buyer_fee_minor) == (7000, 0, 700)
    assert times(adjusted.pay_by_time) - times(adjusted.adjust_time) == timedelta(hours=24)
    again = await client.give(
        "AdjustPrice", trade, "SELLER", lines=[], postage=helpers.money(5), total=helpers.money(7005)
    )
    assert times(again.pay_by_time) - times(again.adjust_time) == timedelta(hours=24), "as long as it was"
    assert again.postage_minor == 5
    await stack.advance(hours=23)
    paid = await client.give("PayTrade", trade, "BUYER")
    assert (paid.funded_minor, stack.payments.escrow_of(trade.name)) == (7706, 7706)
    entries = await client.timeline(trade)
    assert [entry.command for entry in entries] == [
        "CreateTrade",
        "Reminder",
        "AdjustPrice",
        "AdjustPrice",
        "Reminder",
        "PayTrade",
    ]
    assert (entries[2].reason, list(entries[2].line_ids)) == ("a friend", ["2"])
    events = [event.WhichOneof("payload") for event in await stack.events()]
    assert events.count("price_adjusted") == 2


async def test_prices_that_are_refused(stack, client, refusal, helpers):
    trade = await client.created(3000, 5000, fee_fixed_minor=2000)
    cases = (
        ({"lines": [price(helpers, "1", 0)]}, "AMOUNT_NOT_POSITIVE", "lines[0].amount.amount_minor"),
        ({"lines": [price(helpers, "1", 1)]}, "AMOUNT_MISMATCH", "total.amount_minor"),
        ({"postage": helpers.money(-1)}, "AMOUNT_NOT_POSITIVE", "postage.amount_minor"),
        ({"postage": helpers.money(1, "XXX")}, "CURRENCY_UNKNOWN", "postage.currency"),
        ({"total": helpers.money(8000, "EUR")}, "AMOUNT_MISMATCH", "total.currency"),
        (
            {"lines": [trade_pb2.LinePrice(line_id="1", amount=helpers.money(3000, "EUR"))],
             "total": helpers.money(8000, "EUR")},
            "AMOUNT_MISMATCH",
            "total.currency",
        ),
        (
            {"lines": [price(helpers, "1", 1), price(helpers, "2", 1)], "total": helpers.money(2)},
            "AMOUNT_MISMATCH",
            "total.amount_minor",
        ),
        (
            {"lines": [price(helpers, "1", 2**62)], "total": helpers.money(2**62)},
            "AMOUNT_MISMATCH",
            "total.amount_minor",
        ),
    )  # fmt: skip
    for fields, reason, field in cases:
        with pytest.raises(refusal) as refused:
            await client.give("AdjustPrice", trade, "SELLER", **fields)
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", reason), fields
        assert refused.value.metadata["field"] == field, fields
    with pytest.raises(refusal) as refused:
        await client.give(
            "AdjustPrice", trade, "SELLER", lines=[price(helpers, "1", 10**8)], total=helpers.money(10**8 + 5000)
        )
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "LIMIT_EXCEEDED")
    assert await client.trade(trade.name) == trade
    await client.give("PayTrade", trade, "BUYER")
    with pytest.raises(refusal) as refused:
        await client.give("AdjustPrice", trade, "SELLER")
    assert refused.value.reason == "TRADE_STATE_INVALID"


async def test_no_price_is_adjusted_while_it_is_paid_or_after_pay_by(stack, client, refusal):
    trade = await client.created(5000)
    stack.payments.script.extend(["dropped"] * 10)
    with pytest.raises(refusal):
        await client.give("PayTrade", trade, "BUYER", timeout=0.5)
    with pytest.raises(refusal) as refused:
        await client.give("AdjustPrice", trade, "SELLER", timeout=1.0)
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "STEP_IN_FLIGHT")
    late = await client.created(5000)
    await stack.advance(hours=24)
    with pytest.raises(refusal) as refused:
        await client.give("AdjustPrice", late, "SELLER")
    assert refused.value.metadata["state"] == "CANCELLED"


async def test_a_buyer_puts_off_auto_confirm_at_most_ten_days_in_all(stack, client, refusal, times):
    trade = await client.shipped(3000, 5000)
    before = times(trade.lines[0].deadline_time)
    extended = await client.give("ExtendConfirmation", trade, "BUYER", line_ids=["1"], days=7)
    assert times(extended.lines[0].deadline_time) == before + timedelta(days=7)
    assert [line.extended_days for line in extended.lines] == [7, 0]
    for days, lines in ((5, ["1"]), (5, []), (10, ["1", "2"])):
        with pytest.raises(refusal) as refused:
            await client.give("ExtendConfirmation", trade, "BUYER", line_ids=lines, days=days)
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "EXTENSION_LIMIT_REACHED")
        assert (refused.value.metadata["line_id"], refused.value.metadata["left_days"]) == ("1", "3")
    again = await client.give("ExtendConfirmation", trade, "BUYER")
    assert [line.extended_days for line in again.lines] == [10, 3]
    delivered = await client.give("ReportDelivery", trade, "CARRIER")
    line = delivered.lines[0]
    assert times(line.deadline_time) == times(line.deliver_time) + timedelta(days=17), "what was put off stays so"
    await stack.advance(days=11)
    open_lines = (await client.trade(trade.name)).lines
    assert [line.state for line in open_lines] == [L.STATE_SHIPPED, L.STATE_RELEASED]
    await stack.advance(days=6)
    done = await client.trade(trade.name)
    assert done.state == S.STATE_COMPLETED
    with pytest.raises(refusal) as refused:
        await client.give("ExtendConfirmation", trade, "BUYER", line_ids=["1"])
    assert refused.value.reason == "TRADE_STATE_INVALID"
    entries = await client.timeline(trade)
    assert [entry.reason for entry in entries if entry.command == "ExtendConfirmation"] == ["7 days", "3 days"]


async def test_prices_and_extensions_in_a_batch(client, helpers):
    trade, shipped = await client.created(5000), await client.shipped(5000)
    adjust = client.request(
        "AdjustPrice", trade, "SELLER", lines=[price(helpers, "1", 4000)], total=helpers.money(4000)
    )
    operations = [
        trade_pb2.Operation(adjust_price=adjust),
        trade_pb2.Operation(pay_trade=client.request("PayTrade", trade, "BUYER")),
        trade_pb2.Operation(extend_confirmation=client.request("ExtendConfirmation", shipped, "BUYER")),
    ]
    results = (await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=operations))).results
    assert [result.WhichOneof("result") for result in results] == ["trade"] * 3
    assert (results[1].trade.funded_minor, results[2].trade.lines[0].extended_days) == (4000, 3)
    assert await client.call("AdjustPrice", adjust) == results[0].trade
    assert client.replayed
