"""Every mood of the simulated rail, through the RPCs and on the real store, for money in, out and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from danbao.payments.v1 import payment_pb2, rail_pb2
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_payments.clients.simulated_rail import Mood, SimulatedRail
from danbao_payments.testing.stack import (
    OPERATOR,
    PaymentsStack,
    check_books,
    money,
    new_id,
    rail_report,
    top_up,
    withdrawal,
)
from danbao_payments.workers import rails

OWNER = "subjects/owner"


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
        database = postgres.create_service_database("payments", database="payments_moods", template=migrated)
        made = PaymentsStack(database, authority, {"clock": "test"}, {"rails/simulated": quick_rail()})
        await made.start()
        yield made
        await made.stop()


@pytest.fixture
async def moody(quick: PaymentsStack) -> AsyncIterator[PaymentsStack]:
    """With empty books; when the test is over they must balance."""
    yield quick
    await check_books(quick.database)
    await quick.forget()


async def settled(read: Any, expected: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is read once it is as expected; what was read last if it never is."""
    until = time.monotonic() + 10
    while (found := await read()) != expected and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return found


def state(message: Any) -> str:
    return type(message).State.Name(message.state).removeprefix("STATE_")


async def rail_balances(stack: PaymentsStack) -> tuple[int, int]:
    """What is in transit, and at the bank."""
    found = await stack.accounts("rails/simulated")
    return tuple(found[kind].available_minor if kind in found else 0 for kind in ("rail.in_transit", "rail.settled"))


async def events_of(stack: PaymentsStack) -> list[str]:
    return [row["kind"] for row in await stack.sql("SELECT kind FROM events ORDER BY sequence")]


# --- money in ---------------------------------------------------------------------------------------------------------

IN = [
    # mood, its first answer, the state in the end; then the wallet, in transit, at the bank
    ("", "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    ("whatever", "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.OK, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.DECLINE, "FAILED", "FAILED", 0, 0, 0),
    (Mood.REFUSE_PAYBACK, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.SLOW, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.TIMEOUT, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.LOST, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.UNKNOWN_DECLINE, "FAILED", "FAILED", 0, 0, 0),
    (Mood.LATE, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.LATE_DECLINE, "FAILED", "FAILED", 0, 0, 0),
    (Mood.DUPLICATE, "SUCCEEDED", "SUCCEEDED", 500, 500, 0),
    (Mood.OUT_OF_ORDER, "SUCCEEDED", "SUCCEEDED", 500, 0, 500),
    (Mood.RETURN, "SUCCEEDED", "RETURNED", 0, 0, 0),
    (Mood.SETTLE, "SUCCEEDED", "SUCCEEDED", 500, 0, 500),
]
# These do not answer; that is written down once.
SILENT_AT_FIRST = {Mood.TIMEOUT, Mood.LOST, Mood.UNKNOWN_DECLINE}


@pytest.mark.parametrize(("mood", "answer", "end", "wallet", "in_transit", "at_bank"), IN)
async def test_money_comes_in(moody: PaymentsStack, mood, answer, end, wallet, in_transit, at_bank):
    request = top_up(OWNER, 500, instrument=mood)
    told = await moody.call("CreateTopUp", request)
    assert state(told) == answer

    async def read() -> tuple[Any, ...]:
        now = await moody.call("GetTopUp", payment_pb2.GetTopUpRequest(name=told.name))
        return state(now), await moody.available(OWNER), *await rail_balances(moody)

    assert await settled(read, (end, wallet, in_transit, at_bank)) == (end, wallet, in_transit, at_bank)
    again, headers = await moody.call_with_headers("CreateTopUp", request)
    assert (again, headers["x-danbao-replayed"]) == (told, "true")
    kinds = await events_of(moody)
    assert kinds.count("top_up_unknown") == (mood in SILENT_AT_FIRST)
    assert kinds.count("top_up_succeeded") + kinds.count("top_up_failed") == 1


async def test_a_rail_that_is_silent_for_ever_is_settled_by_a_report(moody: PaymentsStack):
    request = top_up(OWNER, 500, instrument="silent")
    told = await moody.call("CreateTopUp", request, timeout=1.5)
    assert state(told) == "PENDING"
    assert await moody.available(OWNER) == 0
    report = rail_report(told.name, "SUCCEEDED", rail_reference="by letter")
    booked = await moody.call("ReportRailResult", report, as_=OPERATOR)
    assert (booked.changed, state(booked.top_up), booked.top_up.rail_reference) == (True, "SUCCEEDED", "by letter")
    # The request that was left open has its answer now.
    final, headers = await moody.call_with_headers("CreateTopUp", request)
    assert (final, headers["x-danbao-replayed"]) == (booked.top_up, "true")
    assert await moody.available(OWNER) == 500


# --- money out --------------------------------------------------------------------------------------------------------

OUT = [
    # mood, its first answer, the state in the end; then the wallet, and what was paid by the bank
    ("", "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.DECLINE, "FAILED", "FAILED", 1000, 0),
    (Mood.REFUSE_PAYBACK, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.SLOW, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.TIMEOUT, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.LOST, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.UNKNOWN_DECLINE, "FAILED", "FAILED", 1000, 0),
    (Mood.LATE, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.LATE_DECLINE, "FAILED", "FAILED", 1000, 0),
    (Mood.DUPLICATE, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.OUT_OF_ORDER, "SUCCEEDED", "SUCCEEDED", 600, 400),
    (Mood.RETURN, "SUCCEEDED", "RETURNED", 1000, 0),
    (Mood.SETTLE, "SUCCEEDED", "SUCCEEDED", 600, 400),
]


@pytest.mark.parametrize(("mood", "answer", "end", "wallet", "paid"), OUT)
async def test_money_goes_out(moody: PaymentsStack, mood, answer, end, wallet, paid):
    await moody.fund(OWNER, 1000)
    request = withdrawal(OWNER, 400, instrument=mood, metadata={"k": "v"})
    told = await moody.call("CreateWithdrawal", request)
    assert (state(told), dict(told.metadata)) == (answer, {"k": "v"})

    async def read() -> tuple[Any, ...]:
        now = await moody.call("GetWithdrawal", rail_pb2.GetWithdrawalRequest(name=told.name))
        return state(now), await moody.available(OWNER), -(await rail_balances(moody))[1]

    assert await settled(read, (end, wallet, paid)) == (end, wallet, paid)
    again, headers = await moody.call_with_headers("CreateWithdrawal", request)
    assert (again, headers["x-danbao-replayed"]) == (told, "true")
    kinds = await events_of(moody)
    assert kinds.count("withdrawal_unknown") == (mood in SILENT_AT_FIRST)
    assert kinds.count("withdrawal_succeeded") + kinds.count("withdrawal_failed") == 1


async def test_a_withdrawal_that_waits_is_told_as_it_stands_and_its_money_has_left(moody: PaymentsStack):
    await moody.fund(OWNER, 1000)
    request = withdrawal(OWNER, 400, instrument="silent")
    told = await moody.call("CreateWithdrawal", request, timeout=1)
    assert (state(told), await moody.available(OWNER)) == ("PENDING", 600)
    back = rail_report(told.name, "FAILED", failure="no such account")
    assert (await moody.call("ReportRailResult", back, as_=OPERATOR)).withdrawal.failure == "no such account"
    final = await moody.call("CreateWithdrawal", request)
    assert (final.name, state(final), await moody.available(OWNER)) == (told.name, "FAILED", 1000)


# --- money back -------------------------------------------------------------------------------------------------------

BACK = [
    # mood; what was asked back and paid back in the end; the wallet, and what was paid by the bank
    (Mood.OK, 400, 400, 600, 400),
    (Mood.REFUSE_PAYBACK, 0, 0, 1000, 0),
    (Mood.SLOW, 400, 400, 600, 400),
    (Mood.TIMEOUT, 400, 400, 600, 400),
    (Mood.LOST, 400, 400, 600, 400),
    (Mood.LATE, 400, 400, 600, 400),
    (Mood.DUPLICATE, 400, 400, 600, 400),
]


@pytest.mark.parametrize(("mood", "asked", "paid", "wallet", "by_bank"), BACK)
async def test_money_goes_back(moody: PaymentsStack, mood, asked, paid, wallet, by_bank):
    made = await moody.call("CreateTopUp", top_up(OWNER, 1000, instrument=mood))
    assert state(made) == "SUCCEEDED"
    request = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.name, amount=money(400))
    told = await moody.call("RefundTopUp", request)
    assert (told.refunded_minor, told.refunds_settled_minor) == (asked, paid)
    assert (await moody.available(OWNER), -(await rail_balances(moody))[1]) == (wallet, by_bank)
    again, headers = await moody.call_with_headers("RefundTopUp", request)
    assert (again, headers["x-danbao-replayed"]) == (told, "true")
    kinds = await events_of(moody)
    assert kinds.count("rail_refund_unknown") == (mood in SILENT_AT_FIRST)
    assert kinds.count("top_up_refund_settled") + kinds.count("top_up_refund_refused") == 1


async def test_what_the_rail_refuses_to_pay_back_is_in_the_wallet_and_can_go_out_otherwise(moody: PaymentsStack):
    made = await moody.call("CreateTopUp", top_up(OWNER, 1000, instrument="refuse-payback"))
    back = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.name)
    assert (await moody.call("RefundTopUp", back)).refunded_minor == 0
    assert state(await moody.call("CreateWithdrawal", withdrawal(OWNER, 1000))) == "SUCCEEDED"
    assert await moody.available(OWNER) == 0
