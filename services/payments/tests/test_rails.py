"""What rails are asked again, how often, and what it takes before they are asked at all."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

import pytest

from danbao.payments.v1 import ledger_pb2, payment_pb2
from danbao_kit.group_commit import Outcome
from danbao_kit.money import Money
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.application.ports import DueCharge, RailUnavailable
from danbao_payments.clients.simulated_rail import SimulatedRail
from danbao_payments.domain.errors import BalanceOverflow
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, money, new_id, top_up
from danbao_payments.workers.rails import RailWorker

MOST = 2**63 - 1


class Backlog:
    """Work that stays overdue until its answer is booked; what cannot be booked is the oldest."""

    def __init__(self, stuck: int, fine: int) -> None:
        self.stuck = [uuid4() for _ in range(stuck)]
        self.fine = [uuid4() for _ in range(fine)]
        self.reported: list[UUID] = []

    async def overdue_rail_work(self, *, older_than_s: float, limit: int, without: Collection[UUID]) -> Any:
        due = [movement for movement in (*self.stuck, *self.fine) if movement not in without]
        return [DueCharge(movement, "rails/simulated", "", Money("CNY", 1)) for movement in due[:limit]]

    async def submit(self, submission: Any) -> Outcome:
        movement = submission.command.top_up
        self.reported.append(movement)
        if movement in self.stuck:
            return Outcome(error=BalanceOverflow(movement, amount_minor=1))
        self.fine.remove(movement)
        return Outcome(None)


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


def worker(backlog: Any, clock: list[float], rail: Any = None) -> RailWorker:
    return RailWorker({"rails/simulated": rail or SimulatedRail()}, backlog, backlog, now=lambda: clock[0])


async def look(at: RailWorker) -> None:
    await at.look()
    await asyncio.sleep(0)
    while at.under_way:
        await asyncio.sleep(0)


async def test_what_cannot_be_booked_does_not_starve_what_can(clock: list[float]):
    backlog = Backlog(stuck=250, fine=3)
    rails = worker(backlog, clock)
    await look(rails)
    await look(rails)
    assert backlog.fine == []


@pytest.mark.parametrize("unbooked", ["refused by the books", "the rail is away", "the rail answers nonsense"])
async def test_it_is_asked_again_ever_more_rarely(clock: list[float], unbooked: str):
    backlog = Backlog(stuck=1, fine=0)
    asked: list[float] = []

    class Watched(SimulatedRail):
        async def charge(self, **asking: Any) -> Any:
            asked.append(clock[0])
            if unbooked == "the rail is away":
                raise RailUnavailable
            if unbooked == "the rail answers nonsense":
                raise ValueError
            return await super().charge(**asking)

    rails = worker(backlog, clock, Watched())
    for second in range(200):
        clock[0] = float(second)
        await look(rails)
    assert asked == [0, 3, 9, 21, 45, 93, 153]


async def test_the_simulated_rail_has_a_limit():
    rail = SimulatedRail()
    most = await rail.charge(reference="r", instrument="", amount=Money("CNY", 10**13))
    more = await rail.charge(reference="r", instrument="", amount=Money("CNY", 10**13 + 1))
    assert most.accepted
    assert (more.accepted, more.failure) == (False, "above the rail's limit")


async def test_one_user_s_absurd_top_up_leaves_the_rail_to_the_others(stack: PaymentsStack):
    whale = as_caller(subject="whale", roles="user")
    answer = await stack.call("CreateTopUp", top_up("subjects/whale", MOST), as_=whale)
    assert (answer.state, answer.failure) == (payment_pb2.TopUp.STATE_FAILED, "above the rail's limit")
    await stack.fund("subjects/other", 5)
    assert await stack.available("subjects/other") == 5


# What has come takes room on the one account, and on the other only what goes back.
@pytest.mark.parametrize(("kind", "nearly"), [("rail.in_transit", 3), ("rail.settled", 9)])
async def test_no_room_on_the_rail_s_account_refuses_the_top_up(stack: PaymentsStack, kind: str, nearly: int):
    rail, opening = {"owner": "rails/simulated", "kind": kind}, {"owner": "platform", "kind": "opening"}
    debit, credit = (rail, opening) if kind == "rail.in_transit" else (opening, rail)
    leg = {"debit": debit, "credit": credit, "amount": money(MOST - 10)}
    post = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
    await stack.call("PostTransaction", post, as_=OPERATOR)
    with pytest.raises(RemoteError) as refused:
        await stack.call("CreateTopUp", top_up("subjects/a", 11))
    assert refused.value.reason == "BALANCE_OVERFLOW"
    # Two in one batch have no more room than two after one another; one that waits for its rail keeps its room.
    slow = [asyncio.create_task(stack.call("CreateTopUp", top_up("subjects/a", 6, instrument="slow"))) for _ in "ab"]
    done = await asyncio.gather(*slow, return_exceptions=True)
    assert sorted(getattr(each, "reason", "") for each in done) == ["", "BALANCE_OVERFLOW"]
    waiting = asyncio.create_task(stack.call("CreateTopUp", top_up("subjects/a", nearly, instrument="slow")))
    while not await stack.sql("SELECT 1 FROM top_ups WHERE state = 'PENDING'"):
        await asyncio.sleep(0.02)
    with pytest.raises(RemoteError) as refused:
        await stack.call("CreateTopUp", top_up("subjects/b", 2))
    assert refused.value.reason == "BALANCE_OVERFLOW"
    assert (await waiting).state == payment_pb2.TopUp.STATE_SUCCEEDED
