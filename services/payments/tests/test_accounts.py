"""Accounts as their callers see them: opened, frozen, let go again, closed, and listed."""

from __future__ import annotations

import pytest

from danbao.payments.v1 import account_pb2, event_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_kit.testing.service import as_caller
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, manual, new_id, payment, top_up

BUYER, SELLER = "subjects/buyer", "subjects/seller"
State = account_pb2.Account.State


async def refused(call, reason: str) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    assert caught.value.reason == reason, caught.value
    return caught.value


def new(owner: str = BUYER, kind: str = "user.available", currency: str = "CNY") -> account_pb2.CreateAccountRequest:
    account = account_pb2.NewAccount(owner=owner, kind=kind, currency=currency)
    return account_pb2.CreateAccountRequest(request_id=new_id(), account=account)


def freeze(account, scope: int = 0) -> account_pb2.FreezeAccountRequest:
    return account_pb2.FreezeAccountRequest(request_id=new_id(), name=account.name, scope=scope)


def unfreeze(account) -> account_pb2.UnfreezeAccountRequest:
    return account_pb2.UnfreezeAccountRequest(request_id=new_id(), name=account.name)


def close(account) -> account_pb2.CloseAccountRequest:
    return account_pb2.CloseAccountRequest(request_id=new_id(), name=account.name)


async def wallet(stack: PaymentsStack, owner: str = BUYER):
    return (await stack.accounts(owner))["user.available"]


async def test_an_account_is_opened_once_and_told_once(stack: PaymentsStack):
    request = new()
    opened = await stack.call("CreateAccount", request)
    assert (opened.state, opened.owner, opened.available_minor) == (State.STATE_OPEN, BUYER, 0)
    again, headers = await stack.call_with_headers("CreateAccount", request)
    assert (again, headers["x-danbao-replayed"]) == (opened, "true")
    assert await stack.call("CreateAccount", new()) == opened
    await stack.fund(BUYER, 100)
    assert (await wallet(stack)).name == opened.name
    kinds = [row["kind"] for row in await stack.sql("SELECT kind FROM events ORDER BY sequence")]
    assert kinds == ["owner_brought", "account_opened", "top_up_created", "top_up_succeeded"]


@pytest.mark.parametrize(
    ("request_", "caller", "reason"),
    [
        (new(currency="XXX"), PARTNER, "CURRENCY_UNKNOWN"),
        (new(kind="no.such"), OPERATOR, "KIND_NOT_ALLOWED"),
        (new(owner="trades/1"), OPERATOR, "KIND_NOT_ALLOWED"),
        (new(kind="guarantee.deposit"), PARTNER, "KIND_NOT_ALLOWED"),
        (new(owner="platform", kind="suspense"), PARTNER, "KIND_NOT_ALLOWED"),
        (new(), as_caller(subject="buyer", roles="user"), "KIND_NOT_ALLOWED"),
        (account_pb2.CreateAccountRequest(request_id=new_id()), PARTNER, "FIELD_INVALID"),
    ],
)
async def test_which_accounts_are_not_opened(stack: PaymentsStack, request_, caller, reason: str):
    await refused(stack.call("CreateAccount", request_, as_=caller), reason)
    assert not await stack.sql("SELECT id FROM accounts")


async def test_many_are_opened_together_or_none(stack: PaymentsStack):
    def batch(*kinds: str) -> account_pb2.BatchCreateAccountsRequest:
        accounts = [account_pb2.NewAccount(owner=SELLER, kind=kind, currency="CNY") for kind in kinds]
        return account_pb2.BatchCreateAccountsRequest(request_id=new_id(), accounts=accounts)

    await refused(
        stack.call("BatchCreateAccounts", batch("seller.payable", "no.such"), as_=OPERATOR), "KIND_NOT_ALLOWED"
    )
    assert not await stack.sql("SELECT id FROM accounts")
    request = batch("seller.payable", "guarantee.deposit", "seller.payable")
    made = await stack.call("BatchCreateAccounts", request, as_=OPERATOR)
    assert [account.kind for account in made.accounts] == ["seller.payable", "guarantee.deposit", "seller.payable"]
    assert made.accounts[0] == made.accounts[2]
    assert await stack.call("BatchCreateAccounts", request, as_=OPERATOR) == made
    wrong = account_pb2.BatchCreateAccountsRequest(
        request_id=new_id(), accounts=[account_pb2.NewAccount(owner=SELLER, kind="seller.payable", currency="?")]
    )
    error = await refused(stack.call("BatchCreateAccounts", wrong, as_=OPERATOR), "CURRENCY_UNKNOWN")
    assert error.metadata["field"] == "accounts[0].currency"


async def test_a_freeze_refuses_debits_and_one_of_all_refuses_everything(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    account = await wallet(stack)
    frozen = await stack.call("FreezeAccount", freeze(account), as_=OPERATOR)
    assert (frozen.state, frozen.freeze_scope) == (State.STATE_FROZEN, account_pb2.FREEZE_SCOPE_DEBITS)
    error = await refused(stack.call("CreatePayment", payment(BUYER, SELLER, 1)), "ACCOUNT_FROZEN")
    assert error.metadata["scope"] == "DEBITS"
    await stack.fund(BUYER, 5)
    frozen = await stack.call("FreezeAccount", freeze(account, account_pb2.FREEZE_SCOPE_ALL), as_=OPERATOR)
    assert frozen.freeze_scope == account_pb2.FREEZE_SCOPE_ALL
    error = await refused(stack.call("CreateTopUp", top_up(BUYER, 1)), "ACCOUNT_FROZEN")
    assert error.metadata["scope"] == "ALL"
    again = await stack.call("FreezeAccount", freeze(account, account_pb2.FREEZE_SCOPE_ALL), as_=OPERATOR)
    assert again == frozen
    opened = await stack.call("UnfreezeAccount", unfreeze(account), as_=OPERATOR)
    assert (opened.state, opened.freeze_scope) == (State.STATE_OPEN, 0)
    assert await stack.call("UnfreezeAccount", unfreeze(account), as_=OPERATOR) == opened
    await stack.call("CreatePayment", payment(BUYER, SELLER, 105))
    events = [event_pb2.Event.FromString(row["payload"]) for row in await stack.sql("SELECT payload FROM events")]
    told = [event.WhichOneof("payload") for event in events]
    assert [kind for kind in told if "account" in kind] == ["account_frozen", "account_frozen", "account_unfrozen"]


async def test_an_account_closes_when_it_is_empty_and_then_stays_so(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    account = await wallet(stack)
    await refused(stack.call("CloseAccount", close(account), as_=OPERATOR), "ACCOUNT_NOT_EMPTY")
    await stack.call("CreatePayment", payment(BUYER, SELLER, 90))
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 10, hold_lifetime={"seconds": 5}))
    await refused(stack.call("CloseAccount", close(account), as_=OPERATOR), "ACCOUNT_NOT_EMPTY")
    await stack.call("CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name))
    await stack.call("FreezeAccount", freeze(account), as_=OPERATOR)
    await refused(stack.call("CloseAccount", close(account), as_=OPERATOR), "ACCOUNT_FROZEN")
    await stack.call("UnfreezeAccount", unfreeze(account), as_=OPERATOR)
    closed = await stack.call("CloseAccount", close(account), as_=OPERATOR)
    assert closed.state == State.STATE_CLOSED
    for call in (
        stack.call("CloseAccount", close(account), as_=OPERATOR),
        stack.call("FreezeAccount", freeze(account), as_=OPERATOR),
        stack.call("UnfreezeAccount", unfreeze(account), as_=OPERATOR),
        stack.call("CreateAccount", new()),
        stack.call("CreateTopUp", top_up(BUYER, 1)),
    ):
        await refused(call, "ACCOUNT_CLOSED")


async def test_who_owes_closes_nothing(stack: PaymentsStack):
    account = await stack.call("CreateAccount", new())
    await stack.call("CreateAccount", new(kind="receivable.chargeback"), as_=OPERATOR)
    await stack.sql("UPDATE accounts SET debits_posted = 7 WHERE kind = 'receivable.chargeback' AND owner = $1", BUYER)
    error = await refused(stack.call("CloseAccount", close(account), as_=OPERATOR), "ACCOUNT_NOT_EMPTY")
    assert error.metadata["kind"] == "receivable.chargeback"
    await stack.sql("UPDATE accounts SET debits_posted = 0")
    await stack.call("CloseAccount", close(account), as_=OPERATOR)


@pytest.mark.parametrize("method", ["FreezeAccount", "UnfreezeAccount", "CloseAccount"])
async def test_whose_account_is_controlled_by_nobody_else(stack: PaymentsStack, method: str):
    account = await stack.call("CreateAccount", new())
    request = {"FreezeAccount": freeze, "UnfreezeAccount": unfreeze, "CloseAccount": close}[method]
    await refused(stack.call(method, request(account)), "KIND_NOT_ALLOWED")
    stranger = as_caller(subject="somebody", roles="user")
    await refused(stack.call(method, request(account), as_=stranger), "ACCOUNT_NOT_FOUND")
    missing = account_pb2.Account(name="accounts/00000000-0000-0000-0000-000000000000")
    await refused(stack.call(method, request(missing), as_=OPERATOR), "ACCOUNT_NOT_FOUND")
    await stack.fund(BUYER, 10)
    await stack.call("CreatePayment", manual(BUYER, SELLER, 10))
    clearing = (await stack.accounts("platform"))["clearing.capture"]
    await refused(stack.call(method, request(clearing), as_=OPERATOR), "KIND_NOT_ALLOWED")
    if method == "CloseAccount":
        rail = (await stack.accounts("rails/simulated"))["rail.in_transit"]
        await refused(stack.call(method, request(rail), as_=OPERATOR), "KIND_NOT_ALLOWED")


async def test_accounts_are_listed_by_owner_kind_and_state(stack: PaymentsStack):
    for owner in (BUYER, SELLER):
        for kind in ("user.available", "seller.payable"):
            await stack.call("CreateAccount", new(owner, kind))
    await stack.call("FreezeAccount", freeze(await wallet(stack)), as_=OPERATOR)

    async def listed(as_=OPERATOR, **filters) -> list[tuple[str, str]]:
        found, token = [], ""
        while True:
            request = account_pb2.ListAccountsRequest(page_size=1, page_token=token, **filters)
            page = await stack.call("ListAccounts", request, as_=as_)
            found += [(account.owner, account.kind) for account in page.accounts]
            token = page.next_page_token
            if not token:
                return found

    everything = [(owner, kind) for owner in (BUYER, SELLER) for kind in ("seller.payable", "user.available")]
    assert await listed() == everything
    assert await listed(owner=SELLER, as_=PARTNER) == everything[2:]
    assert await listed(kind="user.available") == [everything[1], everything[3]]
    assert await listed(state=State.STATE_FROZEN) == [everything[1]]
    assert await listed(owner=SELLER, state=State.STATE_OPEN, kind="user.available") == [everything[3]]
    assert await listed(owner=BUYER, as_=as_caller(subject="seller", roles="user")) == []
    error = await refused(stack.call("ListAccounts", account_pb2.ListAccountsRequest()), "FIELD_INVALID")
    assert error.metadata["field"] == "owner"
    first = await stack.call("ListAccounts", account_pb2.ListAccountsRequest(page_size=1), as_=OPERATOR)
    other = account_pb2.ListAccountsRequest(kind="user.available", page_token=first.next_page_token)
    await refused(stack.call("ListAccounts", other, as_=OPERATOR), "PAGE_TOKEN_INVALID")


async def test_escrow_lists_the_accounts_of_all_trades_and_no_others(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    payee = {"owner": "trades/1", "kind": "escrow.trade"}
    paid = payment(BUYER, SELLER, 30, payee=payee, beneficiary=SELLER)
    await stack.call("CreatePayment", paid, as_=(), peer="escrow")
    of_trades = account_pb2.ListAccountsRequest(kind="escrow.trade")
    page = await stack.call("ListAccounts", of_trades, as_=(), peer="escrow")
    assert [(account.owner, account.available_minor) for account in page.accounts] == [("trades/1", 30)]
    for kind in ("", "user.available"):
        request = account_pb2.ListAccountsRequest(kind=kind)
        await refused(stack.call("ListAccounts", request, as_=(), peer="escrow"), "FIELD_INVALID")
    await refused(stack.call("ListAccounts", of_trades), "FIELD_INVALID")


async def test_account_operations_in_a_batch_are_answered_in_their_places(stack: PaymentsStack):
    account = await stack.call("CreateAccount", new())
    operations = [
        payment_pb2.Operation(freeze_account=freeze(account)),
        payment_pb2.Operation(close_account=close(account)),
        payment_pb2.Operation(unfreeze_account=unfreeze(account)),
        payment_pb2.Operation(close_account=close(account)),
        payment_pb2.Operation(create_account=new(SELLER)),
    ]
    request = payment_pb2.BatchExecuteRequest(operations=operations)
    results = (await stack.call("BatchExecute", request, as_=OPERATOR)).results
    assert reason_of(results[1].error)[0] == "ACCOUNT_FROZEN"
    states = [result.account.state for result in results if result.WhichOneof("result") == "account"]
    assert states == [State.STATE_FROZEN, State.STATE_OPEN, State.STATE_CLOSED, State.STATE_OPEN]
    again = (await stack.call("BatchExecute", request, as_=OPERATOR)).results
    assert all(result.replayed for result in again)
