"""Two partners side by side on the real service: what is the other's is answered like what there is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from danbao.payments.v1 import account_pb2, event_pb2, ledger_pb2, payment_pb2, rail_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_kit.testing.service import as_caller
from danbao_payments.domain.account import account_id
from danbao_payments.testing.stack import (
    OPERATOR,
    PARTNER,
    RIVAL,
    PaymentsStack,
    manual,
    money,
    new_id,
    payment,
    top_up,
    withdrawal,
)

OURS, THEIRS, THEIR_SHOP, NOBODYS = "subjects/ours", "subjects/theirs", "subjects/their-shop", "subjects/nobodys"
MISSING = "subjects/missing"
NOTHING = "01900000-0000-7000-8000-000000000000"
RAIL = "rails/simulated"


@dataclass
class World:
    """What the rival has, and has done."""

    stack: PaymentsStack
    payment: str = ""
    held: str = ""
    by_rail: str = ""
    top_up: str = ""
    withdrawal: str = ""
    refund: str = ""
    transaction: str = ""


@pytest.fixture
async def world(stack: PaymentsStack) -> World:
    """We have a customer with 1000; the rival has one with 1000 and a shop, and some of every kind of movement."""
    await stack.fund(OURS, 1000)
    made = World(stack)
    made.top_up = (await stack.call("CreateTopUp", top_up(THEIRS, 5000), as_=RIVAL)).name
    paid = await stack.call("CreatePayment", payment(THEIRS, THEIR_SHOP, 500), as_=RIVAL)
    made.payment, made.transaction = paid.name, paid.last_transaction
    made.held = (await stack.call("CreatePayment", manual(THEIRS, THEIR_SHOP, 300), as_=RIVAL)).name
    over_rail = payment(THEIRS, THEIR_SHOP, 200, rail=RAIL, beneficiary=THEIR_SHOP)
    made.by_rail = (await stack.call("CreatePayment", over_rail, as_=RIVAL)).name
    made.withdrawal = (await stack.call("CreateWithdrawal", withdrawal(THEIRS, 100), as_=RIVAL)).name
    back = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=made.top_up, amount=money(50))
    await stack.call("RefundTopUp", back, as_=RIVAL)
    made.refund = f"refunds/{(await stack.sql('SELECT id FROM rail_refunds'))[0]['id']}"
    return made


def wallet(owner: str, kind: str = "user.available") -> str:
    return f"accounts/{account_id(owner, kind, 'CNY')}"


async def told(stack: PaymentsStack, method: str, request: Any, as_: Any = PARTNER) -> tuple[Any, ...]:
    """The answer, whatever it is: the message, or code, reason, message and metadata."""
    if hasattr(request, "request_id"):
        request.request_id = new_id()
    try:
        return ("OK", await stack.call(method, request, as_=as_))
    except RemoteError as error:
        return (error.code, error.reason, error.message, dict(error.metadata))


def without_names(answer: tuple[Any, ...]) -> str:
    """What is left of an answer without the names that were asked for, and ids made of them."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", repr(answer))
    return text.replace(THEIRS, "OWNER").replace(MISSING, "OWNER")


async def state(stack: PaymentsStack) -> Any:
    """Everything that could have changed."""
    return [
        await stack.sql(f"SELECT * FROM {table} ORDER BY 1")
        for table in ("accounts", "owners", "payments", "top_ups", "withdrawals", "rail_refunds", "transfers", "events")
    ]


# --- each method: theirs is as missing --------------------------------------------------------------------------------

_NAMED: dict[str, Callable[[World, bool], Any]] = {
    "GetAccount": lambda w, t: account_pb2.GetAccountRequest(name=wallet(THEIRS if t else MISSING)),
    "GetBalance": lambda w, t: account_pb2.GetBalanceRequest(account=wallet(THEIRS if t else MISSING)),
    "ListEntries": lambda w, t: account_pb2.ListEntriesRequest(account=wallet(THEIRS if t else MISSING)),
    "ListAccounts": lambda w, t: account_pb2.ListAccountsRequest(owner=THEIRS if t else MISSING),
    "GetOwner": lambda w, t: account_pb2.GetOwnerRequest(owner=THEIRS if t else MISSING),
    "FreezeAccount": lambda w, t: account_pb2.FreezeAccountRequest(name=wallet(THEIRS if t else MISSING)),
    "UnfreezeAccount": lambda w, t: account_pb2.UnfreezeAccountRequest(name=wallet(THEIRS if t else MISSING)),
    "CloseAccount": lambda w, t: account_pb2.CloseAccountRequest(name=wallet(THEIRS if t else MISSING)),
    "GetTransaction": lambda w, t: ledger_pb2.GetTransactionRequest(
        name=w.transaction if t else f"transactions/{NOTHING}"
    ),
    "ReverseTransaction": lambda w, t: ledger_pb2.ReverseTransactionRequest(
        name=w.transaction if t else f"transactions/{NOTHING}"
    ),
    "ListTransactions": lambda w, t: ledger_pb2.ListTransactionsRequest(account=wallet(THEIRS if t else MISSING)),
    "ListTransactions of an owner": lambda w, t: ledger_pb2.ListTransactionsRequest(owner=THEIRS if t else MISSING),
    "GetPayment": lambda w, t: payment_pb2.GetPaymentRequest(name=w.payment if t else f"payments/{NOTHING}"),
    "GetPayment held": lambda w, t: payment_pb2.GetPaymentRequest(name=w.held if t else f"payments/{NOTHING}"),
    "CapturePayment": lambda w, t: payment_pb2.CapturePaymentRequest(name=w.held if t else f"payments/{NOTHING}"),
    "VoidPayment": lambda w, t: payment_pb2.VoidPaymentRequest(name=w.held if t else f"payments/{NOTHING}"),
    "RefundPayment": lambda w, t: payment_pb2.RefundPaymentRequest(name=w.payment if t else f"payments/{NOTHING}"),
    "RefundPayment over a rail": lambda w, t: payment_pb2.RefundPaymentRequest(
        name=w.by_rail if t else f"payments/{NOTHING}"
    ),
    "ListPayments": lambda w, t: payment_pb2.ListPaymentsRequest(payer=THEIRS if t else MISSING),
    "ListPayments to": lambda w, t: payment_pb2.ListPaymentsRequest(payee=THEIR_SHOP if t else MISSING),
    "GetTopUp": lambda w, t: payment_pb2.GetTopUpRequest(name=w.top_up if t else f"topUps/{NOTHING}"),
    "RefundTopUp": lambda w, t: payment_pb2.RefundTopUpRequest(name=w.top_up if t else f"topUps/{NOTHING}"),
    "GetWithdrawal": lambda w, t: rail_pb2.GetWithdrawalRequest(name=w.withdrawal if t else f"withdrawals/{NOTHING}"),
    "GetRailRefund": lambda w, t: rail_pb2.GetRailRefundRequest(name=w.refund if t else f"refunds/{NOTHING}"),
    "ReportRailResult": lambda w, t: rail_pb2.ReportRailResultRequest(
        movement=w.top_up if t else f"topUps/{NOTHING}", result=rail_pb2.RAIL_RESULT_SETTLED
    ),
    "ReportRailResult of a payment": lambda w, t: rail_pb2.ReportRailResultRequest(
        movement=w.by_rail if t else f"payments/{NOTHING}", result=rail_pb2.RAIL_RESULT_SUCCEEDED
    ),
    "CreatePayment": lambda w, t: payment(THEIRS if t else MISSING, OURS, 1),
    "CreatePayment held": lambda w, t: manual(THEIRS if t else MISSING, OURS, 1),
    "CreatePayment to a third": lambda w, t: payment(THEIRS if t else MISSING, THEIR_SHOP, 1),
    "CreateWithdrawal": lambda w, t: withdrawal(THEIRS if t else MISSING, 1),
}


@pytest.mark.parametrize("what", list(_NAMED))
async def test_what_is_another_partner_s_is_answered_like_what_is_missing(world: World, what: str):
    stack, method = world.stack, what.split()[0]
    before = await state(stack)
    theirs = await told(stack, method, _NAMED[what](world, True))
    missing = await told(stack, method, _NAMED[what](world, False))
    assert without_names(theirs) == without_names(missing)
    assert THEIR_SHOP not in repr(theirs) or what == "ListPayments to"
    assert await state(stack) == before


@pytest.mark.parametrize(
    "what", [what for what in _NAMED if what not in ("ListPayments to", "CreatePayment to a third")]
)
async def test_the_partner_itself_is_answered_otherwise(world: World, what: str):
    """So that what the other is told is no accident."""
    stack, method = world.stack, what.split()[0]
    own = await told(stack, method, _NAMED[what](world, True), as_=RIVAL)
    missing = await told(stack, method, _NAMED[what](world, False), as_=RIVAL)
    assert without_names(own) != without_names(missing)


async def test_limits_of_another_partner_s_customer_look_as_if_nobody_had_set_them(world: World):
    for owner in (THEIRS, OURS):
        limits = payment_pb2.SetLimitsRequest(request_id=new_id(), scope=owner, currency="CNY", per_day_minor=7000)
        await world.stack.call("SetLimits", limits, as_=OPERATOR)
    request = payment_pb2.GetLimitsRequest(scope=THEIRS, currency="CNY")
    missing = payment_pb2.GetLimitsRequest(scope=MISSING, currency="CNY")
    assert without_names(await told(world.stack, "GetLimits", request)) == without_names(
        await told(world.stack, "GetLimits", missing)
    )
    assert (await world.stack.call("GetLimits", request, as_=RIVAL)).per_day_minor == 7000
    own = payment_pb2.GetLimitsRequest(scope=OURS, currency="CNY")
    assert (await world.stack.call("GetLimits", own)).per_day_minor == 7000
    # Nor do they tell by what a payment is refused.
    refused = [await told(world.stack, "CreatePayment", payment(each, OURS, 8000)) for each in (THEIRS, MISSING)]
    assert without_names(refused[0]) == without_names(refused[1])


async def test_a_frozen_or_closed_wallet_of_another_s_refuses_as_one_that_is_missing(world: World):
    stack = world.stack
    requests = [
        ("CreatePayment", lambda owner: payment(owner, OURS, 1)),
        ("CreateWithdrawal", lambda owner: withdrawal(owner, 1)),
        ("CreateTopUp", lambda owner: top_up(owner, 1)),
        ("CreatePayment", lambda owner: payment(owner, OURS, 1, rail=RAIL)),
    ]
    open_ = [await told(stack, method, make(THEIRS)) for method, make in requests]
    freeze = account_pb2.FreezeAccountRequest(
        request_id=new_id(), name=wallet(THEIRS), scope=account_pb2.FREEZE_SCOPE_ALL
    )
    await stack.call("FreezeAccount", freeze, as_=OPERATOR)
    assert [await told(stack, method, make(THEIRS)) for method, make in requests] == open_
    missing = [await told(stack, method, make(MISSING)) for method, make in requests[:2]]
    assert [without_names(each) for each in open_[:2]] == [without_names(each) for each in missing]
    # Where a missing one would be opened, the answer is that of reading one.
    read = await told(stack, "GetAccount", account_pb2.GetAccountRequest(name=wallet(THEIRS)))
    assert open_[2] == open_[3] == read


async def test_the_platform_and_its_rails_and_trades_of_others_do_not_exist_for_partners(world: World):
    stack = world.stack
    await paid_trade(stack, THEIRS, "trades/t1", partner="rival")
    for owner, kind in ((RAIL, "rail.in_transit"), ("platform", "clearing.capture"), ("trades/t1", "escrow.trade")):
        assert kind in await stack.accounts(owner)
        read = await told(stack, "GetAccount", account_pb2.GetAccountRequest(name=wallet(owner, kind)))
        assert read[1] == "ACCOUNT_NOT_FOUND"
        assert not (await stack.call("ListAccounts", account_pb2.ListAccountsRequest(owner=owner))).accounts
        listed = ledger_pb2.ListTransactionsRequest(owner=owner)
        assert not (await stack.call("ListTransactions", listed)).transactions
    own = account_pb2.GetAccountRequest(name=wallet("trades/t1", "escrow.trade"))
    assert (await stack.call("GetAccount", own, as_=RIVAL)).available_minor == 10


# --- who brings an owner ----------------------------------------------------------------------------------------------


async def whose(stack: PaymentsStack, owner: str) -> str:
    return (await stack.call("GetOwner", account_pb2.GetOwnerRequest(owner=owner), as_=OPERATOR)).partner


async def by_operator(stack: PaymentsStack, owner: str, minor: int = 1000) -> None:
    leg = {
        "debit": {"owner": "platform", "kind": "suspense"},
        "credit": {"owner": owner, "kind": "user.available"},
        "amount": money(minor),
    }
    await stack.call(
        "PostTransaction", ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg]), as_=OPERATOR
    )


def new_account(owner: str, kind: str = "user.available", currency: str = "CNY", partner: str = "") -> Any:
    account = {"owner": owner, "kind": kind, "currency": currency, "partner": partner}
    return account_pb2.CreateAccountRequest(request_id=new_id(), account=account)


_BRINGS: dict[str, tuple[str, Callable[[], Any]]] = {
    "opening": ("CreateAccount", lambda: new_account(NOBODYS)),
    "opening another": ("CreateAccount", lambda: new_account(NOBODYS, "seller.payable")),
    "topping up": ("CreateTopUp", lambda: top_up(NOBODYS, 10)),
    "paying": ("CreatePayment", lambda: payment(NOBODYS, OURS, 10)),
    "holding": ("CreatePayment", lambda: manual(NOBODYS, OURS, 10)),
    "paying over a rail": ("CreatePayment", lambda: payment(NOBODYS, OURS, 10, rail=RAIL)),
    "naming a beneficiary": ("CreatePayment", lambda: payment(OURS, OURS_SHOP, 10, beneficiary=NOBODYS)),
    "opening an account by paying into it": (
        "CreatePayment",
        lambda: payment(OURS, NOBODYS, 10, payee={"owner": NOBODYS, "kind": "seller.payable"}),
    ),
    "withdrawing": ("CreateWithdrawal", lambda: withdrawal(NOBODYS, 10)),
}
OURS_SHOP = "subjects/our-shop"


@pytest.mark.parametrize("how", list(_BRINGS))
async def test_the_first_partner_that_acts_for_an_owner_brings_it(stack: PaymentsStack, how: str):
    await stack.fund(OURS, 1000)
    await by_operator(stack, NOBODYS)
    assert await whose(stack, NOBODYS) == ""
    # Until then it is there for everybody, and reading brings nobody.
    for partner in (PARTNER, RIVAL):
        assert (await told(stack, "GetAccount", account_pb2.GetAccountRequest(name=wallet(NOBODYS)), partner))[
            0
        ] == "OK"
    method, make = _BRINGS[how]
    assert (await told(stack, method, make()))[0] == "OK"
    assert await whose(stack, NOBODYS) == "shop"
    assert {row["partner"] for row in await stack.sql("SELECT partner FROM accounts WHERE owner = $1", NOBODYS)} == {
        "shop"
    }
    [row] = await stack.sql("SELECT * FROM owners WHERE owner = $1", NOBODYS)
    assert (row["partner"], row["brought_by"]) == ("shop", "partner:shop")
    assert (await told(stack, "GetAccount", account_pb2.GetAccountRequest(name=wallet(NOBODYS)), RIVAL))[1] == (
        "ACCOUNT_NOT_FOUND"
    )


async def test_paying_into_an_account_that_is_there_brings_nobody(stack: PaymentsStack):
    await stack.fund(OURS, 1000)
    await by_operator(stack, NOBODYS)
    await stack.call("CreatePayment", payment(OURS, NOBODYS, 10))
    assert await whose(stack, NOBODYS) == ""


async def test_what_is_refused_brings_nobody_and_tells_nothing(stack: PaymentsStack):
    await by_operator(stack, NOBODYS, 5)
    for method, request in (
        ("CreatePayment", payment(NOBODYS, OURS, 6)),
        ("CreateWithdrawal", withdrawal(NOBODYS, 6)),
        ("CreateTopUp", top_up(NOBODYS, 6, rail="rails/none")),
        ("CreateAccount", new_account(NOBODYS, "guarantee.deposit")),
        ("CreateAccount", new_account(NOBODYS, partner="rival")),
    ):
        assert (await told(stack, method, request))[0] != "OK"
    assert not await stack.sql("SELECT * FROM owners")
    assert not await brought_as_told(stack)


async def test_users_and_operators_bring_nobody_but_an_operator_may_say_whose(stack: PaymentsStack):
    user = as_caller(subject="nobodys", roles="user")
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=user)
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=OPERATOR)
    assert await whose(stack, NOBODYS) == ""
    await stack.call("CreateAccount", new_account(NOBODYS, partner="rival"), as_=OPERATOR)
    assert await whose(stack, NOBODYS) == "rival"
    # Said again it stays so; of another it is refused, in a batch as a whole.
    await stack.call("CreateAccount", new_account(NOBODYS, "seller.payable", partner="rival"), as_=OPERATOR)
    refused = await told(stack, "CreateAccount", new_account(NOBODYS, partner="shop"), OPERATOR)
    assert refused[:2] == ("FAILED_PRECONDITION", "OWNER_TAKEN")
    assert refused[3] == {"owner": NOBODYS, "partner": "rival"}
    several = account_pb2.BatchCreateAccountsRequest(
        accounts=[
            {"owner": OURS, "kind": "user.available", "currency": "CNY", "partner": "shop"},
            {"owner": NOBODYS, "kind": "user.available", "currency": "EUR", "partner": "shop"},
        ]
    )
    assert (await told(stack, "BatchCreateAccounts", several, OPERATOR))[1] == "OWNER_TAKEN"
    assert await whose(stack, OURS) == ""
    several.accounts[1].partner = "rival"
    assert (await told(stack, "BatchCreateAccounts", several, OPERATOR))[0] == "OK"
    assert (await whose(stack, OURS), await whose(stack, NOBODYS)) == ("shop", "rival")


_ITSELF: dict[str, tuple[str, Callable[[], Any]]] = {
    **{how: _BRINGS[how] for how in ("topping up", "paying", "holding", "paying over a rail", "withdrawing")},
    "refunding": ("RefundPayment", lambda: payment_pb2.RefundPaymentRequest(amount=money(1))),
    "refunding a top-up": ("RefundTopUp", lambda: payment_pb2.RefundTopUpRequest(amount=money(1))),
}
SENT = as_caller(subject="nobodys", roles="user", partner="shop")


@pytest.mark.parametrize("how", list(_ITSELF))
async def test_a_user_that_acts_for_itself_is_brought_by_the_partner_that_its_token_names(
    stack: PaymentsStack, how: str
):
    """Or another could take it over with the money that is in it."""
    await stack.fund(OURS, 1000)
    topped_up = await stack.call("CreateTopUp", top_up(NOBODYS, 1000), as_=OPERATOR)
    paid = await stack.call("CreatePayment", payment(OURS, NOBODYS, 10))
    assert await whose(stack, NOBODYS) == ""
    method, make = _ITSELF[how]
    request = make()
    if how.startswith("refunding"):
        request.name = topped_up.name if "top-up" in how else paid.name
    assert (await told(stack, method, request, SENT))[0] == "OK"
    assert await whose(stack, NOBODYS) == "shop"
    assert {row["partner"] for row in await stack.sql("SELECT partner FROM accounts WHERE owner = $1", NOBODYS)} == {
        "shop"
    }
    assert (await told(stack, "ListAccounts", account_pb2.ListAccountsRequest(owner=NOBODYS), RIVAL))[1].accounts == []
    for_it = payment(NOBODYS, "subjects/rivals", 1)
    assert (await told(stack, "CreatePayment", for_it, RIVAL))[1] == "INSUFFICIENT_FUNDS"
    assert (await told(stack, "CreatePayment", for_it, PARTNER))[0] == "OK"


async def test_the_partner_in_a_user_s_token_gives_no_right_and_takes_over_nobody(world: World):
    stack = world.stack
    theirs = as_caller(subject="theirs", roles="user", partner="shop")
    # What another has brought stays so, and the user acts for itself as ever.
    assert (await told(stack, "CreateTopUp", top_up(THEIRS, 1), theirs))[0] == "OK"
    assert (await told(stack, "CreatePayment", payment(THEIRS, OURS, 1), theirs))[0] == "OK"
    assert (await told(stack, "CreateWithdrawal", withdrawal(THEIRS, 1), theirs))[0] == "OK"
    assert await whose(stack, THEIRS) == "rival"
    # Of the partner's there is no more for it than for any user; what is refused brings nobody.
    before = await state(stack)
    for method, request in (
        ("CreatePayment", payment(OURS, NOBODYS, 1)),
        ("CreateTopUp", top_up(OURS, 1)),
        ("CreateWithdrawal", withdrawal(OURS, 1)),
        ("GetAccount", account_pb2.GetAccountRequest(name=wallet(OURS))),
        ("CreatePayment", payment(NOBODYS, OURS, 1)),
    ):
        assert (await told(stack, method, request, SENT))[0] != "OK"
    assert await state(stack) == before


@pytest.mark.parametrize("owner", ["platform", RAIL, "trades/t1"])
async def test_only_subjects_are_brought(stack: PaymentsStack, owner: str):
    kind = {"platform": "suspense", RAIL: "rail.settled", "trades/t1": "escrow.trade"}[owner]
    refused = await told(stack, "CreateAccount", new_account(owner, kind, partner="shop"), OPERATOR)
    assert (refused[1], refused[3]["field"]) == ("FIELD_INVALID", "account.partner")


async def test_a_partner_opens_nothing_for_another_s_customer(world: World):
    before = await state(world.stack)
    for request in (new_account(THEIRS), new_account(THEIRS, "seller.payable", "EUR")):
        refused = await told(world.stack, "CreateAccount", request)
        assert refused[:2] == ("NOT_FOUND", "ACCOUNT_NOT_FOUND")
    several = account_pb2.BatchCreateAccountsRequest(
        accounts=[{"owner": owner, "kind": "seller.payable", "currency": "CNY"} for owner in (NOBODYS, THEIRS)]
    )
    assert (await told(world.stack, "BatchCreateAccounts", several))[1] == "ACCOUNT_NOT_FOUND"
    assert await state(world.stack) == before


async def test_a_partner_s_token_without_a_partner_stands_for_itself(stack: PaymentsStack):
    alone = as_caller(subject="small", roles="partner")
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=alone)
    assert await whose(stack, NOBODYS) == "subject:small"
    assert (await told(stack, "CreatePayment", payment(NOBODYS, OURS, 1), alone))[0] == "OK"
    assert (await told(stack, "CreatePayment", payment(NOBODYS, OURS, 1), PARTNER))[1] == "INSUFFICIENT_FUNDS"
    other = as_caller(subject="other", roles="partner")
    assert (await told(stack, "CreatePayment", payment(NOBODYS, OURS, 1), other))[1] == "INSUFFICIENT_FUNDS"


# --- money between partners -------------------------------------------------------------------------------------------


async def test_money_may_go_to_another_s_customer_and_tells_nothing_of_it(world: World):
    stack = world.stack
    paid = await stack.call("CreatePayment", payment(OURS, THEIRS, 10))
    fresh = await stack.call("CreatePayment", payment(OURS, "subjects/new", 10))
    assert paid.state == fresh.state == payment_pb2.Payment.STATE_CAPTURED
    assert (await whose(stack, THEIRS), await whose(stack, "subjects/new")) == ("rival", "shop")
    # A kind that they have not yet is theirs as well.
    await stack.call("CreatePayment", payment(OURS, THEIRS, 10, payee={"owner": THEIRS, "kind": "seller.payable"}))
    assert {row["partner"] for row in await stack.sql("SELECT partner FROM accounts WHERE owner = $1", THEIRS)} == {
        "rival"
    }
    # The payment is the payer's partner's; the other sees the entry in its customer's account, and no more.
    assert (await told(stack, "GetPayment", payment_pb2.GetPaymentRequest(name=paid.name), RIVAL))[1] == (
        "PAYMENT_NOT_FOUND"
    )
    entries = account_pb2.ListEntriesRequest(account=wallet(THEIRS))
    assert (await stack.call("ListEntries", entries, as_=RIVAL)).entries[-1].amount.amount_minor == 10
    # It is not to be taken back: as if nothing were there.
    back = payment_pb2.RefundPaymentRequest(name=paid.name)
    refused = await told(stack, "RefundPayment", back)
    assert refused[1] == "INSUFFICIENT_FUNDS"
    assert refused[3]["available_minor"] == "0"


async def test_another_s_closed_or_frozen_payee_tells_nothing_but_that_it_cannot_be_paid(world: World):
    stack = world.stack
    held = await stack.call("CreatePayment", manual(OURS, THEIR_SHOP, 10))
    freeze = account_pb2.FreezeAccountRequest(
        request_id=new_id(), name=wallet(THEIR_SHOP), scope=account_pb2.FREEZE_SCOPE_ALL
    )
    await stack.call("FreezeAccount", freeze, as_=OPERATOR)
    assert (await told(stack, "CreatePayment", payment(OURS, THEIR_SHOP, 10)))[1] == "ACCOUNT_NOT_FOUND"
    assert (await told(stack, "CapturePayment", payment_pb2.CapturePaymentRequest(name=held.name)))[1] == (
        "ACCOUNT_NOT_FOUND"
    )
    assert (await told(stack, "CreatePayment", payment(THEIRS, THEIR_SHOP, 10), RIVAL))[1] == "ACCOUNT_FROZEN"
    # The hold is ours to let go.
    assert (await told(stack, "VoidPayment", payment_pb2.VoidPaymentRequest(name=held.name)))[0] == "OK"


async def test_a_beneficiary_of_another_s_is_refused(world: World):
    stack = world.stack
    before = await state(stack)
    named = payment(OURS, OURS_SHOP, 10, rail=RAIL, beneficiary=THEIR_SHOP)
    split = payment(
        OURS,
        OURS_SHOP,
        10,
        splits=[
            {
                "destination": {"owner": OURS_SHOP, "kind": "user.available"},
                "remaining": True,
                "beneficiary": THEIR_SHOP,
            }
        ],
        remainder_policy=ledger_pb2.REMAINDER_POLICY_FIRST,
    )
    for request in (named, split):
        refused = await told(stack, "CreatePayment", request)
        read = account_pb2.GetAccountRequest(name=wallet(THEIR_SHOP, "seller.payable"))
        assert refused == await told(stack, "GetAccount", read)
    assert await state(stack) == before
    assert (await told(stack, "CreatePayment", payment(THEIRS, THEIR_SHOP, 1, beneficiary=THEIR_SHOP), RIVAL))[
        0
    ] == "OK"


async def test_a_split_s_other_customers_do_not_give_back_what_they_received(world: World):
    stack = world.stack
    parts = [OURS_SHOP, THEIR_SHOP]
    split = payment(
        OURS,
        OURS_SHOP,
        100,
        splits=[{"destination": {"owner": owner, "kind": "user.available"}, "basis_points": 5000} for owner in parts],
        remainder_policy=ledger_pb2.REMAINDER_POLICY_FIRST,
    )
    paid = await stack.call("CreatePayment", split)
    before = await state(stack)
    refused = await told(stack, "RefundPayment", payment_pb2.RefundPaymentRequest(name=paid.name))
    assert (refused[1], refused[3]["available_minor"]) == ("INSUFFICIENT_FUNDS", "0")
    assert await state(stack) == before


async def test_a_transaction_of_several_partners_is_shown_to_each_in_part(stack: PaymentsStack):
    await stack.fund(OURS, 100)
    await stack.call("CreateTopUp", top_up(THEIRS, 100), as_=RIVAL)
    legs = [
        {
            "debit": {"owner": "platform", "kind": "suspense"},
            "credit": {"owner": owner, "kind": "user.available"},
            "amount": money(minor),
        }
        for owner, minor in ((OURS, 7), (THEIRS, 8), (THEIRS, 9))
    ]
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=legs)
    posted = await stack.call("PostTransaction", request, as_=OPERATOR)
    asked = ledger_pb2.GetTransactionRequest(name=posted.name)
    for caller, owner, amounts in ((PARTNER, OURS, [7]), (RIVAL, THEIRS, [8, 9]), (OPERATOR, OURS, [7, 8, 9])):
        shown = await stack.call("GetTransaction", asked, as_=caller)
        assert [each.amount.amount_minor for each in shown.transfers] == amounts
        listed = ledger_pb2.ListTransactionsRequest(owner=owner)
        last = (await stack.call("ListTransactions", listed, as_=caller)).transactions[-1]
        assert [each.amount.amount_minor for each in last.transfers] == amounts
    third = as_caller(subject="third", roles="partner", partner="third")
    assert (await told(stack, "GetTransaction", asked, third))[1] == "TRANSACTION_NOT_FOUND"


async def test_lists_of_payments_have_the_partner_s_own_on_every_page_and_no_other_s_token(world: World):
    stack = world.stack
    own = {(await stack.call("CreatePayment", payment(OURS, OURS_SHOP, 1))).name for _ in range(5)}
    found: list[str] = []
    tokens = []
    page = payment_pb2.ListPaymentsRequest(page_size=2)
    while True:
        answer = await stack.call("ListPayments", page)
        found += [each.name for each in answer.payments]
        if not answer.next_page_token:
            break
        tokens.append(answer.next_page_token)
        page.page_token = answer.next_page_token
    assert (set(found), len(found)) == (own, 5)
    theirs = await stack.call("ListPayments", payment_pb2.ListPaymentsRequest(), as_=RIVAL)
    assert {each.name for each in theirs.payments} == {world.payment, world.held, world.by_rail}
    stolen = payment_pb2.ListPaymentsRequest(page_size=2, page_token=tokens[0])
    assert (await told(stack, "ListPayments", stolen, RIVAL))[1] == "PAGE_TOKEN_INVALID"
    # Of accounts, entries and transactions a token is of a list that is not there for the other.
    accounts = account_pb2.ListEntriesRequest(account=wallet(OURS), page_size=1)
    accounts.page_token = (await stack.call("ListEntries", accounts)).next_page_token
    assert accounts.page_token
    assert (await told(stack, "ListEntries", accounts, RIVAL))[1] == "ACCOUNT_NOT_FOUND"
    listed = ledger_pb2.ListTransactionsRequest(owner=OURS, page_size=1)
    listed.page_token = (await stack.call("ListTransactions", listed)).next_page_token
    assert listed.page_token
    assert not (await stack.call("ListTransactions", listed, as_=RIVAL)).transactions


async def test_a_user_and_an_operator_see_what_they_saw(world: World):
    stack = world.stack
    paid = await stack.call("CreatePayment", payment(OURS, THEIRS, 10))
    for who in ("ours", "theirs"):
        user = as_caller(subject=who, roles="user")
        asked = payment_pb2.GetPaymentRequest(name=paid.name)
        assert (await stack.call("GetPayment", asked, as_=user)).name == paid.name
        read = account_pb2.GetAccountRequest(name=wallet(f"subjects/{who}"))
        assert (await stack.call("GetAccount", read, as_=user)).owner == f"subjects/{who}"
    everything = await stack.call("ListPayments", payment_pb2.ListPaymentsRequest(), as_=OPERATOR)
    assert len(everything.payments) == 4


# --- batches, retries, races ------------------------------------------------------------------------------------------


async def test_in_a_batch_each_operation_has_its_own_owner_s_answer(world: World):
    operations = [
        {"create_payment": payment(OURS, OURS_SHOP, 10)},
        {"create_payment": payment(THEIRS, OURS_SHOP, 10)},
        {"capture_payment": payment_pb2.CapturePaymentRequest(request_id=new_id(), name=world.held)},
        {"create_account": new_account(THEIRS, "seller.payable")},
        {"create_account": new_account(NOBODYS)},
        {"create_withdrawal": withdrawal(THEIRS, 10)},
        {"create_payment": payment(OURS, NOBODYS, 10)},
    ]
    batch = payment_pb2.BatchExecuteRequest(operations=operations)
    results = (await world.stack.call("BatchExecute", batch)).results
    assert [reason_of(each.error)[0] if each.HasField("error") else "OK" for each in results] == [
        "OK",
        "INSUFFICIENT_FUNDS",
        "PAYMENT_NOT_FOUND",
        "ACCOUNT_NOT_FOUND",
        "OK",
        "INSUFFICIENT_FUNDS",
        "OK",
    ]
    assert await whose(world.stack, NOBODYS) == "shop"


async def test_in_one_batch_an_account_opened_for_nobody_is_the_partner_s_that_comes_next(
    replicas: tuple[PaymentsStack, PaymentsStack],
):
    """Both may be decided in one transaction, whichever replica commits it."""
    stack, other = replicas
    for number in range(10):
        owner = f"subjects/newcomer-{number}"
        await asyncio.gather(
            by_operator(stack, owner, 10), by_operator(stack, owner, 10), told(other, "CreateTopUp", top_up(owner, 5))
        )
        assert await whose(stack, owner) == "shop"
    assert {
        row["partner"] for row in await stack.sql("SELECT partner FROM accounts WHERE owner LIKE 'subjects/new%'")
    } == {"shop"}


async def test_two_partners_that_bring_one_owner_at_once_are_one_that_has_it(
    replicas: tuple[PaymentsStack, PaymentsStack],
):
    for number in range(20):
        owner = f"subjects/wanted-{number}"
        answers = await asyncio.gather(
            *(
                told(stack, "CreateTopUp", top_up(owner, 100), as_=partner)
                for stack, partner in zip(replicas, (PARTNER, RIVAL), strict=True)
            ),
            *(
                told(stack, "CreateAccount", new_account(owner, "seller.payable"), as_=partner)
                for stack, partner in zip(replicas, (RIVAL, PARTNER), strict=True)
            ),
        )
        has = await whose(replicas[0], owner)
        won = ["shop", "rival", "rival", "shop"]
        for partner, answer in zip(won, answers, strict=True):
            assert (answer[0] == "OK") == (partner == has), answer
            assert answer[0] == "OK" or answer[1] == "ACCOUNT_NOT_FOUND"
        kept = await replicas[0].sql("SELECT partner FROM accounts WHERE owner = $1", owner)
        assert {row["partner"] for row in kept} == {has}


async def test_an_answer_that_was_given_is_given_again_after_another_brought_the_owner(stack: PaymentsStack):
    await by_operator(stack, NOBODYS, 5)
    refused = payment(NOBODYS, OURS, 6)
    assert (await told_again(stack, "CreatePayment", refused))[1] == "INSUFFICIENT_FUNDS"
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=RIVAL)
    assert (await told_again(stack, "CreatePayment", refused))[1] == "INSUFFICIENT_FUNDS"
    # What we were given as ours, we are given again; it is not executed once more.
    kept = top_up(OURS, 10)
    first = await stack.call("CreateTopUp", kept)
    assert await stack.call("CreateTopUp", kept) == first
    # The rival's own request under the same id is another request.
    theirs = await told_again(stack, "CreateTopUp", kept, RIVAL)
    assert theirs[1] == "ACCOUNT_NOT_FOUND"


async def told_again(stack: PaymentsStack, method: str, request: Any, as_: Any = PARTNER) -> tuple[Any, ...]:
    """Under the request's own id."""
    try:
        return ("OK", await stack.call(method, request, as_=as_))
    except RemoteError as error:
        return (error.code, error.reason)


# --- what others are told of it ---------------------------------------------------------------------------------------


async def brought_as_told(stack: PaymentsStack) -> list[account_pb2.Owner]:
    """Every owner_brought of the stream, in order."""
    rows = await stack.sql("SELECT payload FROM events WHERE kind = 'owner_brought' ORDER BY sequence")
    return [event_pb2.Event.FromString(row["payload"]).owner_brought for row in rows]


@pytest.mark.parametrize("how", list(_BRINGS))
async def test_who_brought_a_subject_is_told_once_whatever_brought_it(stack: PaymentsStack, how: str):
    await stack.fund(OURS, 1000)
    await by_operator(stack, NOBODYS)
    method, make = _BRINGS[how]
    request = make()
    before = {each.owner for each in await brought_as_told(stack)}
    assert NOBODYS not in before
    await stack.call(method, request)
    told_of = [each for each in await brought_as_told(stack) if each.owner == NOBODYS]
    assert told_of == [await stack.call("GetOwner", account_pb2.GetOwnerRequest(owner=NOBODYS), as_=OPERATOR)]
    assert (told_of[0].partner, told_of[0].brought_by) == ("shop", "partner:shop")
    # Neither the same request again nor another one tells it again.
    await stack.call(method, request)
    await stack.call(method, make())
    await stack.call("CreateAccount", new_account(NOBODYS, currency="EUR", partner="shop"))
    assert [each for each in await brought_as_told(stack) if each.owner == NOBODYS] == told_of


@pytest.mark.parametrize("how", list(_ITSELF))
async def test_who_is_brought_by_the_partner_that_its_token_names_is_told(stack: PaymentsStack, how: str):
    await stack.fund(OURS, 1000)
    topped_up = await stack.call("CreateTopUp", top_up(NOBODYS, 1000), as_=OPERATOR)
    paid = await stack.call("CreatePayment", payment(OURS, NOBODYS, 10))
    method, make = _ITSELF[how]
    request = make()
    if how.startswith("refunding"):
        request.name = topped_up.name if "top-up" in how else paid.name
    for _ in range(2):
        await told(stack, method, request, SENT)
    assert [each.partner for each in await brought_as_told(stack) if each.owner == NOBODYS] == ["shop"]


async def test_what_brings_nobody_tells_nothing(stack: PaymentsStack):
    await by_operator(stack, NOBODYS, 5)
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=as_caller(subject="nobodys", roles="user"))
    assert not await brought_as_told(stack)


async def test_a_trade_is_brought_and_only_its_parties_are_told(stack: PaymentsStack):
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=OPERATOR)
    trade = "trades/t2"
    await paid_trade(stack, NOBODYS, trade, partner="shop", beneficiary=OURS_SHOP)
    [row] = await stack.sql("SELECT partner FROM accounts WHERE owner = $1", trade)
    assert row["partner"] == "shop"
    assert {(each.owner, each.partner) for each in await brought_as_told(stack)} == {
        (NOBODYS, "shop"),
        (OURS_SHOP, "shop"),
    }


async def test_an_operator_s_word_is_told_whenever_it_is_said_and_once_a_request(stack: PaymentsStack):
    """So are those told of who were brought before this was told, or forgotten by whoever heard it."""
    await stack.call("CreateTopUp", top_up(NOBODYS, 1), as_=RIVAL)
    several = account_pb2.BatchCreateAccountsRequest(
        accounts=[
            {"owner": NOBODYS, "kind": kind, "currency": "CNY", "partner": "rival"}
            for kind in ("user.available", "seller.payable")
        ]
    )
    for request_id in ("first", "second", "second"):
        several.request_id = request_id
        await stack.call("BatchCreateAccounts", several, as_=OPERATOR)
    told_of = await brought_as_told(stack)
    assert [(each.owner, each.partner) for each in told_of] == [(NOBODYS, "rival")] * 3
    several.accounts[1].partner = several.accounts[0].partner = "shop"
    assert (await told(stack, "BatchCreateAccounts", several, OPERATOR))[1] == "OWNER_TAKEN"
    assert await brought_as_told(stack) == told_of


async def test_in_a_batch_an_owner_that_several_bring_is_told_once(stack: PaymentsStack):
    await stack.call("CreateTopUp", top_up(NOBODYS, 100), as_=OPERATOR)
    operations = [
        {"create_account": new_account(NOBODYS)},
        {"create_account": new_account(NOBODYS, "seller.payable")},
        {"create_top_up": top_up(NOBODYS, 100)},
        {"create_payment": payment(NOBODYS, OURS_SHOP, 10, beneficiary=OURS_SHOP)},
        {"create_payment": payment(NOBODYS, OURS_SHOP, 10_000)},
    ]
    for _ in range(2):
        results = (await stack.call("BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations))).results
        assert [each.HasField("error") for each in results] == [False] * 4 + [True]
    assert sorted(each.owner for each in await brought_as_told(stack)) == sorted([NOBODYS, OURS_SHOP])


async def test_of_two_partners_at_once_the_one_that_has_it_is_told(replicas: tuple[PaymentsStack, PaymentsStack]):
    owners = [f"subjects/wanted-{number}" for number in range(20)]
    for owner in owners:
        await asyncio.gather(
            *(
                told(stack, "CreateTopUp", top_up(owner, 100), as_=partner)
                for stack, partner in zip(replicas, (PARTNER, RIVAL), strict=True)
            )
        )
    has = [(owner, await whose(replicas[0], owner)) for owner in owners]
    assert sorted((each.owner, each.partner) for each in await brought_as_told(replicas[0])) == sorted(has)


# --- services that ask on somebody's behalf ---------------------------------------------------------------------------


async def paid_trade(
    stack: PaymentsStack, payer: str, trade: str, *, partner: str = "", subject: str = "", **others: Any
) -> payment_pb2.Payment:
    """As escrow pays a trade. Raises RemoteError."""
    acting = {"partner": partner, "subject": subject} if partner or subject else None
    request = payment(payer, "", 10, payee={"owner": trade, "kind": "escrow.trade"}, acting_for=acting, **others)
    return await stack.call("CreatePayment", request, peer="escrow", as_=())


async def reason(call: Any) -> str:
    try:
        await call
    except RemoteError as error:
        return error.reason
    return "OK"


async def test_a_service_that_asks_for_a_partner_is_answered_as_the_partner(world: World):
    stack = world.stack
    assert await reason(paid_trade(stack, THEIRS, "trades/t1", partner="shop")) == "INSUFFICIENT_FUNDS"
    assert await reason(paid_trade(stack, MISSING, "trades/t1", partner="shop")) == "INSUFFICIENT_FUNDS"
    assert await reason(paid_trade(stack, THEIRS, "trades/t1", partner="shop", rail=RAIL)) == "ACCOUNT_NOT_FOUND"
    benefits = paid_trade(stack, OURS, "trades/t1", partner="shop", beneficiary=THEIR_SHOP)
    assert await reason(benefits) == "ACCOUNT_NOT_FOUND"
    paid = await paid_trade(stack, OURS, "trades/t2", partner="shop", beneficiary=OURS_SHOP)
    assert (await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=paid.name))).name == paid.name
    assert await whose(stack, OURS_SHOP) == "shop"
    # Who asks for itself is answered as before.
    assert await reason(paid_trade(stack, THEIRS, "trades/t3")) == "OK"


async def test_a_subject_pays_itself_in_another_partner_s_trade(world: World):
    stack = world.stack
    paid = await paid_trade(stack, THEIRS, "trades/t1", partner="shop", subject=THEIRS, beneficiary=OURS_SHOP)
    assert await whose(stack, THEIRS) == "rival"
    # It is the trade's partner's payment.
    asked = payment_pb2.GetPaymentRequest(name=paid.name)
    assert (await stack.call("GetPayment", asked)).name == paid.name
    assert await reason(stack.call("GetPayment", asked, as_=RIVAL)) == "PAYMENT_NOT_FOUND"
    # Nobody else pays by that wallet, and the beneficiary is the trade's partner's whoever pays.
    other = paid_trade(stack, OURS, "trades/t2", partner="shop", subject=THEIRS)
    assert await reason(other) == "KIND_NOT_ALLOWED"
    foreign = paid_trade(stack, THEIRS, "trades/t2", partner="shop", subject=THEIRS, beneficiary=THEIR_SHOP)
    assert await reason(foreign) == "ACCOUNT_NOT_FOUND"


async def test_what_a_trade_s_money_opens_is_the_trade_s_partner_s_unless_another_s(world: World):
    stack = world.stack
    await paid_trade(stack, OURS, "trades/t1", partner="shop")
    legs = [
        {
            "debit": {"owner": "trades/t1", "kind": "escrow.trade"},
            "credit": {"owner": owner, "kind": "seller.payable"},
            "amount": money(5),
        }
        for owner in (NOBODYS, THEIR_SHOP)
    ]
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=legs)
    await stack.call("PostTransaction", request, peer="escrow", as_=())
    assert (await whose(stack, NOBODYS), await whose(stack, THEIR_SHOP)) == ("shop", "rival")
    rows = await stack.sql("SELECT owner, partner FROM accounts WHERE kind = 'seller.payable'")
    assert {row["owner"]: row["partner"] for row in rows} == {NOBODYS: "shop", THEIR_SHOP: "rival"}


async def test_a_deposit_is_not_paid_by_another_partner_s_customer(world: World):
    stack = world.stack

    def fund(owner: str, **acting: str) -> Any:
        leg = {
            "debit": {"owner": owner, "kind": "user.available"},
            "credit": {"owner": owner, "kind": "guarantee.deposit"},
            "amount": money(5),
        }
        request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg], acting_for=acting or None)
        return stack.call("PostTransaction", request, peer="credit", as_=())

    refused = []
    for owner in (THEIRS, MISSING):
        with pytest.raises(RemoteError) as caught:
            await fund(owner, partner="shop")
        refused.append((caught.value.code, caught.value.reason, caught.value.message, dict(caught.value.metadata)))
    assert without_names(refused[0]) == without_names(refused[1])
    assert refused[0][1] == "INSUFFICIENT_FUNDS"
    assert await reason(fund(OURS, partner="shop")) == "OK"
    assert await reason(fund(THEIRS, partner="rival")) == "OK"
    assert await reason(fund(THEIRS, partner="shop", subject=THEIRS)) == "OK"
    assert await reason(fund(OURS, partner="shop", subject=THEIRS)) == "KIND_NOT_ALLOWED"


@pytest.mark.parametrize("peer", ["gateway", "operator"])
async def test_only_services_say_for_whom_they_ask(stack: PaymentsStack, peer: str):
    await stack.fund(OURS, 100)
    request = payment(OURS, OURS_SHOP, 1, acting_for={"partner": "shop"})
    with pytest.raises(RemoteError) as refused:
        await stack.call("CreatePayment", request, peer=peer, as_=PARTNER if peer == "gateway" else ())
    assert (refused.value.reason, refused.value.metadata["field"]) == ("FIELD_INVALID", "acting_for")


async def test_a_retry_without_saying_for_whom_is_the_same_request(stack: PaymentsStack):
    """As a replica of the version before sends it once more."""
    await stack.fund(OURS, 100)
    request = payment(OURS, "", 10, payee={"owner": "trades/t1", "kind": "escrow.trade"})
    request.acting_for.partner = "shop"
    first = await stack.call("CreatePayment", request, peer="escrow", as_=())
    request.ClearField("acting_for")
    assert await stack.call("CreatePayment", request, peer="escrow", as_=()) == first
