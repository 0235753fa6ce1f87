"""The whole service, called with real certificates, and what its books must look like whatever was done."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg
import grpc
from google.rpc import error_details_pb2, status_pb2

from danbao.payments.v1 import (
    account_pb2,
    account_pb2_grpc,
    audit_pb2_grpc,
    event_pb2_grpc,
    ledger_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
    rail_pb2,
    reconciliation_pb2_grpc,
)
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao.type.v1 import money_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import DETAILS_KEY, reason_of
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.testing.service import as_caller, channel_as, settings_for
from danbao_payments.app import PaymentsSettings, running
from danbao_payments.application.ports import Rail

_STUBS = (
    account_pb2_grpc.AccountServiceStub,
    ledger_pb2_grpc.LedgerServiceStub,
    payment_pb2_grpc.PaymentServiceStub,
    event_pb2_grpc.EventServiceStub,
    reconciliation_pb2_grpc.ReconciliationServiceStub,
    audit_pb2_grpc.AuditServiceStub,
)
# By request: the operation of a batch that takes it.
_OPERATIONS = {field.message_type.name: field.name for field in payment_pb2.Operation.DESCRIPTOR.fields}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
OPERATOR = as_caller(subject="olga", roles="operator")
PARTNER = as_caller(subject="shop", roles="partner", partner="shop")
RIVAL = as_caller(subject="rival", roles="partner", partner="rival")


async def check_books(database: ServiceDatabase) -> None:
    """The invariants that a look at the books alone can tell."""
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        for what, query in _BROKEN.items():
            rows = await connection.fetch(query)
            assert not rows, f"{what}: {rows[:5]}"
    finally:
        await connection.close()


_BROKEN = {
    "debits and credits differ": """
        SELECT currency, sum(debits_posted) - sum(credits_posted), sum(debits_pending) - sum(credits_pending)
        FROM accounts GROUP BY currency
        HAVING sum(debits_posted) <> sum(credits_posted) OR sum(debits_pending) <> sum(credits_pending)""",
    "a balance is not the sum of its transfers": """
        SELECT accounts.id FROM accounts LEFT JOIN (
            SELECT account, sum(debit) AS debits, sum(credit) AS credits FROM (
                SELECT debit_account AS account, amount_minor AS debit, 0 AS credit FROM transfers
                WHERE kind IN ('POSTED', 'POST')
                UNION ALL SELECT credit_account, 0, amount_minor FROM transfers WHERE kind IN ('POSTED', 'POST')
            ) AS sides GROUP BY account
        ) AS sums ON sums.account = accounts.id
        WHERE coalesce(debits, 0) <> debits_posted OR coalesce(credits, 0) <> credits_posted""",
    "a transfer mixes currencies": """
        SELECT sequence FROM transfers JOIN accounts ON accounts.id IN (debit_account, credit_account)
        WHERE accounts.currency <> transfers.currency""",
    "something waits in clearing.capture": """
        SELECT id FROM accounts WHERE kind = 'clearing.capture' AND credits_posted <> debits_posted""",
    "what waits in clearing.payout is not what is on its way": """
        SELECT currency FROM (
            SELECT currency, credits_posted - debits_posted AS minor FROM accounts WHERE kind = 'clearing.payout'
            UNION ALL SELECT currency, -amount_minor FROM withdrawals WHERE state IN ('PENDING', 'UNKNOWN')
        ) AS both_sides GROUP BY currency HAVING sum(minor) <> 0""",
    "what waits in clearing.refund is not what is on its way": """
        SELECT currency FROM (
            SELECT currency, credits_posted - debits_posted AS minor FROM accounts WHERE kind = 'clearing.refund'
            UNION ALL SELECT currency, -amount_minor FROM rail_refunds WHERE state IN ('PENDING', 'UNKNOWN')
        ) AS both_sides GROUP BY currency HAVING sum(minor) <> 0""",
    "refunds of a top-up are not those on their way and those paid": """
        SELECT id FROM top_ups LEFT JOIN (
            SELECT top_up_id, sum(amount_minor) FILTER (WHERE state IN ('PENDING', 'UNKNOWN', 'SETTLED')) AS asked,
                sum(amount_minor) FILTER (WHERE state = 'SETTLED') AS paid FROM rail_refunds GROUP BY top_up_id
        ) AS back ON top_up_id = id
        WHERE coalesce(asked, 0) <> refunded_minor OR coalesce(paid, 0) <> refunds_settled_minor""",
    "what the guarantee fund is owed is not what is owed to it": """
        SELECT currency, sum(debits_posted - credits_posted) FROM accounts
        WHERE kind IN ('receivable.guarantee', 'fund.recoverable') GROUP BY currency
        HAVING sum(debits_posted) <> sum(credits_posted)""",
    "what is held is not what payments hold": """
        SELECT id FROM accounts LEFT JOIN (
            SELECT payer_account, sum(authorized_minor - captured_minor - released_minor) AS held FROM payments
            WHERE hold_id IS NOT NULL GROUP BY payer_account
        ) AS holds ON payer_account = id
        WHERE kind = 'user.available' AND coalesce(held, 0) <> debits_pending""",
    # What a chargeback took from us and gave back does not count; what comes to the payer does, whether it says why or
    # not.
    "refunds are not their transfers": """
        SELECT payments.id FROM payments LEFT JOIN (
            SELECT payment_id,
                sum(CASE WHEN giver.kind = 'rail.settled' THEN -transfers.amount_minor
                    ELSE transfers.amount_minor END) AS back
            FROM transfers JOIN accounts AS giver ON giver.id = debit_account JOIN payments ON payments.id = payment_id
            WHERE purpose <> '' OR transfers.kind = 'POSTED' AND credit_account = payer_account
                AND giver.kind NOT LIKE 'clearing.%' AND giver.kind NOT LIKE 'rail.%'
            GROUP BY payment_id
        ) AS refunds ON payment_id = payments.id WHERE coalesce(back, 0) <> refunded_minor""",
    "refunds of a payment that its rail has paid are not what it says": """
        SELECT payments.id FROM payments LEFT JOIN (
            SELECT payment_id, sum(amount_minor) AS paid FROM rail_refunds WHERE state = 'SETTLED' GROUP BY payment_id
        ) AS refunds ON payment_id = payments.id WHERE coalesce(paid, 0) <> refunds_settled_minor""",
    "a match is of other amounts, or both ways": """
        SELECT reconciliation_id, match_number FROM (
            SELECT reconciliation_id, match_number, direction, amount_minor AS minor FROM statement_lines
            UNION ALL SELECT reconciliation_id, match_number, direction, -amount_minor FROM reconciled_movements
        ) AS both_sides WHERE match_number IS NOT NULL GROUP BY reconciliation_id, match_number
        HAVING sum(minor) <> 0 OR count(DISTINCT direction) <> 1""",
    "a reconciliation's counts are not its rows'": """
        SELECT id FROM reconciliations WHERE (lines, matched_lines, matched_movements, open_items) <> (
            (SELECT count(*) FROM statement_lines AS l WHERE l.reconciliation_id = id),
            (SELECT count(match_number) FROM statement_lines AS l WHERE l.reconciliation_id = id),
            (SELECT count(match_number) FROM reconciled_movements AS m WHERE m.reconciliation_id = id),
            (SELECT count(*) FROM reconciliation_items AS i WHERE i.reconciliation_id = id AND i.state = 'OPEN'))""",
    "numbers have gaps": """
        SELECT count(*), max(sequence) FROM transfers HAVING count(*) <> coalesce(max(sequence), 0)""",
    "events have gaps": "SELECT count(*), max(sequence) FROM events HAVING count(*) <> coalesce(max(sequence), 0)",
}


@dataclass
class PaymentsStack:
    """The service with its database; it can be ended and started again."""

    database: ServiceDatabase
    authority: CertificateAuthority
    options: dict[str, Any] = field(default_factory=dict)
    rails: Mapping[str, Rail] | None = None
    port: int = 0
    # Called since its books were last emptied or added up.
    touched: bool = False
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    # All that run, so that no test need remember to have its books added up.
    running: ClassVar[list[PaymentsStack]] = []

    async def start(self) -> None:
        settings = settings_for(
            PaymentsSettings,
            name="payments",
            database=self.database,
            authority=self.authority,
            **({"audit_seconds": 0} | self.options),
        )
        server = await self._stack.enter_async_context(running(settings, rails=self.rails))
        await server.start()
        self._stack.push_async_callback(server.stop)
        self.port = server.port
        PaymentsStack.running.append(self)

    async def stop(self) -> None:
        PaymentsStack.running = [each for each in PaymentsStack.running if each is not self]
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    def channel(self, peer: str) -> grpc.aio.Channel:
        if peer not in self._channels:
            self._channels[peer] = channel_as(peer, authority=self.authority, service="payments", port=self.port)
        return self._channels[peer]

    async def call(
        self,
        method: str,
        request: Any,
        *,
        as_: tuple[tuple[str, str], ...] = PARTNER,
        peer: str = "gateway",
        timeout: float | None = 10,
    ) -> Any:
        """The reply of a unary method. Raises RemoteError."""
        return (await self.call_with_headers(method, request, as_=as_, peer=peer, timeout=timeout))[0]

    async def call_with_headers(
        self, method: str, request: Any, *, as_: Any = PARTNER, peer: str = "gateway", timeout: float | None = 10
    ) -> tuple[Any, dict[str, str]]:
        self.touched = True
        operation = _OPERATIONS.get(type(request).DESCRIPTOR.name) if peer == "escrow" else None
        if operation is not None:
            return await self._in_batch(operation, request, as_, timeout)
        call = self.stub_method(method, peer)(request, metadata=as_, timeout=timeout)
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            raise remote_error(error) from error
        return reply, {key: str(value) for key, value in await call.initial_metadata()}

    async def _in_batch(
        self, operation: str, request: Any, as_: Any, timeout: float | None
    ) -> tuple[Any, dict[str, str]]:
        """As escrow calls: whatever it asks for, it asks in a batch."""
        batch = payment_pb2.BatchExecuteRequest(operations=[payment_pb2.Operation(**{operation: request})])
        try:
            reply = await self.stub_method("BatchExecute", "escrow")(batch, metadata=as_, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise remote_error(error) from error
        result = reply.results[0]
        if result.HasField("error"):
            raise _refusal(_CODES[result.error.code], result.error)
        return getattr(result, result.WhichOneof("result")), {"x-danbao-replayed": str(result.replayed).lower()}

    def stub_method(self, method: str, peer: str = "gateway") -> Any:
        for make in _STUBS:
            stub = make(self.channel(peer))
            if hasattr(stub, method):
                return getattr(stub, method)
        raise AssertionError(method)

    async def fund(self, owner: str, minor: int, currency: str = "CNY") -> payment_pb2.TopUp:
        """Gives an owner money by a top-up."""
        reply = await self.call("CreateTopUp", top_up(owner, minor, currency=currency))
        assert reply.state == payment_pb2.TopUp.STATE_SUCCEEDED, reply
        return reply

    async def accounts(self, owner: str) -> dict[str, Any]:
        """An owner's accounts by kind."""
        reply = await self.call("ListAccounts", account_pb2.ListAccountsRequest(owner=owner), as_=OPERATOR)
        return {account.kind: account for account in reply.accounts}

    async def available(self, owner: str, kind: str = "user.available") -> int:
        found = (await self.accounts(owner)).get(kind)
        return 0 if found is None else found.available_minor

    async def advance(self, seconds: float) -> None:
        """Moves the test clock."""
        clock = clock_pb2_grpc.ClockServiceStub(self.channel("operator"))
        now = (await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now
        now.FromMicroseconds(now.ToMicroseconds() + round(seconds * 1_000_000))
        await clock.AdvanceClock(clock_pb2.AdvanceClockRequest(to=now), timeout=10)

    async def forget(self) -> None:
        """Empties the books of a running service; only the clock stays where it is."""
        self.touched = False
        tables = (
            "accounts, transfers, ledger_batches, transactions, payments, top_ups, withdrawals, rail_refunds, events,"
            " request_records, limits, limit_usage, reconciliations, statement_lines, reconciled_movements,"
            " reconciliation_items, owners"
        )
        connection = await asyncpg.connect(self.database.owner_dsn)
        try:
            # The head first, as every batch does: one that comes meanwhile waits there, with no table locked.
            await connection.execute(
                f"UPDATE stream_heads SET event_sequence = 0, row_number = 0, last_time = 'epoch'; TRUNCATE {tables}"
            )
        finally:
            await connection.close()

    async def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """What the store holds, read as its owner."""
        connection = await asyncpg.connect(self.database.owner_dsn)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()


def remote_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """What the answer says; the first field that is wrong stands in the metadata as `field`."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            status = status_pb2.Status.FromString(value)
    return _refusal(error.code().name, status, error.details() or "")


def _refusal(code: str, status: status_pb2.Status, message: str = "") -> RemoteError:
    reason, metadata = reason_of(status)
    wrong = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(wrong):
            metadata["field"] = wrong.field_violations[0].field
    return RemoteError(code, reason, message or status.message, metadata)


def money(minor: int, currency: str = "CNY") -> money_pb2.Money:
    return money_pb2.Money(currency=currency, amount_minor=minor)


def new_id() -> str:
    return uuid.uuid4().hex


def payment(source: str, target: str, minor: int, **others: Any) -> payment_pb2.CreatePaymentRequest:
    """A request for a payment between wallets, AUTOMATIC unless told otherwise."""
    fields: dict[str, Any] = {
        "request_id": new_id(),
        "payer": source,
        "payee": {"owner": target, "kind": "user.available"},
        "amount": money(minor),
        "capture_mode": payment_pb2.CAPTURE_MODE_AUTOMATIC,
    }
    return payment_pb2.CreatePaymentRequest(**(fields | others))


def manual(source: str, target: str, minor: int, **others: Any) -> payment_pb2.CreatePaymentRequest:
    return payment(source, target, minor, capture_mode=payment_pb2.CAPTURE_MODE_MANUAL, **others)


def top_up(owner: str, minor: int, *, currency: str = "CNY", **others: Any) -> payment_pb2.CreateTopUpRequest:
    fields: dict[str, Any] = {
        "request_id": new_id(),
        "owner": owner,
        "amount": money(minor, currency),
        "rail": "rails/simulated",
    }
    return payment_pb2.CreateTopUpRequest(**(fields | others))


def withdrawal(owner: str, minor: int, **others: Any) -> rail_pb2.CreateWithdrawalRequest:
    """A request to send money of a wallet out over the simulated rail."""
    fields: dict[str, Any] = {
        "request_id": new_id(),
        "owner": owner,
        "kind": "user.available",
        "amount": money(minor),
        "rail": "rails/simulated",
    }
    return rail_pb2.CreateWithdrawalRequest(**(fields | others))


def rail_report(movement: str, result: str, **others: Any) -> rail_pb2.ReportRailResultRequest:
    """What a rail says of a movement; `result` without its prefix."""
    fields: dict[str, Any] = {
        "request_id": new_id(),
        "movement": movement,
        "result": rail_pb2.RailResult.Value(f"RAIL_RESULT_{result}"),
    }
    return rail_pb2.ReportRailResultRequest(**(fields | others))
