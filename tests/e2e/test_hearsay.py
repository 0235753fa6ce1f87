"""Who is only named in trades is not told of by them: neither by another partner's, nor by a stranger's invoices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from danbao_local import business_clock
from danbao_local.card import Card
from danbao_local.client import CallFailed, GatewayClient
from danbao_local.demo import CREDIT, ESCROW, PAYMENTS, money, new_id
from danbao_local.stack import LocalStack
from danbao_local.tokens import TokenIssuer

_TRADES, _SCORES = f"{ESCROW}.TradeService", f"{CREDIT}.CreditService"
MANY = 40
PATIENCE_S = 60
SOON = "60s"


@dataclass(frozen=True, slots=True)
class Still:
    """A stack whose business time only moves when it is moved."""

    stack: LocalStack

    @property
    def card(self) -> Card:
        return self.stack.card


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Still]:
    stack = LocalStack(tmp_path_factory.mktemp("still"), clock="test", trace_ratio=0.0)
    stack.start(publish=False)
    try:
        yield Still(stack)
    finally:
        stack.stop()


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls with one token."""

    client: GatewayClient

    def call(self, rpc: str, body: dict[str, Any]) -> Any:
        return self.client.call(rpc, body, role="partner")

    def trade(self, buyer: str, seller: str, role: str, **fields: Any) -> str:
        """Made on behalf of one of the two."""
        body = {
            "requestId": new_id(),
            "actor": {"subject": buyer if role == "BUYER" else seller, "role": f"ROLE_{role}"},
            "buyer": buyer,
            "seller": seller,
            "lines": [{"lineId": "1", "title": "thing", "amount": money(1_000), "delivery": "DELIVERY_EXPRESS"}],
            "total": money(1_000),
            **fields,
        }
        return str(self.call(f"{_TRADES}/CreateTrade", body).name)

    def give(self, method: str, trade: str, subject: str, role: str, **fields: Any) -> Any:
        body = {"requestId": new_id(), "actor": {"subject": subject, "role": f"ROLE_{role}"}, "name": trade, **fields}
        return self.call(f"{_TRADES}/{method}", body)

    def brings(self, owner: str, kind: str, minor: int = 0) -> None:
        account = {"owner": owner, "kind": kind, "currency": "CNY"}
        self.call(f"{PAYMENTS}.AccountService/CreateAccount", {"requestId": new_id(), "account": account})
        if minor:
            body = {"requestId": new_id(), "owner": owner, "amount": money(minor), "rail": "rails/simulated"}
            self.call(f"{PAYMENTS}.PaymentService/CreateTopUp", body)

    def completes(self, buyer: str, seller: str) -> None:
        trade = self.trade(buyer, seller, "BUYER")
        self.give("PayTrade", trade, buyer, "BUYER")
        self.give("ShipLines", trade, seller, "SELLER", carrier="SF", tracking="1")
        self.give("ConfirmLines", trade, buyer, "BUYER")


@pytest.fixture
def callers(running) -> Iterator[Any]:
    """Makes callers with tokens of their own."""
    issuer = TokenIssuer(running.stack.layout.tokens)
    opened: list[GatewayClient] = []

    def make(subject: str, roles: list[str], partner: str | None = None) -> Caller:
        token = issuer.token(subject=subject, roles=roles, partner=partner)
        opened.append(GatewayClient(replace(running.card, token={**running.card.token, "partner": token})))
        return Caller(opened[-1])

    yield make
    for each in opened:
        each._channel.close()


@pytest.fixture
def shop(callers) -> Caller:
    return callers("shop-backend", ["partner"], f"shop-{new_id()}")


@pytest.fixture
def rival(callers) -> Caller:
    return callers("rival-backend", ["partner"], f"rival-{new_id()}")


def caught_up(client: GatewayClient) -> dict[str, Any]:
    """By stream: how far credit is, once it has read all that was told until now."""
    heads = {
        source: client.call(f"{package}.EventService/GetStreamHead", {}, role="operator").cursor.sequence
        for source, package in (("payments", PAYMENTS), ("escrow", ESCROW))
    }
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = client.call(f"{_SCORES}/GetIngestStatus", {}, role="operator").streams
        status = {each.source: each for each in found}
        if all(status[source].sequence >= head for source, head in heads.items()):
            return status
        time.sleep(0.05)
    raise AssertionError(f"credit has not read up to {heads}")


def seen(client: GatewayClient, subject: str) -> tuple[Any, ...]:
    """Score, grade and each counted indicator; of what passes with time, nothing."""
    caught_up(client)
    scored = client.call(f"{_SCORES}/Evaluate", {"subject": subject}, role="operator")
    values = client.call(f"{_SCORES}/ListIndicatorValues", {"subject": subject}, role="operator").values
    counts = {each.name: each.value for each in values if "days" not in each.name}
    return scored.score, scored.grade, {name: value for name, value in counts.items() if "age" not in name}


def check_counted_again_is_the_same(client: GatewayClient, *subjects: str) -> None:
    """What credit lived through is what its log says."""
    for subject in subjects:
        body = {"requestId": new_id(), "subject": subject}
        rebuilt = client.call(f"{_SCORES}/RebuildProfile", body, role="operator", why="looking")
        assert (rebuilt.same, rebuilt.entries_differing) == (True, 0), subject


@pytest.fixture
def known(client: GatewayClient, shop: Caller) -> tuple[str, str]:
    """A customer and a merchant of the shop's, with a history."""
    buyer, seller = f"subjects/{new_id()}", f"subjects/{new_id()}"
    shop.brings(buyer, "user.available", 90_000)
    shop.brings(seller, "seller.payable")
    for _ in range(5):
        shop.completes(buyer, seller)
    return buyer, seller


def test_another_partner_s_unpaid_trades_leave_customer_and_merchant_as_they_are(running, client, shop, rival, known):
    customer, merchant = known
    theirs = f"subjects/{new_id()}"
    rival.brings(theirs, "user.available")
    before = seen(client, customer), seen(client, merchant)
    left_out = caught_up(client)["escrow"].hearsay
    for _ in range(MANY):
        for seller, role in ((theirs, "BUYER"), (merchant, "SELLER")):
            buyer = customer if role == "BUYER" else theirs
            trade = rival.trade(buyer, seller, role)
            rival.give("CancelTrade", trade, buyer if role == "BUYER" else seller, role, reason="x")
        # It runs out by itself, and a payment of it is refused before.
        expiring = rival.trade(customer, merchant, "BUYER", payBy=SOON)
        with pytest.raises(CallFailed) as refused:
            rival.give("PayTrade", expiring, customer, "BUYER")
        assert refused.value.reason == "PAYMENT_REFUSED"
    run_out(running, rival, expiring)
    assert (seen(client, customer), seen(client, merchant)) == before
    assert caught_up(client)["escrow"].hearsay >= left_out + 8 * MANY
    # Of its own partner the same trades count.
    for role, subject in (("BUYER", customer), ("SELLER", merchant)):
        for _ in range(MANY):
            shop.give("CancelTrade", shop.trade(customer, merchant, "BUYER"), subject, role, reason="x")
    (score, _, counted), (_, _, merchants) = seen(client, customer), seen(client, merchant)
    assert counted["unpaid_trade_rate_30d"] == MANY / (MANY + 5)
    assert merchants["withdrawn_sale_rate_90d"] == MANY / (2 * MANY + 5)
    assert score < before[0][0]
    check_counted_again_is_the_same(client, customer, merchant, theirs)


def test_a_user_that_invoices_a_stranger_tells_nothing_of_it(running, client, callers, known):
    customer, _ = known
    name = f"u-{new_id()}"
    user, invoicer = callers(name, ["user"]), f"subjects/{name}"
    before = seen(client, customer)
    trades = [user.trade(customer, invoicer, "SELLER", payBy=SOON) for _ in range(MANY)]
    run_out(running, user, *trades)
    assert seen(client, customer) == before
    # The buyer itself declines one, and that is no debt either; one that it pays counts from then on.
    itself = callers(customer.removeprefix("subjects/"), ["user"])
    itself.give("CancelTrade", user.trade(customer, invoicer, "SELLER"), customer, "BUYER")
    assert seen(client, customer) == before
    itself.give("PayTrade", user.trade(customer, invoicer, "SELLER"), customer, "BUYER")
    _, _, counted = seen(client, customer)
    assert counted["trades_opened_30d"] == before[2]["trades_opened_30d"] + 1
    assert counted["unpaid_trade_rate_30d"] == before[2]["unpaid_trade_rate_30d"] == 0
    # Nor is the invoicer spared what it left unpaid.
    assert seen(client, invoicer)[2]["unpaid_sale_rate_30d"] == (MANY + 1) / (MANY + 2)
    check_counted_again_is_the_same(client, customer, invoicer)


def test_what_a_partner_does_in_the_name_of_who_opened_a_trade_by_itself_tells_nothing_of_it(client, callers, known):
    """Another's customer or merchant shops by its own token where the partner may act for every party of its trades."""
    customer, merchant = known
    partner, theirs = f"rival-{new_id()}", f"subjects/{new_id()}"
    rival = callers("rival-backend", ["partner"], partner)
    rival.brings(theirs, "seller.payable")
    itself = callers(customer.removeprefix("subjects/"), ["user"], partner)
    trades = [itself.trade(customer, theirs, "BUYER") for _ in range(MANY // 4)]
    seller = callers(merchant.removeprefix("subjects/"), ["user"], partner)
    invoices = [seller.trade(theirs, merchant, "SELLER") for _ in range(MANY // 4)]
    before = [seen(client, subject) for subject in known]
    for trade in trades:
        with pytest.raises(CallFailed, match="PAYMENT_REFUSED"):
            rival.give("PayTrade", trade, customer, "BUYER")
        rival.give("CancelTrade", trade, customer, "BUYER", reason="x")
    for invoice in invoices:
        rival.give("CancelTrade", invoice, merchant, "SELLER", reason="x")
    assert [seen(client, subject) for subject in known] == before
    # What it does by itself, it answers for.
    itself.give("CancelTrade", itself.trade(customer, theirs, "BUYER"), customer, "BUYER")
    assert seen(client, customer)[2]["unpaid_trade_rate_30d"] > before[0][2]["unpaid_trade_rate_30d"]
    check_counted_again_is_the_same(client, *known)


def run_out(running: Still, caller: Caller, *trades: str) -> None:
    """Nobody has paid them in time."""
    business_clock.advance_by(running.card, timedelta(seconds=61))
    until = time.monotonic() + PATIENCE_S
    for trade in trades:
        while not caller.call(f"{_TRADES}/GetTrade", {"name": trade}).HasField("end_time"):
            assert time.monotonic() < until, f"{trade} has not ended"
            time.sleep(0.05)
