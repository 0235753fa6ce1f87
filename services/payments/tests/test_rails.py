"""What rails are asked again, how often, and what it takes before they are asked at all."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

import pytest

from danbao.payments.v1 import ledger_pb2, payment_pb2
from danbao_kit.errors import OutcomeUnknown
from danbao_kit.group_commit import Outcome
from danbao_kit.money import Money
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.application.ports import (
    Direction,
    Rail,
    RailAnswer,
    RailNotice,
    RailOrder,
    RailUnavailable,
    Standing,
)
from danbao_payments.clients.simulated_rail import SimulatedRail
from danbao_payments.domain.errors import BalanceOverflow
from danbao_payments.domain.movement import Movement, MovementKind, RailResult
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, money, new_id, top_up
from danbao_payments.workers.rails import RailWorker

MOST = 2**63 - 1


def order(minor: int = 1, *, instrument: str = "", movement: UUID | None = None, **others: Any) -> RailOrder:
    of = Movement(MovementKind.TOP_UP, movement or uuid4())
    return RailOrder(of, Direction.CHARGE, "rails/simulated", instrument, Money("CNY", minor), **others)


class Backlog:
    """Work that stays overdue until its answer is booked; what cannot be booked is the oldest."""

    def __init__(self, stuck: int, fine: int) -> None:
        self.stuck = [uuid4() for _ in range(stuck)]
        self.fine = [uuid4() for _ in range(fine)]
        self.unknown: set[UUID] = set()
        self.reported: list[tuple[UUID, RailResult]] = []

    async def overdue_rail_work(self, *, older_than_s: float, limit: int, without: Collection[UUID]) -> Any:
        due = [movement for movement in (*self.stuck, *self.fine) if movement not in without]
        return [order(movement=movement, is_unknown=movement in self.unknown) for movement in due[:limit]]

    async def submit(self, submission: Any) -> Outcome:
        movement, result = submission.command.movement.id, submission.command.result
        self.reported.append((movement, result))
        if result is RailResult.UNANSWERED:
            self.unknown.add(movement)
            return Outcome(None)
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


class Watched(Rail):
    """A rail that says what it is told to, and remembers what it was asked."""

    def __init__(self, *, asked: Any = None, looked_up: Any = None) -> None:
        self.calls: list[str] = []
        self._asked = asked or RailAnswer(Standing.ACCEPTED)
        self._looked_up = looked_up or RailAnswer(Standing.NOT_FOUND)

    async def charge(self, order: RailOrder) -> RailAnswer:
        return self._say("charge", self._asked)

    async def look_up(self, order: RailOrder) -> RailAnswer:
        return self._say("look up", self._looked_up)

    def _say(self, what: str, answer: Any) -> RailAnswer:
        self.calls.append(what)
        if isinstance(answer, RailAnswer):
            return answer
        raise answer


async def test_what_cannot_be_booked_does_not_starve_what_can(clock: list[float]):
    backlog = Backlog(stuck=250, fine=3)
    rails = worker(backlog, clock)
    await look(rails)
    await look(rails)
    assert backlog.fine == []


@pytest.mark.parametrize(
    ("unbooked", "answers"),
    [
        ("refused by the books", {}),
        ("the rail is away", {"looked_up": RailUnavailable()}),
        ("the rail answers nonsense", {"looked_up": ValueError()}),
        ("the rail will report", {"looked_up": RailAnswer(Standing.PENDING)}),
        ("the rail does not take it", {"asked": RailUnavailable()}),
    ],
)
async def test_it_is_looked_up_ever_more_rarely(clock: list[float], unbooked: str, answers: dict[str, Any]):
    backlog = Backlog(stuck=1, fine=0)
    rail = Watched(**answers)
    at: list[float] = []
    rails = worker(backlog, clock, rail)
    for second in range(200):
        clock[0] = float(second)
        before = rail.calls.count("look up")
        await look(rails)
        at += [clock[0]] * (rail.calls.count("look up") - before)
    assert at == [0, 3, 9, 21, 45, 93, 153]


async def ask(rails: RailWorker, *orders: RailOrder) -> None:
    rails.ask(orders)
    while rails.under_way:
        await asyncio.sleep(0)


async def test_what_is_committed_is_asked_for_without_looking_it_up(clock: list[float]):
    backlog, rail = Backlog(stuck=0, fine=1), Watched()
    await ask(worker(backlog, clock, rail), order(movement=backlog.fine[0]))
    assert (rail.calls, [result for _, result in backlog.reported]) == (["charge"], [RailResult.SUCCEEDED])


async def test_an_answer_that_is_missing_is_written_down_once_and_undoes_nothing(clock: list[float]):
    backlog, rail = Backlog(stuck=0, fine=1), Watched(asked=RailUnavailable(), looked_up=RailUnavailable())
    rails = worker(backlog, clock, rail)
    await ask(rails, order(movement=backlog.fine[0]))
    for second in (4, 40, 400):
        clock[0] = second
        await look(rails)
    assert [result for _, result in backlog.reported] == [RailResult.UNANSWERED]
    assert rail.calls == ["charge", "look up", "look up", "look up"]


@pytest.mark.parametrize("standing", [Standing.ACCEPTED, Standing.REFUSED])
async def test_what_is_looked_up_and_definite_is_not_asked_for_again(clock: list[float], standing: Standing):
    backlog, rail = Backlog(stuck=0, fine=1), Watched(looked_up=RailAnswer(standing))
    await look(worker(backlog, clock, rail))
    assert rail.calls == ["look up"]
    assert len(backlog.reported) == 1


async def test_what_the_rail_never_got_is_asked_for_again_with_the_same_reference(clock: list[float]):
    backlog, rail = Backlog(stuck=0, fine=1), Watched()
    backlog.unknown = set(backlog.fine)
    await look(worker(backlog, clock, rail))
    assert rail.calls == ["look up", "charge"]
    assert backlog.fine == []


async def test_a_rail_that_hangs_is_given_up_and_looked_up_later(clock: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("danbao_payments.workers.rails._RAIL_TIMEOUT_S", 0.05)

    class Hanging(Watched):
        async def charge(self, order: RailOrder) -> RailAnswer:
            await asyncio.sleep(60)
            raise AssertionError

    backlog, rail = Backlog(stuck=0, fine=1), Hanging(looked_up=RailAnswer(Standing.ACCEPTED))
    rails = worker(backlog, clock, rail)
    await ask(rails, order(movement=backlog.fine[0]))
    assert [result for _, result in backlog.reported] == [RailResult.UNANSWERED]
    clock[0] = 4
    await look(rails)
    assert backlog.fine == []


@pytest.mark.parametrize(
    ("error", "is_booked"), [(None, True), (BalanceOverflow(uuid4(), amount_minor=1), True), (OutcomeUnknown(), False)]
)
async def test_a_rail_says_again_what_could_not_be_written_down(clock: list[float], error: Any, is_booked: bool):
    class Books:
        async def submit(self, submission: Any) -> Outcome:
            return Outcome(None, error)

    of = Movement(MovementKind.TOP_UP, uuid4())
    notice = RailNotice(of, RailResult.SUCCEEDED)
    assert await RailWorker({}, Backlog(0, 0), Books(), now=lambda: clock[0]).report(notice) is is_booked


async def test_the_simulated_rail_reports_until_it_is_heard_and_no_longer():
    rail, told = SimulatedRail(report_after_s=0.01), []

    async def hear(notice: RailNotice) -> bool:
        told.append(notice.result)
        return len(told) > 2

    rail.listen(hear)
    assert (await rail.charge(order(instrument="settle"))).standing is Standing.ACCEPTED
    while len(told) < 3:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert told == [RailResult.SETTLED] * 3
    await rail.charge(order(instrument="return"))
    await rail.stop()
    await asyncio.sleep(0.05)
    assert len(told) == 3


async def test_a_rail_that_is_not_connected_is_not_said_to_be_silent(clock: list[float]):
    backlog = Backlog(stuck=0, fine=1)
    rails = RailWorker({}, backlog, backlog, now=lambda: clock[0])
    await look(rails)
    assert backlog.reported == []


async def test_the_simulated_rail_has_a_limit():
    rail = SimulatedRail()
    most, more = await rail.charge(order(10**13)), await rail.charge(order(10**13 + 1))
    assert most.standing is Standing.ACCEPTED
    assert (more.standing, more.failure) == (Standing.REFUSED, "above the rail's limit")


async def test_the_simulated_rail_forgets_what_is_long_ago(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("danbao_payments.clients.simulated_rail._REMEMBERED", 2)
    rail = SimulatedRail()
    lost = [order(instrument="lost") for _ in range(3)]
    for each in (*lost, lost[0]):
        with pytest.raises(RailUnavailable):
            await rail.charge(each)
    assert (await rail.charge(lost[2])).standing is Standing.ACCEPTED


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
