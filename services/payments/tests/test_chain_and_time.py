"""What the books say of the past, and whether they still say what was committed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from danbao.payments.v1 import account_pb2, ledger_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
SUSPENSE = {"owner": "platform", "kind": "suspense"}


async def refused(call, reason: str) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    assert caught.value.reason == reason, caught.value
    return caught.value


async def post(stack: PaymentsStack, minor: int, *, effective: datetime | None = None) -> ledger_pb2.Transaction:
    """Puts money into the buyer's wallet, or takes it out where it is below zero."""
    wallet = {"owner": BUYER, "kind": "user.available"}
    sides = {"debit": SUSPENSE, "credit": wallet} if minor > 0 else {"debit": wallet, "credit": SUSPENSE}
    request = ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[{**sides, "amount": money(abs(minor))}])
    if effective is not None:
        request.effective_time.FromDatetime(effective)
    return await stack.call("PostTransaction", request, as_=OPERATOR)


async def wallet(stack: PaymentsStack) -> account_pb2.Account:
    return (await stack.accounts(BUYER))["user.available"]


async def balance(stack: PaymentsStack, as_=PARTNER, **at: datetime) -> int:
    request = account_pb2.GetBalanceRequest(account=(await wallet(stack)).name)
    for kind, moment in at.items():
        getattr(request, kind).FromDatetime(moment)
    return (await stack.call("GetBalance", request, as_=as_)).balance_minor


def time_of(posted: ledger_pb2.Transaction) -> datetime:
    return posted.create_time.ToDatetime(tzinfo=UTC)


# --- balances ---------------------------------------------------------------------------------------------------------


async def test_what_counts_a_little_later_does_not_count_yet(stack: PaymentsStack):
    now = time_of(await post(stack, 100))
    await post(stack, 7, effective=now + timedelta(minutes=4))
    soon = now + timedelta(minutes=1)
    assert (await balance(stack, effective_time=soon), await balance(stack, recorded_time=soon)) == (100, 107)
    assert await balance(stack, effective_time=now + timedelta(minutes=4)) == 107


async def test_a_balance_of_another_is_not_there(stack: PaymentsStack):
    await post(stack, 1)
    stranger = as_caller(subject="somebody", roles="user")
    request = account_pb2.GetBalanceRequest(account=(await wallet(stack)).name)
    await refused(stack.call("GetBalance", request, as_=stranger), "ACCOUNT_NOT_FOUND")
    request = account_pb2.GetBalanceRequest(account="accounts/nobody")
    await refused(stack.call("GetBalance", request), "FIELD_INVALID")


async def test_the_trial_balance_is_read_in_business_time(stack: PaymentsStack):
    await post(stack, 1)
    await stack.advance(60)
    read = await stack.call("GetTrialBalance", ledger_pb2.GetTrialBalanceRequest(), as_=OPERATOR)
    later = await post(stack, 1)
    assert timedelta(0) <= time_of(later) - read.read_time.ToDatetime(UTC) < timedelta(seconds=1)


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_transactions_are_listed_by_account_owner_and_time(stack: PaymentsStack):
    posted = []
    for minor in (10, 20, 30):
        posted.append(await post(stack, minor))
        await stack.advance(1)
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 60))

    async def listed(as_=OPERATOR, size: int = 1, **filters) -> list[str]:
        found, token = [], ""
        while True:
            request = ledger_pb2.ListTransactionsRequest(page_size=size, page_token=token, **filters)
            page = await stack.call("ListTransactions", request, as_=as_)
            found += [transaction.name for transaction in page.transactions]
            token = page.next_page_token
            if not token:
                return found

    names = [each.name for each in posted]
    account = (await wallet(stack)).name
    assert await listed(account=account) == await listed(owner=BUYER) == [*names, paid.last_transaction]
    assert await listed(owner=SELLER, as_=PARTNER) == [paid.last_transaction]
    assert await listed(owner="platform", size=1000) == names
    since, until = posted[1].create_time, posted[2].create_time
    assert await listed(account=account, start_time=since) == [*names[1:], paid.last_transaction]
    assert await listed(account=account, start_time=since, end_time=until) == [names[1]]
    assert await listed(owner=BUYER, as_=as_caller(subject="seller", roles="user")) == []
    hidden = ledger_pb2.ListTransactionsRequest(account=account)
    stranger = as_caller(subject="seller", roles="user")
    await refused(stack.call("ListTransactions", hidden, as_=stranger), "ACCOUNT_NOT_FOUND")
    for request in (
        ledger_pb2.ListTransactionsRequest(),
        ledger_pb2.ListTransactionsRequest(owner=BUYER, account=account),
    ):
        await refused(stack.call("ListTransactions", request), "FIELD_INVALID")
    foreign = ledger_pb2.ListTransactionsRequest(owner=BUYER, page_token="x")
    await refused(stack.call("ListTransactions", foreign), "PAGE_TOKEN_INVALID")


# --- the chain --------------------------------------------------------------------------------------------------------


async def chain(stack: PaymentsStack) -> ledger_pb2.Chain:
    return await stack.call("VerifyChain", ledger_pb2.VerifyChainRequest(), as_=OPERATOR, timeout=20)


async def test_the_chain_is_intact_from_the_empty_books_on(stack: PaymentsStack):
    empty = await chain(stack)
    assert (empty.intact, empty.verified_sequence, empty.hash) == (True, 0, "")
    for minor in range(1, 6):
        await post(stack, minor)
    await post(stack, 1, effective=datetime(1990, 1, 1, tzinfo=UTC))
    full = await chain(stack)
    assert (full.intact, full.verified_sequence, full.batches) == (True, 6, 6)
    assert len(full.hash) == 64
    assert (await chain(stack)).hash == full.hash


@pytest.mark.parametrize(
    ("change", "undo", "where", "how"),
    [
        (
            "UPDATE transfers SET amount_minor = amount_minor + 1 WHERE sequence = 3",
            "UPDATE transfers SET amount_minor = amount_minor - 1 WHERE sequence = 3",
            3,
            "was changed",
        ),
        (
            "UPDATE transfers SET create_time = create_time - interval '1 microsecond' WHERE sequence = 2",
            "UPDATE transfers SET create_time = create_time + interval '1 microsecond' WHERE sequence = 2",
            2,
            "was changed",
        ),
        (
            "UPDATE transfers SET sequence = 9 WHERE sequence = 5",
            "UPDATE transfers SET sequence = 5 WHERE sequence = 9",
            5,
            "is missing",
        ),
        (
            "UPDATE ledger_batches SET hash = sha256(hash) WHERE last_sequence = 4",
            None,
            4,
            "begins a batch whose hash was changed",
        ),
        ("DELETE FROM ledger_batches WHERE last_sequence = 2", None, 2, "is of no batch"),
        ("DELETE FROM ledger_batches WHERE last_sequence = 5", None, 5, "is of no batch"),
    ],
)
async def test_one_cent_changed_by_the_tables_owner_is_found_where_it_is(
    stack: PaymentsStack, change: str, undo: str | None, where: int, how: str
):
    for minor in range(1, 6):
        await post(stack, minor)
    await stack.sql(change)
    found = await chain(stack)
    assert (found.intact, found.broken_sequence, found.broken_because) == (False, where, how)
    assert found.verified_sequence == where - 1
    if undo is not None:
        await stack.sql(undo)
        assert (await chain(stack)).intact


async def test_a_look_at_the_chain_changes_nothing(stack: PaymentsStack):
    await post(stack, 1)
    before = await stack.sql("SELECT * FROM stream_heads")
    await chain(stack)
    assert await stack.sql("SELECT * FROM stream_heads") == before


# --- statements -------------------------------------------------------------------------------------------------------


async def test_a_statement_has_opening_running_and_closing_balances_by_either_time(stack: PaymentsStack):
    times = []
    for minor in (100, -50, -10, 50, -10):
        times.append(time_of(await post(stack, minor)))
        await stack.advance(60)
    late = await post(stack, -50, effective=times[1] + timedelta(seconds=1))
    name = (await wallet(stack)).name

    async def statement(since=None, until=None, **others) -> account_pb2.ListEntriesResponse:
        request = account_pb2.ListEntriesRequest(account=name, **others)
        for field, moment in (("start_time", since), ("end_time", until)):
            if moment is not None:
                getattr(request, field).FromDatetime(moment)
        return await stack.call("ListEntries", request)

    def told(page) -> tuple[int, list[int], int]:
        running = [entry.balance_after_minor for entry in page.entries]
        return page.opening_balance_minor, running, page.closing_balance_minor

    assert told(await statement()) == (0, [100, 50, 40, 90, 80, 30], 30)
    assert told(await statement(by_effective_time=True)) == (0, [100, 50, 0, -10, 40, 30], 30)
    assert told(await statement(times[1], times[3])) == (100, [50, 40], 40)
    assert told(await statement(times[1], times[3], by_effective_time=True)) == (100, [50, 0, -10], -10)
    assert told(await statement(times[4] + timedelta(hours=1))) == (30, [], 30)
    # Pages: nothing that is posted meanwhile, back-dated or not, shows up or moves anything in the pages that follow.
    first = await statement(by_effective_time=True, page_size=4)
    await post(stack, 7, effective=times[1])
    await post(stack, 9)
    second = await statement(by_effective_time=True, page_size=4, page_token=first.next_page_token)
    assert (told(first)[1], told(second)) == ([100, 50, 0, -10], (0, [40, 30], 30))
    assert not second.next_page_token
    assert first.entries[2].transaction == late.name
    assert first.entries[2].effective_time != first.entries[2].create_time
    other = account_pb2.ListEntriesRequest(account=name, page_token=first.next_page_token)
    await refused(stack.call("ListEntries", other), "PAGE_TOKEN_INVALID")
