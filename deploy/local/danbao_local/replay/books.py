"""What the services themselves say happened: their streams of events, and the trial balance. Counted, not trusted."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc

from danbao.credit.v1 import credit_pb2
from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import account_pb2, ledger_pb2
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao.type.v1 import cursor_pb2
from danbao_local.card import Card
from danbao_local.replay.calls import Gateway, in_turns
from danbao_local.replay.own_audits import own_audits
from danbao_local.replay.parties import seller_subject
from danbao_local.replay.run import stream_heads

_STREAM_SECONDS = 60.0
_TRIES = 30
_PAGE = 1000
_CASE_ENDS = ("refund_case_succeeded", "refund_case_withdrawn")
_DEFECTIVE = "defective_orders_life"
_REQUESTS = {
    "payments": payments_event_pb2.WatchEventsRequest,
    "escrow": escrow_event_pb2.WatchEventsRequest,
}


@dataclass(slots=True)
class Books:
    """Amounts are minor units."""

    rows: list[Any] = field(default_factory=list)
    """The trial balance, by currency and kind."""
    totals: list[Any] = field(default_factory=list)
    events: dict[str, Counter[str]] = field(default_factory=dict)
    """By source: how many of each kind."""
    gaps: list[str] = field(default_factory=list)
    topped_up: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By currency: what the rail reported as come in."""
    settled: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By currency and top-up: what the rail reported as paid back."""
    top_ups: set[str] = field(default_factory=set)
    trades: dict[str, str] = field(default_factory=dict)
    """Reference by trade that was made."""
    ingest: list[Any] = field(default_factory=list)
    by_time: set[str] = field(default_factory=set)
    """Refund cases that time ended."""
    held_for: dict[str, int] = field(default_factory=dict)
    """By trade: what its account holds."""
    defective: int = 0
    """Orders that credit counts as defective, over all sellers."""
    audits: dict[str, Any] = field(default_factory=dict)
    """What the services' own audits found."""

    def paid_back(self, currency: str) -> int:
        """What went out over rails, by their reports."""
        return sum(self.settled[currency].values())

    def kinds(self, currency: str) -> dict[str, int]:
        """Posted credits less debits by kind, `rail.*` included."""
        held: dict[str, int] = defaultdict(int)
        for row in self.rows:
            if row.currency == currency:
                held[row.kind] += row.credits_posted_minor - row.debits_posted_minor
        return dict(held)

    @property
    def currencies(self) -> list[str]:
        """Every currency that there is an account of."""
        return sorted({row.currency for row in self.rows})


async def read_books(gateway: Gateway, card: Card, sellers: Iterable[str]) -> Books:
    """Everything, once nothing moves any more. Raises StackFailed."""
    books = Books()
    balance = await gateway.call(gateway.ledger.GetTrialBalance, ledger_pb2.GetTrialBalanceRequest(), "operator")
    books.rows, books.totals = list(balance.rows), list(balance.totals)
    status = await gateway.call(gateway.credit.GetIngestStatus, credit_pb2.GetIngestStatusRequest(), "operator")
    books.ingest = list(status.streams)
    for source, head in (await stream_heads(gateway)).items():
        await _read_stream(gateway, source, head, books)
    books.held_for = await _held_for(gateway)
    books.defective = await _defective(gateway, sellers)
    books.audits = await own_audits(card)
    return books


async def _held_for(gateway: Gateway) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    request = account_pb2.ListAccountsRequest(kind="escrow.trade", page_size=_PAGE)
    while True:
        page = await gateway.call(gateway.accounts.ListAccounts, request, "operator")
        for account in page.accounts:
            found[account.owner] += account.credits_posted_minor - account.debits_posted_minor
        if not page.next_page_token:
            return dict(found)
        request.page_token = page.next_page_token


async def _defective(gateway: Gateway, sellers: Iterable[str]) -> int:
    counts: list[float] = []

    async def read(seller_id: str) -> None:
        request = credit_pb2.ListIndicatorValuesRequest(
            subject=seller_subject(seller_id), kind=credit_pb2.SUBJECT_KIND_MERCHANT
        )
        answer = await gateway.call(gateway.credit.ListIndicatorValues, request, "operator")
        counts.extend(found.value for found in answer.values if found.name == _DEFECTIVE)

    await in_turns(sorted(set(sellers)), read)
    return round(sum(counts))


async def _read_stream(gateway: Gateway, source: str, head: int, books: Books) -> None:
    """From the first event to the head; begins again where it was cut off."""
    books.events[source] = Counter()
    position = 0
    for attempt in range(_TRIES):
        cursor = cursor_pb2.Cursor(sequence=position) if position else None
        request = _REQUESTS[source](cursor=cursor)
        try:
            answers = gateway.stream(gateway.events[source].WatchEvents, request, "operator", _STREAM_SECONDS)
            async for answer in answers:
                for event in answer.events:
                    if event.sequence != position + 1:
                        books.gaps.append(f"{source}: after {position} comes {event.sequence}")
                    position = event.sequence
                    _count(source, event, books)
                if position >= head:
                    return
        except grpc.aio.AioRpcError:
            if attempt == _TRIES - 1:
                raise


def _count(source: str, event: Any, books: Books) -> None:
    kind = event.WhichOneof("payload")
    books.events[source][kind] += 1
    if kind == "top_up_succeeded":
        top_up = event.top_up_succeeded
        books.topped_up[top_up.amount.currency] += top_up.amount.amount_minor
        books.top_ups.add(top_up.name)
    elif kind == "top_up_refund_settled":
        top_up = event.top_up_refund_settled
        books.settled[top_up.amount.currency][top_up.name] = top_up.refunds_settled_minor
    elif kind in _CASE_ENDS and event.actor.role == trade_pb2.ROLE_SYSTEM:
        books.by_time.add(getattr(event, kind).name)
    elif kind == "trade_created":
        books.trades[event.trade_created.name] = event.trade_created.reference
