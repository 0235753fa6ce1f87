"""Money of cases, disputes and claims under every kind of misbehaviour of payments: each ends once, case and all."""

import asyncio
import os
import signal
import time

import pytest

from danbao.escrow.v1 import claim_pb2, dispute_pb2, refund_pb2, trade_pb2

C, D, K = refund_pb2.RefundCase.State, dispute_pb2.Dispute.State, claim_pb2.Claim.State
T = trade_pb2.Trade.State
BUYER, SELLER, WALLET = "subjects/buyer", "subjects/seller", "user.available"
AMOUNT = {"currency": "CNY", "amount_minor": 1000}


async def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.05)


@pytest.fixture
def short_lease(monkeypatch):
    monkeypatch.setattr("danbao_escrow.application.steps.LEASE_MS", 300)
    monkeypatch.setattr("danbao_escrow.application.steps.FIRST_BACKOFF_MS", 200)


@pytest.fixture
def short_call(monkeypatch):
    monkeypatch.setattr("danbao_escrow.clients.payments.CALL_S", 0.3)


class Money:
    """One way for the money of a case, dispute or claim to move: what asks for it, and how it stands afterwards."""

    def __init__(self, stack, client, kind):
        self.stack, self.client, self.kind = stack, client, kind

    async def begin(self):
        """Everything up to the command that moves money; gives that command."""
        client, stack = self.client, self.stack
        stack.credit.terms |= {"member": True, "compensation_limit_minor": 10**6}
        trade = await client.shipped(5000, fee_bps=0)
        self.trade = trade
        if self.kind == "claim":
            await client.give("ConfirmLines", trade, "BUYER")
            stack.payments.balances["subjects/seller", "guarantee.deposit"] += 400
            stack.payments.balances["platform", "guarantee.fund"] += 600
            self.thing = await client.ask("OpenClaim", trade, "BUYER", amount=AMOUNT)
            return "DecideClaim", "ARBITER", {"compensation_minor": 1000}
        if self.kind in ("case", "return"):
            returns = self.kind == "return"
            self.thing = await client.ask("OpenRefundCase", trade, "BUYER", with_return=returns, amount=AMOUNT)
            if not returns:
                return "AcceptRefundCase", "SELLER", {}
            await client.ask("AcceptRefundCase", self.thing, "SELLER")
            await client.ask("SubmitReturn", self.thing, "BUYER")
            return "ConfirmReturn", "SELLER", {}
        self.thing = await client.disputed(trade, amount=AMOUNT)
        parts = {"buyer_minor": 300, "seller_minor": 700}
        if self.kind == "agreement":
            await client.ask("MakeOffer", self.thing, "SELLER", **parts)
            return "AcceptOffer", "BUYER", {}
        await client.ask("DecideDispute", self.thing, "ARBITER", **parts)
        await client.ask("AppealDispute", self.thing, "SELLER")
        return "DecideDispute", "ARBITER", parts

    async def check_ended(self):
        """Moved once, everywhere."""
        after, trade = await self.client.seen(self.thing), await self.client.trade(self.trade.name)
        balances = self.stack.payments.balances
        assert not after.step_pending
        if self.kind == "claim":
            assert after.state == K.STATE_COMPENSATED
            assert (trade.compensated_minor, balances[BUYER, WALLET]) == (1000, 10**9 - 4000)
            assert balances["subjects/seller", "guarantee.deposit"] == balances["platform", "guarantee.fund"] == 0
            held = 0
        else:
            back = 1000 if self.kind in ("case", "return") else 300
            assert after.state == (C.STATE_SUCCEEDED if back == 1000 else D.STATE_CLOSED)
            assert (trade.refunded_minor, trade.released_minor) == (back, 1000 - back)
            assert balances[BUYER, WALLET] == 10**9 - 5000 + back
            assert trade.lines[0].open_case == ""
            held = 4000
        assert (
            balances[trade.name, "escrow.trade"]
            == held
            == (trade.funded_minor - trade.released_minor - trade.refunded_minor)
        )
        assert set(self.stack.payments.executed.values()) <= {1}
        assert all(balance >= 0 for balance in balances.values())
        return after


KINDS = ("case", "return", "agreement", "decision", "claim")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "script",
    [["lost"], ["dropped"], ["late"], ["half"], ["dropped", "late", "lost"]],
    ids="-".join,
)
async def test_an_unknown_outcome_is_asked_for_again_under_the_same_id(stack, client, short_call, kind, script):
    money = Money(stack, client, kind)
    method, role, fields = await money.begin()
    stack.payments.script.extend(script)
    answer = await client.ask(method, money.thing, role, 10, **fields)
    assert await money.check_ended() == answer


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_request_joins_the_one_under_way_and_finds_its_answer(stack, client, refusal, kind):
    money = Money(stack, client, kind)
    method, role, fields = await money.begin()
    stack.payments.delay_s = 1.2
    asking = client.as_(subject="judge", roles="arbiter") if role == "ARBITER" else client
    request = client.case_request(method, money.thing, role, **fields)
    with pytest.raises(refusal) as refused:
        await asking.call(method, request, timeout=0.9)
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "REQUEST_IN_PROGRESS")
    one, two = await asyncio.gather(asking.call(method, request, 10), asking.call(method, request, 10))
    assert one == two
    assert await money.check_ended() == one
    count = stack.payments.calls
    assert await asking.call(method, request) == one
    assert stack.payments.calls == count


@pytest.mark.parametrize("kind", KINDS[:-1])
async def test_a_refused_step_blocks_visibly_and_goes_on(stack, client, refusal, short_lease, kind):
    money = Money(stack, client, kind)
    method, role, fields = await money.begin()
    stack.payments.script.extend(["refuse:ACCOUNT_FROZEN"] * 3)
    answer = await client.ask(method, money.thing, role, **fields)
    assert (answer.step_pending, answer.step_blocked, answer.step_refusal) == (True, True, "ACCOUNT_FROZEN")
    trade = await client.trade(money.trade.name)
    assert (trade.step_pending, trade.step_blocked) == (True, True)
    assert stack.payments.escrow_of(trade.name) == 5000, "the money stays"
    other = {"AcceptRefundCase": "CancelRefundCase", "ConfirmReturn": "CancelRefundCase"}.get(method, "AddEvidence")
    with pytest.raises(refusal) as refused:
        await client.ask(other, money.thing, "BUYER", 0.4)
    assert refused.value.reason == "STEP_IN_FLIGHT", "it stands: nothing else is done meanwhile"

    async def moved():
        return not (await client.seen(money.thing)).step_pending

    await until(moved)
    after = await money.check_ended()
    assert not after.step_blocked
    kinds = [event.WhichOneof("payload") for event in await stack.events()]
    assert kinds.count("step_blocked") == 1


async def test_a_refused_compensation_leaves_the_claim_open(stack, client, refusal):
    money = Money(stack, client, "claim")
    method, role, fields = await money.begin()
    stack.payments.script.append("refuse:ACCOUNT_FROZEN")
    with pytest.raises(refusal) as refused:
        await client.ask(method, money.thing, role, **fields)
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "PAYMENT_REFUSED")
    assert refused.value.metadata["payment_reason"] == "ACCOUNT_FROZEN"
    claim = await client.seen(money.thing)
    assert (claim.state, claim.step_pending, claim.step_refusal) == (K.STATE_OPEN, False, "ACCOUNT_FROZEN")
    trade = await client.trade(money.trade.name)
    assert (trade.step_pending, trade.open_claim, trade.compensated_minor) == (False, claim.name, 0)
    await client.ask(method, money.thing, role, **fields)
    await money.check_ended()


@pytest.mark.parametrize("kind", ["case", "decision", "claim"])
async def test_a_replica_that_dies_in_between(bare_stack, refusal, kind):
    """A process of its own is killed while payments executes; another finds the intent and ends it."""
    stack = await bare_stack.start(clock="real")
    process, port = await stack.own_process()
    try:
        client = stack.client
        doomed = type(client)(port, stack.authority)
        money = Money(stack, client, kind)
        method, role, fields = await money.begin()
        stack.payments.delay_s = 1.0
        request = client.case_request(method, money.thing, role, **fields)
        calls = stack.payments.calls
        asker = doomed.as_(subject="judge", roles="arbiter") if role == "ARBITER" else doomed
        asking = asyncio.create_task(asker.call(method, request, timeout=5))

        async def at_payments():
            return stack.payments.calls > calls

        await until(at_payments)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(refusal):
            await asking
        await doomed.channel.close()
    finally:
        process.kill()
        process.wait()
    stack.payments.delay_s = 0.0
    again = client.as_(subject="judge", roles="arbiter") if role == "ARBITER" else client
    answer = await again.call(method, request, timeout=20)
    assert again.replayed
    assert await money.check_ended() == answer


async def test_two_replicas_that_fight_for_the_steps_of_cases(bare_stack, monkeypatch):
    monkeypatch.setattr("danbao_escrow.application.steps.LEASE_MS", 1)
    monkeypatch.setattr("danbao_escrow.workers.sweeper._EVERY_S", 0.02)
    stack = await bare_stack.start(replicas=2)
    one, two = [stack.client_of(replica) for replica in stack.replicas]
    trades = [await one.shipped(5000, fee_bps=0) for _ in range(10)]
    cases = [await two.ask("OpenRefundCase", trade, "BUYER", amount=AMOUNT) for trade in trades]
    stack.payments.delay_s = 0.1
    stack.payments.script.extend(["lost", "ok", "dropped", "ok", "half", "ok", "ok", "lost"])
    requests = [one.case_request("AcceptRefundCase", case, "SELLER") for case in cases]
    replies = await asyncio.gather(
        *[client.call("AcceptRefundCase", request, timeout=20) for request in requests for client in (one, two)]
    )
    for first, second in zip(replies[::2], replies[1::2], strict=True):
        assert first == second
        assert first.state == C.STATE_SUCCEEDED
    assert stack.payments.balances[BUYER, WALLET] == 10**9 - 10 * 4000
    stack.assert_each_step_moved_once()
    events = await stack.events()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    kinds = [event.WhichOneof("payload") for event in events]
    assert kinds.count("refund_case_succeeded") == kinds.count("lines_refunded") == 10
