"""Escrow as it runs: on the real PostgreSQL, behind mutual TLS, with peers that can be told to misbehave."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import asyncpg
import grpc
import pytest
from google.protobuf import timestamp_pb2

from danbao.credit.v1 import credit_pb2_grpc
from danbao.escrow.v1 import (
    claim_pb2,
    claim_pb2_grpc,
    dispute_pb2,
    dispute_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    evidence_pb2,
    refund_pb2,
    refund_pb2_grpc,
    trade_pb2,
    trade_pb2_grpc,
)
from danbao.payments.v1 import payment_pb2_grpc
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao.type.v1 import money_pb2
from danbao_escrow.app import Escrow, EscrowSettings
from danbao_escrow.testing.peers import FakeCredit, FakePayments, serve_peer
from danbao_kit.migrations import upgrade
from danbao_kit.rpc_status import DETAILS_KEY, reason_of
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.service import as_caller, channel_as, settings_for
from danbao_payments.testing.stack import PaymentsStack, check_books

BUYER, SELLER = "subjects/buyer", "subjects/seller"
ROLES = trade_pb2.Role
PARTNER = as_caller(subject="shop-backend", roles="partner", partner="shop")


class Refusal(Exception):
    """What a call was refused with."""

    def __init__(self, error):
        super().__init__(f"{error.code().name} {error.details()}")
        self.code = error.code().name
        self.reason, self.metadata, self.fields = "", {}, []
        self.text = error.details()
        from google.rpc import error_details_pb2, status_pb2

        for key, value in error.trailing_metadata() or ():
            if key == DETAILS_KEY:
                status = status_pb2.Status.FromString(value)
                self.reason, self.metadata = reason_of(status)
                for detail in status.details:
                    bad = error_details_pb2.BadRequest()
                    if detail.Unpack(bad):
                        self.fields = [violation.field for violation in bad.field_violations]


class Client:
    """Escrow as a caller behind the gateway sees it."""

    def __init__(self, port, authority, caller=PARTNER, peer="gateway"):
        self._arguments = (port, authority)
        self.channel = channel_as(peer, authority=authority, service="escrow", port=port)
        self.trades = trade_pb2_grpc.TradeServiceStub(self.channel)
        self.cases = (
            refund_pb2_grpc.RefundServiceStub(self.channel),
            dispute_pb2_grpc.DisputeServiceStub(self.channel),
            claim_pb2_grpc.CompensationServiceStub(self.channel),
        )
        self.events = event_pb2_grpc.EventServiceStub(self.channel)
        self.clock = clock_pb2_grpc.ClockServiceStub(self.channel)
        self._caller = caller
        self._ids = itertools.count(1)
        self.replayed = False

    def as_(self, **who):
        other = Client.__new__(Client)
        other.__dict__.update(self.__dict__)
        other._caller = as_caller(**who)
        return other

    def method(self, name):
        return next(getattr(stub, name) for stub in (self.trades, *self.cases) if hasattr(stub, name))

    async def call(self, method, request, timeout=5.0):
        call = self.method(method)(request, timeout=timeout, metadata=self._caller)
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            raise Refusal(error) from None
        self.replayed = dict(await call.initial_metadata()).get("x-danbao-replayed") == "true"
        return reply

    def next_id(self):
        return f"r{next(self._ids)}"

    def create_request(self, amounts=(3000, 5000), *, postage=0, currency="CNY", role="SELLER", **fields):
        lines = [
            trade_pb2.NewLine(line_id=str(n), title=f"thing {n}", amount=money(amount, currency))
            for n, amount in enumerate(amounts, start=1)
        ]
        values = {
            "request_id": self.next_id(),
            "actor": actor(role),
            "buyer": BUYER,
            "seller": SELLER,
            "lines": lines,
            "total": money(sum(amounts) + postage, currency),
            **fields,
        }
        if postage:
            values["postage"] = money(postage, currency)
        return trade_pb2.CreateTradeRequest(**values)

    def request(self, method, trade, role, **fields):
        values = {"request_id": self.next_id(), "actor": actor(role), "name": trade.name, **fields}
        if method == "ShipLines":
            values = {"carrier": "SF", "tracking": "T1", **values}
        if method == "ExtendConfirmation":
            values = {"days": 3, **values}
        if method == "AdjustPrice":
            lines = [trade_pb2.LinePrice(line_id=line.line_id, amount=money(line.amount_minor)) for line in trade.lines]
            values = {"lines": lines, "total": money(trade.total_minor), **values}
        return getattr(trade_pb2, f"{method}Request")(**values)

    async def give(self, method, trade, role, timeout=5.0, **fields):
        return await self.call(method, self.request(method, trade, role, **fields), timeout)

    def case_request(self, method, thing, role, **fields):
        """A command on a case, dispute or claim, or one that opens it on `thing`."""
        values = {"request_id": self.next_id(), "actor": actor(role)}
        values |= {
            "OpenRefundCase": lambda: {"trade": thing.name, "line_id": "1", "amount": money(1000), "reason_code": 3},
            "RejectRefundCase": lambda: {"reason": "as described"},
            "SubmitReturn": lambda: {"carrier": "SF", "tracking": "R1"},
            "OpenDispute": lambda: {"refund_case": thing.name, "reason": "it is not"},
            "AddEvidence": lambda: {"evidence": [evidence()]},
            "DecideDispute": lambda: {"reason": "so be it"},
            "OpenClaim": lambda: {"trade": thing.name, "amount": money(1000), "reason": "forged"},
            "DecideClaim": lambda: {"reason": "so be it"},
        }.get(method, dict)()
        if not method.startswith("Open"):
            values["name"] = thing.name
        package = next(
            package for package in (refund_pb2, dispute_pb2, claim_pb2) if hasattr(package, f"{method}Request")
        )
        return getattr(package, f"{method}Request")(**{**values, **fields})

    async def ask(self, method, thing, role, timeout=5.0, **fields):
        """The same, sent; an arbiter's by an arbiter's token."""
        client = self.as_(subject="judge", roles="arbiter") if role == "ARBITER" else self
        reply = await client.call(method, self.case_request(method, thing, role, **fields), timeout)
        self.replayed = client.replayed
        return reply

    async def disputed(self, trade, *, timeout=5.0, **fields):
        """A dispute over a case on a trade that the seller rejected."""
        case = await self.ask("OpenRefundCase", trade, "BUYER", timeout, **fields)
        await self.ask("RejectRefundCase", case, "SELLER", timeout)
        return await self.ask("OpenDispute", case, "BUYER", timeout)

    async def seen(self, thing):
        """A case, dispute or claim as it is now."""
        kind = type(thing).__name__
        package = {"RefundCase": refund_pb2, "Dispute": dispute_pb2, "Claim": claim_pb2}[kind]
        return await self.call(f"Get{kind}", getattr(package, f"Get{kind}Request")(name=thing.name))

    async def created(self, *amounts, **fields):
        return await self.call("CreateTrade", self.create_request(amounts or (3000, 5000), **fields))

    async def paid(self, *amounts, **fields):
        return await self.give("PayTrade", await self.created(*amounts, **fields), "BUYER")

    async def shipped(self, *amounts, **fields):
        return await self.give("ShipLines", await self.paid(*amounts, **fields), "SELLER")

    async def trades_of(self, **fields):
        """All pages of a list."""
        found, token = [], ""
        while True:
            request = trade_pb2.ListTradesRequest(page_token=token, **fields)
            page = await self.call("ListTrades", request)
            found += page.trades
            token = page.next_page_token
            if not token:
                return found

    async def trade(self, name):
        return await self.call("GetTrade", trade_pb2.GetTradeRequest(name=name))

    async def timeline(self, trade):
        request = trade_pb2.ListTradeTimelineRequest(trade=trade.name)
        return list((await self.call("ListTradeTimeline", request)).entries)


def money(amount, currency="CNY"):
    return money_pb2.Money(currency=currency, amount_minor=amount)


def evidence(**fields):
    values = {
        "uri": "https://shop.example/photo.jpg",
        "sha256": "0" * 64,
        "size_bytes": 1000,
        "media_type": "image/jpeg",
    }
    return evidence_pb2.NewEvidence(**{**values, **fields})


def actor(role, subject=None):
    subjects = {"BUYER": BUYER, "SELLER": SELLER}
    return trade_pb2.Actor(subject=subject or subjects.get(role, "subjects/somebody"), role=ROLES.Value(f"ROLE_{role}"))


def _spawn(environment):
    return subprocess.Popen([sys.executable, "-m", "danbao_escrow", "serve"], env=environment, stderr=subprocess.PIPE)


class Stack:
    """Escrow's replicas over one database, with both peers."""

    def __init__(self, database, authority):
        self.database, self.authority = database, authority
        self.payments, self.credit = FakePayments(), FakeCredit()
        self.payments.top_up(BUYER, 10**9)
        self._exits = contextlib.AsyncExitStack()
        self.replicas = []
        self.servers = {}

    async def start(self, *, clock="test", replicas=1, payments_port=0):
        """With its own payments, which misbehaves on order, or the one that is given."""
        peers = [("credit", self.credit, credit_pb2_grpc.add_CreditServiceServicer_to_server)]
        if payments_port:
            self.servers["payments"] = payments_port
        else:
            peers.append(("payments", self.payments, payment_pb2_grpc.add_PaymentServiceServicer_to_server))
        for name, servicer, register in peers:
            server, port = await serve_peer(self.authority.issue(name), servicer, register)
            self.servers[name] = port
            self._exits.push_async_callback(server.stop, None)
        for _ in range(replicas):
            await self.add_replica(clock)
        self.client = self.client_of(self.replicas[0])
        return self

    async def add_replica(self, clock="test", **options):
        settings = settings_for(
            EscrowSettings,
            name="escrow",
            database=self.database,
            authority=self.authority,
            clock=clock,
            payments_address=f"127.0.0.1:{self.servers['payments']}",
            credit_address=f"127.0.0.1:{self.servers['credit']}",
            log_level="error",
        )
        replica = Escrow(settings)
        await replica.start(**options)
        self.replicas.append(replica)
        return replica

    async def own_process(self):
        """A replica in a process of its own, to be killed; and its port."""
        files = self.authority.issue("escrow")
        environment = os.environ | {
            "DANBAO_LISTEN": "127.0.0.1:0",
            "DANBAO_DATABASE_DSN": self.database.dsn,
            "DANBAO_TLS_CERT": str(files.cert),
            "DANBAO_TLS_KEY": str(files.key),
            "DANBAO_TLS_CA": str(files.ca),
            "DANBAO_PAYMENTS_ADDRESS": f"127.0.0.1:{self.servers['payments']}",
            "DANBAO_CREDIT_ADDRESS": f"127.0.0.1:{self.servers['credit']}",
        }
        process = await asyncio.to_thread(_spawn, environment)
        while True:
            line = await asyncio.to_thread(process.stderr.readline)
            assert line, "the service ended before it listened"
            if line.startswith(b"{") and json.loads(line)["event"] == "listening":
                return process, json.loads(line)["port"]

    def client_of(self, replica, peer="gateway", caller=PARTNER):
        client = Client(replica.server.port, self.authority, caller, peer)
        self._exits.push_async_callback(client.channel.close)
        return client

    async def stop(self):
        for replica in self.replicas:
            await replica.stop()
        await self._exits.aclose()

    async def rows(self, query, *arguments):
        connection = await asyncpg.connect(self.database.dsn)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def events(self):
        """Everything on the stream."""
        operator = self.client_of(self.replicas[0], peer="operator")
        head = await operator.events.GetStreamHead(event_pb2.GetStreamHeadRequest(), timeout=5)
        found = []
        async for chunk in operator.events.WatchEvents(event_pb2.WatchEventsRequest(), timeout=10):
            found += chunk.events
            if chunk.cursor.sequence >= head.cursor.sequence:
                break
        return found

    async def advance(self, **delta):
        """Moves business time by this and a second, and runs what falls due."""
        from datetime import timedelta

        operator = self.client_of(self.replicas[0], peer="operator")
        now = (await operator.clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.ToDatetime(UTC)
        to = timestamp_pb2.Timestamp()
        to.FromDatetime(now + timedelta(seconds=1, **delta))
        await operator.clock.AdvanceClock(clock_pb2.AdvanceClockRequest(to=to), timeout=30)

    def assert_each_step_moved_once(self):
        assert set(self.payments.executed.values()) <= {1}
        assert all(balance >= 0 for balance in self.payments.balances.values())
        assert sum(self.payments.balances.values()) == 10**9


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return CertificateAuthority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def migrated(postgres):
    """A database at the newest migration, for all tests one after the other."""
    database = postgres.create_service_database("escrow", database="escrow_tests")
    with ThreadPoolExecutor(1) as pool:  # it brings an event loop of its own
        pool.submit(upgrade, package="danbao_escrow", dsn=database.owner_dsn, role=database.role).result()
    return database


@pytest.fixture
async def database(migrated):
    """As the first migration left it: emptying is ten times faster than making another."""
    connection = await asyncpg.connect(migrated.owner_dsn)
    try:
        await connection.execute(
            "TRUNCATE trades, trade_deadlines, steps, timeline_entries, events, request_records, reader_cursors,"
            " checkouts, payment_movements, parked_payment_events CASCADE;"
            "UPDATE stream_heads SET event_sequence = 0, row_number = 0, last_time = to_timestamp(0), test_time = NULL"
        )
    finally:
        await connection.close()
    return migrated


@pytest.fixture
async def bare_stack(database, authority):
    """Not started: the test says how."""
    made = Stack(database, authority)
    yield made
    await made.stop()


@pytest.fixture
async def stack(bare_stack):
    return await bare_stack.start()


@pytest.fixture(scope="session")
async def payments_service(postgres, authority):
    """The real payments, for the tests that need its rails and events."""
    database = postgres.create_service_database("payments", database="payments_for_escrow")
    await asyncio.to_thread(upgrade, package="danbao_payments", dsn=database.owner_dsn, role=database.role)
    made = PaymentsStack(database, authority, {"clock": "test"})
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def books(payments_service):
    """Empty books; when the test is over they must balance."""
    yield payments_service
    await check_books(payments_service.database)
    await payments_service.forget()


@pytest.fixture
async def real_stack(database, authority, books):
    """Escrow with the real payments; the buyer has a million in the wallet."""
    made = Stack(database, authority)
    await books.fund(BUYER, 1_000_000)
    await made.start(payments_port=books.port)
    yield made
    await made.stop()


@pytest.fixture
def client(stack):
    return stack.client


@pytest.fixture
def refusal():
    return Refusal


@pytest.fixture
def times():
    return lambda stamp: stamp.ToDatetime(UTC) if stamp.seconds else None


@pytest.fixture
def helpers():
    """money, actor and the like, for tests that build messages by hand."""

    class Helpers:
        pass

    Helpers.money, Helpers.actor, Helpers.now = staticmethod(money), staticmethod(actor), datetime.now(UTC)
    Helpers.BUYER, Helpers.SELLER = BUYER, SELLER
    Helpers.evidence = staticmethod(evidence)
    return Helpers
