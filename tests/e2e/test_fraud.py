"""Fraud found by an arbiter in escrow: credit blocks the seller, whoever watches is told, escrow refuses new trades."""

import pytest

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao_local import demo
from danbao_local.client import CallFailed
from danbao_local.stack import DEMO_CHEAT

TRADES = "danbao.escrow.v1.TradeService"
CLAIMS = "danbao.escrow.v1.CompensationService"
LEDGER = "danbao.payments.v1.LedgerService"
CREDIT = "danbao.credit.v1.CreditService"
CHEAT, BUYER = f"subjects/{DEMO_CHEAT}", "subjects/b-of-the-cheat"
PATIENCE_S = 60

pytestmark = pytest.mark.usefixtures("books_balance")


def ask(client, rpc, subject, role, **fields):
    body = {"requestId": demo.new_id(), "actor": {"subject": subject, "role": f"ROLE_{role}"}, **fields}
    return client.call(rpc, body, role="arbiter" if role == "ARBITER" else "partner")


def created(client, *, buyer=BUYER, seller=CHEAT):
    line = {"lineId": "1", "title": "thing", "amount": demo.money(5000)}
    body = {"buyer": buyer, "seller": seller, "lines": [line], "total": demo.money(5000)}
    return ask(client, f"{TRADES}/CreateTrade", buyer, "BUYER", **body).name


def refused(call):
    with pytest.raises(CallFailed) as failure:
        call()
    return failure.value.code, failure.value.reason


def test_fraud_blocks_the_seller_and_a_watcher_is_told(running, client):
    client.call(
        "danbao.payments.v1.PaymentService/CreateTopUp", demo.top_up_body(50_000) | {"owner": BUYER}, role="partner"
    )
    leg = {"debit": {"owner": "platform", "kind": "opening"}, "credit": {"owner": "platform", "kind": "guarantee.fund"}}
    body = {"requestId": demo.new_id(), "legs": [leg | {"amount": demo.money(5000)}]}
    client.call(f"{LEDGER}/PostTransaction", body, role="operator")
    cheated, waiting = created(client), created(client)
    for method, subject, role, fields in (
        ("PayTrade", BUYER, "BUYER", {}),
        ("ShipLines", CHEAT, "SELLER", {"carrier": "S", "tracking": "1"}),
        ("ConfirmLines", BUYER, "BUYER", {}),
    ):
        ask(client, f"{TRADES}/{method}", subject, role, name=cheated, **fields)
    watch = credit_pb2_grpc.CreditServiceStub(client._channel).WatchScores(
        credit_pb2.WatchScoresRequest(subjects=[CHEAT]),
        metadata=(("authorization", f"Bearer {running.card.token['partner']}"),),
        timeout=PATIENCE_S,
    )
    try:
        first = next(change for message in watch for change in message.changes)
        assert not first.blocked
        claim = ask(
            client, f"{CLAIMS}/OpenClaim", BUYER, "BUYER", trade=cheated, amount=demo.money(5000), reason="a forgery"
        )
        decision = {"name": claim.name, "compensationMinor": 5000, "finding": "FINDING_FRAUD", "reason": "it was"}
        paid = ask(client, f"{CLAIMS}/DecideClaim", "subjects/j", "ARBITER", **decision)
        assert demo.state_name(paid) == "COMPENSATED"
        told = next(change for message in watch for change in message.changes if change.blocked)
    finally:
        watch.cancel()
    assert (told.subject, told.score, told.grade, told.reason_codes[0]) == (CHEAT, 350, "E", "FRAUD_CONFIRMED")
    assert (told.previously_blocked, len(told.trace_id)) == (False, 32)
    now = client.call(f"{CREDIT}/Evaluate", {"subject": CHEAT}, role="partner")
    assert (now.score, now.grade, now.blocked, now.reasons[0].code) == (350, "E", True, "FRAUD_CONFIRMED")
    blocked = ("FAILED_PRECONDITION", "SUBJECT_BLOCKED")
    assert refused(lambda: created(client)) == blocked
    assert refused(lambda: created(client, buyer=CHEAT, seller="subjects/s-honest")) == blocked
    assert refused(lambda: ask(client, f"{TRADES}/PayTrade", BUYER, "BUYER", name=waiting)) == blocked
    assert created(client, seller="subjects/s-honest")
