"""The store: what the service's role may not do, constraints underneath, and what a restart finds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import asyncpg
import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from danbao.payments.v1 import payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.application.ports import Rail, RailAnswer, RailOrder, RailUnavailable, Standing
from danbao_payments.domain.account import Account
from danbao_payments.domain.limits import Limits, Usage
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.reconciliation import Reconciliation, ReconciliationItem
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import Transaction, Transfer
from danbao_payments.domain.withdrawal import Withdrawal
from danbao_payments.store.tables import metadata
from danbao_payments.testing.stack import PaymentsStack, manual, money, new_id, payment, top_up
from danbao_payments.workers import rails
from danbao_payments.workers.holds import HoldSweeper

BUYER, SELLER = "subjects/buyer", "subjects/seller"


@pytest.mark.parametrize("table", ["transfers", "transactions", "ledger_batches"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {table} SET create_time = now()", "DELETE FROM {table}", "TRUNCATE {table}", "DROP TABLE {table}"],
)
async def test_who_serves_cannot_change_what_was_posted(stack: PaymentsStack, table: str, statement: str):
    await stack.fund(BUYER, 100)
    connection = await asyncpg.connect(stack.database.dsn)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement.format(table=table))
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "table", ["accounts", "payments", "top_ups", "withdrawals", "rail_refunds", "request_records", "events"]
)
async def test_who_serves_cannot_delete_anything(stack: PaymentsStack, table: str):
    connection = await asyncpg.connect(stack.database.dsn)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"DELETE FROM {table}")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "corruption",
    [
        "UPDATE accounts SET debits_posted = credits_posted + 1 WHERE kind = 'user.available'",
        "UPDATE accounts SET debits_pending = -1",
        "UPDATE payments SET refunded_minor = captured_minor + 1",
        "UPDATE payments SET released_minor = 1",
        "UPDATE payments SET state = 'AUTHORIZED'",
        "UPDATE payments SET state = 'ODD'",
        "UPDATE top_ups SET refunded_minor = amount_minor + 1",
        "INSERT INTO accounts SELECT gen_random_uuid(), owner, kind, currency, state, rule, 0, 0, 0, 0, now(), now()"
        " FROM accounts",
    ],
)
async def test_constraints_hold_where_code_would_fail(stack: PaymentsStack, corruption: str):
    await stack.fund(BUYER, 100)
    await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    connection = await asyncpg.connect(stack.database.owner_dsn)
    try:
        with pytest.raises((asyncpg.CheckViolationError, asyncpg.UniqueViolationError)):
            await connection.execute(corruption)
    finally:
        await connection.close()


async def test_tables_are_what_the_migrations_make(database: ServiceDatabase):
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch(
            "SELECT relname, attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute"
            " JOIN pg_class ON pg_class.oid = attrelid WHERE attnum > 0 AND NOT attisdropped"
            " AND relname = ANY($1) ORDER BY relname, attnum",
            list(metadata.tables),
        )
        keyless = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'p')"
        )
        others = await connection.fetch(
            "SELECT tgname AS name FROM pg_trigger UNION ALL SELECT sequencename FROM pg_sequences"
        )
    finally:
        await connection.close()
    made = {(row["relname"], row["attname"], row["type"], row["attnotnull"]) for row in rows}
    assert made == {column for table in metadata.tables.values() for column in _columns(table)}
    assert not keyless, "every table has a primary key"
    assert not others, "no triggers, no sequences"


def _columns(table: Table) -> set[tuple[str, str, str, bool]]:
    spelled = {"CHAR(3)": "character(3)", "TIMESTAMP WITH TIME ZONE": "timestamp with time zone"}
    dialect = postgresql.dialect()
    found = set()
    for column in table.columns:
        type_ = column.type.compile(dialect)
        found.add((table.name, column.name, spelled.get(type_, type_.lower()), not column.nullable))
    return found


def test_values_have_the_columns_of_their_tables():
    values: Mapping[str, type] = {
        "accounts": Account,
        "transfers": Transfer,
        "transactions": Transaction,
        "payments": Payment,
        "top_ups": TopUp,
        "withdrawals": Withdrawal,
        "rail_refunds": RailRefund,
        "limits": Limits,
        "limit_usage": Usage,
        "reconciliations": Reconciliation,
        "reconciliation_items": ReconciliationItem,
    }
    for name, value in values.items():
        columns = [column.name for column in metadata.tables[name].columns if column.name != "recorded_at"]
        assert list(value._fields) == columns, name


# --- time against callers ---------------------------------------------------------------------------------------------


async def test_expiry_and_capture_race_and_one_of_them_wins(stack: PaymentsStack):
    await stack.fund(BUYER, 1000)
    holds = [
        await stack.call("CreatePayment", manual(BUYER, SELLER, 10, hold_lifetime={"seconds": 5})) for _ in range(30)
    ]

    async def capture(name: str) -> str:
        try:
            await stack.call("CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), name=name))
        except RemoteError as error:
            return error.reason
        return "OK"

    told, _ = await asyncio.gather(asyncio.gather(*[capture(hold.name) for hold in holds]), stack.advance(5))
    await stack.advance(1)
    assert set(told) <= {"OK", "HOLD_EXPIRED"}
    assert await stack.available(SELLER) == 10 * told.count("OK")
    assert await stack.available(BUYER) == 1000 - 10 * told.count("OK")
    for hold, answer in zip(holds, told, strict=True):
        now = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=hold.name))
        expected = payment_pb2.Payment.STATE_CAPTURED if answer == "OK" else payment_pb2.Payment.STATE_EXPIRED
        assert now.state == expected


async def test_a_hold_that_ran_out_is_spent_before_any_sweeper_came(
    database: ServiceDatabase, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
):
    async def never(self: HoldSweeper) -> None: ...

    monkeypatch.setattr(HoldSweeper, "sweep", never)
    stack = PaymentsStack(database, authority, {"clock": "test"})
    await stack.start()
    try:
        await stack.fund(BUYER, 100)
        held = await stack.call("CreatePayment", manual(BUYER, SELLER, 100, hold_lifetime={"seconds": 1}))
        await stack.advance(1)
        assert await stack.available(BUYER) == 100
        shown = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=held.name))
        assert (shown.state, shown.released_minor) == (payment_pb2.Payment.STATE_EXPIRED, 100)
        await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
        kinds = [row["kind"] for row in await stack.sql("SELECT kind FROM events ORDER BY sequence")]
        assert kinds[-2:] == ["payment_expired", "payment_captured"]
    finally:
        await stack.stop()


# --- restarts ---------------------------------------------------------------------------------------------------------


class MoodyRail(Rail):
    """A rail that is away until it is told to answer, and remembers every reference it was asked with."""

    def __init__(self) -> None:
        self.answers = False
        self.asked: list[str] = []

    async def charge(self, order: RailOrder) -> RailAnswer:
        return self._ask(order)

    async def pay_back(self, order: RailOrder) -> RailAnswer:
        return self._ask(order)

    async def look_up(self, order: RailOrder) -> RailAnswer:
        if not self.answers:
            raise RailUnavailable
        return RailAnswer(Standing.NOT_FOUND)

    def _ask(self, order: RailOrder) -> RailAnswer:
        self.asked.append(order.reference)
        if not self.answers:
            raise RailUnavailable
        return RailAnswer(Standing.ACCEPTED, rail_reference=f"moody-{order.reference}")


async def test_what_a_rail_owes_is_asked_for_again_after_a_restart(
    database: ServiceDatabase, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rails, "_OVERDUE_S", 0.5)
    monkeypatch.setattr(rails, "_LOOK_EVERY_S", 0.2)
    rail = MoodyRail()
    stack = PaymentsStack(database, authority, {"clock": "test"}, {"rails/moody": rail})
    await stack.start()
    request = top_up(BUYER, 500, rail="rails/moody")
    told = await stack.call("CreateTopUp", request, timeout=0.5)
    assert told.state == payment_pb2.TopUp.STATE_UNKNOWN
    await stack.stop()

    rail.answers = True
    await stack.start()
    try:
        # The same request joins the one that the dead process left open, and is answered by whoever asks the rail.
        final = await stack.call("CreateTopUp", request, timeout=10)
        assert (final.name, final.state) == (told.name, payment_pb2.TopUp.STATE_SUCCEEDED)
        assert set(rail.asked) == {told.name.removeprefix("topUps/")}, "one movement, one reference"
        assert await stack.available(BUYER) == 500
        rail.answers = False
        back = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=told.name, amount=money(200))
        pending = await stack.call("RefundTopUp", back, timeout=0.5)
        assert (pending.refunded_minor, pending.refunds_settled_minor) == (200, 0)
        rail.answers = True
        settled = await stack.call("RefundTopUp", back, timeout=10)
        assert settled.refunds_settled_minor == 200
        assert await stack.available(BUYER) == 300
    finally:
        await stack.stop()


async def test_a_restart_keeps_books_answers_and_numbers(stack: PaymentsStack):
    await stack.fund(BUYER, 100)
    request = payment(BUYER, SELLER, 30)
    first = await stack.call("CreatePayment", request)
    await stack.stop()
    await stack.start()
    again, headers = await stack.call_with_headers("CreatePayment", request)
    assert (again, headers["x-danbao-replayed"]) == (first, "true")
    await stack.call("CreatePayment", payment(BUYER, SELLER, 30))
    assert await stack.available(BUYER) == 40


async def test_two_replicas_share_one_books(stack: PaymentsStack):
    other = PaymentsStack(stack.database, stack.authority, stack.options)
    await other.start()
    try:
        await stack.fund(BUYER, 100)

        async def attempt(number: int) -> str:
            try:
                await (stack, other)[number % 2].call("CreatePayment", payment(BUYER, SELLER, 1), timeout=20)
            except RemoteError as error:
                return error.reason
            return "OK"

        told = await asyncio.gather(*[attempt(number) for number in range(200)])
        assert (told.count("OK"), told.count("INSUFFICIENT_FUNDS")) == (100, 100)
        # One request id sent to both at once is executed once.
        await stack.fund(BUYER, 50)
        request = payment(BUYER, SELLER, 50)
        replies = await asyncio.gather(stack.call("CreatePayment", request), other.call("CreatePayment", request))
        assert replies[0] == replies[1]
        assert await stack.available(SELLER) == 150
    finally:
        await other.stop()
