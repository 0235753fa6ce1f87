"""The ledger as operators see it: spread legs, validation alone, reversals."""

from __future__ import annotations

import pytest

from danbao.payments.v1 import ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
GOODWILL = {"owner": "platform", "kind": "goodwill"}


async def refused(call, reason: str) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    assert caught.value.reason == reason, caught.value
    return caught.value


def wallet(owner: str) -> dict[str, str]:
    return {"owner": owner, "kind": "user.available"}


def posting(*legs: dict, **others) -> ledger_pb2.PostTransactionRequest:
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=legs, **others)


def gift(owner: str, minor: int, **others) -> ledger_pb2.PostTransactionRequest:
    return posting({"debit": GOODWILL, "credit": wallet(owner), "amount": money(minor)}, **others)


def reversal(name: str) -> ledger_pb2.ReverseTransactionRequest:
    return ledger_pb2.ReverseTransactionRequest(request_id=new_id(), name=name)


async def post(stack: PaymentsStack, request: ledger_pb2.PostTransactionRequest) -> ledger_pb2.Transaction:
    return await stack.call("PostTransaction", request, as_=OPERATOR)


async def test_a_leg_of_sources_and_destinations_is_posted_whole(stack: PaymentsStack):
    for name, minor in (("a", 40), ("b", 40), ("c", 21)):
        await stack.fund(f"subjects/{name}", minor)
    leg = {
        "sources": [{"account": wallet(f"subjects/{name}")} for name in "abc"],
        "destinations": [
            {"account": {"owner": "platform", "kind": "fee.payment"}, "basis_points": 1000},
            {"account": wallet(SELLER), "remaining": True},
        ],
        "amount": money(100),
    }
    posted = await post(stack, posting(leg))
    assert [transfer.amount.amount_minor for transfer in posted.transfers] == [10, 30, 40, 20]
    assert await stack.available(SELLER) == 90
    error = await refused(post(stack, posting(leg)), "INSUFFICIENT_FUNDS")
    assert error.metadata["available_minor"] == "1"


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"sources": [{"account": wallet(SELLER)}]}, "FIELD_INVALID", "legs[0].debit"),
        ({"debit": None}, "FIELD_INVALID", "legs[0].debit"),
        ({"credit": None}, "FIELD_INVALID", "legs[0].credit"),
        ({"credit": None, "destinations": [{"account": GOODWILL}]}, "FIELD_INVALID", "legs[0].destinations[0].part"),
        ({"credit": None, "destinations": [{"remaining": True}]}, "FIELD_INVALID", "legs[0].destinations[0].to"),
        (
            {"credit": None, "destinations": [{"account": GOODWILL, "fixed_minor": 0}]},
            "FIELD_INVALID",
            "legs[0].destinations[0].fixed_minor",
        ),
        ({"credit": None, "destinations": [{"account": GOODWILL, "fixed_minor": 9}]}, "SPLIT_NOT_WHOLE", "legs[0]"),
        (
            {"credit": None, "destinations": [{"account": GOODWILL, "basis_points": 9999}]},
            "SPLIT_NOT_WHOLE",
            "legs[0]",
        ),
        ({"credit": None, "destinations": [{"account": wallet(BUYER), "remaining": True}]}, "LEGS_INVALID", None),
    ],
)
async def test_which_legs_are_not_understood(stack: PaymentsStack, change: dict, reason: str, field: str | None):
    leg = {"debit": wallet(BUYER), "credit": wallet(SELLER), "amount": money(10)} | change
    request = posting({key: value for key, value in leg.items() if value is not None})
    error = await refused(post(stack, request), reason)
    assert field is None or error.metadata["field"] == field


async def test_validation_alone_tells_what_would_happen_and_records_nothing(stack: PaymentsStack):
    request = gift(BUYER, 10, validate_only=True)
    would = await post(stack, request)
    assert (would.name, [t.amount.amount_minor for t in would.transfers]) == ("", [10])
    assert not await stack.sql("SELECT * FROM transfers")
    assert not await stack.sql("SELECT * FROM request_records")
    assert not await stack.sql("SELECT * FROM events")
    back = posting({"debit": wallet(BUYER), "credit": GOODWILL, "amount": money(1)}, validate_only=True)
    await refused(post(stack, back), "INSUFFICIENT_FUNDS")
    request.validate_only = False
    assert (await post(stack, request)).name
    operation = payment_pb2.Operation(post_transaction=gift(BUYER, 1, validate_only=True))
    batch = payment_pb2.BatchExecuteRequest(operations=[operation])
    result = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results[0]
    assert reason_of(result.error)[0] == "FIELD_INVALID"


async def test_a_time_far_ahead_is_refused_and_not_recorded(stack: PaymentsStack):
    request = gift(BUYER, 1)
    request.effective_time.FromJsonString("2999-01-01T00:00:00Z")
    await refused(post(stack, request), "FIELD_INVALID")
    assert not await stack.sql("SELECT * FROM request_records")
    request.effective_time.FromJsonString("1990-01-01T00:00:00Z")
    assert (await post(stack, request)).effective_time == request.effective_time


async def test_a_transaction_is_reversed_once(stack: PaymentsStack):
    posted = await post(stack, gift(BUYER, 100))
    request = reversal(posted.name)
    back = await stack.call("ReverseTransaction", request, as_=OPERATOR)
    assert back.reverses == posted.name
    assert [(t.debit_account, t.credit_account) for t in back.transfers] == [
        (t.credit_account, t.debit_account) for t in posted.transfers
    ]
    assert await stack.available(BUYER) == 0
    assert await stack.call("ReverseTransaction", request, as_=OPERATOR) == back
    error = await refused(stack.call("ReverseTransaction", reversal(posted.name), as_=OPERATOR), "ALREADY_REVERSED")
    assert error.metadata["reversal"] == back.name
    again = await stack.call("ReverseTransaction", reversal(back.name), as_=OPERATOR)
    assert (again.reverses, await stack.available(BUYER)) == (back.name, 100)
    read = await stack.call("GetTransaction", ledger_pb2.GetTransactionRequest(name=back.name), as_=OPERATOR)
    assert read == back


async def test_two_reversals_in_one_batch_have_one_winner(stack: PaymentsStack):
    posted = await post(stack, gift(BUYER, 100))
    operations = [payment_pb2.Operation(reverse_transaction=reversal(posted.name)) for _ in range(2)]
    batch = payment_pb2.BatchExecuteRequest(operations=operations)
    results = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results
    assert results[0].transaction.reverses == posted.name
    assert reason_of(results[1].error)[0] == "ALREADY_REVERSED"


async def test_a_reversal_is_refused_like_any_posting(stack: PaymentsStack):
    posted = await post(stack, gift(BUYER, 100))
    await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
    await refused(stack.call("ReverseTransaction", reversal(posted.name), as_=OPERATOR), "INSUFFICIENT_FUNDS")
    missing = reversal("transactions/00000000-0000-0000-0000-000000000000")
    await refused(stack.call("ReverseTransaction", missing, as_=OPERATOR), "TRANSACTION_NOT_FOUND")
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 10))
    await refused(stack.call("ReverseTransaction", reversal(held.last_transaction), as_=OPERATOR), "KIND_NOT_ALLOWED")


async def test_what_a_payer_paid_is_reversed_under_the_cap(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    refund = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=paid.name, amount=money(1))
    refunded = await stack.call("RefundPayment", refund)
    request = reversal(paid.last_transaction)
    await refused(stack.call("ReverseTransaction", request, as_=OPERATOR), "REFUND_AMOUNT_EXCEEDED")
    request = reversal(refunded.last_transaction)
    await refused(stack.call("ReverseTransaction", request, as_=OPERATOR), "KIND_NOT_ALLOWED")
    other = await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
    await stack.call("ReverseTransaction", reversal(other.last_transaction), as_=OPERATOR)
    now = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=other.name))
    assert now.refund_state == payment_pb2.Payment.REFUND_STATE_FULL


async def test_what_comes_back_to_the_payer_counts_also_where_no_purpose_is_told(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    leg = {"debit": wallet(SELLER), "credit": wallet(BUYER), "amount": money(60), "payment": paid.name}
    await post(stack, posting(leg))
    await stack.fund(SELLER, 100)
    await refused(post(stack, posting(leg)), "REFUND_AMOUNT_EXCEEDED")
    now = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=paid.name))
    assert now.refunded_minor == 60
