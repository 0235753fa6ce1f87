"""Who wins when two ask at once: always with two replicas on one store."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from danbao.payments.v1 import ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
State = payment_pb2.Payment.State
Replicas = tuple[PaymentsStack, PaymentsStack]
FEE = {"owner": "platform", "kind": "fee.payment"}
SPLIT = {
    "splits": [
        {"destination": FEE, "basis_points": 250},
        {"destination": {"owner": SELLER, "kind": "user.available"}, "remaining": True},
    ],
    "remainder_policy": ledger_pb2.REMAINDER_POLICY_LARGEST_REMAINDER,
}


async def reason_of_call(call: Any) -> str:
    try:
        await call
    except RemoteError as error:
        return error.reason
    return "OK"


def capture(on: payment_pb2.Payment, minor: int | None = None, **others: Any) -> payment_pb2.CapturePaymentRequest:
    amount = None if minor is None else money(minor)
    return payment_pb2.CapturePaymentRequest(request_id=new_id(), name=on.name, amount=amount, **others)


def void(on: payment_pb2.Payment) -> payment_pb2.VoidPaymentRequest:
    return payment_pb2.VoidPaymentRequest(request_id=new_id(), name=on.name)


def refund(on: payment_pb2.Payment, minor: int) -> payment_pb2.RefundPaymentRequest:
    return payment_pb2.RefundPaymentRequest(request_id=new_id(), name=on.name, amount=money(minor))


def leg_back(on: payment_pb2.Payment, minor: int) -> ledger_pb2.PostTransactionRequest:
    leg = {
        "debit": {"owner": SELLER, "kind": "user.available"},
        "credit": {"owner": BUYER, "kind": "user.available"},
        "amount": money(minor),
        "payment": on.name,
        "purpose": ledger_pb2.PURPOSE_DISPUTE,
    }
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])


async def made(stack: PaymentsStack, number: int, request: Any, **others: Any) -> list[payment_pb2.Payment]:
    """So many payments of 100."""
    return [await stack.call("CreatePayment", request(BUYER, SELLER, 100, **others)) for _ in range(number)]


async def state_of(stack: PaymentsStack, on: payment_pb2.Payment) -> payment_pb2.Payment:
    return await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=on.name))


async def at_once(replicas: Replicas, *asked: tuple[str, Any]) -> list[tuple[str, ...]]:
    """Two requests each time, one to each replica, now the one first and now the other: what both are told."""
    turns = count()

    async def both(first: tuple[str, Any], second: tuple[str, Any]) -> tuple[str, ...]:
        turn = next(turns)
        sent = [(replicas[0], *first), (replicas[1], *second)]
        calls = [reason_of_call(to.call(*what, as_=OPERATOR, timeout=20)) for to, *what in sent[:: 1 - turn % 2 * 2]]
        told = await asyncio.gather(*calls)
        return tuple(told[:: 1 - turn % 2 * 2])

    pairs = zip(asked[::2], asked[1::2], strict=True)
    return list(await asyncio.gather(*[both(first, second) for first, second in pairs]))


async def test_5000_attempts_of_64_callers_on_money_for_1000(replicas: Replicas):
    stack = replicas[0]
    await stack.fund(BUYER, 10_000)
    told: list[str] = []
    numbers = iter(range(5000))

    async def caller(place: int) -> None:
        for number in numbers:
            make = payment if number % 3 else manual
            request = make(BUYER, f"subjects/s{number % 7}", 10)
            told.append(await reason_of_call(replicas[place % 2].call("CreatePayment", request, timeout=30)))

    await asyncio.gather(*[caller(place) for place in range(64)])
    assert (told.count("OK"), told.count("INSUFFICIENT_FUNDS")) == (1000, 4000)
    assert await stack.available(BUYER) == 0


async def test_of_two_refunds_of_60_percent_one_passes(replicas: Replicas):
    stack = replicas[0]
    await stack.fund(BUYER, 2000)
    await stack.fund(SELLER, 2000)
    paid = await made(stack, 20, payment, **SPLIT)
    asked = [("RefundPayment", refund(each, 60)) for each in paid for _ in replicas]
    for told in await at_once(replicas, *asked):
        assert sorted(told) == ["OK", "REFUND_AMOUNT_EXCEEDED"]
    assert await stack.available(BUYER) == 20 * 60


async def test_of_a_refund_and_a_leg_back_of_60_percent_one_passes(replicas: Replicas):
    """gumroad#4372: a refund and a dispute took the same money twice."""
    stack = replicas[0]
    await stack.fund(BUYER, 2000)
    await stack.fund(SELLER, 2000)
    paid = await made(stack, 20, payment)
    asked: list[tuple[str, Any]] = []
    for each in paid:
        asked += [("RefundPayment", refund(each, 60)), ("PostTransaction", leg_back(each, 60))]
    for told in await at_once(replicas, *asked):
        assert sorted(told) == ["OK", "REFUND_AMOUNT_EXCEEDED"]
    assert {(await state_of(stack, each)).refunded_minor for each in paid} == {60}
    assert await stack.available(BUYER) == 20 * 60


async def test_of_capture_and_void_one_wins(replicas: Replicas):
    stack = replicas[0]
    await stack.fund(BUYER, 2000)
    held = await made(stack, 20, manual)
    asked: list[tuple[str, Any]] = []
    for each in held:
        asked += [("CapturePayment", capture(each)), ("VoidPayment", void(each))]
    told = await at_once(replicas, *asked)
    for each, (captured, voided) in zip(held, told, strict=True):
        now = await state_of(stack, each)
        if captured == "OK":
            assert (voided, now.state) == ("HOLD_ALREADY_CAPTURED", State.STATE_CAPTURED)
        else:
            assert (captured, voided, now.state) == ("HOLD_ALREADY_VOIDED", "OK", State.STATE_VOIDED)
    captures = [captured for captured, _ in told].count("OK")
    assert (await stack.available(SELLER), await stack.available(BUYER)) == (100 * captures, 2000 - 100 * captures)


async def test_of_capture_and_time_one_wins(replicas: Replicas):
    """Captures go on while time passes on one of the replicas; the other learns of it from what is committed."""
    stack, other = replicas
    await stack.fund(BUYER, 4000)
    held = await made(stack, 40, manual, hold_lifetime={"seconds": 5})

    async def captures(replica: PaymentsStack, each: list[payment_pb2.Payment]) -> list[str]:
        return [await reason_of_call(replica.call("CapturePayment", capture(one), timeout=20)) for one in each]

    async def time() -> None:
        while await stack.available(SELLER) < 600:
            await asyncio.sleep(0)
        await stack.advance(5)

    first, second, _ = await asyncio.gather(captures(stack, held[:20]), captures(other, held[20:]), time())
    told = first + second
    assert set(told) == {"OK", "HOLD_EXPIRED"}, "some before, some after"
    for each, one in zip(held, told, strict=True):
        state = (await state_of(stack, each)).state
        assert state == (State.STATE_CAPTURED if one == "OK" else State.STATE_EXPIRED)
    await stack.advance(1)
    taken = 100 * told.count("OK")
    assert (await stack.available(SELLER), await stack.available(BUYER)) == (taken, 4000 - taken)


async def test_of_a_capture_by_time_and_a_void_one_wins(replicas: Replicas):
    stack, other = replicas
    await stack.fund(BUYER, 2000)
    held = await made(stack, 20, manual, hold_lifetime={"seconds": 5}, on_expiry=payment_pb2.ON_EXPIRY_CAPTURE)
    voids = [reason_of_call(other.call("VoidPayment", void(each), timeout=20)) for each in held]
    *told, _ = await asyncio.gather(*voids, stack.advance(5))
    await stack.advance(1)
    assert set(told) <= {"OK", "HOLD_ALREADY_CAPTURED"}
    for each, voided in zip(held, told, strict=True):
        state = (await state_of(stack, each)).state
        assert state == (State.STATE_VOIDED if voided == "OK" else State.STATE_CAPTURED)
    assert await stack.available(SELLER) == 100 * told.count("HOLD_ALREADY_CAPTURED")


async def test_partial_captures_at_once_never_take_more_than_is_held(replicas: Replicas):
    stack = replicas[0]
    await stack.fund(BUYER, 100)
    (held,) = await made(stack, 1, manual, **SPLIT)
    asked = [("CapturePayment", capture(held, 30, final=False)) for _ in range(10)]
    told = [one for pair in await at_once(replicas, *asked) for one in pair]
    assert (told.count("OK"), told.count("CAPTURE_AMOUNT_EXCEEDED")) == (3, 7)
    taken = await stack.available(SELLER) + await stack.available("platform", "fee.payment")
    assert (taken, await stack.available(BUYER)) == (90, 0)
    assert (await state_of(stack, held)).state == State.STATE_PARTIALLY_CAPTURED


async def test_books_are_emptied_between_batches_and_never_in_a_deadlock_with_one(replicas: Replicas):
    stack = replicas[0]

    async def ask(caller: int) -> list[str]:
        asked = (payment(f"subjects/poor-{caller}", SELLER, 5) for _ in range(30))
        return [await reason_of_call(replicas[caller % 2].call("CreatePayment", each)) for each in asked]

    callers = asyncio.gather(*(ask(caller) for caller in range(16)))
    while not callers.done():
        await stack.forget()
    assert {reason for told in callers.result() for reason in told} == {"INSUFFICIENT_FUNDS"}
