"""Debts to the platform through the RPCs, on the real store: who owes what is there whenever a wallet is credited."""

from __future__ import annotations

import asyncio

import pytest

from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, check_books, manual, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
SUSPENSE, FUND = ("platform", "suspense"), ("platform", "guarantee.fund")
PAYABLE, DEPOSIT = (SELLER, "seller.payable"), (SELLER, "guarantee.deposit")
DEBT, CHARGEBACK = (SELLER, "receivable.guarantee"), (SELLER, "receivable.chargeback")


def key(account: tuple[str, str]) -> dict[str, str]:
    return {"owner": account[0], "kind": account[1]}


def posting(*legs: tuple[tuple[str, str], tuple[str, str], int], **others) -> ledger_pb2.PostTransactionRequest:
    made = [{"debit": key(debit), "credit": key(credit), "amount": money(minor)} for debit, credit, minor in legs]
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=made, **others)


def compensation(paid: payment_pb2.Payment, minor: int, **others) -> ledger_pb2.PostTransactionRequest:
    leg = {
        "sources": [{"account": key(DEPOSIT)}, {"account": key(FUND)}],
        "credit": key((BUYER, "user.available")),
        "amount": money(minor),
        "payment": paid.name,
        "purpose": ledger_pb2.PURPOSE_COMPENSATION,
    }
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg], **others)


async def operate(stack: PaymentsStack, *legs: tuple[tuple[str, str], tuple[str, str], int]) -> ledger_pb2.Transaction:
    return await stack.call("PostTransaction", posting(*legs), as_=OPERATOR)


async def as_escrow(stack: PaymentsStack, method: str, request):
    return await stack.call(method, request, peer="escrow", as_=())


async def balances(stack: PaymentsStack, *accounts: tuple[str, str]) -> list[int]:
    return [await stack.available(*account) for account in accounts]


@pytest.fixture
async def paid(stack: PaymentsStack) -> payment_pb2.Payment:
    """A trade of 100000 that its seller has been paid and has spent; a deposit of 60000, a fund of 1000000."""
    await stack.fund(BUYER, 100_000)
    trade = key(("trades/t1", "escrow.trade"))
    made = await as_escrow(stack, "CreatePayment", payment(BUYER, "", 100_000, payee=trade, beneficiary=SELLER))
    await as_escrow(stack, "PostTransaction", posting((("trades/t1", "escrow.trade"), PAYABLE, 100_000)))
    await operate(stack, (PAYABLE, SUSPENSE, 40_000), (SUSPENSE, FUND, 1_000_000))
    await stack.call("PostTransaction", posting((PAYABLE, DEPOSIT, 60_000)), peer="credit", as_=())
    return made


async def test_a_compensation_and_its_recovery(stack: PaymentsStack, paid: payment_pb2.Payment):
    request = compensation(paid, 100_000)
    posted = await as_escrow(stack, "PostTransaction", request)
    assert [t.amount.amount_minor for t in posted.transfers] == [60_000, 40_000, 40_000]
    after = [0, 960_000, 100_000, 40_000]
    watched = (DEPOSIT, FUND, (BUYER, "user.available"), DEBT)
    assert await balances(stack, *watched) == after
    assert await as_escrow(stack, "PostTransaction", request) == posted
    assert await balances(stack, *watched) == after
    await operate(stack, (SUSPENSE, PAYABLE, 25_000))
    assert await balances(stack, FUND, DEBT, PAYABLE, ("platform", "fund.recoverable")) == [985_000, 15_000, 0, 15_000]
    found = await stack.call("GetTransaction", ledger_pb2.GetTransactionRequest(name=posted.name), as_=OPERATOR)
    assert found == posted


async def test_too_little_in_deposit_and_fund_moves_nothing(stack: PaymentsStack, paid: payment_pb2.Payment):
    await operate(stack, (FUND, SUSPENSE, 960_001))
    with pytest.raises(RemoteError) as refused:
        await as_escrow(stack, "PostTransaction", compensation(paid, 100_000))
    assert refused.value.reason == "INSUFFICIENT_FUNDS"
    assert await balances(stack, DEPOSIT, FUND, DEBT) == [60_000, 39_999, 0]
    assert "receivable.guarantee" not in await stack.accounts(SELLER)


async def test_every_way_into_the_seller_s_account_pays_the_debt(stack: PaymentsStack, paid: payment_pb2.Payment):
    """The rows are locked by each of these commands alone, in a batch of its own."""
    await as_escrow(stack, "PostTransaction", compensation(paid, 100_000))
    owed = 40_000
    payable = key(PAYABLE)
    await stack.call("CreatePayment", payment(BUYER, SELLER, 100, payee=payable))
    owed -= 100
    assert await stack.available(*DEBT) == owed
    split = [
        {"destination": payable, "remaining": True},
        {"destination": key(("platform", "fee.payment")), "fixed_minor": 10},
    ]
    policy = ledger_pb2.REMAINDER_POLICY_FIRST
    request = payment(BUYER, SELLER, 100, payee=payable, splits=split, remainder_policy=policy)
    await stack.call("CreatePayment", request)
    owed -= 90
    assert await stack.available(*DEBT) == owed
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 100, payee=payable))
    assert await stack.available(*DEBT) == owed
    await stack.call("CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name))
    owed -= 100
    assert await stack.available(*DEBT) == owed
    by_time = manual(BUYER, SELLER, 100, payee=payable, on_expiry=payment_pb2.ON_EXPIRY_CAPTURE)
    by_time.hold_lifetime.seconds = 1
    await stack.call("CreatePayment", by_time)
    await stack.advance(2)
    owed -= 100
    assert await stack.available(*DEBT) == owed
    # A deposit that is given back.
    await operate(stack, (SUSPENSE, PAYABLE, owed + 500))
    assert await balances(stack, DEBT, PAYABLE, FUND) == [0, 500, 1_000_000]
    await check_books(stack.database)


async def test_every_way_into_a_wallet_pays_the_user_s_debt(stack: PaymentsStack):
    debt = (BUYER, "receivable.user")
    await stack.fund(BUYER, 100)
    made = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    await operate(stack, (debt, SUSPENSE, 1000))
    await stack.fund(BUYER, 300)
    assert await stack.available(*debt) == 700
    await stack.call("RefundPayment", payment_pb2.RefundPaymentRequest(request_id=new_id(), name=made.name))
    assert await stack.available(*debt) == 600
    await operate(stack, (SUSPENSE, (BUYER, "user.available"), 601))
    assert await balances(stack, debt, (BUYER, "user.available")) == [0, 1]


async def test_a_debt_and_what_pays_it_in_one_batch(stack: PaymentsStack, paid: payment_pb2.Payment):
    """The debt's row is new in the very batch that pays it."""
    operations = [
        {"post_transaction": compensation(paid, 100_000)},
        {"create_payment": payment(BUYER, SELLER, 30_000, payee=key(PAYABLE))},
        {"create_payment": payment(BUYER, SELLER, 30_000, payee=key(PAYABLE))},
    ]
    reply = await as_escrow(stack, "BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations))
    assert [result.WhichOneof("result") for result in reply.results] == ["transaction", "payment", "payment"]
    assert await balances(stack, DEBT, PAYABLE, FUND) == [0, 20_000, 1_000_000]


async def test_a_reversal_opens_the_debt_again(stack: PaymentsStack, paid: payment_pb2.Payment):
    await as_escrow(stack, "PostTransaction", compensation(paid, 100_000))
    credited = await operate(stack, (SUSPENSE, PAYABLE, 50_000))
    assert await balances(stack, DEBT, PAYABLE, FUND) == [0, 10_000, 1_000_000]
    await stack.call("CreatePayment", payment(BUYER, SELLER, 5_000, payee=key(PAYABLE)))
    back = ledger_pb2.ReverseTransactionRequest(request_id=new_id(), name=credited.name)
    with pytest.raises(RemoteError) as refused:
        await as_escrow(stack, "ReverseTransaction", back)
    assert refused.value.reason == "KIND_NOT_ALLOWED"
    await stack.call("ReverseTransaction", back, as_=OPERATOR)
    # What was paid since goes to the debt at once, as it would have without the credit.
    assert await balances(stack, DEBT, PAYABLE, FUND) == [35_000, 0, 965_000]


async def test_a_debt_is_written_off_and_then_the_account_can_be_closed(stack: PaymentsStack):
    await operate(stack, (CHARGEBACK, SUSPENSE, 700), (SUSPENSE, (SELLER, "user.available"), 1))
    await operate(stack, ((SELLER, "user.available"), SUSPENSE, 1))
    wallet = (await stack.accounts(SELLER))["user.available"].name
    close = account_pb2.CloseAccountRequest(request_id=new_id(), name=wallet)
    with pytest.raises(RemoteError) as refused:
        await stack.call("CloseAccount", close, as_=OPERATOR)
    assert refused.value.reason == "ACCOUNT_NOT_EMPTY"
    with pytest.raises(RemoteError) as refused:
        await operate(stack, (("platform", "goodwill"), CHARGEBACK, 700))
    assert refused.value.reason == "KIND_NOT_ALLOWED"
    await operate(stack, (("platform", "loss.chargeback"), CHARGEBACK, 700))
    again = account_pb2.CloseAccountRequest(request_id=new_id(), name=wallet)
    closed = await stack.call("CloseAccount", again, as_=OPERATOR)
    assert closed.state == account_pb2.Account.STATE_CLOSED


async def test_credits_of_two_replicas_at_once_pay_a_debt_once(stack: PaymentsStack):
    other = PaymentsStack(stack.database, stack.authority, {"clock": "test"})
    await other.start()
    try:
        await operate(stack, (CHARGEBACK, SUSPENSE, 1000), (SUSPENSE, (BUYER, "user.available"), 1600))
        request = [payment(BUYER, SELLER, 100, payee=key(PAYABLE)) for _ in range(16)]
        pays = [(stack, other)[n % 2].call("CreatePayment", each, timeout=30) for n, each in enumerate(request)]
        await asyncio.gather(*pays)
        assert await balances(other, CHARGEBACK, PAYABLE) == [0, 600]
    finally:
        await other.stop()
