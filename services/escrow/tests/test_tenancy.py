"""Two partners and one payments, escrow and payments both for real: nobody pays by another partner's customer."""

from dataclasses import replace

import asyncpg
import pytest

from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import account_pb2, payment_pb2
from danbao_escrow.clients.payments import operation_of
from danbao_escrow.testing.world import World
from danbao_kit.rpc_client import RemoteError
from danbao_payments.testing.stack import OPERATOR, PARTNER, RIVAL, payment, top_up

T, L, C = trade_pb2.Trade.State, trade_pb2.Line.State, trade_pb2.Checkout.State
BUYER, SELLER = "subjects/buyer", "subjects/seller"
THEIRS, THEIR_SELLER = "subjects/theirs", "subjects/their-seller"
RAIL = "rails/simulated"


@pytest.fixture
async def stack(real_stack, books):
    """The shop has the buyer and a million; the rival has one of its own, who has 50,000, and a seller."""
    await books.call("CreateTopUp", top_up(THEIRS, 50_000), as_=RIVAL)
    await books.call("CreatePayment", payment(THEIRS, THEIR_SELLER, 1), as_=RIVAL)
    return real_stack


async def whose(books, owner):
    return (await books.call("GetOwner", account_pb2.GetOwnerRequest(owner=owner), as_=OPERATOR)).partner


async def for_them(client, *, role="BUYER", **fields):
    """A trade of our shop with the rival's customer as the buyer."""
    actor = {"subject": THEIRS, "role": "ROLE_BUYER"} if role == "BUYER" else {"subject": SELLER, "role": "ROLE_SELLER"}
    return await client.created(buyer=THEIRS, actor=actor, **fields)


async def pay(client, trade, buyer, **fields):
    return await client.give("PayTrade", trade, "BUYER", actor={"subject": buyer, "role": "ROLE_BUYER"}, **fields)


async def together(client, buyer, *trades):
    actor = {"subject": buyer, "role": "ROLE_BUYER"}
    request = trade_pb2.CreateCheckoutRequest(
        request_id=client.next_id(), actor=actor, trades=[trade.name for trade in trades]
    )
    return await client.call("CreateCheckout", request)


async def pay_together(client, checkout, buyer, **fields):
    actor = {"subject": buyer, "role": "ROLE_BUYER"}
    request = trade_pb2.PayCheckoutRequest(request_id=client.next_id(), actor=actor, name=checkout.name, **fields)
    return await client.call("PayCheckout", request)


@pytest.mark.parametrize("over_rail", [False, True], ids=["wallet", "rail"])
@pytest.mark.parametrize("checkout", [False, True], ids=["trade", "checkout"])
async def test_a_partner_does_not_pay_its_trade_by_another_s_customer(client, books, refusal, over_rail, checkout):
    """The attack: a partner's token may act for every party of its own trades."""
    trades = [await for_them(client), await for_them(client)][: 2 if checkout else 1]
    fields = {"rail": RAIL, "instrument": "ok"} if over_rail else {}
    before = await books.sql("SELECT * FROM accounts ORDER BY id")
    if checkout:
        paying = pay_together(client, await together(client, THEIRS, *trades), THEIRS, **fields)
    else:
        paying = pay(client, trades[0], THEIRS, **fields)
    with pytest.raises(refusal) as refused:
        await paying
    assert refused.value.reason == "PAYMENT_REFUSED"
    assert ("ACCOUNT_NOT_FOUND" if over_rail else "INSUFFICIENT_FUNDS") in str(refused.value.metadata)
    assert await books.sql("SELECT * FROM accounts ORDER BY id") == before
    for trade in trades:
        assert (await client.trade(trade.name)).state == T.STATE_PENDING_PAYMENT
    # It is no other answer than for somebody whom nobody knows.
    if not over_rail and not checkout:
        unknown = await client.created(buyer="subjects/unknown", actor={"subject": SELLER, "role": "ROLE_SELLER"})
        with pytest.raises(refusal) as missing:
            await pay(client, unknown, "subjects/unknown")
        assert missing.value.reason == refused.value.reason
        texts = [
            repr({key: value for key, value in error.value.metadata.items() if key != "trade"})
            for error in (refused, missing)
        ]
        assert texts[0].replace(THEIRS, "X") == texts[1].replace("subjects/unknown", "X")


async def test_a_subject_pays_itself_in_another_partner_s_shop(client, books):
    trade = await for_them(client, role="SELLER")
    buyer = client.as_(subject="theirs", roles="user")
    paid = await pay(buyer, trade, THEIRS)
    assert paid.state == T.STATE_AWAITING_SHIPMENT
    assert (await whose(books, THEIRS), await whose(books, SELLER)) == ("rival", "shop")
    # The payment is the shop's, and the trade's account: the rival sees its customer's statement, and no more.
    asked = payment_pb2.GetPaymentRequest(name=paid.payment)
    assert (await books.call("GetPayment", asked, as_=PARTNER)).payee.owner == trade.name
    with pytest.raises(RemoteError):
        await books.call("GetPayment", asked, as_=RIVAL)
    for partner, count in ((PARTNER, 1), (RIVAL, 0)):
        listed = account_pb2.ListAccountsRequest(owner=trade.name)
        assert len((await books.call("ListAccounts", listed, as_=partner)).accounts) == count
    # What is released opens the seller's account: the shop's.
    shipped = await client.give("ShipLines", paid, "SELLER")
    await client.give("ConfirmLines", shipped, "BUYER", actor={"subject": THEIRS, "role": "ROLE_BUYER"})
    [row] = await books.sql("SELECT partner FROM accounts WHERE owner = $1 AND kind = 'seller.payable'", SELLER)
    assert row["partner"] == "shop"


async def test_a_subject_pays_a_checkout_of_another_partner_s_shop(client):
    trades = [await for_them(client, role="SELLER") for _ in range(2)]
    buyer = client.as_(subject="theirs", roles="user")
    paid = await pay_together(buyer, await together(buyer, THEIRS, *trades), THEIRS)
    assert paid.state in (C.STATE_PAYING, C.STATE_PAID)


@pytest.mark.parametrize("over_rail", [False, True], ids=["wallet", "rail"])
async def test_a_partner_does_not_name_another_s_customer_as_the_seller_who_stands_for_chargebacks(
    client, books, refusal, over_rail
):
    trade = await client.created(seller=THEIR_SELLER, actor={"subject": THEIR_SELLER, "role": "ROLE_SELLER"})
    fields = {"rail": RAIL, "instrument": "ok"} if over_rail else {}
    with pytest.raises(refusal) as refused:
        await client.give("PayTrade", trade, "BUYER", **fields)
    assert (refused.value.reason, "ACCOUNT_NOT_FOUND" in str(refused.value.metadata)) == ("PAYMENT_REFUSED", True)
    assert await whose(books, THEIR_SELLER) == "rival"


async def test_a_trade_of_nobody_s_is_paid_by_its_buyer_and_by_no_other(client, books):
    buyer = client.as_(subject="theirs", roles="user")
    trade = await buyer.created(buyer=THEIRS, actor={"subject": THEIRS, "role": "ROLE_BUYER"})
    assert (await pay(buyer, trade, THEIRS)).state == T.STATE_AWAITING_SHIPMENT
    # It is the payer's partner's payment then.
    found = await buyer.trade(trade.name)
    await books.call("GetPayment", payment_pb2.GetPaymentRequest(name=found.payment), as_=RIVAL)
    with pytest.raises(RemoteError):
        await books.call("GetPayment", payment_pb2.GetPaymentRequest(name=found.payment), as_=PARTNER)


async def test_a_step_of_before_says_nothing_of_who_asks_and_is_taken_as_it_was(stack, client, database, books):
    """A replica of the version before writes no such columns."""
    trade = await client.created()
    await client.give("PayTrade", trade, "BUYER")
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT for_partner, for_subject FROM steps ORDER BY number")
        assert [tuple(row) for row in rows] == [("shop", "")]
        defaults = await connection.fetch(
            "SELECT column_name, column_default, is_nullable FROM information_schema.columns"
            " WHERE table_name = 'steps' AND column_name LIKE 'for\\_%' ORDER BY column_name"
        )
        assert [tuple(row) for row in defaults] == [
            ("for_partner", "''::text", "NO"),
            ("for_subject", "''::text", "NO"),
        ]
    finally:
        await connection.close()


def test_who_asks_stands_in_the_request_and_nothing_where_it_is_not_known():
    world = World()
    trade = world.paid((100,))
    (step,) = [step for step in world.steps.values() if step.trade_id == trade.trade_id]
    asked = operation_of(step).create_payment
    assert (asked.acting_for.partner, asked.acting_for.subject) == (trade.partner, "")
    before = operation_of(replace(step, for_partner="", for_subject="")).create_payment
    assert not before.HasField("acting_for")
    asked.ClearField("acting_for")
    assert asked == before
