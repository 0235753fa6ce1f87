"""Deposits move exactly once, whoever dies when and whoever asks at once; and whose work it was can be seen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from danbao.credit.v1 import membership_pb2, membership_pb2_grpc
from danbao_credit.application.deposits import LEASE_MS
from danbao_kit.testing.free_ports import free_ports

from .test_memberships import OPERATOR, PARTNER, SELLER, START, Members, refusal

S = membership_pb2.Membership
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
async def members(make_credit: Any, catalogue: Any) -> Members:
    made = Members(await make_credit(clock="test"), catalogue)
    await made.move_to(START)
    return made


async def lease_over(members: Members) -> None:
    """As if the lease of every pending step had passed."""
    await members.execute(
        f"UPDATE deposit_steps SET attempt_at = attempt_at - interval '{LEASE_MS + 1000} milliseconds'"
        " WHERE state = 'PENDING'"
    )


@pytest.mark.parametrize("failpoint", ["deposit_before_call", "deposit_after_call"])
async def test_credit_killed_around_its_call_moves_the_money_once(members: Members, failpoint: str) -> None:
    """kill -9 between intent and call, and between call and result; another credit takes the step over."""
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 500_000
    settings = members.credit.settings
    (port,) = free_ports(1)
    environment = os.environ | {
        "DANBAO_LISTEN": f"127.0.0.1:{port}",
        "DANBAO_DATABASE_DSN": settings.database_dsn,
        "DANBAO_PAYMENTS_ADDRESS": settings.payments_address,
        "DANBAO_ESCROW_ADDRESS": settings.escrow_address,
        "DANBAO_TLS_CERT": str(settings.tls_cert),
        "DANBAO_TLS_KEY": str(settings.tls_key),
        "DANBAO_TLS_CA": str(settings.tls_ca),
        "DANBAO_CLOCK": "test",
        "DANBAO_LOG_LEVEL": "error",
        "DANBAO_FAILPOINT": f"{failpoint}=kill",
    }
    command = [sys.executable, "-m", "danbao_credit", "serve"]
    with subprocess.Popen(command, env=environment) as doomed:  # noqa: ASYNC220
        try:
            from danbao_kit.testing.service import channel_as

            channel = channel_as("gateway", authority=members.credit.authority, service="credit", port=port)
            request = membership_pb2.FundDepositRequest(request_id="once", name=made.name)
            request.amount.currency, request.amount.amount_minor = "CNY", 100_000
            call = membership_pb2_grpc.MembershipServiceStub(channel).FundDeposit
            with pytest.raises(grpc.aio.AioRpcError):
                await call(request, timeout=20, metadata=PARTNER, wait_for_ready=True)
            async with asyncio.timeout(10):
                while doomed.poll() is None:
                    await asyncio.sleep(0.02)
            assert doomed.returncode == -signal.SIGKILL
            await channel.close()
        finally:
            doomed.kill()
    assert len(members.ledger.posted) == (failpoint == "deposit_after_call")
    assert (await members.get(made.name)).step_pending, "the intent is committed"
    await lease_over(members)
    paid = await members.fund(made.name, 100_000, request_id="once")
    assert (paid.state, paid.deposits[0].balance_minor) == (S.STATE_ACTIVE, 100_000)
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 100_000
    assert len(members.ledger.posted) == 1


async def test_a_process_that_was_overtaken_adds_nothing(members: Members) -> None:
    """The lease passes while the first call is still out: both ask under one id, and one outcome is written."""
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 500_000
    members.ledger.script, members.ledger.late_s = ["late"], 2.0
    funding = asyncio.create_task(members.fund(made.name, 100_000))
    async with asyncio.timeout(10):
        while not members.ledger.calls:
            await asyncio.sleep(0.01)
    await lease_over(members)
    paid = await funding
    await asyncio.sleep(2.2)
    assert len(members.ledger.calls) == 2
    assert len(set(members.ledger.calls)) == len(members.ledger.posted) == 1
    assert paid.deposits[0].balance_minor == (await members.get(made.name)).deposits[0].balance_minor == 100_000
    steps = await members.execute("SELECT state, claim FROM deposit_steps")
    assert [tuple(step) for step in steps] == [("DONE", 1)]


async def test_two_deposits_at_once_follow_one_another_and_both_count(members: Members) -> None:
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 100_000
    members.ledger.script = ["late"]
    answers = await asyncio.gather(members.fund(made.name, 40_000), members.fund(made.name, 60_000))
    assert max(answer.deposits[0].balance_minor for answer in answers) == 100_000
    assert (await members.get(made.name)).state == S.STATE_ACTIVE
    assert members.ledger.balance(SELLER, "user.available") == 0


async def test_one_request_sent_twice_at_once_is_one_deposit(members: Members) -> None:
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 500_000
    members.ledger.script = ["late"]
    first, second = await asyncio.gather(*[members.fund(made.name, 100_000, request_id="same") for _ in range(2)])
    assert first == second
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 100_000


async def test_money_that_waits_longer_than_its_caller_answers_step_in_flight(members: Members) -> None:
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 500_000
    members.ledger.script, members.ledger.late_s = ["late"], 2.0
    slow = asyncio.create_task(members.fund(made.name, 100_000))
    async with asyncio.timeout(10):
        while not members.ledger.calls:
            await asyncio.sleep(0.01)
    for call in (members.fund(made.name, 5, timeout_s=1), members.ask("LeaveMembership", name=made.name, timeout_s=1)):
        assert (await refusal(call))[:2] == ("ABORTED", "STEP_IN_FLIGHT")
    assert (await slow).state == S.STATE_ACTIVE


async def test_a_suspension_while_money_is_on_its_way_stands(members: Members) -> None:
    made = await members.applied()
    members.ledger.balances[SELLER, "user.available", "CNY"] = 500_000
    members.ledger.script, members.ledger.late_s = ["late"], 1.0
    funding = asyncio.create_task(members.fund(made.name, 100_000))
    async with asyncio.timeout(10):
        while not members.ledger.calls:
            await asyncio.sleep(0.01)
    suspended = await members.ask("SuspendMembership", OPERATOR, name=made.name, reason="forged papers")
    assert (suspended.state, suspended.step_pending) == (S.STATE_SUSPENDED, True)
    paid = await funding
    assert (paid.state, paid.deposits[0].balance_minor) == (S.STATE_SUSPENDED, 100_000)


async def test_leaving_and_a_claim_at_once_end_in_one_of_two_orders(members: Members) -> None:
    """Either the claim was heard first, and nobody leaves; or it keeps the deposit until it ends."""
    paid = await members.active()
    leaving = asyncio.create_task(members.ask("LeaveMembership", name=paid.name))
    await members.claim("claim_opened")
    (left,) = await asyncio.gather(leaving, return_exceptions=True)
    if isinstance(left, grpc.aio.AioRpcError):
        assert left.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await members.get(paid.name)).state == S.STATE_ACTIVE
        return
    assert left.state == S.STATE_LEAVING
    await members.move_to(left.return_time.ToDatetime(START.tzinfo))
    assert (await members.get(paid.name)).state == S.STATE_LEAVING
    assert members.ledger.balance(SELLER, "guarantee.deposit") == 100_000


async def test_fraud_suspends_at_once_in_the_trace_that_caused_it(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    from danbao_credit.workers import memberships

    monkeypatch.setattr(memberships, "tracer", provider.get_tracer("test"))
    paid = await members.active(100_000)
    await members.claim("claim_opened")
    await members.claim("claim_compensated", traceparent=TRACE)
    found = await members.until(paid.name, S.STATE_SUSPENDED)
    assert found.causes[0].code == "FRAUD"
    assert not (await members.badge()).member
    terms = await members.terms()
    assert (terms.member, terms.blocked, terms.score) == (False, True, 350)
    (told,) = [event for event in await members.events() if event.WhichOneof("payload") == "membership_suspended"]
    assert told.traceparent == TRACE
    assert told.membership_suspended.causes[0].code == "FRAUD"
    looks = [span for span in spans.get_finished_spans() if span.name == "credit.look_at_membership"]
    assert f"{trace.format_trace_id(looks[-1].links[0].context.trace_id)}" == "a" * 32
    # Neither money nor an operator's word brings a cheat back.
    why = {"name": paid.name, "reason": "please"}
    assert (await refusal(members.ask("ReinstateMembership", OPERATOR, **why)))[1] == "NOT_ELIGIBLE"


async def test_a_look_that_was_never_woken_is_made_all_the_same(members: Members) -> None:
    """What makes it due is on the row: a process that dies between commit and look leaves it to the next."""
    paid = await members.active(100_000)
    await members.credit.stop()
    await members.execute("UPDATE deposits SET balance_minor = 1")
    await members.execute("UPDATE memberships SET look_time = create_time, look_cause = $1", TRACE)
    await members.credit.start()
    await members.until(paid.name, S.STATE_NOTICE)
    (told,) = [event for event in await members.events() if event.WhichOneof("payload") == "membership_notice_given"]
    assert told.traceparent == TRACE
