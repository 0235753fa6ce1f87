"""Partial captures, splits and refunds as callers see them."""

from __future__ import annotations

from typing import Any

import pytest

from danbao.payments.v1 import ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment, top_up

BUYER, SELLER = "subjects/buyer", "subjects/seller"
State = payment_pb2.Payment.State
FEE = {"owner": "platform", "kind": "fee.payment"}
TO_SELLER = {"owner": SELLER, "kind": "user.available"}
LARGEST = ledger_pb2.REMAINDER_POLICY_LARGEST_REMAINDER


def capture(name: str, minor: int | None = None, **others: Any) -> payment_pb2.CapturePaymentRequest:
    amount = None if minor is None else money(minor)
    return payment_pb2.CapturePaymentRequest(request_id=new_id(), name=name, amount=amount, **others)


def refund(name: str, minor: int | None = None, **others: Any) -> payment_pb2.RefundPaymentRequest:
    amount = None if minor is None else money(minor)
    return payment_pb2.RefundPaymentRequest(request_id=new_id(), name=name, amount=amount, **others)


def void(name: str) -> payment_pb2.VoidPaymentRequest:
    return payment_pb2.VoidPaymentRequest(request_id=new_id(), name=name)


def with_fee(basis_points: int) -> dict[str, Any]:
    return {
        "splits": [
            {"destination": FEE, "basis_points": basis_points},
            {"destination": TO_SELLER, "remaining": True},
        ],
        "remainder_policy": LARGEST,
    }


async def reason_of_call(call: Any) -> str:
    try:
        await call
    except RemoteError as error:
        return error.reason
    return "OK"


async def fees(stack: PaymentsStack) -> int:
    return await stack.available("platform", "fee.payment")


# --- numbers ----------------------------------------------------------------------------------------------------------


async def test_7000_of_10000_with_a_fee_of_ten_percent_and_back_again(stack: PaymentsStack):
    await stack.fund(BUYER, 10_000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 10_000, **with_fee(1000)))
    taken = await stack.call("CapturePayment", capture(held.name, 7000, final=True))
    assert (taken.state, taken.captured_minor, taken.released_minor) == (State.STATE_CAPTURED, 7000, 3000)
    assert [part.captured_minor for part in taken.splits] == [700, 6300]
    assert (await stack.available(BUYER), await fees(stack)) == (3000, 700)
    for minor, fee_left in ((2500, 450), (4500, 0)):
        await stack.call("RefundPayment", refund(held.name, minor))
        assert await fees(stack) == fee_left
    assert await reason_of_call(stack.call("RefundPayment", refund(held.name, 1))) == "REFUND_AMOUNT_EXCEEDED"
    shown = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=held.name))
    assert [part.refunded_minor for part in shown.splits] == [700, 6300]
    assert shown.splits[0].split.basis_points == 1000
    assert shown.splits[1].split.remaining
    assert shown.refund_state == payment_pb2.Payment.REFUND_STATE_FULL
    assert await stack.available(BUYER) == 10_000


async def test_two_refunds_of_the_same_amount_are_two(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    for _ in range(2):
        await stack.call("RefundPayment", refund(paid.name, 40, purpose=ledger_pb2.PURPOSE_DISPUTE))
    assert await stack.available(BUYER) == 80
    purposes = await stack.sql("SELECT DISTINCT purpose FROM transfers WHERE payment_id IS NOT NULL ORDER BY 1")
    assert [row["purpose"] for row in purposes] == ["", "DISPUTE"]


async def test_three_captures_of_333_take_a_fee_of_25(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 1000, **with_fee(250)))
    told = []
    for _ in range(3):
        taken = await stack.call("CapturePayment", capture(held.name, 333, final=False))
        told.append((taken.state, taken.splits[0].captured_minor))
    assert told == [(State.STATE_PARTIALLY_CAPTURED, fee) for fee in (8, 17, 25)]
    ended = await stack.call("VoidPayment", void(held.name))
    assert (ended.state, ended.captured_minor, ended.released_minor) == (State.STATE_CAPTURED, 999, 1)
    assert (await fees(stack), await stack.available(SELLER), await stack.available(BUYER)) == (25, 974, 1)


async def test_a_capture_is_final_unless_it_says_otherwise(stack: PaymentsStack):
    await stack.fund(BUYER, 200)
    held = [await stack.call("CreatePayment", manual(BUYER, SELLER, 100)) for _ in range(2)]
    assert (await stack.call("CapturePayment", capture(held[0].name, 60))).state == State.STATE_CAPTURED
    partly = await stack.call("CapturePayment", capture(held[1].name, 60, final=False))
    assert (partly.state, partly.expire_time) == (State.STATE_PARTIALLY_CAPTURED, held[1].expire_time)
    request = capture(held[1].name, 10, final=False)
    await stack.call("CapturePayment", request)
    request.final = True
    assert await reason_of_call(stack.call("CapturePayment", request)) == "REQUEST_ID_REUSED"


async def test_time_captures_or_frees_as_the_payment_says(stack: PaymentsStack):
    await stack.fund(BUYER, 200)
    lifetime = {"hold_lifetime": {"seconds": 5}}
    taken = await stack.call(
        "CreatePayment", manual(BUYER, SELLER, 100, on_expiry=payment_pb2.ON_EXPIRY_CAPTURE, **lifetime)
    )
    freed = await stack.call("CreatePayment", manual(BUYER, SELLER, 100, **lifetime))
    assert (taken.on_expiry, freed.on_expiry) == (payment_pb2.ON_EXPIRY_CAPTURE, payment_pb2.ON_EXPIRY_CANCEL)
    await stack.call("CapturePayment", capture(taken.name, 30, final=False))
    await stack.advance(5)
    states = [
        (await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=each.name))).state for each in (taken, freed)
    ]
    assert states == [State.STATE_CAPTURED, State.STATE_EXPIRED]
    assert (await stack.available(BUYER), await stack.available(SELLER)) == (100, 100)


async def test_parts_that_are_not_the_amount_are_refused_with_their_field(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    splits = [{"destination": TO_SELLER, "fixed_minor": 99}]
    request = payment(BUYER, SELLER, 100, splits=splits, remainder_policy=LARGEST)
    with pytest.raises(RemoteError) as refused:
        await stack.call("CreatePayment", request)
    assert (refused.value.reason, refused.value.code) == ("SPLIT_NOT_WHOLE", "INVALID_ARGUMENT")
    assert (refused.value.metadata["field"], refused.value.metadata["parts_minor"]) == ("splits", "99")
    request.splits[0].fixed_minor = 100
    await stack.call("CreatePayment", request)
    assert await stack.available(SELLER) == 100


@pytest.mark.parametrize(
    ("splits", "field"),
    [
        ([{"destination": TO_SELLER}], "splits[0].part"),
        ([{"destination": TO_SELLER, "remaining": False}], "splits[0].remaining"),
        ([{"destination": TO_SELLER, "fixed_minor": 0}], "splits[0].fixed_minor"),
        ([{"destination": TO_SELLER, "basis_points": 10_001}], "splits[0].basis_points"),
        ([{"destination": TO_SELLER, "remaining": True, "cap_minor": -1}], "splits[0].cap_minor"),
        ([{"remaining": True}], "splits[0].destination"),
    ],
)
async def test_malformed_splits_name_their_field(stack: PaymentsStack, splits, field):
    request = payment(BUYER, SELLER, 100, splits=splits, remainder_policy=LARGEST)
    with pytest.raises(RemoteError) as refused:
        await stack.call("CreatePayment", request)
    assert (refused.value.reason, refused.value.metadata["field"]) == ("FIELD_INVALID", field)


async def test_a_batch_makes_captures_and_gives_back(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 1000, **with_fee(1000)))
    batch = payment_pb2.BatchExecuteRequest(
        operations=[
            {"capture_payment": capture(held.name, 400, final=False)},
            {"refund_payment": refund(held.name, 100)},
            {"capture_payment": capture(held.name, 601, final=False)},
            {"capture_payment": capture(held.name, 100)},
            {"create_top_up": top_up(SELLER, 1)},
        ]
    )
    results = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results
    assert [each.WhichOneof("result") for each in results] == ["payment", "payment", "error", "payment", "top_up"]
    assert [part.captured_minor for part in results[3].payment.splits] == [50, 450]
    assert [part.refunded_minor for part in results[3].payment.splits] == [10, 90]
    assert await stack.available(BUYER) == 600
