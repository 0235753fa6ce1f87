"""Chargebacks through the RPCs, on the real store: who bears them, once, whatever else takes the money back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from danbao.payments.v1 import account_pb2, audit_pb2, event_pb2, ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, money, new_id, payment, rail_report
from danbao_payments.testing.statements import send, statement_of_today

BUYER, SELLER, RAIL = "subjects/buyer", "subjects/seller", "rails/simulated"
PAYABLE = (SELLER, "seller.payable")
DEBT = (SELLER, "receivable.chargeback")
TRADE = ("trades/t1", "escrow.trade")
SUSPENSE = ("platform", "suspense")
SIMULATED = as_caller(subject="simulated", roles="rail")


@pytest.fixture(autouse=True)
async def audited(stack: PaymentsStack) -> AsyncIterator[None]:
    """Whatever was charged back, the auditor finds nothing."""
    yield
    audit = await stack.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR, timeout=30)
    assert audit.intact, audit


@pytest.fixture
async def replicas(stack: PaymentsStack) -> AsyncIterator[tuple[PaymentsStack, PaymentsStack]]:
    other = PaymentsStack(stack.database, stack.authority, stack.options)
    await other.start()
    yield stack, other
    await other.stop()


def key(account: tuple[str, str]) -> dict[str, str]:
    return {"owner": account[0], "kind": account[1]}


async def captured(stack: PaymentsStack, minor: int, payee: tuple[str, str], **others: Any) -> payment_pb2.Payment:
    fields = {"payee": key(payee), "rail": RAIL} | others
    caller: dict[str, Any] = {"peer": "escrow", "as_": ()} if payee[1] == "escrow.trade" else {}
    asked = await stack.call("CreatePayment", payment(BUYER, SELLER, minor, **fields), **caller)
    until = time.monotonic() + 10
    while (found := await get(stack, asked.name)).state != payment_pb2.Payment.STATE_CAPTURED:
        assert time.monotonic() < until, found
        await asyncio.sleep(0.02)
    return found


async def get(stack: PaymentsStack, name: str) -> payment_pb2.Payment:
    return await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=name))


async def move(stack: PaymentsStack, *legs: tuple[tuple[str, str], tuple[str, str], int], escrow: bool = False) -> None:
    made = [{"debit": key(debit), "credit": key(credit), "amount": money(minor)} for debit, credit, minor in legs]
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=made)
    caller: dict[str, Any] = {"peer": "escrow", "as_": ()} if escrow else {"as_": OPERATOR}
    await stack.call("PostTransaction", request, **caller)


async def report(stack: PaymentsStack, name: str, result: str, minor: int | None = None) -> payment_pb2.RailReport:
    request = rail_report(name, result, amount=None if minor is None else money(minor))
    return await stack.call("ReportRailResult", request, as_=SIMULATED, timeout=20)


def refund(name: str, minor: int | None = None) -> payment_pb2.RefundPaymentRequest:
    amount = None if minor is None else money(minor)
    return payment_pb2.RefundPaymentRequest(request_id=new_id(), name=name, amount=amount)


async def balances(stack: PaymentsStack, *accounts: tuple[str, str]) -> list[int]:
    return [await stack.available(*account) for account in accounts]


async def reason_of(call: Any) -> str:
    try:
        await call
    except RemoteError as error:
        return error.reason
    return ""


async def test_a_chargeback_up_to_its_end(stack: PaymentsStack):
    paid = await captured(stack, 1000, TRADE, beneficiary=SELLER)
    await move(stack, (TRADE, PAYABLE, 400), escrow=True)
    await move(stack, (PAYABLE, SUSPENSE, 300))
    charged = await report(stack, paid.name, "CHARGEBACK")
    assert charged.changed
    assert (charged.payment.charged_back_minor, charged.payment.refunded_minor) == (1000, 1000)
    assert charged.payment.refund_state == payment_pb2.Payment.REFUND_STATE_FULL
    assert await balances(stack, TRADE, PAYABLE, DEBT, (RAIL, "rail.settled")) == [0, 0, 300, -1000]
    # What each account bore stands in the transaction that the event names.
    row = (await stack.sql("SELECT payload FROM events WHERE kind = 'payment_charged_back'"))[0]
    told = event_pb2.Event.FromString(row["payload"]).payment_charged_back
    assert told == charged.payment
    request = ledger_pb2.GetTransactionRequest(name=told.last_transaction)
    posted = await stack.call("GetTransaction", request, as_=OPERATOR)
    assert [transfer.amount.amount_minor for transfer in posted.transfers] == [600, 100, 300]
    assert {transfer.purpose for transfer in posted.transfers} == {ledger_pb2.PURPOSE_CHARGEBACK}
    assert dict(posted.metadata)["movement"] == paid.name
    # The trade's account gave its last money, and is closed.
    assert (await stack.accounts("trades/t1"))["escrow.trade"].state == account_pb2.Account.STATE_CLOSED
    # The next money of the seller's pays the debt, until the chargeback is won.
    await move(stack, (SUSPENSE, PAYABLE, 120))
    assert await balances(stack, PAYABLE, DEBT) == [0, 180]
    won = await report(stack, paid.name, "CHARGEBACK_REVERSED")
    assert (won.payment.charged_back_minor, won.payment.refunded_minor) == (0, 0)
    assert await balances(stack, PAYABLE, DEBT, (RAIL, "rail.settled")) == [820, 0, 0]
    assert not (await report(stack, paid.name, "CHARGEBACK_REVERSED")).changed


async def test_a_full_refund_and_then_a_chargeback_take_nothing_twice(stack: PaymentsStack):
    paid = await captured(stack, 1000, PAYABLE)
    await move(stack, (SUSPENSE, PAYABLE, 5000))
    await stack.call("RefundPayment", refund(paid.name))
    request = rail_report(paid.name, "CHARGEBACK")
    for _ in range(2):
        with pytest.raises(RemoteError) as refused:
            await stack.call("ReportRailResult", request, as_=SIMULATED)
        assert (refused.value.reason, refused.value.metadata["refundable_minor"]) == ("REFUND_AMOUNT_EXCEEDED", "0")
    assert await balances(stack, PAYABLE, DEBT) == [5000, 0]


async def test_a_refund_and_a_chargeback_of_60_percent_at_once_one_passes(
    replicas: tuple[PaymentsStack, PaymentsStack],
):
    stack, other = replicas
    for round_ in range(4):
        paid = await captured(stack, 1000, PAYABLE)
        first, second = replicas if round_ % 2 else (other, stack)
        calls = [
            first.call("RefundPayment", refund(paid.name, 600), timeout=20),
            report(second, paid.name, "CHARGEBACK", 600),
        ]
        assert sorted(await asyncio.gather(*[reason_of(call) for call in calls])) == ["", "REFUND_AMOUNT_EXCEEDED"]
        assert (await get(stack, paid.name)).refunded_minor == 600
    assert await balances(stack, PAYABLE, DEBT) == [1600, 0]


async def test_chargebacks_of_two_replicas_at_once_are_booked_once(replicas: tuple[PaymentsStack, PaymentsStack]):
    paid = await captured(replicas[0], 1000, PAYABLE)
    told = await asyncio.gather(*[report(replicas[n % 2], paid.name, "CHARGEBACK") for n in range(6)])
    assert sorted(each.changed for each in told) == [False] * 5 + [True]
    assert await balances(replicas[1], PAYABLE, DEBT, (RAIL, "rail.settled")) == [0, 0, -1000]


async def test_releases_and_a_chargeback_at_once_lose_nothing(replicas: tuple[PaymentsStack, PaymentsStack]):
    """Whichever comes first, what the trade no longer has its seller bears."""
    stack, other = replicas
    paid = await captured(stack, 1000, TRADE, beneficiary=SELLER)
    leg = {"debit": key(TRADE), "credit": key(PAYABLE), "amount": money(100), "payment": paid.name}
    releases = [ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg]) for _ in range(8)]
    calls = [other.call("PostTransaction", each, peer="escrow", as_=(), timeout=20) for each in releases]
    reasons = await asyncio.gather(
        *[reason_of(call) for call in calls[:4]],
        reason_of(report(stack, paid.name, "CHARGEBACK")),
        *[reason_of(call) for call in calls[4:]],
    )
    assert set(reasons) <= {"", "INSUFFICIENT_FUNDS", "ACCOUNT_CLOSED"}
    assert await balances(stack, TRADE, PAYABLE, DEBT, (RAIL, "rail.settled")) == [0, 0, 0, -1000]


async def test_a_split_is_charged_back_by_its_parts(stack: PaymentsStack):
    fee = ("platform", "fee.payment")
    splits = [
        {"destination": key(TRADE), "remaining": True, "beneficiary": SELLER},
        {"destination": key(("trades/t2", "escrow.trade")), "fixed_minor": 300, "beneficiary": "subjects/other"},
        {"destination": key(fee), "basis_points": 1000},
    ]
    paid = await captured(stack, 1000, TRADE, splits=splits, remainder_policy=ledger_pb2.REMAINDER_POLICY_FIRST)
    await move(stack, (("trades/t2", "escrow.trade"), ("subjects/other", "user.available"), 300), escrow=True)
    charged = await report(stack, paid.name, "CHARGEBACK", 500)
    assert [part.refunded_minor for part in charged.payment.splits] == [300, 150, 50]
    owed = ("subjects/other", "receivable.chargeback")
    assert await balances(stack, TRADE, fee, owed) == [300, 50, 150]


@pytest.mark.parametrize(
    ("caller", "reason"),
    [
        (PARTNER, "KIND_NOT_ALLOWED"),
        (as_caller(subject="buyer", roles="user"), "KIND_NOT_ALLOWED"),
        (as_caller(subject="stranger", roles="user"), "MOVEMENT_NOT_FOUND"),
        (as_caller(subject="other", roles="rail"), "MOVEMENT_NOT_FOUND"),
    ],
)
async def test_who_may_not_report_a_chargeback(stack: PaymentsStack, caller: Any, reason: str):
    paid = await captured(stack, 1000, PAYABLE)
    request = rail_report(paid.name, "CHARGEBACK")
    assert await reason_of(stack.call("ReportRailResult", request, as_=caller)) == reason
    assert await balances(stack, PAYABLE) == [1000]


async def test_a_payment_of_the_wallet_is_not_charged_back(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    assert await reason_of(report(stack, paid.name, "CHARGEBACK")) == "MOVEMENT_NOT_FOUND"


async def test_an_operator_writes_off_what_a_chargeback_left(stack: PaymentsStack):
    paid = await captured(stack, 1000, PAYABLE)
    await move(stack, (PAYABLE, SUSPENSE, 1000))
    await report(stack, paid.name, "CHARGEBACK")
    assert await reason_of(move(stack, (("platform", "loss.bad_debt"), DEBT, 1000))) == "KIND_NOT_ALLOWED"
    await move(stack, (("platform", "loss.chargeback"), DEBT, 1000))
    assert await balances(stack, DEBT, ("platform", "loss.chargeback")) == [0, 1000]


# --- what comes and goes in whatever order ----------------------------------------------------------------------------


async def brought_late(stack: PaymentsStack) -> str:
    """A payment that its rail says nothing of by itself."""
    asked = payment(BUYER, SELLER, 1000, payee=key(PAYABLE), rail=RAIL, instrument="silent")
    made: payment_pb2.Payment = await stack.call("CreatePayment", asked)
    return made.name


async def told(stack: PaymentsStack, movement: str, result: str, reference: str = "") -> payment_pb2.RailReport:
    request = rail_report(movement, result, rail_reference=reference)
    return await stack.call("ReportRailResult", request, as_=SIMULATED, timeout=20)


async def refund_of(stack: PaymentsStack) -> str:
    return f"refunds/{(await stack.sql('SELECT id FROM rail_refunds ORDER BY id DESC LIMIT 1'))[0]['id']}"


async def test_what_came_and_went_after_a_void_goes_back_no_second_time(stack: PaymentsStack):
    name = await brought_late(stack)
    await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=name))
    assert (await told(stack, name, "RETURNED", "return-9")).changed
    late = await told(stack, name, "SUCCEEDED", "own-1")
    # Its own reference is news, and nothing else.
    assert (late.changed, late.payment.rail_reference) == (True, "own-1")
    for result in ("SUCCEEDED", "SETTLED", "RETURNED"):
        assert not (await told(stack, name, result)).changed
    assert await balances(stack, (RAIL, "rail.in_transit"), (RAIL, "rail.settled")) == [0, 0]
    assert not await stack.sql("SELECT FROM rail_refunds")
    assert (await stack.sql("SELECT count(*) FROM transactions"))[0]["count"] == 1


async def test_success_after_a_void_and_a_failure_conflicts(stack: PaymentsStack):
    name = await brought_late(stack)
    await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=name))
    await told(stack, name, "FAILED")
    assert await reason_of(told(stack, name, "SUCCEEDED")) == "RAIL_RESULT_CONFLICTS"


@pytest.mark.parametrize("refused_first", [False, True])
async def test_a_refund_that_is_refused_of_a_returned_payment_goes_to_the_rail(
    stack: PaymentsStack, refused_first: bool
):
    paid = await captured(stack, 1000, PAYABLE, instrument="refuse-payback")
    if refused_first:
        await stack.call("RefundPayment", refund(paid.name, 400))
        until = time.monotonic() + 10
        while await stack.available(BUYER) != 400:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        returned = await told(stack, paid.name, "RETURNED", "return-9")
        assert returned.payment.charged_back_minor == 1000
    else:
        asked = await stack.call(
            "CreatePayment", payment(BUYER, SELLER, 1000, payee=key(PAYABLE), rail=RAIL, instrument="silent")
        )
        await told(stack, asked.name, "SUCCEEDED", "own-2")
        await stack.call("RefundPayment", refund(asked.name, 400))
        returned = await told(stack, asked.name, "RETURNED", "return-9")
        assert (returned.payment.charged_back_minor, returned.payment.refunded_minor) == (600, 1000)
        await told(stack, await refund_of(stack), "FAILED")
        after = await get(stack, asked.name)
        assert (after.charged_back_minor, after.refunded_minor, after.refunds_settled_minor) == (1000, 1000, 0)
        posted = (await stack.sql("SELECT metadata FROM transactions ORDER BY last_sequence DESC LIMIT 1"))[0]
        assert json.loads(posted["metadata"]) == {"movement": asked.name, "rail_reference": "return-9"}
        await told(stack, paid.name, "RETURNED")
    rail = await balances(stack, (RAIL, "rail.in_transit"), (RAIL, "rail.settled"))
    assert (sum(rail), await balances(stack, (BUYER, "user.available"), PAYABLE)) == (0, [0, 0])


async def test_a_chargeback_told_again_under_its_reference_changes_nothing_after_its_reversal(stack: PaymentsStack):
    paid = await captured(stack, 1000, PAYABLE)
    for result, reference, changed in (
        ("CHARGEBACK", "case-1", True),
        ("CHARGEBACK_REVERSED", "won-1", True),
        ("CHARGEBACK", "case-1", False),
        ("CHARGEBACK_REVERSED", "won-1", False),
        ("CHARGEBACK", "case-2", True),
        ("CHARGEBACK_REVERSED", "won-1", False),
    ):
        assert (await told(stack, paid.name, result, reference)).changed is changed, (result, reference)
    assert (await get(stack, paid.name)).charged_back_minor == 1000
    other = rail_report(paid.name, "CHARGEBACK", rail_reference="case-2", amount=money(1))
    assert await reason_of(stack.call("ReportRailResult", other, as_=SIMULATED)) == "RAIL_RESULT_CONFLICTS"


async def test_a_reference_that_is_told_last_is_found_by_the_statement(stack: PaymentsStack):
    name = await brought_late(stack)
    await told(stack, name, "SETTLED", "batch-7")
    assert (await told(stack, name, "SUCCEEDED", "own-1")).payment.rail_reference == "own-1"
    statement = await statement_of_today(stack)
    statement.say("IN", 1000, "own-1")
    made = await send(stack, statement.parts())
    assert (made.open_items, made.matched_lines, made.matched_movements) == (0, 1, 1)


async def test_what_nobody_wanted_stands_in_the_statement_both_ways(stack: PaymentsStack):
    name = await brought_late(stack)
    await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=name))
    await told(stack, name, "RETURNED", "return-9")
    await told(stack, name, "SUCCEEDED", "own-1")
    statement = await statement_of_today(stack)
    statement.say("IN", 1000, "own-1")
    statement.say("OUT", 1000, "return-9")
    assert (await send(stack, statement.parts())).open_items == 0


async def test_an_operator_takes_back_what_was_won_of_a_debt_that_was_written_off(stack: PaymentsStack):
    paid = await captured(stack, 1000, PAYABLE)
    await move(stack, (PAYABLE, SUSPENSE, 1000))
    await report(stack, paid.name, "CHARGEBACK")
    loss = ("platform", "loss.chargeback")
    await move(stack, (loss, DEBT, 1000))
    await report(stack, paid.name, "CHARGEBACK_REVERSED")
    assert await balances(stack, PAYABLE, DEBT, loss) == [1000, 0, 1000]
    await move(stack, (PAYABLE, loss, 1000))
    assert await balances(stack, PAYABLE, DEBT, loss) == [0, 0, 0]


async def test_an_operator_pays_a_debt_with_what_suspense_has_of_a_closed_seller_s(stack: PaymentsStack):
    paid = await captured(stack, 1000, PAYABLE)
    await move(stack, (PAYABLE, SUSPENSE, 1000))
    account = (await stack.accounts(SELLER))["seller.payable"].name
    request = account_pb2.CloseAccountRequest(request_id=new_id(), name=account)
    await stack.call("CloseAccount", request, as_=OPERATOR)
    # The account is empty, so all of it is owed; what is won stays in suspense, for the account is closed.
    await report(stack, paid.name, "CHARGEBACK")
    before = await stack.available(*SUSPENSE)
    await report(stack, paid.name, "CHARGEBACK_REVERSED")
    assert (await balances(stack, DEBT, SUSPENSE)) == [1000, before - 1000]
    await move(stack, (("platform", "loss.chargeback"), DEBT, 1000), (SUSPENSE, ("platform", "loss.chargeback"), 1000))
    assert (await balances(stack, DEBT, SUSPENSE)) == [0, before]
