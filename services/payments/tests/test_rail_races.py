"""Rails against restarts, replicas and one another: whatever comes twice or at once moves money once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danbao.payments.v1 import payment_pb2, rail_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.testing.service import as_caller
from danbao_payments.application.ports import Rail, RailAnswer, RailOrder, Standing
from danbao_payments.clients.simulated_rail import SimulatedRail
from danbao_payments.testing.stack import (
    OPERATOR,
    PARTNER,
    PaymentsStack,
    money,
    new_id,
    payment,
    rail_report,
    top_up,
    withdrawal,
)
from danbao_payments.workers import rails

OWNER, OTHER = "subjects/owner", "subjects/other"
ITS_RAIL = as_caller(subject="simulated", roles="rail")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rails, "_OVERDUE_S", 0.2)
    monkeypatch.setattr(rails, "_LOOK_EVERY_S", 0.1)


class BusyRail(Rail):
    """A rail that does what it is asked, once a reference, and answers only when it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.answers = asyncio.Event()
        self.asked = asyncio.Event()

    async def _do(self, order: RailOrder) -> RailAnswer:
        if order.reference not in self.done:
            self.done.append(order.reference)
        self.asked.set()
        await self.answers.wait()
        return RailAnswer(Standing.ACCEPTED, rail_reference=f"busy-{order.reference}")

    charge = pay_out = pay_back = _do

    async def look_up(self, order: RailOrder) -> RailAnswer:
        if order.reference in self.done:
            return RailAnswer(Standing.ACCEPTED, rail_reference=f"busy-{order.reference}")
        return RailAnswer(Standing.NOT_FOUND)


@pytest.mark.parametrize("what", ["CreateTopUp", "CreateWithdrawal", "RefundTopUp"])
async def test_who_dies_between_the_rail_s_deed_and_its_booking_leaves_it_to_the_next(
    database: ServiceDatabase, authority: CertificateAuthority, impatient: None, what: str
):
    rail = BusyRail()
    stack = PaymentsStack(database, authority, {"clock": "test"}, {"rails/busy": rail})
    await stack.start()
    rail.answers.set()
    funded = await stack.call("CreateTopUp", top_up(OWNER, 1000, rail="rails/busy"))
    rail.answers.clear()
    rail.asked.clear()
    request = {
        "CreateTopUp": top_up(OWNER, 500, rail="rails/busy"),
        "CreateWithdrawal": withdrawal(OWNER, 500, rail="rails/busy"),
        "RefundTopUp": payment_pb2.RefundTopUpRequest(request_id=new_id(), name=funded.name, amount=money(500)),
    }[what]
    asking = asyncio.create_task(stack.call(what, request, timeout=20))
    await rail.asked.wait()
    await stack.stop()
    await asyncio.gather(asking, return_exceptions=True)

    await stack.start()
    try:
        # The same request finds what the dead process left open; the rail still answers nobody who asks it to act.
        final = await stack.call(what, request)
        assert final.refunds_settled_minor == 500 if what == "RefundTopUp" else final.state == final.STATE_SUCCEEDED
        assert await stack.available(OWNER) == (1500 if what == "CreateTopUp" else 500)
        assert len(rail.done) == len(set(rail.done)) == 2
    finally:
        await stack.stop()


async def other_replica(stack: PaymentsStack) -> PaymentsStack:
    other = PaymentsStack(stack.database, stack.authority, stack.options)
    await other.start()
    return other


async def test_one_result_reported_to_two_replicas_at_once_is_booked_once(stack: PaymentsStack):
    other = await other_replica(stack)
    try:
        await stack.fund(OWNER, 1000)
        made = [
            await stack.call("CreateTopUp", top_up(OWNER, 500, instrument="silent"), timeout=1),
            await stack.call("CreateWithdrawal", withdrawal(OWNER, 400, instrument="silent"), timeout=1),
        ]
        for result in ("SUCCEEDED", "RETURNED"):
            for movement in made:
                reports = [rail_report(movement.name, result, rail_reference="one") for _ in range(20)]
                told = await asyncio.gather(
                    *[
                        (stack, other)[number % 2].call("ReportRailResult", report, as_=ITS_RAIL)
                        for number, report in enumerate(reports)
                    ]
                )
                assert [each.changed for each in told].count(True) == 1
        assert await stack.available(OWNER) == 1000
    finally:
        await other.stop()


async def test_of_two_results_that_contradict_each_other_one_is_booked(stack: PaymentsStack):
    other = await other_replica(stack)
    try:
        await stack.fund(OWNER, 1000)
        request = withdrawal(OWNER, 400, instrument="silent")
        made = await stack.call("CreateWithdrawal", request, timeout=1)

        async def report(at: PaymentsStack, result: str) -> str:
            try:
                await at.call("ReportRailResult", rail_report(made.name, result), as_=ITS_RAIL)
            except RemoteError as error:
                return error.reason
            return result

        told = await asyncio.gather(report(stack, "SUCCEEDED"), report(other, "FAILED"))
        assert sorted(told) in (["FAILED", "RAIL_RESULT_CONFLICTS"], ["RAIL_RESULT_CONFLICTS", "SUCCEEDED"])
        assert await stack.available(OWNER) == (1000 if "FAILED" in told else 600)
        # The request was left open at one of them, and is answered at both.
        final = await asyncio.gather(stack.call("CreateWithdrawal", request), other.call("CreateWithdrawal", request))
        assert final[0] == final[1]
        assert final[0].state in (final[0].STATE_SUCCEEDED, final[0].STATE_FAILED)
    finally:
        await other.stop()


async def test_two_replicas_that_look_up_the_same_movements_book_each_once(
    database: ServiceDatabase, authority: CertificateAuthority, impatient: None
):
    made = [
        PaymentsStack(
            database,
            authority,
            {"clock": "test"},
            {"rails/simulated": SimulatedRail(silence_s=0.1, report_after_s=0.1)},
        )
        for _ in range(2)
    ]
    for stack in made:
        await stack.start()
    try:
        moods = ["timeout", "lost", "unknown-decline", "late", "late-decline", "duplicate"]
        told = await asyncio.gather(
            *[
                made[number % 2].call("CreateTopUp", top_up(OWNER, 10, instrument=mood))
                for number, mood in enumerate(moods * 5)
            ]
        )
        assert [each.state for each in told].count(payment_pb2.TopUp.STATE_SUCCEEDED) == 20
        assert [each.state for each in told].count(payment_pb2.TopUp.STATE_FAILED) == 10
        await asyncio.sleep(0.5)
        assert await made[0].available(OWNER) == 200
    finally:
        for stack in made:
            await stack.stop()


# --- one report after the other ---------------------------------------------------------------------------------------


async def test_a_report_is_recorded_under_its_request_id(stack: PaymentsStack):
    made = await stack.call("CreateTopUp", top_up(OWNER, 500, instrument="silent"), timeout=1)
    report = rail_report(made.name, "SETTLED", rail_reference="one")
    told = await stack.call("ReportRailResult", report, as_=ITS_RAIL)
    assert told.changed
    assert told.top_up.HasField("settle_time")
    again, headers = await stack.call_with_headers("ReportRailResult", report, as_=ITS_RAIL)
    assert (again, headers["x-danbao-replayed"]) == (told, "true")
    report.result = rail_pb2.RAIL_RESULT_RETURNED
    with pytest.raises(RemoteError) as refused:
        await stack.call("ReportRailResult", report, as_=ITS_RAIL)
    assert (refused.value.reason, refused.value.metadata["field"]) == ("REQUEST_ID_REUSED", "result")


async def test_a_contradiction_is_told_with_what_is_known_and_moves_nothing(stack: PaymentsStack):
    made = await stack.fund(OWNER, 500)
    for report in (rail_report(made.name, "FAILED"), rail_report(made.name, "SUCCEEDED", rail_reference="another")):
        with pytest.raises(RemoteError) as refused:
            await stack.call("ReportRailResult", report, as_=ITS_RAIL)
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "RAIL_RESULT_CONFLICTS")
        assert refused.value.metadata["state"] == "SUCCEEDED"
        assert refused.value.metadata["known_reference"] == made.rail_reference
    assert await stack.available(OWNER) == 500


@pytest.mark.parametrize("kind", ["topUps", "withdrawals", "refunds"])
async def test_who_may_report_on_and_see_a_movement(stack: PaymentsStack, kind: str):
    funded = await stack.fund(OWNER, 500)
    out = await stack.call("CreateWithdrawal", withdrawal(OWNER, 100, instrument="silent"), timeout=1)
    charged = await stack.call("CreateTopUp", top_up(OWNER, 50, instrument="silent"), timeout=1)
    await stack.call("ReportRailResult", rail_report(charged.name, "SUCCEEDED"), as_=OPERATOR)
    back = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=charged.name)
    await stack.call("RefundTopUp", back, timeout=1)
    refund = (await stack.sql("SELECT id FROM rail_refunds"))[0]["id"]
    name = {"topUps": charged.name, "withdrawals": out.name, "refunds": f"refunds/{refund}"}[kind]
    before = await stack.available(OWNER)
    for as_, reason in (
        (PARTNER, "KIND_NOT_ALLOWED"),
        (as_caller(subject="owner", roles="user"), "KIND_NOT_ALLOWED"),
        (as_caller(subject="stranger", roles="user"), "MOVEMENT_NOT_FOUND"),
        (as_caller(subject="visa", roles="rail"), "MOVEMENT_NOT_FOUND"),
        ((), "MOVEMENT_NOT_FOUND"),
    ):
        with pytest.raises(RemoteError) as refused:
            await stack.call("ReportRailResult", rail_report(name, "RETURNED"), as_=as_)
        assert refused.value.reason == reason
    assert await stack.available(OWNER) == before
    for get, request in (
        ("GetTopUp", payment_pb2.GetTopUpRequest(name=funded.name)),
        ("GetWithdrawal", rail_pb2.GetWithdrawalRequest(name=out.name)),
        ("GetRailRefund", rail_pb2.GetRailRefundRequest(name=f"refunds/{refund}")),
    ):
        for as_ in (PARTNER, OPERATOR, ITS_RAIL, as_caller(subject="owner", roles="user")):
            assert (await stack.call(get, request, as_=as_)).name == request.name
        for as_ in (as_caller(subject="visa", roles="rail"), as_caller(subject="stranger", roles="user"), ()):
            with pytest.raises(RemoteError) as refused:
                await stack.call(get, request, as_=as_)
            assert refused.value.code == "NOT_FOUND"
    assert (await stack.call("ReportRailResult", rail_report(name, "RETURNED"), as_=ITS_RAIL)).changed


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_of_mixed_kinds_is_decided_in_order_and_answered_in_order(stack: PaymentsStack):
    funded = await stack.fund(OWNER, 1000)
    waiting = await stack.call("CreateTopUp", top_up(OWNER, 50, instrument="silent"), timeout=1)
    limits = {"request_id": new_id(), "scope": OWNER, "currency": "CNY", "per_transaction_minor": 600}
    operations: list[dict[str, Any]] = [
        {"create_withdrawal": withdrawal(OWNER, 700)},
        {"set_limits": limits},
        {"create_withdrawal": withdrawal(OWNER, 601)},
        {"create_payment": payment(OWNER, OTHER, 100)},
        {"create_withdrawal": withdrawal(OTHER, 100, instrument="silent")},
        {"refund_top_up": {"request_id": new_id(), "name": funded.name, "amount": money(50)}},
        {"report_rail_result": rail_report(waiting.name, "SUCCEEDED")},
        {"report_rail_result": rail_report(waiting.name, "SUCCEEDED")},
        {"create_withdrawal": withdrawal(OWNER, 201)},
        {"create_top_up": top_up(OWNER, 5, instrument="decline")},
    ]
    batch = payment_pb2.BatchExecuteRequest(operations=operations)
    answer = await stack.call("BatchExecute", batch, as_=OPERATOR, timeout=2)
    kinds = [each.WhichOneof("result") for each in answer.results]
    assert kinds == [
        "withdrawal",
        "limits",
        "error",
        "payment",
        "withdrawal",
        "top_up",
        "rail_report",
        "rail_report",
        "error",
        "top_up",
    ]
    first, fifth = answer.results[0].withdrawal, answer.results[4].withdrawal
    assert (first.state, fifth.state) == (first.STATE_SUCCEEDED, fifth.STATE_PENDING)
    assert answer.results[5].top_up.refunds_settled_minor == 50
    assert [each.rail_report.changed for each in answer.results[6:8]] == [True, False]
    assert answer.results[9].top_up.state == payment_pb2.TopUp.STATE_FAILED
    assert await stack.available(OWNER) == 1000 - 700 - 100 - 50 + 50
    again = await stack.call("BatchExecute", batch, as_=OPERATOR, timeout=2)
    assert [each.replayed for each in again.results] == [kind != "withdrawal" or n == 0 for n, kind in enumerate(kinds)]
    assert await stack.available(OWNER) == 200
