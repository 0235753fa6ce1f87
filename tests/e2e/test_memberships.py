"""Credible merchants on the whole stack: joining, and fraud from the arbiter's word to the lost badge in one trace."""

import asyncio
import time
import urllib.request
import uuid

import asyncpg
import pytest

from danbao_local import demo, membership_calls
from danbao_local.client import CallFailed, ClientTrace, GatewayClient
from danbao_local.otlp_receiver import TraceReader

from .test_cases import CLAIMS, Deal, _as_operator, _leg

MEMBERSHIPS = "danbao.credit.v1.MembershipService"
CREDIT = "danbao.credit.v1.CreditService"

pytestmark = pytest.mark.usefixtures("books_balance")


def waited_for(look, wanted, seconds=15):
    """What `look` gives once `wanted` holds for it."""
    until = time.monotonic() + seconds
    while not wanted(found := look()):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def terms(client, seller):
    return client.call(f"{CREDIT}/GetTerms", {"subject": seller, "currency": "CNY"}, role="partner")


def badge(client, seller):
    return client.call(f"{MEMBERSHIPS}/GetBadge", {"subject": seller}, role="user")


def test_a_merchant_joins_is_shown_as_one_and_leaves(client):
    seller = membership_calls.verified(client)
    body = {"requestId": demo.new_id(), "subject": seller, "currencies": ["CNY"]}
    made = client.call(f"{MEMBERSHIPS}/ApplyMembership", body, role="partner")
    assert (demo.state_name(made), made.deposits[0].required_minor) == ("AWAITING_DEPOSIT", 100_000)
    assert not terms(client, seller).member
    with pytest.raises(CallFailed) as refused:
        client.call(f"{MEMBERSHIPS}/FundDeposit", membership_calls.funding(made.name, 900_000), role="partner")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "PAYMENT_REFUSED")
    assert "INSUFFICIENT_FUNDS" in str(refused.value)
    paid = client.call(f"{MEMBERSHIPS}/FundDeposit", membership_calls.funding(made.name, 100_000), role="partner")
    assert demo.state_name(paid) == "ACTIVE"
    assert badge(client, seller).member
    found = terms(client, seller)
    assert (found.member, found.compensation_limit_minor) == (True, 200_000)
    books = client.call("danbao.payments.v1.AccountService/ListAccounts", {"owner": seller}, role="operator").accounts
    (deposit,) = [account for account in books if account.kind == "guarantee.deposit"]
    assert deposit.name == paid.deposits[0].account
    assert deposit.credits_posted_minor - deposit.debits_posted_minor == paid.deposits[0].balance_minor == 100_000
    left = client.call(
        f"{MEMBERSHIPS}/LeaveMembership", {"requestId": demo.new_id(), "name": made.name}, role="partner"
    )
    assert demo.state_name(left) == "LEAVING"
    assert not badge(client, seller).member


def test_money_on_a_deposit_that_credit_has_forgotten_counts(running, client):
    """As after a rebuild of credit from an empty database: payments' statement of the account says what is there."""
    seller, membership = membership_calls.joined(client)

    async def forget():
        connection = await asyncpg.connect(running.card.databases["credit"])
        try:
            # At once: payments' event of the funding may still be on its way, and must find all of it or nothing.
            async with connection.transaction():
                gone = await connection.fetch("DELETE FROM deposits WHERE subject = $1 RETURNING account", seller)
                accounts = [row["account"] for row in gone]
                await connection.execute("DELETE FROM deposit_movements WHERE account = ANY($1::uuid[])", accounts)
                await connection.execute("DELETE FROM deposit_steps WHERE subject = $1", seller)
                await connection.execute("DELETE FROM memberships WHERE subject = $1", seller)
        finally:
            await connection.close()

    asyncio.run(forget())
    body = {"requestId": demo.new_id(), "subject": seller, "currencies": ["CNY"]}
    made = client.call(f"{MEMBERSHIPS}/ApplyMembership", body, role="partner")
    assert made.name != membership
    assert (demo.state_name(made), made.deposits[0].balance_minor) == ("ACTIVE", membership_calls.DEPOSIT_MINOR)


def test_a_badge_may_be_kept_by_caches_for_a_minute(running):
    request = urllib.request.Request(
        f"{running.card.json}/v1/subjects/nobody-{uuid.uuid4().hex[:8]}/badge",
        headers={"authorization": f"Bearer {running.card.token['user']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["cache-control"] == "max-age=60"


def test_confirmed_fraud_is_one_trace_from_the_arbiter_to_the_lost_badge(running, client):
    """Compensated from the deposit, score 350, BLOCKED, suspended, no badge: each linked to the arbiter's call."""
    seller, membership = membership_calls.joined(client)
    deal = Deal(client, 50_000, seller=seller, feeBps=0)
    deal.confirm()
    claim = deal.ask(f"{CLAIMS}/OpenClaim", "BUYER", trade=deal.name, amount=demo.money(50_000), reason="a forgery")
    _as_operator(client, [_leg(("platform", "opening"), ("platform", "guarantee.fund"), 1)])

    waited_for(
        lambda: client.call(f"{MEMBERSHIPS}/GetMembership", {"name": membership}, role="partner"),
        lambda each: each.open_claims == 1,
    )
    with pytest.raises(CallFailed) as refused:
        client.call(f"{MEMBERSHIPS}/LeaveMembership", {"requestId": demo.new_id(), "name": membership}, role="partner")
    assert refused.value.reason == "OPEN_CLAIMS", "nobody leaves while a claim is open"

    trace = ClientTrace("fraud confirmed")
    with GatewayClient(running.card, trace) as traced:
        decided = traced.call(
            f"{CLAIMS}/DecideClaim",
            {
                "requestId": demo.new_id(),
                "actor": {"subject": "subjects/j", "role": "ROLE_ARBITER"},
                "name": claim.name,
                "compensationMinor": 50_000,
                "reason": "it was",
            },
            role="arbiter",
        )
        assert (demo.state_name(decided), decided.compensated_minor) == ("COMPENSATED", 50_000)
        reader = TraceReader(running.card.otlp)
        reader.export(trace.finish())

    # The deposit paid, not the fund.
    assert deal.balance(seller, "guarantee.deposit") == 50_000
    found = waited_for(
        lambda: client.call(f"{MEMBERSHIPS}/GetMembership", {"name": membership}, role="partner"),
        lambda each: demo.state_name(each) == "SUSPENDED" and each.deposits[0].balance_minor == 50_000,
    )
    assert found.causes[0].code == "FRAUD"
    assert not badge(client, seller).member
    evaluation = client.call(f"{CREDIT}/Evaluate", {"subject": seller}, role="partner")
    assert (evaluation.score, evaluation.grade, evaluation.blocked) == (350, "E", True)
    after = terms(client, seller)
    assert (after.member, after.blocked, after.compensation_limit_minor) == (False, True, 0)
    with pytest.raises(CallFailed) as blocked:
        Deal(client, 1_000, seller=seller)
    assert blocked.value.reason == "SUBJECT_BLOCKED"

    def spans():
        return reader.trace(trace.trace_id)

    # Each process sends its spans when it comes to it; the gateway once a second.
    told = waited_for(
        spans,
        lambda each: (
            {"credit.apply_event", "credit.look_at_membership"} <= {span.name for span in each}
            and {"gateway", "escrow", "payments"} <= {s.service for s in each if s.trace_id == trace.trace_id}
        ),
    )
    own = {span.span_id for span in told if span.trace_id == trace.trace_id}
    linked = [span for span in told if span.service == "credit" and any(link.span_id in own for link in span.links)]
    assert {"credit.apply_event", "credit.look_at_membership"} <= {span.name for span in linked}
    looks = [span for span in linked if span.name == "credit.look_at_membership"]
    assert {span.attributes["danbao.membership"] for span in looks} == {membership}
    reader.close()
