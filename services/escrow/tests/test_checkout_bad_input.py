"""What checkouts refuse of a message alone, and of roles; nothing is recorded of it."""

import pytest

from danbao.escrow.v1 import trade_pb2

UNKNOWN = "00000000-0000-4000-8000-000000000000"
BUYER = trade_pb2.Actor(subject="subjects/buyer", role="ROLE_BUYER")


async def refused(refusal, call):
    with pytest.raises(refusal) as caught:
        await call
    return caught.value


def create(client, trades, **fields):
    values = {"request_id": client.next_id(), "actor": BUYER, "trades": trades, **fields}
    return client.call("CreateCheckout", trade_pb2.CreateCheckoutRequest(**values))


def pay(client, **fields):
    values = {"request_id": client.next_id(), "actor": BUYER, "name": f"checkouts/{UNKNOWN}", **fields}
    return client.call("PayCheckout", trade_pb2.PayCheckoutRequest(**values))


async def test_a_checkout_of_malformed_trades_is_refused(client, refusal):
    names = [(await client.created()).name for _ in range(2)]
    for changes, field in (
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a\0"}, "request_id"),
        ({"actor": None}, "actor"),
        ({"actor": trade_pb2.Actor(subject="subjects/buyer")}, "actor.role"),
        ({"trades": []}, "trades"),
        ({"trades": names[:1]}, "trades"),
        ({"trades": [names[0]] * 2}, "trades"),
        ({"trades": [f"trades/{UNKNOWN[:-2]}{n:02}" for n in range(21)]}, "trades"),
        ({"trades": [names[0], "trades/1"]}, "trades[1]"),
        ({"trades": [names[0], "trades/" + "-" * 36]}, "trades[1]"),
    ):
        error = await refused(refusal, create(client, **{"trades": names, **changes}))
        assert (error.code, error.reason, error.fields) == ("INVALID_ARGUMENT", "FIELD_INVALID", [field])
    for role in ("SELLER", "OPERATOR", "ARBITER", "SYSTEM", "CARRIER"):
        other = trade_pb2.Actor(subject="subjects/buyer", role=f"ROLE_{role}")
        assert (await refused(refusal, create(client, names, actor=other))).reason == "ROLE_NOT_ALLOWED"
    missing = await refused(refusal, create(client, [names[0], f"trades/{UNKNOWN}"]))
    assert (missing.code, missing.reason) == ("NOT_FOUND", "TRADE_NOT_FOUND")
    stranger = trade_pb2.Actor(subject="subjects/other", role="ROLE_BUYER")
    assert (await refused(refusal, create(client, names, actor=stranger))).reason == "NOT_A_PARTY"
    assert not (await client.trade(names[0])).checkout


async def test_a_payment_of_a_malformed_checkout_is_refused(client, refusal):
    for changes, field in (
        ({"request_id": "x" * 65}, "request_id"),
        ({"name": ""}, "name"),
        ({"name": "checkouts/1"}, "name"),
        ({"name": "checkouts/" + "-" * 36}, "name"),
        ({"rail": "simulated"}, "rail"),
        ({"instrument": "card"}, "instrument"),
        ({"rail": "rails/a", "instrument": "i" * 129}, "instrument"),
        ({"actor": None}, "actor"),
    ):
        error = await refused(refusal, pay(client, **changes))
        assert (error.code, error.reason, error.fields) == ("INVALID_ARGUMENT", "FIELD_INVALID", [field])
    error = await refused(refusal, pay(client))
    assert (error.code, error.reason) == ("NOT_FOUND", "CHECKOUT_NOT_FOUND")


async def test_a_blocked_party_keeps_the_whole_checkout_from_being_paid(stack, client, refusal):
    names = [(await client.created()).name, (await client.created(seller="subjects/other", role="BUYER")).name]
    checkout = await create(client, names)
    stack.credit.blocked.add("subjects/other")
    error = await refused(refusal, pay(client, name=checkout.name))
    assert (error.reason, error.metadata["subject"]) == ("SUBJECT_BLOCKED", "subjects/other")
    assert not (await client.trade(names[0])).step_pending


@pytest.mark.parametrize("action", ["lost", "dropped", "half", "late"])
async def test_a_checkout_is_paid_once_whatever_becomes_of_the_answers(stack, client, action):
    names = [(await client.created()).name, (await client.created(seller="subjects/other", role="BUYER")).name]
    checkout = await create(client, names)
    stack.payments.script.append(action)
    paid = await client.call(
        "PayCheckout",
        trade_pb2.PayCheckoutRequest(request_id="once", actor=BUYER, name=checkout.name),
        timeout=20,
    )
    assert paid.state == trade_pb2.Checkout.STATE_PAID
    assert [stack.payments.escrow_of(name) for name in names] == [8000, 8000]
    stack.assert_each_step_moved_once()
    again = await client.call(
        "PayCheckout", trade_pb2.PayCheckoutRequest(request_id="once", actor=BUYER, name=checkout.name)
    )
    assert again == paid
    assert client.replayed
