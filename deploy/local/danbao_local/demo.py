"""One secured trade, played through the gateway as a marketplace's own service would."""

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danbao_kit.testing.certificates import CertificateFiles
from danbao_local.card import Card
from danbao_local.client import ClientTrace, GatewayClient, RpcClient
from danbao_local.errors import StackFailed
from danbao_local.health import service_channel
from danbao_local.otlp_receiver import TraceReader
from danbao_local.spans import Span
from danbao_local.tokens import DEMO_BUYER, DEMO_SELLER, HOLDERS

PAYMENTS = "danbao.payments.v1"
ESCROW = "danbao.escrow.v1"
CREDIT = "danbao.credit.v1"
BUYER = f"subjects/{DEMO_BUYER}"
SELLER = f"subjects/{DEMO_SELLER}"
CURRENCY = "CNY"
_LINES = (("kettle", "Cast-iron kettle", 19_900), ("cups", "Two tea cups", 3_800))
_POSTAGE_MINOR = 1_200
_ACTORS = {
    "BUYER": BUYER,
    "SELLER": SELLER,
    "OPERATOR": f"subjects/{HOLDERS['operator'].subject}",
    "ARBITER": f"subjects/{HOLDERS['arbiter'].subject}",
}
_CREDIT_SECONDS = 20.0
_TRACE_SECONDS = 12.0
_TRACE_PAUSE_SECONDS = 0.6
"""Longer than any service keeps a finished span."""
_TRACED_SERVICES = {"client", "gateway", "escrow", "payments", "credit"}


class DemoFailed(StackFailed):
    """The demo trade did not end as it should."""


@dataclass(frozen=True, slots=True)
class CreditChange:
    """A party's credit before the trade and after it."""

    role: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class AccountStatement:
    """What the trade did to one account."""

    account: Any
    entries: list[Any]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything there is to show of one trade."""

    trade: Any
    top_up: Any
    timeline: list[Any]
    statements: list[AccountStatement]
    credit: list[CreditChange]
    trace_id: str
    spans: list[Span] = field(default_factory=list)


def play(card: Card) -> DemoResult:
    """Top up, create, pay, ship, deliver, confirm; then wait until credit has seen it all.

    Raises CallFailed when a call is refused, DemoFailed when the outcome is wrong.
    """
    trace = ClientTrace("demo trade")
    with GatewayClient(card, trace) as client:
        looking = client.untraced()
        before = {party: _evaluate(looking, party) for party in (BUYER, SELLER)}
        top_up, trade = secured_trade(client)
        reader = TraceReader(card.otlp)
        reader.export(trace.finish())
        if trade["state"] != "COMPLETED":
            raise DemoFailed(f"The demo trade ended as {trade['state']}, not as COMPLETED.")
        after = wait_for_credit(card, looking)
        result = DemoResult(
            trade=looking.call(f"{ESCROW}.TradeService/GetTrade", {"name": trade["name"]}, role="partner"),
            top_up=top_up,
            timeline=_timeline(looking, trade["name"]),
            statements=_statements(looking, trade["name"], top_up.name),
            credit=[
                CreditChange(role=role, before=before[party], after=after[party])
                for role, party in (("buyer", BUYER), ("seller", SELLER))
            ],
            trace_id=trace.trace_id,
            spans=complete_trace(reader, trace.trace_id),
        )
        reader.close()
    return result


def actor(role: str) -> dict[str, str]:
    """The demo's buyer, seller or operator, as the body of a command names it."""
    return {"subject": _ACTORS[role], "role": f"ROLE_{role}"}


def money(amount_minor: int) -> dict[str, Any]:
    """An amount in the demo's currency."""
    return {"currency": CURRENCY, "amountMinor": amount_minor}


def new_id() -> str:
    """A request id: the caller's own, kept for retries."""
    return str(uuid.uuid4())


def new_trade_body() -> dict[str, Any]:
    """A CreateTrade of two lines and postage between the demo's buyer and seller."""
    lines = [
        {"lineId": line_id, "title": title, "amount": money(minor), "delivery": "DELIVERY_EXPRESS"}
        for line_id, title, minor in _LINES
    ]
    return {
        "requestId": new_id(),
        "actor": actor("BUYER"),
        "buyer": BUYER,
        "seller": SELLER,
        "lines": lines,
        "postage": money(_POSTAGE_MINOR),
        "total": money(total_minor()),
        "reference": "demo",
    }


def total_minor() -> int:
    """What the buyer pays for the demo's trade."""
    return sum(minor for _, _, minor in _LINES) + _POSTAGE_MINOR


def top_up_body(amount_minor: int) -> dict[str, Any]:
    """A CreateTopUp of the demo's buyer over the simulated rail."""
    return {"requestId": new_id(), "owner": BUYER, "amount": money(amount_minor), "rail": "rails/simulated"}


def command_body(trade: str, role: str, **fields: Any) -> dict[str, Any]:
    """A command on a trade by one of its parties."""
    return {"requestId": new_id(), "actor": actor(role), "name": trade, **fields}


def free_postage_body(trade: str) -> dict[str, Any]:
    """An AdjustPrice of such a trade: the seller asks for no postage."""
    total = money(total_minor() - _POSTAGE_MINOR)
    return command_body(trade, "SELLER", postage=money(0), total=total, reason="on the house")


def secured_trade(client: GatewayClient) -> tuple[Any, dict[str, str]]:
    """The six calls of one trade: its top-up, and the trade's name and last state. Raises CallFailed."""
    trades = f"{ESCROW}.TradeService"
    top_up = client.call(f"{PAYMENTS}.PaymentService/CreateTopUp", top_up_body(total_minor()), role="partner")
    trade = client.call(f"{trades}/CreateTrade", new_trade_body(), role="partner")
    name = trade.name
    client.call(f"{trades}/PayTrade", command_body(name, "BUYER"), role="partner")
    shipping = command_body(name, "SELLER", carrier="SF Express", tracking="SF1029384756")
    client.call(f"{trades}/ShipLines", shipping, role="partner")
    client.call(f"{trades}/ReportDelivery", command_body(name, "SELLER"), role="partner")
    trade = client.call(f"{trades}/ConfirmLines", command_body(name, "BUYER"), role="partner")
    return top_up, {"name": name, "state": state_name(trade)}


def state_name(message: Any) -> str:
    """The name of a message's state, without its prefix."""
    enum = message.DESCRIPTOR.fields_by_name["state"].enum_type
    return str(enum.values_by_number[message.state].name).removeprefix("STATE_")


def _evaluate(client: GatewayClient, subject: str) -> Any:
    body = {"subject": subject, "purpose": "checkout"}
    return client.call(f"{CREDIT}.CreditService/Evaluate", body, role="operator")


def wait_for_credit(card: Card, client: GatewayClient) -> dict[str, Any]:
    """Evaluations that have seen every event up to now."""
    heads = {service: _stream_head(card, service) for service in ("payments", "escrow")}
    deadline = time.monotonic() + _CREDIT_SECONDS
    while True:
        found = {party: _evaluate(client, party) for party in (BUYER, SELLER)}
        if all(
            seen.payments_sequence >= heads["payments"] and seen.escrow_sequence >= heads["escrow"]
            for seen in found.values()
        ):
            return found
        if time.monotonic() > deadline:
            raise DemoFailed(f"Credit has not read all events within {_CREDIT_SECONDS:.0f} s.")
        time.sleep(0.05)


def _stream_head(card: Card, service: str) -> int:
    operator = CertificateFiles(**{name: Path(path) for name, path in card.operator.items()})
    with service_channel(card.services[service], service=service, operator=operator) as channel:
        head: Any = RpcClient(channel).call(f"danbao.{service}.v1.EventService/GetStreamHead", {})
    return int(head.cursor.sequence)


def _timeline(client: GatewayClient, trade: str) -> list[Any]:
    answer = client.call(f"{ESCROW}.TradeService/ListTradeTimeline", {"trade": trade}, role="partner")
    return list(answer.entries)


def _statements(client: GatewayClient, trade: str, top_up: str) -> list[AccountStatement]:
    """The trade's entries on every account they touch; and the top-up, the last before them."""
    in_trade = [entry for account in _accounts(client, trade) for entry in _entries(client, account)]
    transactions = {entry.transaction for entry in in_trade}
    first = min((entry.sequence for entry in in_trade), default=0)
    statements = []
    for owner in (BUYER, trade, SELLER, "platform"):
        for account in _accounts(client, owner):
            entries = _entries(client, account)
            chosen = [entry for entry in entries if entry.transaction in transactions]
            if owner == BUYER:
                earlier = [entry for entry in entries if entry.sequence < first and "rail" in entry.counterparty_kind]
                chosen = earlier[-1:] + chosen
            if chosen:
                statements.append(AccountStatement(account=account, entries=chosen))
    return statements


def _accounts(client: GatewayClient, owner: str) -> list[Any]:
    body = {"owner": owner, "pageSize": 1000}
    return list(client.call(f"{PAYMENTS}.AccountService/ListAccounts", body, role="operator").accounts)


def _entries(client: GatewayClient, account: Any) -> list[Any]:
    entries: list[Any] = []
    token = ""
    while True:
        body = {"account": account.name, "pageSize": 1000, "pageToken": token}
        page = client.call(f"{PAYMENTS}.AccountService/ListEntries", body, role="operator")
        entries += page.entries
        token = page.next_page_token
        if not token:
            return entries


def complete_trace(reader: TraceReader, trace_id: str) -> list[Span]:
    """The trace, once every service has sent its part: no span lacks its parent, and no more come."""
    deadline = time.monotonic() + _TRACE_SECONDS
    last = -1
    while True:
        spans = reader.trace(trace_id)
        known = {span.span_id for span in spans} | {""}
        whole = all(span.parent_span_id in known for span in spans if span.trace_id == trace_id)
        complete = whole and {span.service for span in spans} >= _TRACED_SERVICES
        if (complete and len(spans) == last) or time.monotonic() > deadline:
            return spans
        last = len(spans)
        time.sleep(_TRACE_PAUSE_SECONDS)
