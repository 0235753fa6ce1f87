"""BatchExecute: up to 1,000 operations of mixed kinds, each answered in its place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2
from danbao.type.v1 import privileged_action_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_payments.domain.payment import Payment
from danbao_payments.store.rows import PAYMENT, payment_of
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment, top_up

BUYER, SELLER = "subjects/buyer", "subjects/seller"
NOBODY = "019a0000-0000-7000-8000-000000000000"


def gift(owner: str, minor: int) -> ledger_pb2.PostTransactionRequest:
    leg = {
        "debit": {"owner": "platform", "kind": "goodwill"},
        "credit": {"owner": owner, "kind": "user.available"},
        "amount": money(minor),
    }
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])


def new_account(number: int) -> account_pb2.CreateAccountRequest:
    account = {"owner": f"subjects/n{number}", "kind": "seller.payable", "currency": "CNY"}
    return account_pb2.CreateAccountRequest(request_id=new_id(), account=account)


def limits(number: int) -> payment_pb2.SetLimitsRequest:
    scope = f"limitClasses/c{number % 5}"
    return payment_pb2.SetLimitsRequest(request_id=new_id(), scope=scope, currency="CNY", per_day_minor=number)


def operation(number: int, held: payment_pb2.Payment) -> tuple[dict[str, Any], str]:
    """The operation at this place, and its answer: what kind of result, or why not."""
    name = {"request_id": new_id(), "name": held.name}
    missing = {"request_id": new_id(), "name": f"payments/{NOBODY}"}
    absent = {"request_id": new_id(), "name": f"accounts/{NOBODY}"}
    made: list[tuple[dict[str, Any], str]] = [
        ({"create_payment": payment(BUYER, SELLER, 1 + number % 3)}, "payment"),
        ({"create_payment": payment("nobody", SELLER, 1)}, "FIELD_INVALID"),
        ({"create_payment": manual(BUYER, SELLER, 1)}, "payment"),
        ({}, "FIELD_INVALID"),
        ({"post_transaction": gift(BUYER, 2)}, "transaction"),
        ({"create_payment": payment("subjects/poor", SELLER, 1)}, "INSUFFICIENT_FUNDS"),
        ({"capture_payment": payment_pb2.CapturePaymentRequest(**name, amount=money(1), final=False)}, "payment"),
        ({"capture_payment": payment_pb2.CapturePaymentRequest(**missing)}, "PAYMENT_NOT_FOUND"),
        ({"create_payment": payment(BUYER, SELLER, 0)}, "AMOUNT_NOT_POSITIVE"),
        ({"refund_payment": payment_pb2.RefundPaymentRequest(**name, amount=money(1))}, "payment"),
        ({"create_account": new_account(number)}, "account"),
        ({"create_payment": payment(BUYER, SELLER, 1, amount=money(1, "XYZ"))}, "CURRENCY_UNKNOWN"),
        ({"set_limits": limits(number)}, "limits"),
        ({"void_payment": payment_pb2.VoidPaymentRequest(**missing)}, "PAYMENT_NOT_FOUND"),
        ({"create_top_up": top_up(f"subjects/t{number % 9}", 3)}, "top_up"),
        ({"freeze_account": account_pb2.FreezeAccountRequest(**absent)}, "ACCOUNT_NOT_FOUND"),
        ({"post_transaction": ledger_pb2.PostTransactionRequest(request_id=new_id())}, "FIELD_INVALID"),
        ({"create_top_up": top_up("subjects/t", 3, rail="rails/none")}, "RAIL_UNKNOWN"),
        (
            {
                "reverse_transaction": ledger_pb2.ReverseTransactionRequest(
                    request_id=new_id(), name=f"transactions/{NOBODY}"
                )
            },
            "TRANSACTION_NOT_FOUND",
        ),
    ]
    return made[number % len(made)]


def answer(result: payment_pb2.OperationResult) -> str:
    kind = result.WhichOneof("result")
    return reason_of(result.error)[0] if kind == "error" else str(kind)


async def mixed(stack: PaymentsStack, number: int) -> tuple[payment_pb2.BatchExecuteRequest, list[str]]:
    """So many operations, and what is to be answered."""
    await stack.fund(BUYER, 10_000)
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 1000))
    made = [operation(place, held) for place in range(number)]
    batch = payment_pb2.BatchExecuteRequest(operations=[each for each, _ in made])
    return batch, [expected for _, expected in made]


async def test_a_thousand_of_mixed_kinds_are_answered_in_their_places(stack: PaymentsStack):
    batch, expected = await mixed(stack, 1000)
    results = (await stack.call("BatchExecute", batch, as_=OPERATOR, timeout=60)).results
    assert [answer(result) for result in results] == expected
    for sent, result in zip(batch.operations, results, strict=True):
        if result.WhichOneof("result") == "payment" and sent.WhichOneof("operation") == "create_payment":
            assert result.payment.amount == sent.create_payment.amount
        elif result.WhichOneof("result") == "top_up":
            assert result.top_up.owner == sent.create_top_up.owner
            assert result.top_up.state == payment_pb2.TopUp.STATE_SUCCEEDED
    accounts = {owner: await stack.available(owner) for owner in (BUYER, SELLER)}
    again = (await stack.call("BatchExecute", batch, as_=OPERATOR, timeout=60)).results
    assert [answer(result) for result in again] == expected
    recorded = [result.replayed for result, told in zip(again, expected, strict=True) if told not in UNRECORDED]
    assert recorded
    assert all(recorded)
    assert {owner: await stack.available(owner) for owner in (BUYER, SELLER)} == accounts


# Told of a message alone, so not remembered.
UNRECORDED = {"FIELD_INVALID", "AMOUNT_NOT_POSITIVE", "CURRENCY_UNKNOWN"}


async def test_1001_are_refused_and_none_is_executed(stack: PaymentsStack):
    await stack.fund(BUYER, 2000)
    operations = [{"create_payment": payment(BUYER, SELLER, 1)} for _ in range(1001)]
    with pytest.raises(RemoteError) as refused:
        await stack.call("BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations), as_=OPERATOR)
    assert (refused.value.reason, refused.value.metadata["field"]) == ("FIELD_INVALID", "operations")
    assert await stack.available(SELLER) == 0
    batch = payment_pb2.BatchExecuteRequest(operations=operations[:1000])
    await stack.call("BatchExecute", batch, as_=OPERATOR, timeout=60)
    assert await stack.available(SELLER) == 1000


async def test_operations_are_decided_in_their_order(stack: PaymentsStack):
    """Money that an operation brings is there for the next one, and not for the one before."""
    spend = [{"create_payment": payment(BUYER, SELLER, 5)} for _ in range(3)]
    batch = payment_pb2.BatchExecuteRequest(
        operations=[spend[0], {"post_transaction": gift(BUYER, 5)}, spend[1], spend[2], spend[0], spend[1]]
    )
    results = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results
    told = [answer(result) for result in results]
    poor = "INSUFFICIENT_FUNDS"
    assert told == [poor, "transaction", "payment", poor, poor, "payment"]
    assert [result.replayed for result in results] == [False, False, False, False, True, True]
    assert results[5].payment == results[2].payment


async def test_two_replicas_given_the_same_batch_at_once_have_one_effect_and_say_the_same(
    replicas: tuple[PaymentsStack, PaymentsStack],
):
    stack = replicas[0]
    batch, expected = await mixed(stack, 300)
    answers = await asyncio.gather(*[each.call("BatchExecute", batch, as_=OPERATOR, timeout=60) for each in replicas])
    assert [answer(result) for result in answers[0].results] == expected
    for first, second, told in zip(answers[0].results, answers[1].results, expected, strict=True):
        if told not in UNRECORDED:
            assert first.replayed != second.replayed
        first.replayed = second.replayed = False
        assert first == second
    made = await stack.sql("SELECT count(*) AS made FROM payments")
    created = [
        told
        for each, told in zip(batch.operations, expected, strict=True)
        if each.WhichOneof("operation") == "create_payment" and told == "payment"
    ]
    assert made[0]["made"] == 1 + len(created)


def test_an_operation_has_no_rules_of_its_own_beyond_being_one():
    """So its request can be checked alone."""
    message = payment_pb2.Operation.DESCRIPTOR
    assert [oneof.name for oneof in message.oneofs] == ["operation"]
    assert not message.GetOptions().ListFields()
    for field in message.fields:
        assert field.containing_oneof is message.oneofs[0]
        assert not field.GetOptions().ListFields(), field.name


async def test_what_is_wrong_in_an_operation_is_named_by_where_it_stands(stack: PaymentsStack):
    good = payment("subjects/ann", "subjects/bob", 1)
    wrong = payment("subjects/ann", "nobody", 0, rail="tracks", on_expiry=99)
    batch = payment_pb2.BatchExecuteRequest(operations=[{"create_payment": wrong}, {}, {"create_payment": good}])
    told = [reason_of(each.error) for each in (await stack.call("BatchExecute", batch)).results]
    assert [(reason, facts.get("field")) for reason, facts in told] == [
        ("FIELD_INVALID", "create_payment.payee.owner"),
        ("FIELD_INVALID", "operation"),
        ("INSUFFICIENT_FUNDS", None),
    ]


async def test_payments_of_wallets_and_of_rails_in_one_batch_are_both_stored_whole(stack: PaymentsStack):
    await stack.fund("subjects/ann", 100)
    operations = [
        {"create_payment": payment("subjects/ann", "subjects/bob", 7, metadata={"order": "1"})},
        {"create_payment": payment("subjects/ann", "subjects/bob", 8, rail="rails/simulated", instrument="card")},
        {"create_payment": manual("subjects/ann", "subjects/bob", 9)},
    ]
    batch = payment_pb2.BatchExecuteRequest(operations=operations)
    assert not any(each.HasField("error") for each in (await stack.call("BatchExecute", batch)).results)
    stored = [payment_of(row) for row in await stack.sql(f"SELECT {PAYMENT} FROM payments ORDER BY amount_minor")]
    assert [(each.amount_minor, each.rail, each.instrument) for each in stored] == [
        (7, "", ""),
        (8, "rails/simulated", "card"),
        (9, "", ""),
    ]
    assert stored[0].metadata == (("order", "1"),)
    for each in (stored[0], stored[2]):
        expected = Payment._field_defaults | {"partner": "shop"}
        assert {name: getattr(each, name) for name in Payment._field_defaults} == expected


async def test_the_log_of_privileged_actions_tells_what_was_done_and_not_what_another_with_its_id_asked(
    stack: PaymentsStack,
):
    done, other = [await stack.call("CreateAccount", new_account(number)) for number in (1, 2)]
    freezes = [account_pb2.FreezeAccountRequest(request_id="same", name=account.name) for account in (done, other)]
    gifts = [gift(BUYER, 777), gift(SELLER, 1)]
    for each, why in zip(gifts, ("for my own pocket", "ticket 5"), strict=True):
        each.request_id, each.description = "same", why
    batch = payment_pb2.BatchExecuteRequest(
        operations=[
            *[payment_pb2.Operation(freeze_account=each) for each in freezes],
            *[payment_pb2.Operation(post_transaction=each) for each in gifts],
        ]
    )
    expected = ["account", "REQUEST_ID_REUSED", "transaction", "REQUEST_ID_REUSED"]
    results = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results
    assert [answer(result) for result in results] == expected
    again = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results
    assert [answer(result) for result in again] == expected
    with pytest.raises(RemoteError, match="same"):
        await stack.call("FreezeAccount", freezes[1], as_=OPERATOR)
    asked = privileged_action_pb2.ListPrivilegedActionsRequest(page_size=2)
    moved, froze = (await stack.call("ListPrivilegedActions", asked, as_=OPERATOR)).actions
    assert (froze.operation, froze.object, froze.outcome) == ("FreezeAccount", done.name, "OK")
    assert (moved.operation, moved.object, moved.why) == (
        "PostTransaction",
        results[2].transaction.name,
        "for my own pocket",
    )
