"""For tests: the stories of trades as escrow tells them, and event streams that play what they are given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.escrow.v1 import event_pb2_grpc as escrow_event_pb2_grpc
from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import account_pb2_grpc, ledger_pb2_grpc
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao.payments.v1 import event_pb2_grpc as payments_event_pb2_grpc
from danbao_credit.application.apply_events import apply_events, command_for
from danbao_credit.application.working_set import CreditSet
from danbao_credit.clients.decoding import EscrowEvent, PaymentsEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import Source
from danbao_credit.domain.profile import Profile
from danbao_credit.testing.deposits import ScriptedAccounts, ScriptedLedger
from danbao_kit.decision import Moment
from danbao_kit.testing.certificates import CertificateFiles
from danbao_kit.time_ordered_ids import TimeOrderedIds

BUYER, SELLER, OPERATOR, SYSTEM = (
    trade_pb2.ROLE_BUYER,
    trade_pb2.ROLE_SELLER,
    trade_pb2.ROLE_OPERATOR,
    trade_pb2.ROLE_SYSTEM,
)
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
_OPEN = (trade_pb2.Line.STATE_UNPAID, trade_pb2.Line.STATE_PAID, trade_pb2.Line.STATE_SHIPPED)


class TradeStory:
    """One trade, told event by event with the trade as it is after each. Ship-by is three days after payment."""

    def __init__(
        self,
        name: str = "1",
        *,
        buyer: str = "subjects/buyer",
        seller: str = "subjects/seller",
        currency: str = "CNY",
        amounts: Sequence[int] = (1000,),
        at: datetime = START,
        traceparent: str = "",
        partner: str = "",
        made_by: int = BUYER,
        by_itself: bool = False,
    ) -> None:
        self.events: list[escrow_event_pb2.Event] = []
        self._traceparent = traceparent
        self._trade = trade_pb2.Trade(
            name=f"trades/{name}",
            buyer=buyer,
            seller=seller,
            currency=currency,
            state=trade_pb2.Trade.STATE_PENDING_PAYMENT,
            total_minor=sum(amounts),
            partner=partner,
            made_by=made_by,
            made_by_partner=bool(partner) and made_by != OPERATOR and not by_itself,
        )
        self._trade.create_time.FromDatetime(at)
        for number, amount in enumerate(amounts, 1):
            self._trade.lines.add(line_id=f"L{number}", amount_minor=amount, state=trade_pb2.Line.STATE_UNPAID)
        self._tell("trade_created", at, made_by)

    def paid(self, at: datetime) -> TradeStory:
        self._trade.pay_time.FromDatetime(at)
        self._trade.ship_by_time.FromDatetime(at + timedelta(days=3))
        for line in self._trade.lines:
            line.state = trade_pb2.Line.STATE_PAID
        self._trade.state = trade_pb2.Trade.STATE_AWAITING_SHIPMENT
        return self._tell("trade_paid", at, BUYER, amount_minor=self._trade.total_minor)

    def payment_refused(self, at: datetime) -> TradeStory:
        return self._tell("trade_payment_refused", at, BUYER)

    def payment_pending(self, at: datetime) -> TradeStory:
        return self._tell("trade_payment_pending", at, BUYER)

    def adjusted(self, at: datetime) -> TradeStory:
        return self._tell("price_adjusted", at, SELLER)

    def reminded(self, at: datetime, of: str = "PayBy") -> TradeStory:
        self._tell("trade_reminder", at, SYSTEM)
        self.events[-1].reason = of
        return self

    def shipped(self, at: datetime, *lines: str) -> TradeStory:
        for line in self._lines(lines):
            line.state = trade_pb2.Line.STATE_SHIPPED
            line.ship_time.FromDatetime(at)
        return self._tell("lines_shipped", at, SELLER, lines)

    def delivered(self, at: datetime, *lines: str) -> TradeStory:
        for line in self._lines(lines):
            line.deliver_time.FromDatetime(at)
        return self._tell("lines_delivered", at, SELLER, lines)

    def released(self, at: datetime, *lines: str, by: int = BUYER) -> TradeStory:
        amount = self._settle(at, lines, trade_pb2.Line.STATE_RELEASED)
        return self._tell("lines_released", at, by, lines, amount)

    def refunded(self, at: datetime, *lines: str, by: int = SELLER) -> TradeStory:
        amount = self._settle(at, lines, trade_pb2.Line.STATE_REFUNDED)
        self._trade.refunded_minor += amount
        return self._tell("lines_refunded", at, by, lines, amount)

    def cancelled(self, at: datetime, *, by: int = SYSTEM) -> TradeStory:
        self._trade.state = trade_pb2.Trade.STATE_CANCELLED
        return self._tell("trade_cancelled", at, by)

    def _lines(self, lines: Sequence[str]) -> list[trade_pb2.Line]:
        return [line for line in self._trade.lines if line.state in _OPEN and (not lines or line.line_id in lines)]

    def _settle(self, at: datetime, lines: Sequence[str], state: int) -> int:
        settled = self._lines(lines)
        for line in settled:
            line.state = state  # type: ignore[assignment]
            line.settle_time.FromDatetime(at)
        if not any(line.state in _OPEN for line in self._trade.lines):
            released = any(line.state == trade_pb2.Line.STATE_RELEASED for line in self._trade.lines)
            self._trade.state = trade_pb2.Trade.STATE_COMPLETED if released else trade_pb2.Trade.STATE_CLOSED
        return sum(line.amount_minor for line in settled)

    def _tell(self, kind: str, at: datetime, role: int, lines: Sequence[str] = (), amount_minor: int = 0) -> TradeStory:
        event = escrow_event_pb2.Event(traceparent=self._traceparent, line_ids=lines, amount_minor=amount_minor)
        event.create_time.FromDatetime(at)
        event.actor.role = role  # type: ignore[assignment]
        event.actor.subject = self._trade.seller if role == SELLER else self._trade.buyer
        getattr(event, kind).CopyFrom(self._trade)
        self.events.append(event)
        return self


def good_trade(name: str, at: datetime = START, **parties: Any) -> TradeStory:
    """Paid within minutes, shipped the next day, delivered in two, confirmed by the buyer."""
    hour = timedelta(hours=1)
    story = TradeStory(name, at=at, **parties).paid(at + hour / 6).shipped(at + 24 * hour)
    return story.delivered(at + 72 * hour).released(at + 80 * hour)


def payments_event(kind: str, at: datetime = START, *, subject: str = "subjects/buyer") -> payments_event_pb2.Event:
    """An event about a payment or a top-up of 10.00 CNY."""
    event = payments_event_pb2.Event()
    event.create_time.FromDatetime(at)
    payload = getattr(event, kind)
    payload.amount.currency, payload.amount.amount_minor = "CNY", 1000
    if kind.startswith("top_up"):
        payload.owner, payload.name, payload.rail = subject, "topUps/1", "rails/simulated"
    else:
        payload.payer, payload.name = subject, "payments/1"
    return event


def brought(subject: str, partner: str, at: datetime = START) -> payments_event_pb2.Event:
    """That the partner brought the subject."""
    event = payments_event_pb2.Event()
    event.create_time.FromDatetime(at)
    event.owner_brought.owner, event.owner_brought.partner = subject, partner
    return event


def numbered(events: Iterable[Any], first: int = 1) -> list[Any]:
    """The events with gapless sequences."""
    result = []
    for sequence, event in enumerate(events, first):
        copy = type(event)()
        copy.CopyFrom(event)
        copy.sequence = sequence
        result.append(copy)
    return result


def moment(now: datetime = datetime(2100, 1, 1, tzinfo=UTC)) -> Moment:
    """The moment of a decision without a store."""
    return Moment(now=now, ids=TimeOrderedIds(), last_number=0)


def lived(catalogue: Catalogue, *stories: TradeStory, payments: Iterable[Any] = ()) -> dict[str, Profile]:
    """The profiles of everybody after these stories, without a store."""
    profiles = CreditSet()
    escrow = [EscrowEvent(event) for event in numbered(event for story in stories for event in story.events)]
    others = [PaymentsEvent(event) for event in numbered(payments)]
    for source, events in ((Source.ESCROW, escrow), (Source.PAYMENTS, others)):
        apply_events(command_for(source, 0, len(events), events, catalogue), profiles, moment())
    assert not profiles.parked._draft
    profiles.accept()
    return dict(profiles.subjects.created())


class _Script:
    """Plays events after the cursor in chunks, then waits for more."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.events: list[Any] = []
        self.asked: list[int] = []
        self.chunk = 7
        # Ends a watch after so many chunks, as a restart would; None: never.
        self.break_after: int | None = None
        self._more = asyncio.Event()

    def add(self, events: Iterable[Any]) -> None:
        self.events += numbered(events, len(self.events) + 1)
        self._more.set()

    async def WatchEvents(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        reached = request.cursor.sequence
        self.asked.append(reached)
        chunks = 0
        while True:
            self._more.clear()
            events = self.events[reached : reached + self.chunk]
            if not events:
                await self._more.wait()
                continue
            if self.break_after is not None and chunks >= self.break_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "restarted")
            reached += len(events)
            chunks += 1
            response = self._response(events=events)
            response.cursor.sequence = reached
            yield response


class ScriptedStreams:
    """payments' and escrow's streams on one port each, with events that a test gives them; and payments' ledger."""

    def __init__(self) -> None:
        self.payments = _Script(payments_event_pb2.WatchEventsResponse)
        self.escrow = _Script(escrow_event_pb2.WatchEventsResponse)
        self.ledger = ScriptedLedger()
        self.addresses: dict[str, str] = {}
        self._servers: list[grpc.aio.Server] = []

    async def start(self, files: dict[str, CertificateFiles]) -> None:
        for name, script, register in (
            ("payments", self.payments, payments_event_pb2_grpc.add_EventServiceServicer_to_server),
            ("escrow", self.escrow, escrow_event_pb2_grpc.add_EventServiceServicer_to_server),
        ):
            server = grpc.aio.server()
            register(_servicer(script), server)
            if name == "payments":
                ledger_pb2_grpc.add_LedgerServiceServicer_to_server(self.ledger, server)
                account_pb2_grpc.add_AccountServiceServicer_to_server(ScriptedAccounts(self.ledger), server)
            own = files[name]
            credentials = grpc.ssl_server_credentials(
                [(own.key.read_bytes(), own.cert.read_bytes())], own.ca.read_bytes(), require_client_auth=True
            )
            self.addresses[name] = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
            await server.start()
            self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop(0)


def _servicer(script: _Script) -> Any:
    class Servicer:
        WatchEvents = staticmethod(script.WatchEvents)

        @staticmethod
        async def GetStreamHead(request: Any, context: Any) -> None:
            raise NotImplementedError

    return Servicer()
