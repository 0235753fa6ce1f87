"""The secured trade, as its callers see it."""

import uuid

import pytest

from danbao_local import demo
from danbao_local.client import CallFailed

TRADES = "danbao.escrow.v1.TradeService"
PAYMENTS = "danbao.payments.v1.PaymentService"
ACCOUNTS = "danbao.payments.v1.AccountService"


def balances(client, owner):
    accounts = client.call(f"{ACCOUNTS}/ListAccounts", {"owner": owner}, role="operator").accounts
    return {account.kind: account.credits_posted_minor - account.debits_posted_minor for account in accounts}


def test_the_demo_trade_ends_with_the_money_where_it_belongs(running, client):
    trade = running.demo.trade
    assert demo.state_name(trade) == "COMPLETED"
    assert trade.funded_minor == trade.total_minor == trade.released_minor
    assert trade.refunded_minor == 0
    assert balances(client, trade.name) == {"escrow.trade": 0}
    fee = trade.fees_minor
    assert fee == round(trade.total_minor * trade.terms.fee_bps / 10_000)
    entries = {(s.account.owner, s.account.kind) for s in running.demo.statements}
    assert ("platform", "fee.escrow") in entries
    commands = [entry.command for entry in running.demo.timeline]
    assert commands == ["CreateTrade", "PayTrade", "ShipLines", "ReportDelivery", "ConfirmLines"]
    assert all(entry.trace_id for entry in running.demo.timeline)


def test_both_parties_credit_has_moved_and_says_why(running):
    for change in running.demo.credit:
        assert change.after.escrow_sequence > change.before.escrow_sequence
        assert change.after.score >= change.before.score
        assert change.after.confidence_permille > change.before.confidence_permille
        assert change.after.score == (
            change.after.base_points
            + sum(part.points for part in change.after.sub_scores)
            + sum(adjustment.points for adjustment in change.after.adjustments)
        )
        assert 0 < len(change.after.reasons) <= 4
        assert all(reason.text and reason.points_lost > 0 for reason in change.after.reasons)


def test_a_trade_paid_without_money_waits_for_payment_and_can_be_paid_later(client):
    buyer = f"subjects/poor-{uuid.uuid4().hex[:8]}"
    actor = {"subject": buyer, "role": "ROLE_BUYER"}
    body = demo.new_trade_body() | {"actor": actor, "buyer": buyer}
    trade = client.call(f"{TRADES}/CreateTrade", body, role="partner")
    paying = {"requestId": demo.new_id(), "actor": actor, "name": trade.name}
    with pytest.raises(CallFailed) as refused:
        client.call(f"{TRADES}/PayTrade", paying, role="partner")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "PAYMENT_REFUSED")
    top_up = demo.top_up_body(demo.total_minor()) | {"owner": buyer}
    client.call(f"{PAYMENTS}/CreateTopUp", top_up, role="partner")
    with pytest.raises(CallFailed) as again:
        client.call(f"{TRADES}/PayTrade", paying, role="partner")
    assert again.value.reason == "PAYMENT_REFUSED", "a recorded refusal is final for its request id"
    paid = client.call(f"{TRADES}/PayTrade", paying | {"requestId": demo.new_id()}, role="partner")
    assert demo.state_name(paid) == "AWAITING_SHIPMENT"
    cancel = {"requestId": demo.new_id(), "actor": {"subject": demo.SELLER, "role": "ROLE_SELLER"}, "name": trade.name}
    closed = client.call(f"{TRADES}/CancelLines", cancel, role="partner")
    assert demo.state_name(closed) == "CLOSED"
    assert balances(client, buyer)["user.available"] == demo.total_minor()


def test_a_users_token_moves_only_its_own_money(client):
    stranger = demo.top_up_body(100) | {"owner": "subjects/somebody-else"}
    payment = {
        "requestId": demo.new_id(),
        "payer": "subjects/somebody-else",
        "payee": {"owner": demo.BUYER, "kind": "user.available"},
        "amount": demo.money(1),
        "captureMode": "CAPTURE_MODE_AUTOMATIC",
    }
    client.call(f"{PAYMENTS}/CreateTopUp", stranger, role="partner")
    with pytest.raises(CallFailed) as refused:
        client.call(f"{PAYMENTS}/CreatePayment", payment, role="user")
    assert refused.value.code in ("PERMISSION_DENIED", "NOT_FOUND")
