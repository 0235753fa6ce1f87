"""Every RPC refuses what is malformed, with its own reason and the field, and changes nothing."""

import grpc
import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from danbao.escrow.v1 import event_pb2, trade_pb2
from danbao.type.v1 import cursor_pb2, money_pb2
from danbao_kit.rpc_status import reason_of

UNKNOWN = "trades/00000000-0000-4000-8000-000000000000"
MUTATIONS = [
    "PayTrade", "ShipLines", "ReportDelivery", "ConfirmLines", "CancelLines", "CancelTrade", "ReleaseHeld",
    "AdjustPrice", "ExtendConfirmation",
]  # fmt: skip
ROLE = {
    "PayTrade": "BUYER", "ShipLines": "SELLER", "ReportDelivery": "CARRIER", "ConfirmLines": "BUYER",
    "CancelLines": "SELLER", "CancelTrade": "BUYER", "ReleaseHeld": "OPERATOR",
    "AdjustPrice": "SELLER", "ExtendConfirmation": "BUYER",
}  # fmt: skip


def amount(minor, currency="CNY"):
    return money_pb2.Money(currency=currency, amount_minor=minor)


def line(minor=10, currency="CNY", line_id="1", **fields):
    return trade_pb2.NewLine(line_id=line_id, title="t", amount=amount(minor, currency), **fields)


CREATE = {
    "request id missing": ({"request_id": ""}, "FIELD_INVALID", "request_id"),
    "request id too long": ({"request_id": "x" * 65}, "FIELD_INVALID", "request_id"),
    "request id with NUL": ({"request_id": "a\0b"}, "FIELD_INVALID", "request_id"),
    "actor missing": ({"actor": None}, "FIELD_INVALID", "actor"),
    "actor without role": ({"actor": trade_pb2.Actor(subject="subjects/a")}, "FIELD_INVALID", "actor.role"),
    "actor of no known role": (
        {"actor": trade_pb2.Actor(subject="subjects/a", role=99)},
        "FIELD_INVALID",
        "actor.role",
    ),
    "actor malformed": ({"actor": trade_pb2.Actor(subject="a b", role=1)}, "FIELD_INVALID", "actor.subject"),
    "buyer missing": ({"buyer": ""}, "FIELD_INVALID", "buyer"),
    "buyer malformed": ({"buyer": "users/1"}, "FIELD_INVALID", "buyer"),
    "seller missing": ({"seller": ""}, "FIELD_INVALID", "seller"),
    "seller is the buyer": ({"seller": "subjects/buyer"}, "FIELD_INVALID", "seller"),
    "no lines": ({"lines": []}, "FIELD_INVALID", "lines"),
    "too many lines": (
        {"lines": [line(line_id=str(n)) for n in range(51)], "total": amount(510)},
        "FIELD_INVALID",
        "lines",
    ),
    "line id missing": ({"lines": [line(line_id="")]}, "FIELD_INVALID", "lines[0].line_id"),
    "line id malformed": ({"lines": [line(line_id="a b")]}, "FIELD_INVALID", "lines[0].line_id"),
    "line id twice": ({"lines": [line(5), line(5)]}, "FIELD_INVALID", "lines[1].line_id"),
    "line without amount": (
        {"lines": [trade_pb2.NewLine(line_id="1", title="t")]},
        "FIELD_INVALID",
        "lines[0].amount",
    ),
    "title too long": (
        {"lines": [trade_pb2.NewLine(line_id="1", title="t" * 201, amount=amount(10))]},
        "FIELD_INVALID",
        "lines[0].title",
    ),
    "title with NUL": (
        {"lines": [trade_pb2.NewLine(line_id="1", title="t\0", amount=amount(10))]},
        "FIELD_INVALID",
        "lines[0].title",
    ),
    "no known delivery": ({"lines": [line(delivery=77)]}, "FIELD_INVALID", "lines[0].delivery"),
    "total missing": ({"total": None}, "FIELD_INVALID", "total"),
    "fee negative": ({"fee_bps": -1}, "FIELD_INVALID", "fee_bps"),
    "fee above the whole": ({"fee_bps": 10_001}, "FIELD_INVALID", "fee_bps"),
    "fixed fee negative": ({"fee_fixed_minor": -1}, "FIELD_INVALID", "fee_fixed_minor"),
    "fixed fee above the total": ({"fee_fixed_minor": 11}, "FIELD_INVALID", "fee_fixed_minor"),
    "fixed fee beside basis points": ({"fee_fixed_minor": 1, "fee_bps": 1}, "FIELD_INVALID", "fee_fixed_minor"),
    "cap of nothing": ({"fee_cap_minor": 0}, "FIELD_INVALID", "fee_cap_minor"),
    "cap of a fixed fee": ({"fee_cap_minor": 1, "fee_fixed_minor": 1}, "FIELD_INVALID", "fee_cap_minor"),
    "no known fee payer": ({"fee_payer": 9}, "FIELD_INVALID", "fee_payer"),
    "buyer's fee above the whole": ({"buyer_fee_bps": 10_001}, "FIELD_INVALID", "buyer_fee_bps"),
    "buyer's fee negative": ({"buyer_fee_fixed_minor": -1}, "FIELD_INVALID", "buyer_fee_fixed_minor"),
    "buyer's fee above the total": ({"buyer_fee_fixed_minor": 11}, "FIELD_INVALID", "buyer_fee_fixed_minor"),
    "two buyer's fees": (
        {"buyer_fee_bps": 1, "buyer_fee_fixed_minor": 1},
        "FIELD_INVALID",
        "buyer_fee_fixed_minor",
    ),
    "a buyer's fee beside the buyer's fee": (
        {"buyer_fee_bps": 1, "fee_payer": trade_pb2.FEE_PAYER_BUYER},
        "FIELD_INVALID",
        "buyer_fee_bps",
    ),
    "a buyer's fee beside half of the fee": (
        {"buyer_fee_fixed_minor": 1, "fee_payer": trade_pb2.FEE_PAYER_SPLIT},
        "FIELD_INVALID",
        "buyer_fee_fixed_minor",
    ),
    "pay-by too short": ({"pay_by": duration_pb2.Duration(seconds=59)}, "FIELD_INVALID", "pay_by"),
    "pay-by too long": ({"pay_by": duration_pb2.Duration(seconds=1_296_001)}, "FIELD_INVALID", "pay_by"),
    "ship-by at the end of time": (
        {"ship_by_time": timestamp_pb2.Timestamp(seconds=253402300799)},
        "FIELD_INVALID",
        "ship_by_time",
    ),
    "ship-by before 1970": ({"ship_by_time": timestamp_pb2.Timestamp(seconds=-1)}, "FIELD_INVALID", "ship_by_time"),
    "ship-by in 3000": (
        {"ship_by_time": timestamp_pb2.Timestamp(seconds=32_503_680_000)},
        "FIELD_INVALID",
        "ship_by_time",
    ),
    "ship-by no time at all": (
        {"ship_by_time": timestamp_pb2.Timestamp(seconds=2**62)},
        "FIELD_INVALID",
        "ship_by_time",
    ),
    "reference too long": ({"reference": "r" * 129}, "FIELD_INVALID", "reference"),
    "line of zero": ({"lines": [line(0)]}, "AMOUNT_NOT_POSITIVE", "lines[0].amount.amount_minor"),
    "line negative": ({"lines": [line(-10)]}, "AMOUNT_NOT_POSITIVE", "lines[0].amount.amount_minor"),
    "postage negative": ({"postage": amount(-1)}, "AMOUNT_NOT_POSITIVE", "postage.amount_minor"),
    "total of zero": ({"total": amount(0)}, "AMOUNT_NOT_POSITIVE", "total.amount_minor"),
    "currency unknown": (
        {"lines": [line(10, "XXZ")], "total": amount(10, "XXZ")},
        "CURRENCY_UNKNOWN",
        "lines[0].amount.currency",
    ),
    "currency in small letters": (
        {"lines": [line(10, "cny")], "total": amount(10, "cny")},
        "CURRENCY_UNKNOWN",
        "lines[0].amount.currency",
    ),
    "currency missing": (
        {"lines": [line(10, "")], "total": amount(10)},
        "FIELD_INVALID",
        "lines[0].amount.currency",
    ),
    "total too small": ({"total": amount(9)}, "AMOUNT_MISMATCH", "total.amount_minor"),
    "total too large": ({"total": amount(11)}, "AMOUNT_MISMATCH", "total.amount_minor"),
    "postage forgotten in the total": ({"postage": amount(1)}, "AMOUNT_MISMATCH", "total.amount_minor"),
    "two currencies": ({"total": amount(10, "EUR")}, "AMOUNT_MISMATCH", "total.currency"),
    "postage of another currency": ({"postage": amount(0, "EUR")}, "AMOUNT_MISMATCH", "postage.currency"),
    "sum beyond 64 bits": (
        {"lines": [line(2**63 - 1), line(1, line_id="2")], "total": amount(2**63 - 1)},
        "AMOUNT_MISMATCH",
        "total.amount_minor",
    ),
}


async def held(stack):
    tables = ("trades", "steps", "timeline_entries", "events", "request_records")
    counts = [f"(SELECT count(*) FROM {table}) AS {table}" for table in tables]
    (row,) = await stack.rows(f"SELECT {', '.join(counts)}, (SELECT event_sequence FROM stream_heads)")
    return row


async def test_create_trade(stack, client, refusal):
    for case, (changes, reason, field) in CREATE.items():
        values = {
            "request_id": client.next_id(),
            "actor": trade_pb2.Actor(subject="subjects/buyer", role=1),
            "buyer": "subjects/buyer",
            "seller": "subjects/seller",
            "lines": [line()],
            "total": amount(10),
            **changes,
        }
        with pytest.raises(refusal) as refused:
            await client.call("CreateTrade", trade_pb2.CreateTradeRequest(**values))
        error = refused.value
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason), case
        assert field in error.fields, f"{case}: {error.fields}"
        operation = trade_pb2.Operation(create_trade=trade_pb2.CreateTradeRequest(**values))
        reply = await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=[operation]))
        assert reason_of(reply.results[0].error)[0] == reason, f"{case}: in a batch the same"
    assert set((await held(stack)).values()) == {0}
    assert stack.credit.calls == 0, "nobody is asked about a malformed trade"


async def test_amounts_are_refused_in_words_that_help(client, refusal):
    largest = 2**63 - 1
    for fields, reason, text in (
        (
            {"lines": [line()], "postage": amount(-5), "total": amount(5)},
            "AMOUNT_NOT_POSITIVE",
            "postage.amount_minor must not be negative",
        ),
        (
            {"lines": [line(largest), line(largest, line_id="2")], "total": amount(largest)},
            "AMOUNT_MISMATCH",
            "total.amount_minor: lines and postage exceed what an amount can hold",
        ),
        (
            {"lines": [line(largest)], "postage": amount(1), "total": amount(largest)},
            "AMOUNT_MISMATCH",
            "total.amount_minor: lines and postage exceed what an amount can hold",
        ),
        (
            {"lines": [line(largest - 1)], "postage": amount(1), "total": amount(5)},
            "AMOUNT_MISMATCH",
            f"total.amount_minor: must be {largest}, the sum of lines and postage",
        ),
    ):
        request = client.create_request()
        for field in fields:
            request.ClearField(field)
        request.MergeFrom(trade_pb2.CreateTradeRequest(**fields))
        with pytest.raises(refusal) as refused:
            await client.call("CreateTrade", request)
        assert (refused.value.code, refused.value.reason, refused.value.text) == ("INVALID_ARGUMENT", reason, text)
        assert refused.value.fields == [refused.value.metadata["field"]]


@pytest.mark.parametrize("method", MUTATIONS)
async def test_mutations_of_a_trade(stack, client, refusal, method):
    trade = await client.created(5000)
    before = await held(stack)
    cases = {
        "request id missing": ({"request_id": ""}, "request_id"),
        "request id with NUL": ({"request_id": "a\0"}, "request_id"),
        "actor missing": ({"actor": None}, "actor"),
        "actor without role": ({"actor": trade_pb2.Actor(subject="subjects/a")}, "actor.role"),
        "actor malformed": ({"actor": trade_pb2.Actor(subject="x", role=1)}, "actor.subject"),
        "name missing": ({"name": ""}, "name"),
        "name malformed": ({"name": "trades/1"}, "name"),
        "name no uuid": ({"name": "trades/" + "-" * 36}, "name"),
        "name oddly written": ({"name": "trades/00000000000040008000000000000000----"}, "name"),
    }
    fields = getattr(trade_pb2, f"{method}Request").DESCRIPTOR.fields_by_name
    if "line_ids" in fields:
        cases["line twice"] = ({"line_ids": ["1", "1"]}, "line_ids")
        cases["too many lines"] = ({"line_ids": [str(n) for n in range(51)]}, "line_ids")
    if "reason" in fields:
        cases["reason too long"] = ({"reason": "r" * 257}, "reason")
        cases["reason with NUL"] = ({"reason": "\0"}, "reason")
    if method == "ExtendConfirmation":
        for days in (0, -3, 1, 11):
            cases[f"{days} days"] = ({"days": days}, "days")
    if method == "AdjustPrice":
        cases["total missing"] = ({"total": None}, "total")
        cases["nothing to adjust"] = ({"lines": []}, "lines")
        price = trade_pb2.LinePrice(line_id="1", amount=amount(5000))
        cases["line twice"] = ({"lines": [price, price]}, "lines[1].line_id")
        cases["line without amount"] = ({"lines": [trade_pb2.LinePrice(line_id="1")]}, "lines[0].amount")
        cases["too many lines"] = ({"lines": [price] * 51}, "lines")
    if "carrier" in fields:
        cases["carrier missing"] = ({"carrier": ""}, "carrier")
        cases["tracking missing"] = ({"tracking": ""}, "tracking")
        cases["tracking too long"] = ({"tracking": "t" * 65}, "tracking")
    for case, (changes, field) in cases.items():
        with pytest.raises(refusal) as refused:
            await client.give(method, trade, ROLE[method], **changes)
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), case
        assert field in refused.value.fields, f"{case}: {refused.value.fields}"
    stub = getattr(client.trades, method)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub(client.request(method, trade, ROLE[method]), metadata=client._caller)
    assert refusal(failed.value).reason == "DEADLINE_REQUIRED"
    assert await held(stack) == before
    caller = client.as_(subject="ops", roles="operator,partner", partner="shop")
    with pytest.raises(refusal) as refused:
        await caller.give(method, trade, ROLE[method], name=UNKNOWN)
    assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "TRADE_NOT_FOUND")
    assert refused.value.metadata["trade"] == UNKNOWN
    if "line_ids" in fields or "lines" in fields:
        nine = {"line_ids": ["nine"]}
        if method == "AdjustPrice":
            nine = {"lines": [trade_pb2.LinePrice(line_id="nine", amount=amount(5000))]}
        with pytest.raises(refusal) as refused:
            await caller.give(method, trade, ROLE[method], **nine)
        assert (refused.value.reason, refused.value.metadata["line_id"]) == ("LINE_NOT_FOUND", "nine")
    if method not in ("PayTrade", "CancelTrade", "AdjustPrice"):
        with pytest.raises(refusal) as refused:
            await caller.give(method, trade, ROLE[method])
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "TRADE_STATE_INVALID")
        assert refused.value.metadata["state"] == "PENDING_PAYMENT"
        assert refused.value.metadata["legal_commands"] == "AdjustPrice,CancelTrade,PayTrade"
    for role, reason in (("SYSTEM", "ROLE_NOT_ALLOWED"), ("ARBITER", "ROLE_NOT_ALLOWED")):
        with pytest.raises(refusal) as refused:
            await caller.give(method, trade, role)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", reason)
    if ROLE[method] in ("BUYER", "SELLER"):
        stranger = trade_pb2.Actor(subject="subjects/other", role=trade_pb2.Role.Value(f"ROLE_{ROLE[method]}"))
        with pytest.raises(refusal) as refused:
            await caller.give(method, trade, ROLE[method], actor=stranger)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "NOT_A_PARTY")
    after = await held(stack)
    assert {**after, "request_records": 0} == {**before, "request_records": 0}, "refusals are recorded, nothing else"
    assert await client.trade(trade.name) == trade


async def test_create_trade_for_others(client, refusal):
    for role, reason in (
        ("CARRIER", "ROLE_NOT_ALLOWED"),
        ("SYSTEM", "ROLE_NOT_ALLOWED"),
        ("OPERATOR", "ROLE_NOT_ALLOWED"),
    ):
        with pytest.raises(refusal) as refused:
            await client.created(5000, role=role)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", reason)
    with pytest.raises(refusal) as refused:
        await client.created(5000, actor=trade_pb2.Actor(subject="subjects/other", role=2))
    assert refused.value.reason == "NOT_A_PARTY"


async def test_reads(client, refusal):
    for name in ("", "trades/1", "accounts/00000000-0000-4000-8000-000000000000", "trades/" + "-" * 36):
        with pytest.raises(refusal) as refused:
            await client.trade(name)
        assert (refused.value.reason, refused.value.fields) == ("FIELD_INVALID", ["name"])
        with pytest.raises(refusal) as refused:
            await client.call("ListTradeTimeline", trade_pb2.ListTradeTimelineRequest(trade=name))
        assert (refused.value.reason, refused.value.fields) == ("FIELD_INVALID", ["trade"])
    for method, request in (
        ("GetTrade", trade_pb2.GetTradeRequest(name=UNKNOWN)),
        ("ListTradeTimeline", trade_pb2.ListTradeTimelineRequest(trade=UNKNOWN)),
    ):
        with pytest.raises(refusal) as refused:
            await client.call(method, request)
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "TRADE_NOT_FOUND")
    trade = await client.created(5000)
    for changes, reason in (
        ({"page_size": -1}, "FIELD_INVALID"),
        ({"page_size": 1001}, "FIELD_INVALID"),
        ({"page_token": "?"}, "PAGE_TOKEN_INVALID"),
        ({"page_token": "AAAA"}, "PAGE_TOKEN_INVALID"),
        ({"page_token": "x" * 513}, "FIELD_INVALID"),
    ):
        with pytest.raises(refusal) as refused:
            await client.call("ListTradeTimeline", trade_pb2.ListTradeTimelineRequest(trade=trade.name, **changes))
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", reason)


async def test_lists(client, refusal):
    for changes, reason, field in (
        ({"page_size": -1}, "FIELD_INVALID", "page_size"),
        ({"page_size": 1001}, "FIELD_INVALID", "page_size"),
        ({"page_token": "x" * 513}, "FIELD_INVALID", "page_token"),
        ({"page_token": "?"}, "PAGE_TOKEN_INVALID", ""),
        ({"page_token": "AAAA"}, "PAGE_TOKEN_INVALID", ""),
        ({"buyer": "users/1"}, "FIELD_INVALID", "buyer"),
        ({"seller": "subjects/"}, "FIELD_INVALID", "seller"),
        ({"party": "subjects/a b"}, "FIELD_INVALID", "party"),
        ({"states": [0]}, "FIELD_INVALID", "states[0]"),
        ({"states": [99]}, "FIELD_INVALID", "states[0]"),
        ({"states": [1, 1]}, "FIELD_INVALID", "states"),
        ({"order_by": "total_minor"}, "FIELD_INVALID", "order_by"),
        ({"order_by": "create_time asc"}, "FIELD_INVALID", "order_by"),
        ({"deadline_before": timestamp_pb2.Timestamp(seconds=2**62)}, "FIELD_INVALID", "deadline_before"),
    ):
        with pytest.raises(refusal) as refused:
            await client.call("ListTrades", trade_pb2.ListTradesRequest(**changes))
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", reason), changes
        assert not field or field in refused.value.fields, f"{changes}: {refused.value.fields}"


async def test_batches(client, refusal):
    with pytest.raises(refusal) as refused:
        await client.call("BatchExecute", trade_pb2.BatchExecuteRequest())
    assert (refused.value.reason, refused.value.fields) == ("FIELD_INVALID", ["operations"])
    too_many = [trade_pb2.Operation()] * 1001
    with pytest.raises(refusal) as refused:
        await client.call("BatchExecute", trade_pb2.BatchExecuteRequest(operations=too_many))
    assert (refused.value.reason, refused.value.fields) == ("FIELD_INVALID", ["operations"])


async def test_bytes_that_are_not_the_message(stack, client, refusal):
    for method in ("CreateTrade", "GetTrade", "ListTrades", "ListTradeTimeline", "BatchExecute", *MUTATIONS):
        path = f"/danbao.escrow.v1.TradeService/{method}"
        call = client.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"\xff\xff\xff", timeout=5, metadata=client._caller)
        error = refusal(failed.value)
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MESSAGE_MALFORMED"), method
    assert set((await held(stack)).values()) == {0}


async def test_events_are_for_peers_and_operators(stack, client, refusal):
    async def watch(of, request):
        async for _ in of.events.WatchEvents(request, timeout=5, metadata=of._caller):
            return

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await watch(client, event_pb2.WatchEventsRequest())
    assert refusal(failed.value).reason == "PEER_NOT_ALLOWED"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await client.events.GetStreamHead(event_pb2.GetStreamHeadRequest(), timeout=5, metadata=client._caller)
    assert refusal(failed.value).reason == "PEER_NOT_ALLOWED"
    peer = stack.client_of(stack.replicas[0], peer="credit", caller=())
    for request, code, reason in (
        (event_pb2.WatchEventsRequest(kinds=["nonsense"]), "INVALID_ARGUMENT", "FIELD_INVALID"),
        (event_pb2.WatchEventsRequest(cursor=cursor_pb2.Cursor(sequence=-1)), "INVALID_ARGUMENT", "FIELD_INVALID"),
        (event_pb2.WatchEventsRequest(cursor=cursor_pb2.Cursor(partition=1)), "INVALID_ARGUMENT", "FIELD_INVALID"),
        (event_pb2.WatchEventsRequest(cursor=cursor_pb2.Cursor(sequence=9)), "OUT_OF_RANGE", "CURSOR_AHEAD"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await watch(peer, request)
        error = refusal(failed.value)
        assert (error.code, error.reason) == (code, reason)


async def test_a_peer_calls_only_what_it_may(stack, client, refusal):
    credit = stack.client_of(stack.replicas[0], peer="credit", caller=())
    with pytest.raises(refusal) as refused:
        await credit.trade(UNKNOWN)
    assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")
    trade = await client.created(5000)
    pretender = stack.client_of(stack.replicas[0], peer="credit")
    with pytest.raises(refusal) as refused:
        await pretender.give("PayTrade", trade, "BUYER")
    assert refused.value.reason == "PEER_NOT_ALLOWED"
