"""Money steps under every kind of misbehaviour of payments and of ourselves: each ends once."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from uuid import UUID

import pytest

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.domain import commands
from danbao_escrow.domain.commands import ClaimStep, SettleStep, StepDone, StepRefused
from danbao_escrow.domain.model import Role
from danbao_escrow.testing.world import World, new_trade
from danbao_kit.group_commit import Submission

S = trade_pb2.Trade.State


async def until(condition, seconds=15.0):
    """Waits until the coroutine function says yes."""
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


@pytest.mark.parametrize(
    "script",
    [
        ["lost"],
        ["dropped"],
        ["late"],
        ["half"],
        ["lost", "dropped", "lost"],
        ["dropped", "late", "lost"],
    ],
    ids="-".join,
)
async def test_an_unknown_outcome_is_asked_for_again_under_the_same_id(stack, client, short_call, script):
    trades = [await client.created(5000) for _ in range(4)]
    stack.payments.script.extend(script)
    paid = await asyncio.gather(*[client.give("PayTrade", trade, "BUYER", timeout=10) for trade in trades])
    assert {trade.state for trade in paid} == {S.STATE_AWAITING_SHIPMENT}
    assert len(stack.payments.executed) == 4
    stack.assert_each_step_moved_once()
    stack.payments.script.extend(script)
    cancelled = await asyncio.gather(*[client.give("CancelLines", trade, "SELLER", timeout=10) for trade in trades])
    assert {trade.state for trade in cancelled} == {S.STATE_CLOSED}
    assert stack.payments.balances["subjects/buyer", "user.available"] == 10**9
    stack.assert_each_step_moved_once()


async def test_payments_is_away_longer_than_the_caller_waits(stack, client, refusal, short_lease):
    trade = await client.created(5000)
    stack.payments.script.extend(["dropped"] * 12)
    pay = client.request("PayTrade", trade, "BUYER")
    with pytest.raises(refusal) as refused:
        await client.call("PayTrade", pay, timeout=0.5)
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "REQUEST_IN_PROGRESS")
    pending = await client.trade(trade.name)
    assert (pending.state, pending.step_pending) == (S.STATE_PENDING_PAYMENT, True)
    paid = await client.call("PayTrade", pay, timeout=15)
    assert paid.state == S.STATE_AWAITING_SHIPMENT
    assert client.replayed
    stack.assert_each_step_moved_once()


async def test_a_refused_release_blocks_visibly_and_goes_on_under_the_next_generation(stack, client, short_lease):
    trade = await client.shipped(5000)
    stack.payments.script.extend(["refuse:ACCOUNT_FROZEN"] * 2)
    confirm = client.request("ConfirmLines", trade, "BUYER")
    blocked = await client.call("ConfirmLines", confirm)
    assert not client.replayed
    assert (blocked.step_pending, blocked.step_blocked, blocked.step_refusal) == (True, True, "ACCOUNT_FROZEN")
    assert blocked.state == S.STATE_AWAITING_CONFIRMATION
    assert stack.payments.escrow_of(trade.name) == 5000

    async def done():
        return (await client.trade(trade.name)).state == S.STATE_COMPLETED

    await until(done)
    after = await client.trade(trade.name)
    assert (after.step_blocked, after.step_pending, after.step_refusal) == (False, False, "")
    (step,) = await stack.rows("SELECT * FROM steps WHERE kind = 'RELEASE'")
    assert (step["generation"], step["state"], step["refusals"]) == (2, "DONE", 2)
    events = [event.WhichOneof("payload") for event in await stack.events()]
    assert events[-2:] == ["step_blocked", "lines_released"]
    assert await client.call("ConfirmLines", confirm) == blocked, "the recorded answer stays"
    assert client.replayed
    stack.assert_each_step_moved_once()


async def test_other_money_waits_for_the_step_and_gives_up_in_time(stack, client, refusal):
    trade = await client.created(5000)
    stack.payments.delay_s = 1.6
    paying = asyncio.create_task(client.give("PayTrade", trade, "BUYER"))
    await asyncio.sleep(0.2)
    with pytest.raises(refusal) as refused:
        await client.give("CancelTrade", trade, "BUYER", timeout=1.0)
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "STEP_IN_FLIGHT")
    with pytest.raises(refusal) as refused:
        await client.give("CancelTrade", trade, "BUYER", timeout=5)
    assert (refused.value.reason, refused.value.metadata["state"]) == ("TRADE_STATE_INVALID", "AWAITING_SHIPMENT")
    assert (await paying).state == S.STATE_AWAITING_SHIPMENT


async def test_while_money_moves_no_other_money_command_is_called_legal(stack, client, refusal):
    trade = await client.paid(3000, 5000)
    await client.give("ShipLines", trade, "SELLER", line_ids=["1"])
    stack.payments.delay_s = 0.8
    confirming = asyncio.create_task(client.give("ConfirmLines", trade, "BUYER", line_ids=["1"]))
    await asyncio.sleep(0.3)
    with pytest.raises(refusal) as refused:
        await client.give("ShipLines", trade, "SELLER", line_ids=["1"])
    assert refused.value.reason == "TRADE_STATE_INVALID"
    assert refused.value.metadata["legal_commands"] == "ShipLines", "of the other line"
    await confirming
    with pytest.raises(refusal) as refused:
        await client.give("ShipLines", trade, "SELLER", line_ids=["1"])
    assert refused.value.metadata["legal_commands"] == "CancelLines,ShipLines"
    unpaid = await client.created(5000)
    paying = asyncio.create_task(client.give("PayTrade", unpaid, "BUYER"))
    await asyncio.sleep(0.3)
    with pytest.raises(refusal) as refused:
        await client.give("ShipLines", unpaid, "SELLER")
    assert refused.value.metadata["legal_commands"] == "", "it cannot be cancelled either while it is being paid"
    await paying


async def test_the_sweeper_takes_over_from_a_replica_that_does_not_run_its_steps(bare_stack, short_lease):
    stack = await bare_stack.start(replicas=2)
    sick, well = stack.replicas
    client = stack.client_of(sick)
    trade = await client.created(5000)
    for task in sick._tasks:
        task.cancel()
    await sick.steps.stop()
    paid = await client.give("PayTrade", trade, "BUYER", timeout=15)
    assert paid.state == S.STATE_AWAITING_SHIPMENT, "answered by the sick one, executed by the other"
    assert (await stack.client_of(well).trade(trade.name)) == paid
    stack.assert_each_step_moved_once()


async def test_two_replicas_that_fight_for_every_step_harm_nobody(bare_stack, monkeypatch):
    """Leases far too short: both execute the same steps at the same time, and each still moves money once."""
    monkeypatch.setattr("danbao_escrow.application.steps.LEASE_MS", 1)
    monkeypatch.setattr("danbao_escrow.workers.sweeper._EVERY_S", 0.02)
    stack = await bare_stack.start(replicas=2)
    one, two = [stack.client_of(replica) for replica in stack.replicas]
    stack.payments.delay_s = 0.1
    stack.payments.script.extend(["lost", "ok", "dropped", "ok", "half", "ok", "ok", "lost"])
    trades = [await one.created(1000 + number, postage=10) for number in range(20)]
    requests = [one.request("PayTrade", trade, "BUYER") for trade in trades]
    replies = await asyncio.gather(
        *[client.call("PayTrade", request, timeout=20) for request in requests for client in (one, two)]
    )
    for first, second in zip(replies[::2], replies[1::2], strict=True):
        assert first == second
        assert first.state == S.STATE_AWAITING_SHIPMENT
    for trade in trades:
        await two.give("ShipLines", trade, "SELLER")
    await asyncio.gather(*[one.give("ConfirmLines", trade, "BUYER", timeout=20) for trade in trades])
    assert stack.payments.calls > 4, "the same steps were sent more than once"
    assert len(stack.payments.executed) == 40
    stack.assert_each_step_moved_once()
    timeline = await stack.rows("SELECT trade_id, command, count(*) FROM timeline_entries GROUP BY 1, 2")
    assert {row["count"] for row in timeline} == {1}
    events = await stack.events()
    assert [event.sequence for event in events] == list(range(1, 81))


async def test_of_a_timer_and_a_buyer_one_wins(bare_stack):
    stack = await bare_stack.start(replicas=2)
    client = stack.client_of(stack.replicas[0])
    trades = [await client.shipped(1000) for _ in range(15)]

    async def confirm(trade):
        try:
            return await client.give("ConfirmLines", trade, "BUYER", timeout=20)
        except Exception as error:  # noqa: BLE001 - whatever the service says
            return error

    _, *answers = await asyncio.gather(stack.advance(days=20), *[confirm(trade) for trade in trades])
    for answer in answers:
        assert getattr(answer, "state", None) == S.STATE_COMPLETED or answer.reason == "TRADE_STATE_INVALID"
    for trade in trades:
        after = await client.trade(trade.name)
        assert (after.state, after.released_minor) == (S.STATE_COMPLETED, 1000)
    stack.assert_each_step_moved_once()
    assert len(stack.payments.executed) == 30


async def test_kill_9_between_intent_and_result(bare_stack, refusal):
    """A process of its own is killed while payments executes; another finds the intent and ends it."""
    stack = await bare_stack.start(clock="real")
    process, port = await _service_process(stack)
    try:
        client = stack.client
        doomed = type(client)(port, stack.authority)
        trade = await client.created(5000)
        stack.payments.delay_s = 1.0
        pay = client.request("PayTrade", trade, "BUYER")
        paying = asyncio.create_task(doomed.call("PayTrade", pay, timeout=5))

        async def at_payments():
            return stack.payments.calls == 1

        await until(at_payments)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(refusal) as refused:
            await paying
        assert refused.value.code == "UNAVAILABLE"
        await doomed.channel.close()
    finally:
        process.kill()
        process.wait()
    stack.payments.delay_s = 0.0
    paid = await client.call("PayTrade", pay, timeout=20)
    assert paid.state == S.STATE_AWAITING_SHIPMENT
    assert client.replayed
    stack.assert_each_step_moved_once()


def _spawn(environment):
    return subprocess.Popen([sys.executable, "-m", "danbao_escrow", "serve"], env=environment, stderr=subprocess.PIPE)


async def _service_process(stack):
    files = stack.authority.issue("escrow")
    environment = os.environ | {
        "DANBAO_LISTEN": "127.0.0.1:0",
        "DANBAO_DATABASE_DSN": stack.database.dsn,
        "DANBAO_TLS_CERT": str(files.cert),
        "DANBAO_TLS_KEY": str(files.key),
        "DANBAO_TLS_CA": str(files.ca),
        "DANBAO_PAYMENTS_ADDRESS": f"127.0.0.1:{stack.servers['payments']}",
        "DANBAO_CREDIT_ADDRESS": f"127.0.0.1:{stack.servers['credit']}",
    }
    process = _spawn(environment)
    while True:
        line = await asyncio.to_thread(process.stderr.readline)
        assert line, "the service ended before it listened"
        if line.startswith(b"{") and json.loads(line)["event"] == "listening":
            return process, json.loads(line)["port"]


async def test_own_commands_that_are_late_or_twice_change_nothing(stack, client):
    trade = await client.paid(5000)
    trade_id = UUID(trade.name.removeprefix("trades/"))
    before = await stack.rows("SELECT * FROM trades")
    commit = stack.replicas[0].group_commit
    for late in (
        SettleStep(trade_id, 1, 0, StepDone("transactions/x")),
        SettleStep(trade_id, 1, 0, StepRefused("LATE", "late")),
        SettleStep(trade_id, 2, 0, StepDone("transactions/x")),
        ClaimStep(trade_id, 1, 0, 0),
        commands.FireTimer(trade_id),
    ):
        outcome = await commit.submit(Submission(late))
        assert outcome.error is None
    assert await stack.rows("SELECT * FROM trades") == before
    assert len(stack.payments.executed) == 1


def test_a_result_of_another_generation_is_ignored():
    world = World()
    trade = world.shipped((5000,))
    world.give(commands.ConfirmLines, trade, Role.BUYER)
    blocked = world.settle(trade, StepRefused("ACCOUNT_FROZEN", "frozen"))
    assert world.steps[(trade.trade_id, 2)].generation == 1
    world.run(SettleStep(trade.trade_id, 2, 0, StepDone("transactions/old")), own=True)
    assert world.trades[trade.trade_id] == blocked
    done = world.settle(trade)
    assert (done.released_minor, done.step_blocked) == (5000, False)
    assert len(world.answers) == 2, "the payment and the refusal; nobody is answered twice"


def test_of_two_claims_of_one_lease_one_wins():
    world = World()
    trade = world.run(new_trade())
    world.give(commands.PayTrade, trade, Role.BUYER)
    assert len(world.taken) == 1
    world.run(ClaimStep(trade.trade_id, 1, 0, 0), own=True)
    world.run(ClaimStep(trade.trade_id, 1, 0, 0), own=True)
    assert [step.claim for step in world.taken] == [0, 1]


def test_backoff_grows_and_ends():
    world = World()
    trade = world.shipped((5000,))
    world.give(commands.ConfirmLines, trade, Role.BUYER)
    waits = []
    for _ in range(12):
        world.settle(trade, StepRefused("ACCOUNT_FROZEN", "frozen"))
        waits.append(world.steps[(trade.trade_id, 2)].attempt_in_ms)
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert waits[-1] == 60_000
    blocked = [entry for entry in world.timeline if entry.reason == "ACCOUNT_FROZEN"]
    assert len(blocked) == 1, "the timeline says it once"


async def test_advancing_the_clock_ends_what_falls_due_while_others_trade(stack, client, refusal):
    due = [await client.shipped(1000) for _ in range(10)]
    stack.payments.delay_s = 0.05
    stop = asyncio.Event()

    async def trade_on():
        while not stop.is_set():
            with contextlib.suppress(refusal):  # the clock may jump past pay-by in between
                await client.paid(10)

    busy = [asyncio.create_task(trade_on()) for _ in range(3)]
    await stack.advance(days=20)
    states = [(await client.trade(trade.name)).state for trade in due]
    stop.set()
    await asyncio.gather(*busy)
    assert set(states) == {S.STATE_COMPLETED}
    stack.assert_each_step_moved_once()
