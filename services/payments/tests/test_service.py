"""The service as its callers see it: on the real store, behind mutual TLS."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from danbao.payments.v1 import account_pb2, event_pb2, ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_kit.testing.service import as_caller
from danbao_payments.testing.stack import (
    OPERATOR,
    PARTNER,
    PaymentsStack,
    manual,
    money,
    new_id,
    payment,
    remote_error,
    top_up,
)

BUYER, SELLER = "subjects/buyer", "subjects/seller"
State = payment_pb2.Payment.State


async def refused(call, reason: str) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    assert caught.value.reason == reason, caught.value
    return caught.value


def leg(debit: tuple[str, str], credit: tuple[str, str], minor: int, **others) -> dict:
    return {
        "debit": {"owner": debit[0], "kind": debit[1]},
        "credit": {"owner": credit[0], "kind": credit[1]},
        "amount": money(minor),
        **others,
    }


def posting(*legs: dict, **others) -> ledger_pb2.PostTransactionRequest:
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=legs, **others)


# --- payments ---------------------------------------------------------------------------------------------------------


async def test_a_payment_moves_money_at_once_and_shows_on_both_statements(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 400, description="shoes", metadata={"order": "7"}))
    assert paid.state == State.STATE_CAPTURED
    assert paid.captured_minor == paid.authorized_minor == paid.amount.amount_minor == 400
    assert dict(paid.metadata) == {"order": "7"}
    assert await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=paid.name)) == paid
    accounts = await stack.accounts(BUYER)
    entries = await stack.call("ListEntries", account_pb2.ListEntriesRequest(account=accounts["user.available"].name))
    told = [(e.side, e.amount.amount_minor, e.balance_after_minor, e.counterparty_owner) for e in entries.entries]
    assert told == [
        (account_pb2.Account.SIDE_CREDIT, 1000, 1000, "rails/simulated"),
        (account_pb2.Account.SIDE_DEBIT, 400, 600, SELLER),
    ]
    assert entries.entries[1].description == "shoes"
    assert entries.entries[1].transaction == paid.last_transaction
    transaction = await stack.call(
        "GetTransaction", ledger_pb2.GetTransactionRequest(name=paid.last_transaction), as_=OPERATOR
    )
    assert [(t.kind, t.amount.amount_minor, t.payment) for t in transaction.transfers] == [
        (ledger_pb2.Transfer.KIND_POSTED, 400, paid.name)
    ]


async def test_authorise_10000_and_capture_7000_leaves_3000_free(stack: PaymentsStack):
    await stack.fund(BUYER, 10_000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 10_000))
    assert held.state == State.STATE_AUTHORIZED
    assert await stack.available(BUYER) == 0
    captured = await stack.call(
        "CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name, amount=money(7000))
    )
    assert (captured.state, captured.captured_minor, captured.released_minor) == (State.STATE_CAPTURED, 7000, 3000)
    assert captured.etag != held.etag
    assert (await stack.available(BUYER), await stack.available(SELLER)) == (3000, 7000)
    for minor in (2500, 2500):
        request = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=held.name, amount=money(minor))
        await stack.call("RefundPayment", request)
    rest = await stack.call("RefundPayment", payment_pb2.RefundPaymentRequest(request_id=new_id(), name=held.name))
    assert rest.refund_state == payment_pb2.Payment.REFUND_STATE_FULL
    request = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=held.name, amount=money(1))
    error = await refused(stack.call("RefundPayment", request), "REFUND_AMOUNT_EXCEEDED")
    assert error.metadata["refundable_minor"] == "0"


async def test_a_void_frees_the_hold_and_a_second_one_is_refused(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 100))
    voided = await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=held.name))
    assert (voided.state, voided.released_minor) == (State.STATE_VOIDED, 100)
    assert await stack.available(BUYER) == 100
    for method, request in (
        ("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=held.name)),
        ("CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name)),
    ):
        error = await refused(stack.call(method, request), "HOLD_ALREADY_VOIDED")
        assert error.metadata["state"] == "VOIDED"


async def test_escrow_pays_into_a_trade_releases_and_refunds_under_one_cap(stack: PaymentsStack):
    await stack.fund(BUYER, 10_000)
    trade = {"owner": "trades/t1", "kind": "escrow.trade"}
    request = payment(BUYER, SELLER, 10_000, payee=trade, beneficiary=SELLER)
    await refused(stack.call("CreatePayment", request), "KIND_NOT_ALLOWED")
    paid = await stack.call("CreatePayment", request, peer="escrow", as_=())
    release = posting(
        leg(("trades/t1", "escrow.trade"), (SELLER, "seller.payable"), 5940, payment=paid.name),
        leg(("trades/t1", "escrow.trade"), ("platform", "fee.escrow"), 60, payment=paid.name),
        description="confirmed",
    )
    await refused(stack.call("PostTransaction", release, as_=OPERATOR), "KIND_NOT_ALLOWED")
    posted = await stack.call("PostTransaction", release, peer="escrow", as_=())
    assert [t.amount.amount_minor for t in posted.transfers] == [5940, 60]
    back = leg(("trades/t1", "escrow.trade"), (BUYER, "user.available"), 4001, payment=paid.name, purpose=1)
    await refused(stack.call("PostTransaction", posting(back), peer="escrow", as_=()), "INSUFFICIENT_FUNDS")
    back = leg(("trades/t1", "escrow.trade"), (BUYER, "user.available"), 4000, payment=paid.name, purpose=1)
    await stack.call("PostTransaction", posting(back), peer="escrow", as_=())
    assert (await stack.accounts("trades/t1"))["escrow.trade"].state == account_pb2.Account.STATE_CLOSED
    after = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=paid.name))
    assert after.refunded_minor == 4000
    assert after.refund_state == payment_pb2.Payment.REFUND_STATE_PARTIAL


# --- idempotency ------------------------------------------------------------------------------------------------------


async def test_the_same_request_again_gets_the_same_answer_and_moves_nothing(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    request = payment(BUYER, SELLER, 60)
    first, headers = await stack.call_with_headers("CreatePayment", request)
    assert "x-danbao-replayed" not in headers
    again, headers = await stack.call_with_headers("CreatePayment", request)
    assert again == first
    assert headers["x-danbao-replayed"] == "true"
    batch = payment_pb2.BatchExecuteRequest(operations=[{"create_payment": request}])
    result = (await stack.call("BatchExecute", batch)).results[0]
    assert (result.payment, result.replayed) == (first, True)
    assert await stack.available(BUYER) == 40


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": money(61)}, "amount"),
        ({"payer": SELLER, "payee": {"owner": BUYER, "kind": "user.available"}}, "payer"),
        ({"payee": {"owner": SELLER, "kind": "seller.payable"}}, "payee"),
        ({"description": "other"}, "description"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"capture_mode": payment_pb2.CAPTURE_MODE_MANUAL}, "capture_mode"),
    ],
)
async def test_the_same_id_with_another_body_names_the_field(stack: PaymentsStack, change, field):
    await stack.fund(BUYER, 100)
    request_id = new_id()
    await stack.call("CreatePayment", payment(BUYER, SELLER, 60, request_id=request_id))
    other = payment(BUYER, SELLER, 60, **({"request_id": request_id} | change))
    error = await refused(stack.call("CreatePayment", other), "REQUEST_ID_REUSED")
    assert (error.code, error.metadata["field"]) == ("ALREADY_EXISTS", field)


async def test_a_refusal_is_final_for_its_request_id(stack: PaymentsStack):
    request = payment(BUYER, SELLER, 60)
    await refused(stack.call("CreatePayment", request), "INSUFFICIENT_FUNDS")
    await stack.fund(BUYER, 100)
    await refused(stack.call("CreatePayment", request), "INSUFFICIENT_FUNDS")
    await stack.call("CreatePayment", payment(BUYER, SELLER, 60))


async def test_another_caller_may_use_the_same_request_id(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    request = payment(BUYER, SELLER, 60)
    await stack.call("CreatePayment", request)
    others = as_caller(subject="x", roles="partner", partner="another-shop")
    await refused(stack.call("CreatePayment", request, as_=others), "INSUFFICIENT_FUNDS")


# --- races ------------------------------------------------------------------------------------------------------------


async def test_500_attempts_of_64_callers_on_money_for_100(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    gate = asyncio.Semaphore(64)

    async def attempt(number: int) -> str:
        async with gate:
            try:
                make = payment if number % 2 else manual
                await stack.call("CreatePayment", make(BUYER, f"subjects/s{number % 7}", 10), timeout=30)
            except RemoteError as error:
                return error.reason
            return "OK"

    told = await asyncio.gather(*[attempt(number) for number in range(500)])
    assert told.count("OK") == 100
    assert told.count("INSUFFICIENT_FUNDS") == 400
    assert await stack.available(BUYER) == 0


async def test_20_captures_of_one_hold_at_once_take_it_once(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 600))

    async def capture() -> str:
        try:
            await stack.call(
                "CapturePayment",
                payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name, amount=money(400)),
            )
        except RemoteError as error:
            return error.reason
        return "OK"

    told = await asyncio.gather(*[capture() for _ in range(20)])
    assert sorted(set(told)) == ["HOLD_ALREADY_CAPTURED", "OK"]
    assert told.count("OK") == 1
    assert await stack.available(SELLER) == 400


# --- top-ups ----------------------------------------------------------------------------------------------------------


async def test_a_top_up_is_answered_after_the_rail_and_replayed(stack: PaymentsStack):
    request = top_up(BUYER, 500, metadata={"k": "v"})
    told = await stack.call("CreateTopUp", request)
    assert told.state == payment_pb2.TopUp.STATE_SUCCEEDED
    assert told.rail_reference
    again, headers = await stack.call_with_headers("CreateTopUp", request)
    assert (again, headers["x-danbao-replayed"]) == (told, "true")
    assert await stack.call("GetTopUp", payment_pb2.GetTopUpRequest(name=told.name)) == told
    assert await stack.available(BUYER) == 500


async def test_a_declined_top_up_is_an_answer_and_no_error(stack: PaymentsStack):
    told = await stack.call("CreateTopUp", top_up(BUYER, 500, instrument="decline"))
    assert told.state == payment_pb2.TopUp.STATE_FAILED
    assert told.failure
    assert await stack.available(BUYER) == 0


async def test_a_slow_rail_is_answered_pending_and_settles_by_itself(stack: PaymentsStack):
    request = top_up(BUYER, 500, instrument="slow")
    other = top_up(SELLER, 5, instrument="slow")
    batch = payment_pb2.BatchExecuteRequest(operations=[{"create_top_up": other}, {"create_top_up": top_up(SELLER, 7)}])
    told, answers = await asyncio.gather(
        stack.call("CreateTopUp", request, timeout=1), stack.call("BatchExecute", batch, timeout=1)
    )
    assert told.state == payment_pb2.TopUp.STATE_PENDING
    assert [result.top_up.state for result in answers.results] == [
        payment_pb2.TopUp.STATE_PENDING,
        payment_pb2.TopUp.STATE_SUCCEEDED,
    ]
    assert await stack.available(BUYER) == 0
    # The same request again joins the one under way.
    final = await stack.call("CreateTopUp", request)
    assert (final.name, final.state) == (told.name, payment_pb2.TopUp.STATE_SUCCEEDED)
    assert await stack.available(BUYER) == 500
    await stack.call("CreateTopUp", other)
    assert await stack.available(SELLER) == 12


async def test_a_top_up_goes_back_over_its_rail_in_parts(stack: PaymentsStack):
    made = await stack.fund(BUYER, 500)
    request = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.name, amount=money(200))
    back = await stack.call("RefundTopUp", request)
    assert (back.refunded_minor, back.refunds_settled_minor) == (200, 200)
    again, headers = await stack.call_with_headers("RefundTopUp", request)
    assert (again, headers["x-danbao-replayed"]) == (back, "true")
    over = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.name, amount=money(301))
    await refused(stack.call("RefundTopUp", over), "REFUND_AMOUNT_EXCEEDED")
    rest = await stack.call("RefundTopUp", payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.name))
    assert rest.refunds_settled_minor == 500
    assert await stack.available(BUYER) == 0
    rail = await stack.accounts("rails/simulated")
    assert rail["rail.in_transit"].debits_posted_minor == 500
    assert rail["rail.settled"].credits_posted_minor == 500


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_answers_each_operation_in_its_place(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    good, poor, bad = payment(BUYER, SELLER, 10), payment("subjects/poor", SELLER, 10), payment(BUYER, SELLER, 0)
    malformed = payment("nobody", SELLER, 1)
    batch = payment_pb2.BatchExecuteRequest(
        operations=[
            {"create_payment": good},
            {"create_payment": poor},
            {"create_payment": bad},
            {"create_payment": malformed},
            {},
            {"create_top_up": top_up(SELLER, 5)},
            {"post_transaction": posting(leg(("platform", "suspense"), (BUYER, "user.available"), 7))},
            {"create_payment": good},
        ]
    )
    results = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results
    assert [result.WhichOneof("result") for result in results] == [
        "payment",
        "error",
        "error",
        "error",
        "error",
        "top_up",
        "transaction",
        "payment",
    ]
    reasons = [reason_of(result.error)[0] for result in results[1:5]]
    assert reasons == ["INSUFFICIENT_FUNDS", "AMOUNT_NOT_POSITIVE", "FIELD_INVALID", "FIELD_INVALID"]
    assert results[7].payment == results[0].payment
    assert results[7].replayed
    assert await stack.available(BUYER) == 1000 - 10 + 7


async def test_a_thousand_operations_with_hundreds_of_top_ups_are_a_few_batches(stack: PaymentsStack):
    operations = [{"create_top_up": top_up(f"subjects/u{n % 50}", 10)} for n in range(600)]
    began = time.monotonic()
    results = (
        await stack.call("BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations), timeout=30)
    ).results
    assert {result.top_up.state for result in results} == {payment_pb2.TopUp.STATE_SUCCEEDED}
    commits = await stack.sql("SELECT count(DISTINCT xmin::text) AS commits FROM events")
    assert commits[0]["commits"] < 40
    print(f"600 top-ups in {time.monotonic() - began:.2f} s, {commits[0]['commits']} commits")


# --- reads ------------------------------------------------------------------------------------------------------------


async def test_statements_page_stably_while_entries_are_added(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    for _ in range(6):
        await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
    name = (await stack.accounts(BUYER))["user.available"].name
    seen, token = [], ""
    while True:
        request = account_pb2.ListEntriesRequest(account=name, page_size=3, page_token=token)
        page = await stack.call("ListEntries", request)
        seen += [entry.balance_after_minor for entry in page.entries]
        if len(seen) == 3:
            await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
        token = page.next_page_token
        if not token:
            break
    assert seen == [100, 99, 98, 97, 96, 95, 94, 93]


async def test_accounts_page_by_kind_and_currency(stack: PaymentsStack):
    for currency in ("EUR", "BRL", "CNY"):
        await stack.fund(BUYER, 5, currency)
    seen, token = [], ""
    while True:
        request = account_pb2.ListAccountsRequest(owner=BUYER, page_size=2, page_token=token)
        page = await stack.call("ListAccounts", request)
        seen += [account.currency for account in page.accounts]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["BRL", "CNY", "EUR"]


async def test_page_tokens_belong_to_their_list(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    for _ in range(3):
        await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
    mine = (await stack.accounts(BUYER))["user.available"].name
    theirs = (await stack.accounts(SELLER))["user.available"].name
    page = await stack.call("ListEntries", account_pb2.ListEntriesRequest(account=mine, page_size=1))
    for token in (page.next_page_token, "nonsense", "0", "%%%"):
        request = account_pb2.ListEntriesRequest(account=theirs, page_token=token)
        await refused(stack.call("ListEntries", request), "PAGE_TOKEN_INVALID")
        request = account_pb2.ListAccountsRequest(owner=BUYER, page_token=token)
        await refused(stack.call("ListAccounts", request), "PAGE_TOKEN_INVALID")


async def test_the_trial_balance_is_balanced_per_currency(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    await stack.fund(BUYER, 300, "EUR")
    await stack.call("CreatePayment", manual(BUYER, SELLER, 100))
    balance = await stack.call("GetTrialBalance", ledger_pb2.GetTrialBalanceRequest(), as_=OPERATOR)
    totals = {total.currency: (total.debits_posted_minor, total.credits_posted_minor) for total in balance.totals}
    assert totals == {"CNY": (1000, 1000), "EUR": (300, 300)}
    rows = {(row.currency, row.kind): row for row in balance.rows}
    assert rows["CNY", "user.available"].debits_pending_minor == 100
    assert rows["CNY", "clearing.capture"].credits_pending_minor == 100
    assert rows["EUR", "rail.in_transit"].accounts == 1
    assert not any(each.saturated for each in (*balance.totals, *balance.rows))


async def test_a_trial_balance_beyond_int64_says_so_and_spares_other_currencies(stack: PaymentsStack):
    most = 2**63 - 1
    await stack.fund(BUYER, 300, "EUR")
    for debit, credit in (("suspense", BUYER), ("opening", SELLER)):
        post = ledger_pb2.PostTransactionRequest(
            request_id=new_id(),
            legs=[
                {
                    "debit": {"owner": "platform", "kind": debit},
                    "credit": {"owner": credit, "kind": "user.available"},
                    "amount": money(most),
                }
            ],
        )
        await stack.call("PostTransaction", post, as_=OPERATOR)
    balance = await stack.call("GetTrialBalance", ledger_pb2.GetTrialBalanceRequest(), as_=OPERATOR)
    totals = {
        total.currency: (total.debits_posted_minor, total.credits_posted_minor, total.saturated)
        for total in balance.totals
    }
    assert totals == {"CNY": (most, most, True), "EUR": (300, 300, False)}
    rows = {(row.currency, row.kind): (row.credits_posted_minor, row.saturated) for row in balance.rows}
    assert rows["CNY", "user.available"] == (most, True)
    assert rows["CNY", "suspense"] == (0, False)
    assert rows["EUR", "user.available"] == (300, False)


async def test_a_user_sees_only_what_is_the_own_subjects(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 10))
    account = (await stack.accounts(BUYER))["user.available"].name
    made = await stack.fund(BUYER, 1)
    reads = [
        ("GetPayment", payment_pb2.GetPaymentRequest(name=paid.name), "PAYMENT_NOT_FOUND"),
        ("GetAccount", account_pb2.GetAccountRequest(name=account), "ACCOUNT_NOT_FOUND"),
        ("ListEntries", account_pb2.ListEntriesRequest(account=account), "ACCOUNT_NOT_FOUND"),
        ("GetTopUp", payment_pb2.GetTopUpRequest(name=made.name), "TOP_UP_NOT_FOUND"),
        ("GetTransaction", ledger_pb2.GetTransactionRequest(name=paid.last_transaction), "TRANSACTION_NOT_FOUND"),
    ]
    owner, stranger = as_caller(subject="buyer", roles="user"), as_caller(subject="stranger", roles="user")
    for method, request, reason in reads:
        await stack.call(method, request, as_=owner)
        error = await refused(stack.call(method, request, as_=stranger), reason)
        assert error.code == "NOT_FOUND"
    listed = account_pb2.ListAccountsRequest(owner=BUYER)
    assert not (await stack.call("ListAccounts", listed, as_=stranger)).accounts
    assert (await stack.call("ListAccounts", listed, as_=owner)).accounts
    await refused(stack.call("CreatePayment", payment(BUYER, SELLER, 1), as_=stranger), "KIND_NOT_ALLOWED")
    await stack.call("CreatePayment", payment(BUYER, SELLER, 1), as_=owner)


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_tell_everything_in_order_and_can_be_read_again(stack: PaymentsStack):
    made = await stack.fund(BUYER, 1000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 100))
    lapsing = await stack.call("CreatePayment", manual(BUYER, SELLER, 100, hold_lifetime={"seconds": 1}))
    await stack.call("CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name))
    await stack.call("RefundPayment", payment_pb2.RefundPaymentRequest(request_id=new_id(), name=held.name))
    await stack.advance(1)
    await stack.call(
        "RefundTopUp", payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.name, amount=money(1))
    )
    await stack.call("CreateTopUp", top_up(BUYER, 1, instrument="decline"))
    await stack.call(
        "PostTransaction", posting(leg(("platform", "suspense"), (BUYER, "user.available"), 7)), as_=OPERATOR
    )
    expected = [
        "owner_brought",
        "top_up_created",
        "top_up_succeeded",
        "owner_brought",
        "payment_authorized",
        "payment_authorized",
        "payment_captured",
        "payment_refunded",
        "payment_expired",
        "top_up_refund_created",
        "top_up_refund_settled",
        "top_up_created",
        "top_up_failed",
        "transaction_posted",
    ]
    head = await stack.call("GetStreamHead", event_pb2.GetStreamHeadRequest(), as_=OPERATOR)
    assert head.cursor.sequence == len(expected)
    events = await read_events(stack, 0, len(expected))
    assert [event.WhichOneof("payload") for event in events] == expected
    assert [event.sequence for event in events] == list(range(1, len(expected) + 1))
    # Each commit has a time of its own; who is brought by a command is told with what it does.
    moments = [event.create_time.ToNanoseconds() for event in events if not event.HasField("owner_brought")]
    assert moments == sorted(set(moments))
    times = [event.create_time.ToNanoseconds() for event in events]
    assert times == sorted(times)
    assert events[8].payment_expired.name == lapsing.name
    assert events[8].payment_expired.state == State.STATE_EXPIRED
    assert await read_events(stack, 5, len(expected)) == events[5:]
    assert [e.sequence for e in await read_events(stack, 0, len(expected), kinds=["payment_refunded"])] == [8]
    named = await read_events(stack, 0, len(expected), kinds=["payment_captured"], naming="payments/")
    assert named == [each for each in events if each.WhichOneof("payload") == "payment_captured"]


async def test_a_reader_is_sent_only_what_names_its_own(stack: PaymentsStack):
    await stack.fund(BUYER, 5000)
    await stack.call("CreatePayment", payment(BUYER, SELLER, 500))
    trade = account_pb2.AccountKey(owner="trades/t7", kind="escrow.trade")
    request = payment(BUYER, SELLER, 500, payee=trade, beneficiary=SELLER)
    funded = await stack.call("CreatePayment", request, peer="escrow", as_=())
    (event,) = await read_events(stack, 0, 9, kinds=["payment_captured"], naming="trades/")
    assert event.payment_captured.name == funded.name
    for wrong in ("trades", "/", "Trades/", "t" * 64 + "/"):
        stream = stack.stub_method("WatchEvents", "credit")(event_pb2.WatchEventsRequest(naming=wrong), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(stream))
        assert remote_error(refused.value).reason == "FIELD_INVALID"


async def read_events(
    stack: PaymentsStack, after: int, until: int, kinds: list[str] | None = None, naming: str = ""
) -> list:
    request = event_pb2.WatchEventsRequest(cursor={"sequence": after}, kinds=kinds or [], naming=naming)
    stream = stack.stub_method("WatchEvents", "credit")(request, timeout=20)
    found = []
    async for chunk in stream:
        found += chunk.events
        if chunk.cursor.sequence >= until or (kinds and found):
            break
    stream.cancel()
    return found


async def test_events_carry_the_trace_of_what_caused_them(stack: PaymentsStack):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await stack.call("CreateTopUp", top_up(BUYER, 5), as_=(*PARTNER, ("traceparent", trace)))
    for event in await read_events(stack, 0, 2):
        assert event.traceparent.split("-")[1] == trace.split("-")[1]
