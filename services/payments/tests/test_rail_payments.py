"""Payments that a rail brings, through the RPCs on the real store: every mood, late money, refunds over the rail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from danbao.payments.v1 import account_pb2, audit_pb2, event_pb2, ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_payments.clients.simulated_rail import Mood, SimulatedRail
from danbao_payments.testing.stack import (
    OPERATOR,
    PaymentsStack,
    check_books,
    manual,
    money,
    new_id,
    payment,
    rail_report,
    top_up,
)
from danbao_payments.workers import rails

BUYER, SELLER, RAIL = "subjects/buyer", "subjects/seller", "rails/simulated"
PAYABLE = {"owner": SELLER, "kind": "seller.payable"}
TRADE = {"owner": "trades/t1", "kind": "escrow.trade"}
CLEARING = {"owner": "platform", "kind": "clearing.refund"}
MOST = 2**63 - 1


def quick_rail() -> SimulatedRail:
    return SimulatedRail(slow_s=0.2, silence_s=0.1, report_after_s=0.1)


@pytest.fixture(scope="module")
async def quick(
    postgres: EmbeddedPostgres, migrated: str, authority: CertificateAuthority
) -> AsyncIterator[PaymentsStack]:
    """The service with a rail and a poller that lose no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rails, "_OVERDUE_S", 0.3)
        patch.setattr(rails, "_LOOK_EVERY_S", 0.1)
        database = postgres.create_service_database("payments", database="payments_brought", template=migrated)
        made = PaymentsStack(database, authority, {"clock": "test"}, {RAIL: quick_rail()})
        await made.start()
        yield made
        await made.stop()


@pytest.fixture
async def moody(quick: PaymentsStack) -> AsyncIterator[PaymentsStack]:
    """With empty books; when the test is over they must balance."""
    yield quick
    await check_books(quick.database)
    audit = await quick.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR, timeout=30)
    assert audit.intact, audit
    await quick.forget()


@pytest.fixture
async def replicas(moody: PaymentsStack) -> AsyncIterator[tuple[PaymentsStack, PaymentsStack]]:
    other = PaymentsStack(moody.database, moody.authority, moody.options, {RAIL: quick_rail()})
    await other.start()
    yield moody, other
    await other.stop()


def order(minor: int = 1000, instrument: str = "", **others: Any) -> payment_pb2.CreatePaymentRequest:
    return payment(BUYER, SELLER, minor, **({"payee": PAYABLE, "rail": RAIL, "instrument": instrument} | others))


async def get(stack: PaymentsStack, name: str) -> payment_pb2.Payment:
    return await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=name))


def state(message: payment_pb2.Payment) -> str:
    return payment_pb2.Payment.State.Name(message.state).removeprefix("STATE_")


async def becoming(read: Any, expected: Any) -> Any:
    """What is read once it is as expected; what was read last if it never is."""
    until = time.monotonic() + 10
    while (found := await read()) != expected and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return found


async def reason_of(call: Any) -> str:
    try:
        await call
    except RemoteError as error:
        return error.reason
    return ""


async def balances(stack: PaymentsStack) -> tuple[int, int, int]:
    """The seller's, in transit, at the bank."""
    rail = await stack.accounts(RAIL)
    on_rail = [rail[kind].available_minor if kind in rail else 0 for kind in ("rail.in_transit", "rail.settled")]
    return (await stack.available(SELLER, "seller.payable"), *on_rail)


async def refunds(stack: PaymentsStack) -> list[tuple[str, int]]:
    found = await stack.sql("SELECT state, amount_minor FROM rail_refunds ORDER BY id")
    return [(row["state"], row["amount_minor"]) for row in found]


# What it comes to: state, the seller's money, in transit, at the bank.
COMES_TO = {
    Mood.OK: ("CAPTURED", 1000, 1000, 0),
    Mood.DECLINE: ("DECLINED", 0, 0, 0),
    Mood.REFUSE_PAYBACK: ("CAPTURED", 1000, 1000, 0),
    Mood.SLOW: ("CAPTURED", 1000, 1000, 0),
    Mood.TIMEOUT: ("CAPTURED", 1000, 1000, 0),
    Mood.LOST: ("CAPTURED", 1000, 1000, 0),
    Mood.UNKNOWN_DECLINE: ("DECLINED", 0, 0, 0),
    Mood.LATE: ("CAPTURED", 1000, 1000, 0),
    Mood.LATE_DECLINE: ("DECLINED", 0, 0, 0),
    Mood.SILENT: ("PENDING", 0, 0, 0),
    Mood.DUPLICATE: ("CAPTURED", 1000, 1000, 0),
    Mood.OUT_OF_ORDER: ("CAPTURED", 1000, 0, 1000),
    Mood.RETURN: ("CAPTURED", 0, 1000, -1000),
    Mood.SETTLE: ("CAPTURED", 1000, 0, 1000),
}


def test_every_mood_is_looked_at():
    assert set(COMES_TO) == set(Mood)


@pytest.mark.parametrize("mood", list(Mood))
async def test_what_a_payment_comes_to_in_every_mood(moody: PaymentsStack, mood: Mood):
    request = order(instrument=mood.value)
    asked = await moody.call("CreatePayment", request)
    assert (state(asked), asked.captured_minor, asked.last_transaction) == ("PENDING", 0, "")

    async def look() -> tuple[Any, ...]:
        return (state(await get(moody, asked.name)), *await balances(moody))

    assert await becoming(look, COMES_TO[mood]) == COMES_TO[mood]
    found = await get(moody, asked.name)
    assert (found.failure != "") == (state(found) == "DECLINED")
    assert (found.charged_back_minor, found.refunded_minor) == ((1000, 1000) if mood is Mood.RETURN else (0, 0))
    # The answer to the request is what was answered.
    assert await moody.call("CreatePayment", request) == asked
    listed = payment_pb2.ListPaymentsRequest(state=found.state, payer=BUYER)
    assert [each.name for each in (await moody.call("ListPayments", listed)).payments] == [asked.name]


async def test_what_is_wrong_with_a_rail_s_payment_is_told_at_once(moody: PaymentsStack):
    for request, field in (
        (manual(BUYER, SELLER, 5, rail=RAIL), "rail"),
        (order(rail="", instrument="ok"), "instrument"),
        (order(rail="nonsense"), "rail"),
    ):
        with pytest.raises(RemoteError) as refused:
            await moody.call("CreatePayment", request)
        assert (refused.value.reason, refused.value.metadata["field"]) == ("FIELD_INVALID", field)
    assert await reason_of(moody.call("CreatePayment", order(rail="rails/none"))) == "RAIL_UNKNOWN"


async def test_another_rail_under_the_same_request_id_is_named(moody: PaymentsStack):
    request = order()
    await moody.call("CreatePayment", request)
    request.instrument = "settle"
    with pytest.raises(RemoteError) as refused:
        await moody.call("CreatePayment", request)
    assert (refused.value.reason, refused.value.metadata["field"]) == ("REQUEST_ID_REUSED", "instrument")


async def test_a_report_is_booked_once_whoever_repeats_it(moody: PaymentsStack):
    asked = await moody.call("CreatePayment", order(instrument="silent"))
    request = rail_report(asked.name, "SUCCEEDED", rail_reference="r1")
    told = await moody.call("ReportRailResult", request, as_=OPERATOR)
    assert (told.changed, state(told.payment), told.payment.rail_reference) == (True, "CAPTURED", "r1")
    assert await moody.call("ReportRailResult", request, as_=OPERATOR) == told
    again = await moody.call("ReportRailResult", rail_report(asked.name, "SUCCEEDED"), as_=OPERATOR)
    assert (again.changed, again.payment) == (False, told.payment)
    assert await balances(moody) == (1000, 1000, 0)
    conflict = rail_report(asked.name, "FAILED")
    for _ in range(2):
        with pytest.raises(RemoteError) as refused:
            await moody.call("ReportRailResult", conflict, as_=OPERATOR)
        assert (refused.value.reason, refused.value.metadata["state"]) == ("RAIL_RESULT_CONFLICTS", "CAPTURED")


async def test_reports_of_two_replicas_at_once_are_booked_once(replicas: tuple[PaymentsStack, PaymentsStack]):
    asked = await replicas[0].call("CreatePayment", order(instrument="silent"))
    reports = [rail_report(asked.name, "SUCCEEDED") for _ in range(8)]
    told = await asyncio.gather(
        *[replicas[n % 2].call("ReportRailResult", each, as_=OPERATOR) for n, each in enumerate(reports)]
    )
    assert sorted(each.changed for each in told) == [False] * 7 + [True]
    assert await balances(replicas[1]) == (1000, 1000, 0)


async def test_a_split_of_what_a_rail_brings(moody: PaymentsStack):
    splits = [
        {"destination": TRADE, "remaining": True, "beneficiary": SELLER},
        {"destination": {"owner": "platform", "kind": "fee.payment"}, "basis_points": 250},
    ]
    request = order(payee=TRADE, splits=splits, remainder_policy=ledger_pb2.REMAINDER_POLICY_FIRST)
    asked = await moody.call("CreatePayment", request, peer="escrow", as_=())

    async def look() -> list[int]:
        return [part.captured_minor for part in (await get(moody, asked.name)).splits]

    assert await becoming(look, [975, 25]) == [975, 25]
    assert (await get(moody, asked.name)).splits[0].split.beneficiary == SELLER


async def test_rail_payments_of_a_batch_are_answered_as_they_stand(moody: PaymentsStack):
    operations: list[Any] = [
        {"create_payment": order(100)},
        {"create_payment": order(100, "decline")},
        {"create_payment": order(100, rail="rails/none")},
        {"create_top_up": top_up(BUYER, 5)},
    ]
    reply = await moody.call("BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations))
    assert [each.WhichOneof("result") for each in reply.results] == ["payment", "payment", "error", "top_up"]

    async def look() -> list[str]:
        return [state(await get(moody, each.payment.name)) for each in reply.results[:2]]

    assert await becoming(look, ["CAPTURED", "DECLINED"]) == ["CAPTURED", "DECLINED"]


async def test_what_waits_for_a_rail_keeps_its_room(moody: PaymentsStack):
    rail, opening = {"owner": RAIL, "kind": "rail.settled"}, {"owner": "platform", "kind": "opening"}
    leg = {"debit": opening, "credit": rail, "amount": money(MOST - 1500)}
    post = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
    await moody.call("PostTransaction", post, as_=OPERATOR)
    waiting = await moody.call("CreatePayment", order(instrument="silent"))
    assert await reason_of(moody.call("CreatePayment", order(instrument="silent"))) == "BALANCE_OVERFLOW"
    assert await reason_of(moody.call("CreateTopUp", top_up(BUYER, 501))) == "BALANCE_OVERFLOW"
    await void(moody, waiting.name)
    assert await reason_of(moody.call("CreatePayment", order(instrument="silent"))) == "BALANCE_OVERFLOW"
    await moody.call("ReportRailResult", rail_report(waiting.name, "FAILED"), as_=OPERATOR)
    await moody.call("CreatePayment", order(instrument="silent"))


# --- nobody wants it any more -----------------------------------------------------------------------------------------


async def void(stack: PaymentsStack, name: str) -> payment_pb2.Payment:
    return await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=name))


async def test_money_that_comes_after_a_void_goes_back_by_itself(moody: PaymentsStack):
    asked = await moody.call("CreatePayment", order(instrument="silent"))
    assert state(await void(moody, asked.name)) == "VOIDED"
    told = await moody.call("ReportRailResult", rail_report(asked.name, "SUCCEEDED"), as_=OPERATOR)
    assert (told.changed, state(told.payment), told.payment.captured_minor) == (True, "VOIDED", 0)
    assert await refunds(moody) == [("PENDING", 1000)]
    name = (await moody.sql("SELECT id FROM rail_refunds"))[0]["id"]
    paid = await moody.call("ReportRailResult", rail_report(f"refunds/{name}", "SUCCEEDED"), as_=OPERATOR)
    assert paid.refund.source == asked.name
    assert await balances(moody) == (0, 1000, -1000)
    assert (await get(moody, asked.name)).refunds_settled_minor == 1000
    again = await moody.call("ReportRailResult", rail_report(asked.name, "SUCCEEDED"), as_=OPERATOR)
    assert not again.changed


@pytest.mark.parametrize(("mood", "back"), [("timeout", [("SETTLED", 1000)]), ("lost", [])])
async def test_what_became_of_a_voided_payment_is_looked_up_and_never_asked_for_again(
    moody: PaymentsStack, mood: str, back: list[tuple[str, int]]
):
    asked = await moody.call("CreatePayment", order(instrument=mood))
    await void(moody, asked.name)
    assert await becoming(lambda: refunds(moody), back) == back

    async def look() -> bool:
        row = (await moody.sql("SELECT failure <> '' OR last_transaction IS NOT NULL AS known FROM payments"))[0]
        return bool(row["known"])

    assert await becoming(look, True)
    assert state(await get(moody, asked.name)) == "VOIDED"
    assert await balances(moody) == ((0, 0, 0) if mood == "lost" else (0, 1000, -1000))


async def test_a_void_and_the_money_at_once_leave_it_captured_or_sent_back(
    replicas: tuple[PaymentsStack, PaymentsStack],
):
    """One comes first: what was captured cannot be voided, what was voided goes back."""
    stack, other = replicas
    outcomes = []
    for round_ in range(6):
        asked = await stack.call("CreatePayment", order(100, "silent"))
        calls = [
            reason_of(void((stack, other)[round_ % 2], asked.name)),
            reason_of(other.call("ReportRailResult", rail_report(asked.name, "SUCCEEDED"), as_=OPERATOR)),
        ]
        told = await asyncio.gather(*(calls if round_ % 3 else reversed(calls)))
        found = state(await get(stack, asked.name))
        assert sorted(told) == (["", ""] if found == "VOIDED" else ["", "HOLD_ALREADY_CAPTURED"])
        outcomes.append(found)
    back = outcomes.count("VOIDED")
    assert await refunds(stack) == [("PENDING", 100)] * back
    assert await balances(stack) == (100 * (6 - back), 600, 0)


async def test_a_restart_loses_no_payment_that_waits_for_its_rail(
    service_database: Any, migrated: str, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rails, "_OVERDUE_S", 0.3)
    database = service_database("payments", template=migrated)
    stack = PaymentsStack(database, authority, {"clock": "test"}, {RAIL: SimulatedRail(slow_s=30)})
    await stack.start()
    asked = await stack.call("CreatePayment", order(instrument="slow"))
    await stack.stop()
    stack = PaymentsStack(database, authority, {"clock": "test"}, {RAIL: quick_rail()})
    await stack.start()
    try:

        async def look() -> str:
            return state(await get(stack, asked.name))

        assert await becoming(look, "CAPTURED") == "CAPTURED"
        assert await balances(stack) == (1000, 1000, 0)
    finally:
        await stack.stop()
    await check_books(database)


async def test_money_for_an_account_that_was_closed_goes_back(moody: PaymentsStack):
    asked = await moody.call("CreatePayment", order(instrument="silent"))
    suspense = {"owner": "platform", "kind": "suspense"}
    for legs in ((suspense, PAYABLE), (PAYABLE, suspense)):
        leg = {"debit": legs[0], "credit": legs[1], "amount": money(1)}
        post = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
        await moody.call("PostTransaction", post, as_=OPERATOR)
    name = (await moody.accounts(SELLER))["seller.payable"].name
    await moody.call("CloseAccount", account_pb2.CloseAccountRequest(request_id=new_id(), name=name), as_=OPERATOR)
    told = await moody.call("ReportRailResult", rail_report(asked.name, "SUCCEEDED"), as_=OPERATOR)
    assert state(told.payment) == "DECLINED"
    assert "closed" in told.payment.failure
    assert await refunds(moody) == [("PENDING", 1000)]


# --- refunds go where the money came from -----------------------------------------------------------------------------


async def captured(stack: PaymentsStack, **others: Any) -> payment_pb2.Payment:
    peer = {"peer": "escrow", "as_": ()} if others.get("payee") is TRADE else {}
    asked = await stack.call("CreatePayment", order(**others), **peer)

    async def look() -> str:
        return state(await get(stack, asked.name))

    assert await becoming(look, "CAPTURED") == "CAPTURED"
    return await get(stack, asked.name)


def refund(name: str, minor: int | None = None) -> payment_pb2.RefundPaymentRequest:
    amount = None if minor is None else money(minor)
    return payment_pb2.RefundPaymentRequest(request_id=new_id(), name=name, amount=amount)


async def test_a_refund_goes_back_over_the_rail(moody: PaymentsStack):
    paid = await captured(moody)
    request = refund(paid.name, 400)
    after = await moody.call("RefundPayment", request)
    assert (after.refunded_minor, after.refunds_settled_minor) == (400, 0)
    assert await moody.call("RefundPayment", request) == after
    assert await becoming(lambda: refunds(moody), [("SETTLED", 400)]) == [("SETTLED", 400)]
    assert await balances(moody) == (600, 1000, -400)
    assert (await get(moody, paid.name)).refunds_settled_minor == 400
    assert await moody.available(BUYER) == 0


async def test_a_refund_that_the_rail_refuses_is_the_payer_s(moody: PaymentsStack):
    paid = await captured(moody, instrument="refuse-payback")
    await moody.call("RefundPayment", refund(paid.name, 400))
    assert await becoming(lambda: moody.available(BUYER), 400) == 400
    found = await get(moody, paid.name)
    assert (found.refunded_minor, found.refunds_settled_minor) == (400, 0)
    assert await reason_of(moody.call("RefundPayment", refund(paid.name, 601))) == "REFUND_AMOUNT_EXCEEDED"


async def test_two_refunds_of_60_percent_at_once_one_passes(replicas: tuple[PaymentsStack, PaymentsStack]):
    paid = await captured(replicas[0])
    calls = [each.call("RefundPayment", refund(paid.name, 600), timeout=20) for each in replicas]
    assert sorted(await asyncio.gather(*[reason_of(call) for call in calls])) == ["", "REFUND_AMOUNT_EXCEEDED"]
    assert await becoming(lambda: refunds(replicas[0]), [("SETTLED", 600)]) == [("SETTLED", 600)]


async def test_escrow_sends_a_trade_s_money_back_over_the_rail(moody: PaymentsStack):
    paid = await captured(moody, payee=TRADE, beneficiary=SELLER)
    leg = {
        "debit": TRADE,
        "credit": CLEARING,
        "amount": money(300),
        "payment": paid.name,
        "purpose": ledger_pb2.PURPOSE_REFUND,
    }
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
    posted = await moody.call("PostTransaction", request, peer="escrow", as_=())
    assert await moody.call("PostTransaction", request, peer="escrow", as_=()) == posted
    assert await becoming(lambda: refunds(moody), [("SETTLED", 300)]) == [("SETTLED", 300)]
    assert await moody.available("trades/t1", "escrow.trade") == 700
    leg.pop("purpose")
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
    assert await reason_of(moody.call("PostTransaction", request, peer="escrow", as_=())) == "KIND_NOT_ALLOWED"


async def test_what_happened_is_told_in_order(moody: PaymentsStack):
    paid = await captured(moody, instrument="settle")

    async def settled() -> bool:
        return (await get(moody, paid.name)).HasField("settle_time")

    assert await becoming(settled, True)
    await moody.call("RefundPayment", refund(paid.name))
    assert await becoming(lambda: refunds(moody), [("SETTLED", 1000)])
    rows = await moody.sql("SELECT payload FROM events ORDER BY sequence")
    events = [event_pb2.Event.FromString(row["payload"]) for row in rows]
    kinds = [event.WhichOneof("payload") for event in events]
    assert kinds == [
        "owner_brought",
        "owner_brought",
        "payment_pending",
        "payment_captured",
        "payment_settled",
        "payment_refunded",
        "rail_refund_created",
        "rail_refund_settled",
    ]
    assert events[-1].rail_refund_settled.source == paid.name


async def test_every_part_of_a_split_keeps_its_room_while_its_rail_is_silent(moody: PaymentsStack):
    part = {"owner": "subjects/partner", "kind": "user.available"}
    filling = {"debit": {"owner": "platform", "kind": "opening"}, "credit": part, "amount": money(MOST - 1500)}
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[filling])
    await moody.call("PostTransaction", request, as_=OPERATOR)
    terms = [{"destination": PAYABLE, "fixed_minor": 10}, {"destination": part, "remaining": True}]
    split = {"splits": terms, "remainder_policy": ledger_pb2.REMAINDER_POLICY_FIRST}
    first = await moody.call("CreatePayment", order(1010, "silent", **split))
    assert await reason_of(moody.call("CreatePayment", order(1010, "silent", **split))) == "BALANCE_OVERFLOW"
    await moody.call("ReportRailResult", rail_report(first.name, "SUCCEEDED"), as_=OPERATOR)
    assert await moody.available("subjects/partner") == MOST - 500
