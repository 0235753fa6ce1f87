"""Limits and lists of payments as callers see them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danbao.payments.v1 import payment_pb2, rail_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, new_id, payment

BUYER, SELLER, THIRD = "subjects/buyer", "subjects/seller", "subjects/third"
State = payment_pb2.Payment.State


async def reason_of_call(call: Any) -> str:
    try:
        await call
    except RemoteError as error:
        return error.reason
    return "OK"


def limits(scope: str = BUYER, **others: Any) -> payment_pb2.SetLimitsRequest:
    return payment_pb2.SetLimitsRequest(request_id=new_id(), scope=scope, currency="CNY", **others)


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_limits_are_set_used_and_shown(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    request = limits(per_transaction_minor=300, per_day_minor=500)
    told = await stack.call("SetLimits", request, as_=OPERATOR)
    assert (told.per_transaction_minor, told.per_day_minor, told.HasField("per_month_minor")) == (300, 500, False)
    again, headers = await stack.call_with_headers("SetLimits", request, as_=OPERATOR)
    assert (again, headers["x-danbao-replayed"]) == (told, "true")
    paid = payment(BUYER, SELLER, 300)
    await stack.call("CreatePayment", paid)
    for minor, period, used in ((301, "transaction", 0), (201, "day", 300)):
        with pytest.raises(RemoteError) as refused:
            await stack.call("CreatePayment", payment(BUYER, SELLER, minor))
        assert (refused.value.reason, refused.value.code) == ("LIMIT_EXCEEDED", "FAILED_PRECONDITION")
        assert (refused.value.metadata["period"], refused.value.metadata["used_minor"]) == (period, str(used))
    await stack.call("CreatePayment", paid)  # replayed, so not counted again
    ask = payment_pb2.GetLimitsRequest(scope=BUYER, currency="CNY")
    shown = await stack.call("GetLimits", ask, as_=as_caller(subject="buyer", roles="user"))
    assert (shown.per_day_minor, shown.day_used_minor, shown.month_used_minor) == (500, 300, 300)
    hidden = await stack.call("GetLimits", ask, as_=as_caller(subject="third", roles="user"))
    assert hidden == payment_pb2.Limits(scope=BUYER, currency="CNY")
    await stack.advance(86_400)
    assert (await stack.call("GetLimits", ask, as_=OPERATOR)).day_used_minor == 0


async def test_a_class_is_passed_by_the_caller(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    await stack.call("SetLimits", limits("limitClasses/new", per_month_minor=100), as_=OPERATOR)
    await stack.call("CreatePayment", payment(BUYER, SELLER, 100, limit_class="new"))
    told = await reason_of_call(stack.call("CreatePayment", payment(BUYER, SELLER, 1, limit_class="new")))
    assert told == "LIMIT_EXCEEDED"
    assert await reason_of_call(stack.call("CreatePayment", payment(BUYER, SELLER, 1))) == "OK"


async def test_payments_at_once_stay_within_the_limit(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    await stack.call("SetLimits", limits(per_day_minor=100), as_=OPERATOR)
    told = await asyncio.gather(
        *[reason_of_call(stack.call("CreatePayment", payment(BUYER, SELLER, 30), timeout=20)) for _ in range(20)]
    )
    assert (told.count("OK"), told.count("LIMIT_EXCEEDED")) == (3, 17)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (limits("platform"), "FIELD_INVALID"),
        (limits(per_day_minor=-1), "FIELD_INVALID"),
        (payment_pb2.SetLimitsRequest(request_id="x", scope=BUYER, currency="XYZ"), "CURRENCY_UNKNOWN"),
        (payment_pb2.SetLimitsRequest(request_id="", scope=BUYER, currency="CNY"), "FIELD_INVALID"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(stack: PaymentsStack, request_, reason):
    assert await reason_of_call(stack.call("SetLimits", request_, as_=OPERATOR)) == reason


@pytest.mark.parametrize("role", ["user", "partner", "arbiter", "rail"])
async def test_only_operators_set_limits(stack: PaymentsStack, role):
    call = stack.call("SetLimits", limits(), as_=as_caller(subject="buyer", roles=role))
    assert await reason_of_call(call) == "KIND_NOT_ALLOWED"


# --- lists ------------------------------------------------------------------------------------------------------------


async def listed(stack: PaymentsStack, *, as_: Any = OPERATOR, **fields: Any) -> list[str]:
    page = await stack.call("ListPayments", payment_pb2.ListPaymentsRequest(**fields), as_=as_)
    return [each.name for each in page.payments]


async def test_payments_are_listed_by_payer_payee_state_and_time(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 10))
    held = await stack.call("CreatePayment", manual(BUYER, THIRD, 10, hold_lifetime={"seconds": 60}))
    await stack.advance(30)
    back = await stack.call("CreatePayment", payment(SELLER, BUYER, 5))
    assert await listed(stack) == [paid.name, held.name, back.name]
    assert await listed(stack, payer=BUYER) == [paid.name, held.name]
    assert await listed(stack, payee=BUYER) == [back.name]
    assert await listed(stack, payer=BUYER, payee=THIRD) == [held.name]
    assert await listed(stack, payer=BUYER, state=State.STATE_AUTHORIZED) == [held.name]
    assert await listed(stack, create_time_from=back.create_time) == [back.name]
    assert await listed(stack, create_time_before=back.create_time) == [paid.name, held.name]
    await stack.advance(30)
    assert await listed(stack, state=State.STATE_EXPIRED) == [held.name]
    assert await listed(stack, state=State.STATE_AUTHORIZED) == []


async def test_to_a_user_only_the_own_payments_exist(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 10))
    await stack.call("CreatePayment", payment(BUYER, THIRD, 10))
    seller = as_caller(subject="seller", roles="user")
    assert await listed(stack, as_=seller) == [paid.name]
    assert await listed(stack, as_=seller, payee=THIRD) == []
    assert await listed(stack, as_=as_caller(subject="stranger", roles="user")) == []
    assert await listed(stack, as_=()) == []


async def test_pages_of_payments_are_stable_while_more_are_made(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    made = [(await stack.call("CreatePayment", payment(BUYER, SELLER, 1))).name for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = payment_pb2.ListPaymentsRequest(payer=BUYER, page_size=2, page_token=token)
        page = await stack.call("ListPayments", request)
        seen += [each.name for each in page.payments]
        if len(seen) == 2:
            made.append((await stack.call("CreatePayment", payment(BUYER, SELLER, 1))).name)
        token = page.next_page_token
        if not token:
            break
    assert seen == made


async def test_a_page_token_belongs_to_its_filter(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    for _ in range(2):
        await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
    first = await stack.call("ListPayments", payment_pb2.ListPaymentsRequest(payer=BUYER, page_size=1))
    for token in (first.next_page_token, "nonsense", "%%%"):
        request = payment_pb2.ListPaymentsRequest(payer=SELLER, page_token=token)
        assert await reason_of_call(stack.call("ListPayments", request)) == "PAGE_TOKEN_INVALID"
    assert await reason_of_call(stack.call("ListPayments", payment_pb2.ListPaymentsRequest(page_size=-1))) == (
        "FIELD_INVALID"
    )


async def test_whoever_sees_a_payment_sees_what_goes_back_of_it(stack: PaymentsStack):
    carded = await stack.call("CreatePayment", payment(BUYER, SELLER, 600, rail="rails/simulated", instrument="ok"))
    while carded.state != payment_pb2.Payment.STATE_CAPTURED:
        await asyncio.sleep(0.02)
        carded = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=carded.name))
    await stack.call("RefundPayment", payment_pb2.RefundPaymentRequest(request_id=new_id(), name=carded.name))
    name = f"refunds/{(await stack.sql('SELECT id FROM rail_refunds'))[0]['id']}"
    request = rail_pb2.GetRailRefundRequest(name=name)
    for subject in ("buyer", "seller"):
        refund = await stack.call("GetRailRefund", request, as_=as_caller(subject=subject, roles="user"))
        assert (refund.source, refund.owner, refund.amount.amount_minor) == (carded.name, BUYER, 600)
    with pytest.raises(RemoteError) as refused:
        await stack.call("GetRailRefund", request, as_=as_caller(subject="stranger", roles="user"))
    assert refused.value.reason == "MOVEMENT_NOT_FOUND"
