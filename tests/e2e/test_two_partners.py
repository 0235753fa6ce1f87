"""Two partners at the gateway: neither sees nor spends what is the other's, whichever service it asks."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from danbao_local.client import CallFailed, GatewayClient
from danbao_local.demo import CREDIT, ESCROW, PAYMENTS, money, new_id
from danbao_local.membership_calls import DEPOSIT_MINOR
from danbao_local.tokens import TokenIssuer

_ACCOUNTS, _PAYMENTS, _LEDGER = (f"{PAYMENTS}.{name}Service" for name in ("Account", "Payment", "Ledger"))
_TRADES, _MEMBERSHIPS = f"{ESCROW}.TradeService", f"{CREDIT}.MembershipService"


@pytest.fixture
def rival(running) -> Iterator[GatewayClient]:
    """Calls with the token of another partner."""
    issuer = TokenIssuer(running.stack.layout.tokens)
    token = issuer.token(subject="rival-backend", roles=["partner"], partner="rival")
    with GatewayClient(replace(running.card, token={**running.card.token, "partner": token})) as made:
        yield made


def funded(client: GatewayClient, minor: int = 10_000) -> str:
    """A customer of this partner's, with money."""
    owner = f"subjects/{new_id()}"
    top_up(client, owner, minor)
    return owner


def top_up(client: GatewayClient, owner: str, minor: int) -> None:
    body = {"requestId": new_id(), "owner": owner, "amount": money(minor), "rail": "rails/simulated"}
    client.call(f"{_PAYMENTS}/CreateTopUp", body, role="partner")


def available(client: GatewayClient, owner: str, kind: str = "user.available") -> int:
    accounts = client.call(f"{_ACCOUNTS}/ListAccounts", {"owner": owner}, role="operator").accounts
    return sum(each.available_minor for each in accounts if each.kind == kind)


def trade_between(client: GatewayClient, buyer: str, seller: str, minor: int = 5_000) -> str:
    line = {"lineId": "1", "title": "thing", "amount": money(minor), "delivery": "DELIVERY_EXPRESS"}
    body = {
        "requestId": new_id(),
        "actor": {"subject": seller, "role": "ROLE_SELLER"},
        "buyer": buyer,
        "seller": seller,
        "lines": [line],
        "total": money(minor),
    }
    return str(client.call(f"{_TRADES}/CreateTrade", body, role="partner").name)


def pay(client: GatewayClient, trade: str, buyer: str, **fields: Any) -> Any:
    body = {"requestId": new_id(), "actor": {"subject": buyer, "role": "ROLE_BUYER"}, "name": trade, **fields}
    return client.call(f"{_TRADES}/PayTrade", body, role="partner")


def test_a_wallet_is_not_drained_through_a_trade_of_another_partner_s(client, rival):
    victim, accomplice = funded(client), f"subjects/{new_id()}"
    trade = trade_between(rival, victim, accomplice)
    with pytest.raises(CallFailed) as refused:
        pay(rival, trade, victim)
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "PAYMENT_REFUSED")
    unknown = f"subjects/{new_id()}"
    with pytest.raises(CallFailed) as missing:
        pay(rival, trade_between(rival, unknown, accomplice), unknown)
    assert str(missing.value).replace(unknown, victim) == str(refused.value)
    with pytest.raises(CallFailed):
        pay(rival, trade, victim, rail="rails/simulated", instrument="ok")
    assert available(client, victim) == 10_000
    # The trade is there still, and its buyer's own partner has no part in it.
    with pytest.raises(CallFailed) as unseen:
        client.call(f"{_TRADES}/GetTrade", {"name": trade}, role="partner")
    assert unseen.value.reason == "TRADE_NOT_FOUND"


def test_a_trade_of_one_s_own_is_paid_and_seen_to_its_end(rival, client):
    buyer, seller = funded(rival), f"subjects/{new_id()}"
    trade = trade_between(rival, buyer, seller)
    paid = pay(rival, trade, buyer)
    body = {"requestId": new_id(), "actor": {"subject": seller, "role": "ROLE_SELLER"}, "name": trade}
    rival.call(f"{_TRADES}/ShipLines", {**body, "carrier": "SF", "tracking": "1"}, role="partner")
    body = {"requestId": new_id(), "actor": {"subject": buyer, "role": "ROLE_BUYER"}, "name": trade}
    rival.call(f"{_TRADES}/ConfirmLines", body, role="partner")
    assert rival.call(f"{_PAYMENTS}/GetPayment", {"name": paid.payment}, role="partner").payer == buyer
    listed = {"owner": seller}
    (account,) = rival.call(f"{_ACCOUNTS}/ListAccounts", listed, role="partner").accounts
    assert (account.kind, account.available_minor > 0) == ("seller.payable_held", True)
    assert not client.call(f"{_ACCOUNTS}/ListAccounts", listed, role="partner").accounts
    for method, name, reason in (
        (f"{_PAYMENTS}/GetPayment", paid.payment, "PAYMENT_NOT_FOUND"),
        (f"{_ACCOUNTS}/GetAccount", account.name, "ACCOUNT_NOT_FOUND"),
    ):
        with pytest.raises(CallFailed) as refused:
            client.call(method, {"name": name}, role="partner")
        assert refused.value.reason == reason


def known(client: GatewayClient) -> str:
    """A merchant whose identity was verified, and whom no partner has brought."""
    subject = f"subjects/{new_id()}"
    event = {"eventId": new_id(), "kind": "identity_verified", "subject": subject, "measures": {"level": "2"}}
    events = {"events": [event | {"occurTime": "2026-01-05T09:30:00Z"}]}
    client.call(f"{CREDIT}.CreditService/RecordEvents", events, role="partner")
    return subject


def test_a_deposit_is_not_paid_by_another_partner_s_customer(client, rival):
    """The membership was the partner's before another brought the merchant."""
    merchant = known(client)
    applied = {"requestId": new_id(), "subject": merchant, "currencies": ["CNY"]}
    membership = client.call(f"{_MEMBERSHIPS}/ApplyMembership", applied, role="partner")
    top_up(rival, merchant, 2 * DEPOSIT_MINOR)
    body = {"requestId": new_id(), "name": membership.name, "amount": money(DEPOSIT_MINOR)}
    with pytest.raises(CallFailed) as refused:
        client.call(f"{_MEMBERSHIPS}/FundDeposit", body, role="partner")
    assert refused.value.reason == "PAYMENT_REFUSED"
    assert (available(client, merchant), available(client, merchant, "guarantee.deposit")) == (2 * DEPOSIT_MINOR, 0)


def test_nobody_applies_for_another_partner_s_merchant(client, rival):
    merchant = known(client)
    top_up(client, merchant, 1)
    texts = []
    for subject in (merchant, f"subjects/{new_id()}"):
        body = {"requestId": new_id(), "subject": subject, "currencies": ["CNY"]}
        with pytest.raises(CallFailed) as refused:
            rival.call(f"{_MEMBERSHIPS}/ApplyMembership", body, role="partner")
        texts.append(str(refused.value).replace(subject, "SUBJECT"))
    assert texts[0] == texts[1]
    assert "NOT_ELIGIBLE" in texts[0]
    body = {"requestId": new_id(), "subject": merchant, "currencies": ["CNY"]}
    assert client.call(f"{_MEMBERSHIPS}/ApplyMembership", body, role="partner").name


def test_no_token_says_for_whom_it_asks(client, rival):
    victim = funded(client)
    body = {
        "requestId": new_id(),
        "payer": victim,
        "payee": {"owner": f"subjects/{new_id()}", "kind": "user.available"},
        "amount": money(1),
        "captureMode": "CAPTURE_MODE_AUTOMATIC",
        "actingFor": {"partner": "demo-shop"},
    }
    for role in ("partner", "operator"):
        with pytest.raises(CallFailed) as refused:
            rival.call(f"{_PAYMENTS}/CreatePayment", body, role=role)
        assert refused.value.reason == "FIELD_INVALID"
