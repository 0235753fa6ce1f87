"""Everything concrete of the escrow service, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from pydantic import Field

from danbao.escrow.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    claim_pb2,
    claim_pb2_grpc,
    dispute_pb2,
    dispute_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    refund_pb2,
    refund_pb2_grpc,
    trade_pb2,
    trade_pb2_grpc,
)
from danbao_escrow.application.auditing import Auditor
from danbao_escrow.application.decide import decide
from danbao_escrow.application.ports import Credit, Payments
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.clients.credit import CreditClient
from danbao_escrow.clients.payment_events import PaymentEvents
from danbao_escrow.clients.payments import PaymentsClient
from danbao_escrow.clients.payments_books import PaymentsBooks
from danbao_escrow.domain.payment_events import PAYMENTS
from danbao_escrow.rpc.audit import AuditServicer
from danbao_escrow.rpc.cases import CompensationServicer, DisputeServicer, RefundServicer
from danbao_escrow.rpc.codec import EscrowCodec
from danbao_escrow.rpc.credit_check import CreditCheck
from danbao_escrow.rpc.events import EventServicer
from danbao_escrow.rpc.trades import TradeServicer
from danbao_escrow.store.audit import QUERIES, AuditReads
from danbao_escrow.store.case_queries import CaseQueries
from danbao_escrow.store.escrow_store import EscrowStore
from danbao_escrow.store.queries import Queries
from danbao_escrow.workers.audits import AuditWorker
from danbao_escrow.workers.payments_reader import payments_reader
from danbao_escrow.workers.step_runner import StepRunner
from danbao_escrow.workers.sweeper import Sweeper
from danbao_escrow.workers.timers import Timers
from danbao_kit.action_auditor import ActionAuditor
from danbao_kit.action_calls import ActionCalls
from danbao_kit.action_log import ActionLog
from danbao_kit.background import keep_running
from danbao_kit.business_clock import ClockServicer, follow_clock, open_clock
from danbao_kit.clock import SettableClock
from danbao_kit.commands import CommandRunner
from danbao_kit.database import Database
from danbao_kit.event_stream import EventStream
from danbao_kit.group_commit import GroupCommit
from danbao_kit.rpc_client import service_channel
from danbao_kit.server import CLOCK_SERVICE, Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.time_ordered_ids import TimeOrderedIds

NAME = "escrow"
TRADE_SERVICE = trade_pb2.DESCRIPTOR.services_by_name["TradeService"].full_name
REFUND_SERVICE = refund_pb2.DESCRIPTOR.services_by_name["RefundService"].full_name
DISPUTE_SERVICE = dispute_pb2.DESCRIPTOR.services_by_name["DisputeService"].full_name
COMPENSATION_SERVICE = claim_pb2.DESCRIPTOR.services_by_name["CompensationService"].full_name
AUDIT_SERVICE = audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
EVENT_SERVICE = event_pb2.DESCRIPTOR.services_by_name["EventService"].full_name

_FOR_CALLERS = (TRADE_SERVICE, REFUND_SERVICE, DISPUTE_SERVICE, COMPENSATION_SERVICE, EVENT_SERVICE, AUDIT_SERVICE)

PEERS = {
    "gateway": _FOR_CALLERS,
    "credit": (f"{EVENT_SERVICE}/WatchEvents", f"{EVENT_SERVICE}/GetStreamHead"),
    "operator": (*_FOR_CALLERS, CLOCK_SERVICE),
}
"""Which peer, by its certificate, may call what: of the services, what their clients call and nothing else."""


class EscrowSettings(ServiceSettings):
    """What escrow is told besides."""

    payments_address: str = Field(description="host:port of payments")
    credit_address: str = Field(description="host:port of credit")
    audit_seconds: float = Field(default=300.0, ge=0, description="between two audits by itself; 0: none")
    audit_share: float = Field(
        default=0.02, gt=0, le=1, description="what audits by itself may take of one core; 1: no pauses"
    )


class Escrow:
    """One replica of the service."""

    def __init__(self, settings: EscrowSettings) -> None:
        self._settings = settings
        self.database = Database(settings.database_dsn)
        self.server = Server(settings, name=NAME, peers=PEERS, ready=self.database.ready)
        self._channels: list[grpc.aio.Channel] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self, *, payments: Payments | None = None, credit: Credit | None = None) -> None:
        """Serves. A peer that is given replaces the one at its address."""
        settings = self._settings
        clock = await open_clock(settings.clock, self.database)
        stream = EventStream(self.database)
        self.store = EscrowStore()

        def on_commit(working: EscrowSet) -> None:
            self.steps.take(working.taken.accepted)

        self.group_commit = GroupCommit(
            self.database,
            self.store,
            decide,
            EscrowCodec(),
            clock,
            TimeOrderedIds(),
            on_commit=on_commit,
            on_events=stream.written,
        )
        queries = Queries(self.database)
        self.steps = StepRunner(payments or PaymentsClient(self._channel("payments")), self.group_commit)
        self.sweeper = Sweeper(queries, self.group_commit)
        cases = CaseQueries(self.database)
        self.timers = Timers(queries, cases, self.group_commit, clock)
        actions = ActionLog(self.database)
        if payments is None:
            events = PaymentEvents(self._channel("payments"))
            cursor = partial(queries.cursor, PAYMENTS)
            reader = payments_reader(events, cursor=cursor, group_commit=self.group_commit)
            self.auditor = Auditor(AuditReads(self.database), PaymentsBooks(self._channel("payments")), QUERIES)
            self.server.add(
                audit_pb2_grpc.add_AuditServiceServicer_to_server,
                AuditServicer(self.auditor, ActionCalls(actions)),
                AUDIT_SERVICE,
            )
        check = CreditCheck(credit or CreditClient(self._channel("credit")), queries)
        runner = CommandRunner(self.group_commit)
        trades = TradeServicer(runner, check, queries)
        self.server.add(trade_pb2_grpc.add_TradeServiceServicer_to_server, trades, TRADE_SERVICE)
        self.server.add(
            refund_pb2_grpc.add_RefundServiceServicer_to_server, RefundServicer(runner, cases), REFUND_SERVICE
        )
        self.server.add(
            dispute_pb2_grpc.add_DisputeServiceServicer_to_server, DisputeServicer(runner, cases), DISPUTE_SERVICE
        )
        self.server.add(
            claim_pb2_grpc.add_CompensationServiceServicer_to_server,
            CompensationServicer(runner, cases),
            COMPENSATION_SERVICE,
        )
        self.server.add(event_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(stream), EVENT_SERVICE)
        self.server.on_drain(stream.close)
        if isinstance(clock, SettableClock):
            self.server.add_clock(ClockServicer(clock, self.database, on_advanced=self.timers.drain_due))
            self._in_background("clock", partial(follow_clock, clock, self.database))
        self.group_commit.start()
        self.steps.start()
        self._in_background("sweeper", self.sweeper.run)
        self._in_background("timers", self.timers.run)
        if payments is None:
            self._in_background("payments reader", reader.run)
            if settings.audit_seconds:
                audits = AuditWorker(self.auditor, every_s=settings.audit_seconds, share=settings.audit_share)
                self._in_background("audits", audits.run)
                looks = ActionAuditor(actions, service=NAME, every_s=settings.audit_seconds)
                self._in_background("privileged actions", looks.run)
        await self.server.start()

    async def stop(self) -> None:
        """Drains calls, then the write path; steps under way are left to whoever comes next."""
        await self.server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.steps.stop()
        await self.group_commit.stop()
        for channel in self._channels:
            await channel.close()
        await self.database.close()

    def _in_background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(keep_running(name, work), name=name))

    def _channel(self, service: str) -> grpc.aio.Channel:
        addresses = {"payments": self._settings.payments_address, "credit": self._settings.credit_address}
        channel = service_channel(addresses[service], service=service, settings=self._settings)
        self._channels.append(channel)
        return channel
