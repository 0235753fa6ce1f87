"""What a migration makes of books that were there before it: seeded under the version before, looked at after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import asyncpg
import pytest

from danbao.payments.v1 import account_pb2, payment_pb2
from danbao_kit.migrations import upgrade
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.domain.account import account_id
from danbao_payments.testing.stack import PARTNER, RIVAL, PaymentsStack, check_books, new_id, withdrawal
from danbao_payments.workers import rails

OWNER, RAIL = "subjects/owner", "rails/simulated"
DONE, WAITING, REFUND, ON_ITS_WAY, PAID = (f"019a0000-0000-7000-8000-00000000000{number}" for number in range(1, 6))
PAYMENT = "019a0000-0000-7000-8000-000000000009"
AT = "'2026-01-01T00:00:00Z'"


async def migrate(database: ServiceDatabase, to: str) -> None:
    await asyncio.to_thread(
        partial(upgrade, package="danbao_payments", dsn=database.owner_dsn, role=database.role, to=to)
    )


def seeded() -> list[str]:
    """A top-up of 1000, 300 of it paid back and 200 on their way, one of 500 of which its rail does not know yet, and
    a payment of 100 between wallets: as version 0001 wrote them."""
    accounts = {
        (OWNER, "user.available"): (600, 1000),
        ("subjects/other", "user.available"): (0, 100),
        (RAIL, "rail.in_transit"): (1000, 0),
        (RAIL, "rail.settled"): (0, 300),
        ("platform", "clearing.refund"): (300, 500),
    }
    rows = ", ".join(
        f"('{account_id(owner, kind, 'CNY')}', '{owner}', '{kind}', 'CNY', 'OPEN', '{rule}', 0, {debits}, 0, {credits},"
        f" {AT}, {AT})"
        for (owner, kind), (debits, credits) in accounts.items()
        for rule in ["NONE" if kind.startswith("rail") else "CREDITS_COVER_DEBITS"]
    )
    legs = [
        ((RAIL, "rail.in_transit"), (OWNER, "user.available"), 1000),
        ((OWNER, "user.available"), ("platform", "clearing.refund"), 300),
        (("platform", "clearing.refund"), (RAIL, "rail.settled"), 300),
        ((OWNER, "user.available"), ("platform", "clearing.refund"), 200),
        ((OWNER, "user.available"), ("subjects/other", "user.available"), 100),
    ]
    transfers = ", ".join(
        f"({number}, gen_random_uuid(), 'POSTED', '{account_id(*debit, 'CNY')}', '{account_id(*credit, 'CNY')}', 'CNY',"
        f" {minor}, '', {AT}, 0, 0, 0, 0, 0, 0, 0, 0)"
        for number, (debit, credit, minor) in enumerate(legs, start=1)
    )
    top_up = f"'{OWNER}', 'CNY', {{minor}}, '{RAIL}', 'ok'"
    request = "'partner:shop', 'CreateTopUp', '{id}', ''"
    back = f"'{AT[1:-1]}', '{AT[1:-1]}', 'partner:shop', 'RefundTopUp'"
    return [
        f"INSERT INTO accounts VALUES {rows}",
        "INSERT INTO transfers (sequence, transaction_id, kind, debit_account, credit_account, currency, amount_minor,"
        " purpose, create_time, debit_debits_pending, debit_debits_posted, debit_credits_pending, debit_credits_posted,"
        " credit_debits_pending, credit_debits_posted, credit_credits_pending, credit_credits_posted)"
        f" VALUES {transfers}",
        f"INSERT INTO top_ups VALUES ('{DONE}', 'SUCCEEDED', {top_up.format(minor=1000)}, 'sim-1', '', 500, 300,"
        f" '{{}}', {AT}, {AT}, {request.format(id='one')})",
        f"INSERT INTO top_ups VALUES ('{WAITING}', 'PENDING', {top_up.format(minor=500)}, '', '', 0, 0, '{{}}', {AT},"
        f" {AT}, {request.format(id='two')})",
        f"INSERT INTO top_up_refunds VALUES ('{PAID}', '{DONE}', 'SETTLED', 300, 'sim-5', {back}, 'three', '')",
        f"INSERT INTO top_up_refunds VALUES ('{ON_ITS_WAY}', '{DONE}', 'PENDING', 200, '', {back}, 'four', '')",
        f"INSERT INTO payments VALUES ('{PAYMENT}', 1, 'CAPTURED', '{OWNER}', 'subjects/other', 'user.available', '',"
        f" 'CNY', 100, 'AUTOMATIC', 100, 100, 0, 0, '{account_id(OWNER, 'user.available', 'CNY')}',"
        f" '{account_id('subjects/other', 'user.available', 'CNY')}', NULL, NULL, '{{}}', '', {AT}, {AT},"
        " gen_random_uuid(), 'CANCEL', '', NULL)",
        f"UPDATE stream_heads SET row_number = {len(legs)}",
    ]


async def test_refunds_of_top_ups_are_taken_over_and_what_waits_is_driven_on(
    service_database: Callable[..., ServiceDatabase], authority: CertificateAuthority, monkeypatch
):
    monkeypatch.setattr(rails, "_OVERDUE_S", 0.1)
    monkeypatch.setattr(rails, "_LOOK_EVERY_S", 0.1)
    database = service_database("payments")
    await migrate(database, "0001")
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        for statement in seeded():
            await connection.execute(statement)
        before = [dict(row) for row in await connection.fetch("SELECT * FROM top_up_refunds ORDER BY id")]
        await migrate(database, "head")
        after = [dict(row) for row in await connection.fetch("SELECT * FROM rail_refunds ORDER BY id")]
        left = [dict(row) for row in await connection.fetch("SELECT * FROM top_up_refunds ORDER BY id")]
    finally:
        await connection.close()
    assert left == before
    assert [{name: row[name] for name in before[0]} for row in after] == before
    for row in after:
        assert (row["payment_id"], row["owner"], row["currency"], row["rail"]) == (None, OWNER, "CNY", RAIL)
        assert (row["instrument"], row["charge_reference"], row["failure"]) == ("ok", "sim-1", "")

    # The version before can neither book the old rows once more nor write others that nobody would drive on.
    old = await asyncpg.connect(database.dsn)
    try:
        for statement in (
            f"SELECT * FROM top_up_refunds WHERE id = '{ON_ITS_WAY}' FOR UPDATE",
            "INSERT INTO top_up_refunds SELECT * FROM top_up_refunds",
            "UPDATE top_up_refunds SET state = 'SETTLED'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await old.execute(statement)
    finally:
        await old.close()

    stack = PaymentsStack(database, authority, {"clock": "test"})
    await stack.start()
    try:
        request = payment_pb2.GetTopUpRequest(name=f"topUps/{DONE}")
        while (shown := await stack.call("GetTopUp", request)).refunds_settled_minor < 500:
            await asyncio.sleep(0.05)
        assert (shown.refunded_minor, shown.returned_minor, shown.HasField("settle_time")) == (500, 0, False)
        request = payment_pb2.GetTopUpRequest(name=f"topUps/{WAITING}")
        while (await stack.call("GetTopUp", request)).state != payment_pb2.TopUp.STATE_SUCCEEDED:
            await asyncio.sleep(0.05)
        assert await stack.available(OWNER) == 900
        shown = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=f"payments/{PAYMENT}"))
        assert (shown.state, shown.rail, shown.charged_back_minor) == (payment_pb2.Payment.STATE_CAPTURED, "", 0)
        # What was paid under the version before can be given back under this one.
        back = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=shown.name)
        assert (await stack.call("RefundPayment", back)).refunded_minor == 100
    finally:
        await stack.stop()
    await check_books(database)


async def test_what_was_there_before_partners_had_owners_is_the_first_one_s_that_acts(
    service_database: Callable[..., ServiceDatabase], authority: CertificateAuthority
):
    database = service_database("payments")
    await migrate(database, "0001")
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        for statement in seeded():
            await connection.execute(statement)
        await migrate(database, "0004")
        await migrate(database, "head")
        for table in ("accounts", "payments"):
            assert {row["partner"] for row in await connection.fetch(f"SELECT partner FROM {table}")} == {""}
        # The version before does not know the column, and opens accounts still.
        await connection.execute(
            "INSERT INTO accounts (id, owner, kind, currency, state, rule, debits_pending, debits_posted,"
            " credits_pending, credits_posted, create_time, update_time) VALUES"
            f" ('{account_id(OWNER, 'seller.payable', 'CNY')}', '{OWNER}', 'seller.payable', 'CNY', 'OPEN',"
            f" 'CREDITS_COVER_DEBITS', 0, 0, 0, 0, {AT}, {AT})"
        )
    finally:
        await connection.close()
    stack = PaymentsStack(database, authority, {"clock": "test"})
    await stack.start()
    reads = (
        ("GetPayment", payment_pb2.GetPaymentRequest(name=f"payments/{PAYMENT}")),
        ("GetTopUp", payment_pb2.GetTopUpRequest(name=f"topUps/{DONE}")),
        ("GetAccount", account_pb2.GetAccountRequest(name=f"accounts/{account_id(OWNER, 'user.available', 'CNY')}")),
        ("GetAccount", account_pb2.GetAccountRequest(name=f"accounts/{account_id(OWNER, 'seller.payable', 'CNY')}")),
    )
    everything = payment_pb2.ListPaymentsRequest()
    try:
        for partner in (PARTNER, RIVAL):
            for method, request in reads:
                await stack.call(method, request, as_=partner)
            assert len((await stack.call("ListPayments", everything, as_=partner)).payments) == 1
        await stack.call("CreateWithdrawal", withdrawal(OWNER, 1), as_=RIVAL)
        for method, request in reads:
            await stack.call(method, request, as_=RIVAL)
            with pytest.raises(RemoteError) as refused:
                await stack.call(method, request, as_=PARTNER)
            assert refused.value.code == "NOT_FOUND"
        assert len((await stack.call("ListPayments", everything, as_=RIVAL)).payments) == 1
        assert not (await stack.call("ListPayments", everything, as_=PARTNER)).payments
    finally:
        await stack.stop()
    await check_books(database)
