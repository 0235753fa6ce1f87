"""The numbers that must come out, each through the RPCs, with where it comes from."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
State = payment_pb2.Payment.State
FEE = {"owner": "platform", "kind": "fee.payment"}
SUSPENSE = {"owner": "platform", "kind": "suspense"}
FIRST, LARGEST = ledger_pb2.REMAINDER_POLICY_FIRST, ledger_pb2.REMAINDER_POLICY_LARGEST_REMAINDER


async def refused(call: Any, reason: str) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    assert caught.value.reason == reason, caught.value
    return caught.value


def wallet(owner: str) -> dict[str, str]:
    return {"owner": owner, "kind": "user.available"}


def with_fee(basis_points: int) -> dict[str, Any]:
    splits = [{"destination": FEE, "basis_points": basis_points}, {"destination": wallet(SELLER), "remaining": True}]
    return {"splits": splits, "remainder_policy": LARGEST}


async def hold(stack: PaymentsStack, minor: int, **others: Any) -> payment_pb2.Payment:
    return await stack.call("CreatePayment", manual(BUYER, SELLER, minor, **others))


async def capture(stack: PaymentsStack, held: payment_pb2.Payment, minor: int, **others: Any) -> payment_pb2.Payment:
    request = payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name, amount=money(minor), **others)
    return await stack.call("CapturePayment", request)


async def refund(stack: PaymentsStack, paid: payment_pb2.Payment, minor: int) -> payment_pb2.Payment:
    request = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=paid.name, amount=money(minor))
    return await stack.call("RefundPayment", request)


async def post(stack: PaymentsStack, leg: dict[str, Any], effective: datetime | None = None) -> ledger_pb2.Transaction:
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
    if effective is not None:
        request.effective_time.FromDatetime(effective)
    return await stack.call("PostTransaction", request, as_=OPERATOR)


async def fees(stack: PaymentsStack) -> int:
    return await stack.available("platform", "fee.payment")


# --- holds ------------------------------------------------------------------------------------------------------------


async def test_a_sixth_hold_of_1000_on_5000_is_refused(stack: PaymentsStack):
    """blnk#181: holds that do not reserve."""
    await stack.fund(BUYER, 5000)
    for _ in range(5):
        await hold(stack, 1000)
    error = await refused(hold(stack, 1000), "INSUFFICIENT_FUNDS")
    assert (error.code, error.metadata["available_minor"]) == ("FAILED_PRECONDITION", "0")
    assert (await stack.accounts(BUYER))["user.available"].debits_pending_minor == 5000


async def test_holds_of_10_11_12_13_count_46_35_23_10_as_time_passes(stack: PaymentsStack):
    """TigerBeetle, create and look up expired transfers; tigerbeetle#2118: expired holds still counted."""
    await stack.fund(BUYER, 100)
    lifetimes = [{}, *[{"hold_lifetime": {"seconds": seconds}} for seconds in (1, 2, 3)]]
    holds = [await hold(stack, 10 + place, **lifetime) for place, lifetime in enumerate(lifetimes)]
    pending = []
    for _ in range(4):
        pending.append((await stack.accounts(BUYER))["user.available"].debits_pending_minor)
        await stack.advance(1)
    assert pending == [46, 35, 23, 10]
    states = [(await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=each.name))).state for each in holds]
    assert states == [State.STATE_AUTHORIZED, *[State.STATE_EXPIRED] * 3]
    await capture(stack, holds[0], 10)
    error = await refused(capture(stack, holds[1], 11), "HOLD_EXPIRED")
    assert error.metadata["state"] == "EXPIRED"
    account = (await stack.accounts(BUYER))["user.available"]
    assert (account.debits_pending_minor, account.debits_posted_minor) == (0, 10)


# --- captures and refunds ---------------------------------------------------------------------------------------------


async def test_7000_of_10000_frees_3000_and_its_fee_of_700_comes_back_in_proportion(stack: PaymentsStack):
    await stack.fund(BUYER, 10_000)
    held = await hold(stack, 10_000, **with_fee(1000))
    assert await stack.available(BUYER) == 0
    taken = await capture(stack, held, 7000)
    assert (taken.state, taken.captured_minor, taken.released_minor) == (State.STATE_CAPTURED, 7000, 3000)
    assert (await stack.available(BUYER), await fees(stack), await stack.available(SELLER)) == (3000, 700, 6300)
    backs = []
    for minor in (2500, 4500):
        before = await fees(stack)
        await refund(stack, held, minor)
        backs.append(before - await fees(stack))
    assert backs == [250, 450]
    error = await refused(refund(stack, held, 1), "REFUND_AMOUNT_EXCEEDED")
    assert error.metadata["refundable_minor"] == "0"
    assert (await stack.available(BUYER), await stack.available(SELLER)) == (10_000, 0)


async def test_two_refunds_of_the_same_amount_under_different_ids_are_two(stack: PaymentsStack):
    """mangopay#60: the same amount was blocked for a day. hyperswitch#11491: no refund of less than nothing."""
    await stack.fund(BUYER, 7000)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 7000))
    for _ in range(2):
        after = await refund(stack, paid, 2500)
    assert (after.refunded_minor, await stack.available(BUYER)) == (5000, 5000)
    await refused(refund(stack, paid, -1), "AMOUNT_NOT_POSITIVE")


async def test_of_two_refunds_of_60_of_100_at_once_one_passes(stack: PaymentsStack):
    """hyperswitch#13182: both passed."""
    await stack.fund(BUYER, 100)
    await stack.fund(SELLER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    told = await asyncio.gather(refund(stack, paid, 60), refund(stack, paid, 60), return_exceptions=True)
    assert sorted(getattr(each, "reason", "OK") for each in told) == ["OK", "REFUND_AMOUNT_EXCEEDED"]


async def test_333_three_times_at_2_5_percent_are_8_9_8_and_each_alone_is_8(stack: PaymentsStack):
    await stack.fund(BUYER, 2000)
    held = await hold(stack, 999, **with_fee(250))
    taken = []
    for _ in range(3):
        before = await fees(stack)
        await capture(stack, held, 333, final=False)
        taken.append(await fees(stack) - before)
    assert (taken, sum(taken)) == ([8, 9, 8], 25)
    for _ in range(3):
        await stack.call("CreatePayment", payment(BUYER, SELLER, 333, **with_fee(250)))
    assert await fees(stack) == 25 + 24


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "minor", "basis_points", "policy", "parts"),
    [
        ("Formance docs, rounding", 99, [2000] * 5, FIRST, [20, 20, 20, 20, 19]),
        ("Formance docs, rounding", 99, [5000, 5000], FIRST, [50, 49]),
        ("numscript allocation", 15, [8000, 800, 1200], FIRST, [13, 1, 1]),
        ("numscript allocation, other policy", 15, [8000, 800, 1200], LARGEST, [12, 1, 2]),
        ("moneyphp#492", 9999, [7500, 2500], FIRST, [7500, 2499]),
        ("moneyphp#492, other policy", 9999, [7500, 2500], LARGEST, [7499, 2500]),
    ],
)
async def test_published_splits_come_out(stack: PaymentsStack, source, minor, basis_points, policy, parts):
    await stack.fund(BUYER, 3 * minor)
    owners = [SELLER, *[f"subjects/s{place}" for place in range(1, len(parts))]]
    splits = [{"destination": wallet(o), "basis_points": bp} for o, bp in zip(owners, basis_points, strict=True)]
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, minor, splits=splits, remainder_policy=policy))
    assert [part.captured_minor for part in paid.splits] == parts, source
    # The same as a leg's destinations, and as what is captured of a hold a unit at a time.
    destinations = [{"account": wallet(o), "basis_points": bp} for o, bp in zip(owners, basis_points, strict=True)]
    leg = {"debit": wallet(BUYER), "destinations": destinations, "amount": money(minor), "remainder_policy": policy}
    posted = await post(stack, leg)
    assert [transfer.amount.amount_minor for transfer in posted.transfers] == parts, source
    held = await hold(stack, minor, splits=splits, remainder_policy=policy)
    await capture(stack, held, minor // 2, final=False)
    taken = await capture(stack, held, minor - minor // 2)
    assert [part.captured_minor for part in taken.splits] == parts, source


async def test_100_out_of_40_40_and_21_takes_40_40_and_20(stack: PaymentsStack):
    """TigerBeetle, multiple debits, single credit."""
    owners = [f"subjects/{name}" for name in "abc"]
    for owner, minor in zip(owners, (40, 40, 21), strict=True):
        await stack.fund(owner, minor)
    leg = {"sources": [{"account": wallet(owner)} for owner in owners], "credit": wallet(SELLER), "amount": money(100)}
    posted = await post(stack, leg)
    assert [transfer.amount.amount_minor for transfer in posted.transfers] == [40, 40, 20]
    error = await refused(post(stack, leg), "INSUFFICIENT_FUNDS")
    assert error.metadata["available_minor"] == "1"
    assert [await stack.available(owner) for owner in owners] == [0, 0, 1]


# --- the past ---------------------------------------------------------------------------------------------------------


async def test_100_50_10_50_10_are_80_and_back_dating_is_judged_by_the_end(stack: PaymentsStack):
    """+100 −50 −10 +50 −10: −100 at the second would end at −20; −50 ends at 30, by way of −10."""

    async def move(minor: int, effective: datetime | None = None) -> datetime:
        sides = (SUSPENSE, wallet(BUYER)) if minor > 0 else (wallet(BUYER), SUSPENSE)
        leg = {"debit": sides[0], "credit": sides[1], "amount": money(abs(minor))}
        return (await post(stack, leg, effective)).create_time.ToDatetime(tzinfo=UTC)

    async def balance(**at: datetime) -> int:
        account = (await stack.accounts(BUYER))["user.available"].name
        request = account_pb2.GetBalanceRequest(account=account)
        for kind, moment in at.items():
            getattr(request, kind).FromDatetime(moment)
        return (await stack.call("GetBalance", request)).balance_minor

    times = []
    for minor in (100, -50, -10, 50, -10):
        times.append(await move(minor))
        await stack.advance(60)
    assert [await balance(effective_time=at) for at in times] == [100, 50, 40, 90, 80]
    second = times[1] + timedelta(seconds=1)
    await refused(move(-100, second), "INSUFFICIENT_FUNDS")
    late = await move(-50, second)
    assert [await balance(effective_time=at) for at in times] == [100, 50, -10, 40, 30]
    assert [await balance(recorded_time=at) for at in times] == [100, 50, 40, 90, 80]
    assert await balance(recorded_time=late) == await balance() == 30


# --- currencies -------------------------------------------------------------------------------------------------------


async def test_a_yen_is_one_minor_unit(stack: PaymentsStack):
    """InvoicePlane#1677: a hundred times too much. Amounts are minor units whatever the currency's exponent."""
    await stack.fund(BUYER, 1234, "JPY")
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 0, amount=money(1234, "JPY")))
    assert (paid.amount.currency, paid.captured_minor) == ("JPY", 1234)
    assert await stack.available(SELLER) == 1234
