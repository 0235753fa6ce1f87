"""What a reused request id is told: the first field that differs, by its name in the contract."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory

from danbao.payments.v1 import account_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_payments.app import ACCOUNTS, LEDGER, PAYMENTS
from danbao_payments.domain.callers import OURSELVES
from danbao_payments.rpc.mapping import COMMANDS
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
NOBODY = "019a0000-0000-7000-8000-000000000000"


def request_of(method: str) -> Any:
    """An empty request, but for what names something."""
    pool = descriptor_pool.Default()
    services = [pool.FindServiceByName(name) for name in (ACCOUNTS, LEDGER, PAYMENTS)]
    found = next(each.methods_by_name[method] for each in services if method in each.methods_by_name)
    request = message_factory.GetMessageClass(found.input_type)()
    for field, kind in (("name", "x"), ("movement", "topUps")):
        if field in found.input_type.fields_by_name:
            setattr(request, field, f"{kind}/{NOBODY}")
    return request


@pytest.mark.parametrize("method", sorted(COMMANDS))
def test_what_is_compared_is_named_as_in_the_contract(method: str):
    request = request_of(method)
    for field, number in (("capture_mode", 1), ("result", 1)):
        if field in request.DESCRIPTOR.fields_by_name:
            setattr(request, field, number)
    command = COMMANDS[method](request, OURSELVES)
    compared = {field.name for field in fields(command)} - set(command.not_fingerprinted)
    said = set(request.DESCRIPTOR.fields_by_name) - {"request_id", "validate_only", "acting_for"}
    assert compared == said


async def reused(stack: PaymentsStack, method: str, first: Any, second: Any) -> str:
    """The field that is named."""
    first.request_id = second.request_id = new_id()
    with suppress(RemoteError):
        await stack.call(method, first, as_=OPERATOR)
    with pytest.raises(RemoteError) as caught:
        await stack.call(method, second, as_=OPERATOR)
    assert (caught.value.reason, caught.value.code) == ("REQUEST_ID_REUSED", "ALREADY_EXISTS")
    return caught.value.metadata["field"]


async def test_fields_that_differ_are_named(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 50))

    def refund(**others: Any) -> payment_pb2.RefundPaymentRequest:
        return payment_pb2.RefundPaymentRequest(name=paid.name, amount=money(1), **others)

    def account(kind: str) -> account_pb2.CreateAccountRequest:
        return account_pb2.CreateAccountRequest(account={"owner": SELLER, "kind": kind, "currency": "CNY"})

    def part(final: bool) -> payment_pb2.CapturePaymentRequest:
        return payment_pb2.CapturePaymentRequest(name=paid.name, final=final)

    keeps_fees = refund(fee_refund=payment_pb2.FEE_REFUND_NONE)
    assert await reused(stack, "RefundPayment", refund(), keeps_fees) == "fee_refund"
    assert await reused(stack, "RefundPayment", refund(), refund(purpose=2)) == "purpose"
    assert await reused(stack, "CreateAccount", account("user.available"), account("seller.payable")) == "account"
    assert await reused(stack, "CapturePayment", part(True), part(False)) == "final"


async def test_a_default_that_is_spelled_out_is_the_same_request(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 50))
    request = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=paid.name, amount=money(1))
    first = await stack.call("RefundPayment", request)
    request.fee_refund, request.purpose = payment_pb2.FEE_REFUND_PROPORTIONAL, 1
    assert await stack.call("RefundPayment", request) == first
