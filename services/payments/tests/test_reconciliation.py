"""Statements of a rail against the books: every planted break is found, none is invented, and each is explained once."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from danbao.payments.v1 import event_pb2, ledger_pb2, payment_pb2, rail_pb2, reconciliation_pb2
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.testing.service import as_caller
from danbao_payments.clients.simulated_rail import SimulatedRail
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, money, new_id, remote_error, top_up

RAIL = "rails/simulated"
BUYER = "subjects/buyer"
DAY = timedelta(days=1)
Kind = reconciliation_pb2.BreakKind


@dataclass(frozen=True)
class Line:
    """A line of the external statement as the test writes it."""

    external_id: str
    direction: str
    minor: int
    reference: str
    day: str

    def message(self) -> reconciliation_pb2.StatementLine:
        return reconciliation_pb2.StatementLine(
            external_id=self.external_id,
            direction=reconciliation_pb2.RailDirection.Value(f"RAIL_DIRECTION_{self.direction}"),
            amount_minor=self.minor,
            booking_date=self.day,
            reference=self.reference,
        )


@dataclass
class Statement:
    """An external statement, sent as its parts."""

    start: datetime
    end: datetime
    lines: list[Line] = field(default_factory=list)
    currency: str = "CNY"
    rail: str = RAIL
    request_id: str = field(default_factory=new_id)
    source: str = "test.csv"
    grace: timedelta = timedelta()
    chunk: int = 1000

    def say(self, direction: str, minor: int, reference: str, **others: Any) -> Line:
        """One more line, with an id of its own."""
        made = Line(f"bank-{new_id()}", direction, minor, reference, self.start.date().isoformat())
        self.lines.append(replace(made, **others))
        return self.lines[-1]

    def parts(self) -> list[reconciliation_pb2.ImportStatementRequest]:
        header = reconciliation_pb2.StatementHeader(
            request_id=self.request_id, rail=self.rail, currency=self.currency, source=self.source
        )
        header.start_time.FromDatetime(self.start)
        header.end_time.FromDatetime(self.end)
        if self.grace:
            header.grace.FromTimedelta(self.grace)
        parts = [reconciliation_pb2.ImportStatementRequest(header=header)]
        for at in range(0, len(self.lines), self.chunk):
            chunk = [line.message() for line in self.lines[at : at + self.chunk]]
            parts.append(reconciliation_pb2.ImportStatementRequest(lines={"lines": chunk}))
        return parts


async def send(
    stack: PaymentsStack,
    parts: Iterable[reconciliation_pb2.ImportStatementRequest],
    *,
    as_: Any = OPERATOR,
    peer: str = "gateway",
    timeout: float | None = 20,
) -> reconciliation_pb2.Reconciliation:
    """The answer to a statement's stream. Raises RemoteError."""

    async def stream() -> Any:
        for part in parts:
            yield part

    try:
        return await stack.stub_method("ImportStatement", peer)(stream(), metadata=as_, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise remote_error(error) from error


async def items_of(stack: PaymentsStack, name: str, **others: Any) -> list[reconciliation_pb2.ReconciliationItem]:
    request = reconciliation_pb2.ListReconciliationItemsRequest(name=name, **others)
    return list((await stack.call("ListReconciliationItems", request, as_=OPERATOR)).items)


def found(items: Iterable[reconciliation_pb2.ReconciliationItem]) -> Counter[Any]:
    """Breaks as (kind, external ids of lines, names of movements)."""
    return Counter(
        (
            Kind.Name(item.kind).removeprefix("BREAK_KIND_"),
            tuple(sorted(line.external_id for line in item.lines)),
            tuple(sorted(movement.name for movement in item.movements)),
        )
        for item in items
    )


async def today(stack: PaymentsStack) -> tuple[datetime, datetime]:
    """The day of business time, of which a statement may be."""
    clock = clock_pb2_grpc.ClockServiceStub(stack.channel("operator"))
    now = (await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.ToDatetime(UTC)
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + DAY


async def statement_of_today(stack: PaymentsStack, **others: Any) -> Statement:
    return Statement(*await today(stack), **others)


# --- orders against a statement with planted breaks -------------------------------------------------------------------


class Bank(SimulatedRail):
    """The simulated rail, with its own list of what it moved: nothing of it comes from the books."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.moved: dict[str, tuple[str, int]] = {}


@dataclass(frozen=True)
class Done:
    """Something that the test has had done over the rail, in its own words."""

    name: str
    direction: str
    minor: int
    reference: str


async def orders(stack: PaymentsStack, seed: int, count: int) -> list[Done]:
    """Buyers top up, sellers withdraw, some money goes back: by seed, and written down from the rail's side."""
    chance = random.Random(seed)
    done: list[Done] = []
    amounts = [chance.randrange(1_000, 90_000) for _ in range(count)]
    operations = [{"create_top_up": top_up(f"subjects/b{n}", minor)} for n, minor in enumerate(amounts)]
    for result in (await execute(stack, operations)).results:
        done.append(Done(result.top_up.name, "IN", result.top_up.amount.amount_minor, result.top_up.rail_reference))
    operations = [
        {"create_withdrawal": withdrawal(f"subjects/b{n}", chance.randrange(1, minor // 2))}
        for n, minor in enumerate(amounts)
        if chance.random() < 0.5
    ]
    for result in (await execute(stack, operations)).results:
        paid = result.withdrawal
        done.append(Done(paid.name, "OUT", paid.amount.amount_minor, paid.rail_reference))
    return done


async def execute(stack: PaymentsStack, operations: Sequence[dict[str, Any]]) -> payment_pb2.BatchExecuteResponse:
    request = payment_pb2.BatchExecuteRequest(operations=operations)
    answer: payment_pb2.BatchExecuteResponse = await stack.call("BatchExecute", request, timeout=30)
    assert not [each for each in answer.results if each.HasField("error")]
    return answer


def withdrawal(owner: str, minor: int, **others: Any) -> Any:
    fields = {
        "request_id": new_id(),
        "owner": owner,
        "kind": "user.available",
        "amount": money(minor),
        "rail": RAIL,
    }
    return rail_pb2.CreateWithdrawalRequest(**(fields | others))


async def batch_of(stack: PaymentsStack, reference: str, amounts: Sequence[int]) -> list[Done]:
    """Top-ups that the rail reports later, all of them under one reference."""
    operations = [
        {"create_top_up": top_up(f"subjects/x{n}", minor, instrument="silent")} for n, minor in enumerate(amounts)
    ]
    answer = await stack.call("BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations), timeout=1)
    done = []
    for result, minor in zip(answer.results, amounts, strict=True):
        await report(stack, result.top_up.name, reference)
        done.append(Done(result.top_up.name, "IN", minor, reference))
    return done


async def report(stack: PaymentsStack, name: str, reference: str = "", result: str = "SUCCEEDED") -> Any:
    request = rail_pb2.ReportRailResultRequest(
        request_id=new_id(), movement=name, result=f"RAIL_RESULT_{result}", rail_reference=reference
    )
    return await stack.call("ReportRailResult", request, as_=OPERATOR)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_exactly_the_planted_breaks_are_found_among_orders(stack: PaymentsStack, seed: int):
    chance = random.Random(seed)
    done = await orders(stack, seed, 60)
    statement = await statement_of_today(stack, chunk=17)
    planted: Counter[Any] = Counter()
    fates = chance.sample(range(len(done)), 20)
    for position, each in enumerate(done):
        fate = fates.index(position) // 4 if position in fates else None
        if fate == 0:
            planted["MISSING_THERE", (), (each.name,)] += 1
            continue
        if fate == 1:
            wrong = statement.say(each.direction, each.minor + chance.choice([-1, 1, 900]), each.reference)
            planted["AMOUNT_DIFFERS", (wrong.external_id,), (each.name,)] += 1
            continue
        if fate == 2:
            # Several lines for one movement.
            part = chance.randrange(1, each.minor)
            statement.say(each.direction, part, each.reference)
            statement.say(each.direction, each.minor - part, each.reference)
            continue
        line = statement.say(each.direction, each.minor, chance.choice([each.reference, each.name]))
        if fate == 3:
            statement.say(each.direction, each.minor, line.reference, external_id=line.external_id)
            planted["DUPLICATE", (line.external_id,), ()] += 1
        elif fate == 4:
            # Which of two lines of the same words is the second, only their ids tell.
            line_id = f"a-{position}"
            statement.lines[-1] = replace(line, external_id=line_id)
            again = statement.say(each.direction, each.minor, line.reference, external_id=f"b-{position}")
            planted["DUPLICATE", (again.external_id,), ()] += 1
    for _ in range(4):
        stranger = statement.say(chance.choice(["IN", "OUT"]), chance.randrange(1, 10**6), f"stranger-{new_id()}")
        planted["MISSING_HERE", (stranger.external_id,), ()] += 1
    chance.shuffle(statement.lines)
    made = await send(stack, statement.parts())
    assert found(await items_of(stack, made.name, page_size=1000)) == planted
    assert made.state == reconciliation_pb2.Reconciliation.STATE_OPEN
    assert made.lines == len(statement.lines)
    assert made.in_minor == sum(line.minor for line in statement.lines if line.direction == "IN")
    assert made.out_minor == sum(line.minor for line in statement.lines if line.direction == "OUT")
    assert made.open_items == planted.total()
    assert Counter({Kind.Name(each.kind): each.items for each in made.breaks}) == Counter(
        f"BREAK_KIND_{kind}" for kind, _, _ in planted.elements()
    )
    assert made.matched_movements == len(done) - 8
    assert await stack.call("GetReconciliation", get(made.name), as_=OPERATOR) == made


async def test_orders_told_as_they_were_leave_no_break(stack: PaymentsStack):
    done = [*await orders(stack, 9, 30), *await batch_of(stack, "batch-7", [100, 250, 3])]
    statement = await statement_of_today(stack)
    for each in done[:-3]:
        statement.say(each.direction, each.minor, each.reference)
    # One line for the whole batch.
    statement.say("IN", 353, "batch-7")
    made = await send(stack, statement.parts())
    assert made.state == reconciliation_pb2.Reconciliation.STATE_RESOLVED
    assert (list(made.breaks), made.open_items) == ([], 0)
    assert (made.matched_lines, made.matched_movements) == (len(done) - 2, len(done))
    assert made.matched_minor == sum(each.minor for each in done)
    assert await items_of(stack, made.name) == []


def get(name: str) -> reconciliation_pb2.GetReconciliationRequest:
    return reconciliation_pb2.GetReconciliationRequest(name=name)
