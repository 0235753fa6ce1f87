"""Payments' settings, and where every concrete class is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from pydantic import Field

from danbao.payments.v1 import (
    account_pb2,
    account_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
    reconciliation_pb2,
    reconciliation_pb2_grpc,
)
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
from danbao_kit.server import CLOCK_SERVICE, Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.time_ordered_ids import TimeOrderedIds
from danbao_payments.application.decide import decider
from danbao_payments.application.ports import Rail
from danbao_payments.clients import simulated_rail
from danbao_payments.domain.books import Books
from danbao_payments.rpc.accounts import AccountServicer
from danbao_payments.rpc.audit import AuditServicer, amount_of_reply
from danbao_payments.rpc.codec import PaymentsCodec
from danbao_payments.rpc.commands import MutationRunner
from danbao_payments.rpc.events import EventServicer
from danbao_payments.rpc.ledger import LedgerServicer
from danbao_payments.rpc.payments import PaymentServicer
from danbao_payments.rpc.reconciliations import ReconciliationServicer
from danbao_payments.store.audit import BooksAuditor
from danbao_payments.store.chain import ChainReader
from danbao_payments.store.movements import rail_work_of
from danbao_payments.store.payment_queries import PaymentQueries
from danbao_payments.store.queries import BooksQueries
from danbao_payments.store.rail_queries import RailQueries
from danbao_payments.store.reconciliations import ReconciliationQueries
from danbao_payments.store.statements import StatementQueries
from danbao_payments.store.working_set import PaymentsStore
from danbao_payments.workers.auditor import AuditWorker
from danbao_payments.workers.holds import HoldSweeper
from danbao_payments.workers.rails import RailWorker

NAME = "payments"
ACCOUNTS = account_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name
LEDGER = ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name
PAYMENTS = payment_pb2.DESCRIPTOR.services_by_name["PaymentService"].full_name
AUDIT = audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
RECONCILIATIONS = reconciliation_pb2.DESCRIPTOR.services_by_name["ReconciliationService"].full_name
EVENTS = event_pb2.DESCRIPTOR.services_by_name["EventService"].full_name

# Which peer may call what: of the services, what their clients call and nothing else. Which accounts it may move then,
# the chart of accounts says. The operator's certificate is the command line's.
PEERS: Mapping[str, tuple[str, ...]] = {
    "gateway": (ACCOUNTS, LEDGER, PAYMENTS, RECONCILIATIONS, EVENTS, AUDIT),
    "escrow": (
        f"{PAYMENTS}/BatchExecute",
        f"{ACCOUNTS}/ListAccounts",
        f"{LEDGER}/GetTransaction",
        f"{LEDGER}/ListTransactions",
        f"{EVENTS}/WatchEvents",
    ),
    "credit": (
        f"{LEDGER}/PostTransaction",
        f"{ACCOUNTS}/GetOwner",
        f"{ACCOUNTS}/ListEntries",
        f"{EVENTS}/WatchEvents",
        f"{EVENTS}/GetStreamHead",
    ),
    "operator": (ACCOUNTS, LEDGER, PAYMENTS, RECONCILIATIONS, EVENTS, AUDIT, CLOCK_SERVICE),
}


class PaymentsSettings(ServiceSettings):
    """What payments is told from outside."""

    audit_seconds: float = Field(default=60, ge=0, description="how long from one audit to the next; 0: none")
    audit_share: float = Field(
        default=0.02, gt=0, le=1, description="what audits may take of one core of the audited store; 1: no pauses"
    )
    audit_database_dsn: str = Field(
        default="", description="PostgreSQL to audit, as a role that may read it all; empty: as the service's own role"
    )


def connected_rails() -> dict[str, Rail]:
    """The rails there are, by name."""
    return {simulated_rail.NAME: simulated_rail.SimulatedRail()}


@asynccontextmanager
async def running(settings: PaymentsSettings, *, rails: Mapping[str, Rail] | None = None) -> AsyncIterator[Server]:
    """The service with its store, its write path and its workers; the server is not yet started."""
    rails = connected_rails() if rails is None else rails
    async with AsyncExitStack() as stack:
        database = Database(settings.database_dsn)
        stack.push_async_callback(database.close)
        clock = await open_clock(settings.clock, database)
        queries = BooksQueries(database)
        events = EventStream(database)

        def committed(books: Books) -> None:
            rail_worker.ask(rail_work_of(books))

        codec = PaymentsCodec()
        group_commit = GroupCommit(
            database,
            PaymentsStore(),
            decider(frozenset(rails)),
            codec,
            clock,
            TimeOrderedIds(),
            on_commit=committed,
            on_events=events.written,
        )
        movements = RailQueries(database)
        rail_worker = RailWorker(rails, movements, group_commit)
        sweeper = HoldSweeper(queries, group_commit, clock)
        auditor = BooksAuditor(
            settings.audit_database_dsn or settings.database_dsn, partial(amount_of_reply, codec.parse_reply)
        )
        actions = ActionLog(database)
        audits = None
        if settings.audit_seconds:
            looks = ActionAuditor(actions, service=NAME, every_s=settings.audit_seconds)
            _in_background(stack, "privileged actions", looks.run)
            audits = AuditWorker(auditor, clock, every_s=settings.audit_seconds, share=settings.audit_share)
        group_commit.start()
        stack.push_async_callback(group_commit.stop)
        for rail in rails.values():
            rail.listen(rail_worker.report)
            stack.push_async_callback(rail.stop)
        stack.push_async_callback(rail_worker.stop)
        _in_background(stack, "rails", rail_worker.run)
        _in_background(stack, "holds", sweeper.run)
        if audits is not None:
            _in_background(stack, "audit", audits.run)

        server = Server(settings, name=NAME, peers=PEERS, ready=database.ready)
        commands = CommandRunner(group_commit)
        mutations = MutationRunner(commands, movements)
        server.add(
            account_pb2_grpc.add_AccountServiceServicer_to_server,
            AccountServicer(mutations, queries, StatementQueries(database), clock),
            ACCOUNTS,
        )
        server.add(
            ledger_pb2_grpc.add_LedgerServiceServicer_to_server,
            LedgerServicer(mutations, queries, ChainReader(database), clock),
            LEDGER,
        )
        server.add(
            payment_pb2_grpc.add_PaymentServiceServicer_to_server,
            PaymentServicer(mutations, queries, PaymentQueries(database), movements, clock),
            PAYMENTS,
        )
        server.add(
            audit_pb2_grpc.add_AuditServiceServicer_to_server,
            AuditServicer(auditor, clock, lambda: None if audits is None else audits.last, ActionCalls(actions)),
            AUDIT,
        )
        server.add(
            reconciliation_pb2_grpc.add_ReconciliationServiceServicer_to_server,
            ReconciliationServicer(commands, ReconciliationQueries(database)),
            RECONCILIATIONS,
        )
        server.add(event_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(events), EVENTS)
        server.on_drain(events.close)
        if isinstance(clock, SettableClock):
            server.add_clock(ClockServicer(clock, database, sweeper.sweep))
            _in_background(stack, "clock", partial(follow_clock, clock, database))
        yield server


async def serve(settings: PaymentsSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with running(settings) as server:
        await server.serve_until_signal()


def _in_background(stack: AsyncExitStack, name: str, work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(keep_running(name, work), name=name)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)
