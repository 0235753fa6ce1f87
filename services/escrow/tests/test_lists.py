"""Lists of trades: who sees what, what is asked for, and pages that stay stable while trades are made and changed."""

from dataclasses import replace

import asyncpg
import pytest
from google.protobuf import timestamp_pb2
from sqlalchemy.dialects import postgresql

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.application.ports import TradeFilter
from danbao_escrow.store.queries import trades_query

S = trade_pb2.Trade.State


def names(trades):
    return [trade.name for trade in trades]


async def made(client, count, **fields):
    return [await client.created(100 + number, **fields) for number in range(count)]


@pytest.fixture
def operator(client):
    return client.as_(subject="ops", roles="operator")


async def test_pages_hold_each_trade_once_while_others_are_made_and_changed(client):
    trades = await made(client, 7)
    page = await client.call("ListTrades", trade_pb2.ListTradesRequest(page_size=3))
    assert names(page.trades) == names(trades[:3:-1]), "newest first"
    await made(client, 2)
    await client.give("CancelTrade", trades[2], "BUYER")
    found = list(page.trades)
    while page.next_page_token:
        request = trade_pb2.ListTradesRequest(page_size=3, page_token=page.next_page_token)
        page = await client.call("ListTrades", request)
        found += page.trades
    assert names(found) == names(reversed(trades))
    assert found[4].state == S.STATE_CANCELLED, "as it is now"
    oldest = await client.trades_of(order_by="create_time", page_size=4)
    assert names(oldest)[:7] == names(trades)
    assert names(await client.trades_of(order_by="create_time desc")) == names(reversed(oldest))


async def test_a_token_is_good_for_its_own_list_only(client, operator, refusal):
    await made(client, 3)
    page = await client.call("ListTrades", trade_pb2.ListTradesRequest(page_size=2))
    for caller, fields in (
        (client, {"buyer": "subjects/buyer"}),
        (client, {"order_by": "create_time"}),
        (operator, {}),
    ):
        request = trade_pb2.ListTradesRequest(page_size=2, page_token=page.next_page_token, **fields)
        with pytest.raises(refusal) as refused:
            await caller.call("ListTrades", request)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_everybody_sees_what_is_theirs(client, operator, helpers):
    shop = await made(client, 2)
    other_shop = client.as_(subject="other-backend", roles="partner", partner="other")
    (others,) = await made(other_shop, 1, buyer="subjects/third", actor=helpers.actor("SELLER"))
    swapped = await client.created(
        50, buyer="subjects/seller", seller="subjects/buyer", actor=helpers.actor("SELLER", "subjects/buyer")
    )
    every = [swapped, others, *reversed(shop)]
    assert names(await operator.trades_of()) == names(every)
    assert names(await client.as_(subject="arb", roles="arbiter").trades_of()) == names(every)
    assert names(await client.trades_of()) == names([swapped, *reversed(shop)]), "a partner's own"
    assert names(await other_shop.trades_of()) == names([others])
    seller = client.as_(subject="seller")
    assert names(await seller.trades_of()) == names(every), "as seller of three, as buyer of one"
    third = client.as_(subject="third")
    assert names(await third.trades_of()) == names([others])
    assert names(await third.trades_of(buyer="subjects/buyer")) == [], "not a party of those"
    assert names(await client.as_(subject="stranger").trades_of()) == []
    assert names(await client.as_(roles="user").trades_of()) == []


async def test_filters_by_party(client, operator, helpers):
    trades = await made(client, 2)
    swapped = await client.created(
        50, buyer="subjects/seller", seller="subjects/buyer", actor=helpers.actor("SELLER", "subjects/buyer")
    )
    for fields, expected in (
        ({"buyer": "subjects/buyer"}, trades[::-1]),
        ({"seller": "subjects/buyer"}, [swapped]),
        ({"party": "subjects/buyer"}, [swapped, *trades[::-1]]),
        ({"party": "subjects/buyer", "seller": "subjects/seller"}, trades[::-1]),
        ({"buyer": "subjects/nobody"}, []),
    ):
        for caller in (operator, client, client.as_(subject="buyer")):
            assert names(await caller.trades_of(**fields, page_size=1)) == names(expected), fields


async def test_filters_by_state_deadline_and_open_case(stack, client, times):
    unpaid, paid, shipped, done = [
        await client.created(1000), await client.paid(1000), await client.shipped(1000), await client.shipped(1000),
    ]  # fmt: skip
    done = await client.give("ConfirmLines", done, "BUYER")
    assert names(await client.trades_of(states=[S.STATE_COMPLETED])) == [done.name]
    both = await client.trades_of(states=[S.STATE_PENDING_PAYMENT, S.STATE_AWAITING_SHIPMENT])
    assert names(both) == [paid.name, unpaid.name]
    assert not done.HasField("deadline_time")
    shipped = await client.trade(shipped.name)
    deadlines = [times(trade.deadline_time) for trade in (unpaid, paid, shipped)]
    assert deadlines == [times(unpaid.pay_by_time), times(paid.ship_by_time), times(shipped.lines[0].deadline_time)]
    for before, expected in (
        (deadlines[0], []),
        (deadlines[1], [unpaid]),
        (deadlines[2], [paid, unpaid]),
    ):
        stamp = timestamp_pb2.Timestamp()
        stamp.FromDatetime(before)
        assert names(await client.trades_of(deadline_before=stamp)) == names(expected)
    assert names(await client.trades_of(has_open_case=True)) == []
    assert len(await client.trades_of(has_open_case=False)) == 4
    await stack.rows("UPDATE trades SET open_cases = 1 WHERE state = 'AWAITING_SHIPMENT' RETURNING 1")
    assert names(await client.trades_of(has_open_case=True)) == [paid.name]
    assert len(await client.trades_of(has_open_case=False)) == 3


async def test_a_page_reads_no_more_than_itself(stack):
    plain = TradeFilter(None, "", "", "", (), None, None, newest_first=True)
    for asked, index in (
        (plain, "trades_by_creation"),
        (replace(plain, newest_first=False), "trades_by_creation"),
        (replace(plain, buyer="subjects/b"), "trades_by_buyer"),
        (replace(plain, party="subjects/b"), "trades_by_seller"),
        (replace(plain, has_open_case=True), "trades_with_open_cases"),
    ):
        query = trades_query(asked, after=None, limit=10)
        text = str(query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
        settings = "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off"
        connection = await asyncpg.connect(stack.database.dsn)
        try:
            await connection.execute(settings)
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {text}"))
        finally:
            await connection.close()
        assert index in plan, plan
