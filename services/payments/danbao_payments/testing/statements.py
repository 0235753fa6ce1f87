"""A rail's statement as a test writes it, how it is sent, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from danbao.payments.v1 import reconciliation_pb2
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, new_id, rail_report, remote_error

RAIL = "rails/simulated"
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


async def now_of(stack: PaymentsStack) -> datetime:
    """Business time."""
    clock = clock_pb2_grpc.ClockServiceStub(stack.channel("operator"))
    return (await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.ToDatetime(UTC)


async def today(stack: PaymentsStack) -> tuple[datetime, datetime]:
    """The day of business time, of which a statement may be."""
    begin = (await now_of(stack)).replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + timedelta(days=1)


async def statement_of_today(stack: PaymentsStack, **others: Any) -> Statement:
    return Statement(*await today(stack), **others)


@dataclass(frozen=True)
class Done:
    """Something that the test has had done over the rail, in its own words."""

    name: str
    direction: str
    minor: int
    reference: str


async def fund(stack: PaymentsStack, minor: int, owner: str = "subjects/buyer") -> Done:
    """A top-up."""
    made = await stack.fund(owner, minor)
    return Done(made.name, "IN", minor, made.rail_reference)


async def report(stack: PaymentsStack, name: str, result: str = "SUCCEEDED", **others: Any) -> Any:
    """The rail reports of a movement."""
    return await stack.call("ReportRailResult", rail_report(name, result, **others), as_=OPERATOR)


def get(name: str) -> reconciliation_pb2.GetReconciliationRequest:
    return reconciliation_pb2.GetReconciliationRequest(name=name)
