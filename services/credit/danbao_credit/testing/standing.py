"""For tests: marks and scores as the service's callers and a second replica meet them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from danbao.credit.v1 import credit_pb2, rights_pb2, rights_pb2_grpc
from danbao.escrow.v1 import claim_pb2, trade_pb2
from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao_credit.application.decide import decide
from danbao_credit.rpc.codec import CreditCodec
from danbao_credit.store.credit_store import CreditStore
from danbao_credit.store.score_queries import ScoreQueries
from danbao_credit.testing.stories import good_trade
from danbao_kit.clock import RealClock
from danbao_kit.database import Database
from danbao_kit.group_commit import GroupCommit
from danbao_kit.testing.service import as_caller
from danbao_kit.time_ordered_ids import TimeOrderedIds

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SELLER, BUYER = "subjects/seller", "subjects/buyer"
CLAIM = "claims/00000000-0000-4000-8000-000000000001"
OPERATOR = as_caller(subject="subjects/ops", roles="operator")
ARBITER = as_caller(subject="judge", roles="arbiter")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


def claim_event(
    kind: str, at: datetime, *, finding: int = claim_pb2.FINDING_FRAUD, traceparent: str = TRACEPARENT
) -> escrow_event_pb2.Event:
    """What escrow tells of a claim of 10.00 CNY."""
    event = escrow_event_pb2.Event(traceparent=traceparent, amount_minor=1000)
    event.create_time.FromDatetime(at)
    event.actor.role = trade_pb2.ROLE_ARBITER
    claim = getattr(event, kind)
    claim.name, claim.trade, claim.buyer, claim.seller, claim.currency = CLAIM, "trades/t1", BUYER, SELLER, "CNY"
    claim.amount_minor = claim.compensated_minor = 1000
    claim.finding = finding
    claim.create_time.FromDatetime(at - HOUR)
    return event


def good_history(trades: int = 30) -> list[Any]:
    return [event for n in range(trades) for event in good_trade(f"t{n}", ago(days=40 - n)).events]


async def told(credit: Any, events: list[Any]) -> None:
    """Escrow tells these, and credit has read them."""
    credit.streams.escrow.add(events)
    await credit.caught_up("escrow", len(credit.streams.escrow.events))


async def evaluation(credit: Any, subject: str = SELLER, **fields: Any) -> credit_pb2.Evaluation:
    request = credit_pb2.EvaluateRequest(subject=subject, kind=credit_pb2.SUBJECT_KIND_MERCHANT, **fields)
    found: credit_pb2.Evaluation = await credit.stub().Evaluate(request, timeout=5)
    assert found.score == found.base_points + sum(s.points for s in found.sub_scores) + sum(
        a.points for a in found.adjustments
    )
    return found


async def terms(credit: Any, subject: str = SELLER, counterparty: str = "") -> credit_pb2.TradeTerms:
    request = credit_pb2.GetTermsRequest(subject=subject, currency="CNY", counterparty=counterparty)
    found: credit_pb2.TradeTerms = await credit.stub().GetTerms(request, timeout=5)
    return found


@asynccontextmanager
async def another_writer(credit: Any) -> AsyncIterator[tuple[GroupCommit, ScoreQueries]]:
    """A second replica's write path on the same database."""
    database = Database(credit.database.dsn)
    group_commit = GroupCommit(database, CreditStore(), decide, CreditCodec(), RealClock(), TimeOrderedIds())
    group_commit.start()
    try:
        yield group_commit, ScoreQueries(database)
    finally:
        await group_commit.stop()
        await database.close()


async def appealed(credit: Any, kind: str = "FRAUD", reference: str = "") -> rights_pb2.Appeal:
    """The seller appeals against a mark."""
    request = rights_pb2.FileAppealRequest(request_id=str(uuid4()), subject=SELLER, statement="it was another")
    request.target.mark.kind, request.target.mark.reference = kind, reference
    stub = rights_pb2_grpc.SubjectRightsServiceStub(credit.channel)
    filed: rights_pb2.Appeal = await stub.FileAppeal(
        request, timeout=5, metadata=as_caller(subject="seller", roles="user")
    )
    return filed


async def upheld(credit: Any, kind: str = "FRAUD", reference: str = "") -> rights_pb2.Appeal:
    """The seller appeals against a mark, and an arbiter upholds it."""
    filed = await appealed(credit, kind, reference)
    request = rights_pb2.DecideAppealRequest(request_id=str(uuid4()), name=filed.name, decision="it was another")
    request.outcome = rights_pb2.DecideAppealRequest.OUTCOME_UPHELD
    stub = rights_pb2_grpc.SubjectRightsServiceStub(credit.channel)
    decided: rights_pb2.Appeal = await stub.DecideAppeal(request, timeout=5, metadata=ARBITER)
    return decided


async def scored(credit: Any, subject: str) -> credit_pb2.ScoreChange:
    """The newest score in the subject's history, once there is one that knows all that was told."""
    async with asyncio.timeout(20):
        while True:
            request = credit_pb2.ListScoreHistoryRequest(subject=subject, kind=credit_pb2.SUBJECT_KIND_MERCHANT)
            found = (await credit.stub().ListScoreHistory(request, timeout=5)).changes
            now = await evaluation(credit, subject)
            if found and (found[0].score, found[0].blocked) == (now.score, now.blocked):
                change: credit_pb2.ScoreChange = found[0]
                return change
            await asyncio.sleep(0.02)


async def refusal(call: Any) -> tuple[str, str, list[str]]:
    """Code, reason and fields of a call that must be refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
        for detail in status_pb2.Status.FromString(details).details:
            detail.Unpack(info)
            detail.Unpack(fields)
        return error.code().name, info.reason, [item.field for item in fields.field_violations]
    raise AssertionError("it was not refused")


def stamp(moment: datetime) -> Any:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
