"""Payments and credit as escrow's tests need them: real servers, their books a dictionary, misbehaving on order."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import grpc

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao.payments.v1 import ledger_pb2, payment_pb2, payment_pb2_grpc
from danbao_kit.errors import Code, DanbaoError
from danbao_kit.rpc_status import status_of
from danbao_kit.testing.certificates import CertificateFiles

WALLET = "user.available"


class Refused(DanbaoError):
    """Payments says no, under a reason of the test's choice."""

    code = Code.FAILED_PRECONDITION

    def __init__(self, reason: str) -> None:
        super().__init__(f"refused: {reason}")
        self.reason = reason  # type: ignore[misc]


class FakePayments(payment_pb2_grpc.PaymentServiceServicer):  # type: ignore[misc]
    """BatchExecute over a ledger in memory that refuses to go below zero and remembers what it answered.

    `script` holds what the next calls do: "ok"; "lost" executes and answers UNAVAILABLE; "dropped" answers UNAVAILABLE
    only; "late" executes and answers after the caller has gone; "half" executes half and dies; "refuse:REASON".
    """

    def __init__(self) -> None:
        self.balances: Counter[tuple[str, str]] = Counter()
        self.answers: dict[str, payment_pb2.OperationResult] = {}
        self.executed: Counter[str] = Counter()
        self.operations: dict[str, Any] = {}
        self.calls = 0
        self.batch_sizes: list[int] = []
        self.script: deque[str] = deque()
        self.delay_s = 0.0

    def top_up(self, owner: str, amount_minor: int) -> None:
        self.balances[owner, WALLET] += amount_minor

    def escrow_of(self, trade: str) -> int:
        return self.balances[trade, "escrow.trade"]

    async def BatchExecute(
        self, request: payment_pb2.BatchExecuteRequest, context: Any
    ) -> payment_pb2.BatchExecuteResponse:
        self.calls += 1
        self.batch_sizes.append(len(request.operations))
        action = self.script.popleft() if self.script else "ok"
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if action == "dropped":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not executed")
        operations = list(request.operations)
        if action == "half":
            operations = operations[: (len(operations) + 1) // 2]
        refusal = action.partition(":")[2] if action.startswith("refuse:") else ""
        results = [self._once(operation, refusal) for operation in operations]
        if action in ("lost", "half"):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "executed, but nobody will know")
        if action == "late":
            await asyncio.sleep(30)
        return payment_pb2.BatchExecuteResponse(results=results)

    def _once(self, operation: payment_pb2.Operation, refusal: str) -> payment_pb2.OperationResult:
        request = getattr(operation, operation.WhichOneof("operation"))
        known = self.answers.get(request.request_id)
        if known is not None:
            assert self.operations[request.request_id] == operation, "the same id came with another body"
            return known
        result = payment_pb2.OperationResult()
        try:
            if refusal:
                raise Refused(refusal)
            self._post(operation)
        except Refused as error:
            result.error.CopyFrom(status_of(error))
        else:
            self.executed[request.request_id] += 1
            name = str(uuid5(NAMESPACE_URL, request.request_id))
            if operation.HasField("create_payment"):
                result.payment.name = f"payments/{name}"
            else:
                result.transaction.name = f"transactions/{name}"
        self.operations[request.request_id] = operation
        self.answers[request.request_id] = result
        return result

    def _post(self, operation: payment_pb2.Operation) -> None:
        if operation.HasField("create_payment"):
            payment = operation.create_payment
            debit = (payment.payer, WALLET)
            legs = [(debit, (payment.payee.owner, payment.payee.kind), payment.amount.amount_minor)]
            if payment.splits:
                parts = [(split.destination.owner, split.destination.kind) for split in payment.splits]
                legs = [(debit, part, split.fixed_minor) for part, split in zip(parts, payment.splits, strict=True)]
        else:
            legs = [movement for leg in operation.post_transaction.legs for movement in self._movements(leg)]
        after = self.balances.copy()
        for debit, credit, amount_minor in legs:
            assert amount_minor > 0, "payments takes no leg of nothing"
            after[debit] -= amount_minor
            after[credit] += amount_minor
        if any(after[debit] < 0 for debit, _, _ in legs):
            raise Refused("INSUFFICIENT_FUNDS")
        self.balances = after

    def _movements(self, leg: ledger_pb2.Leg) -> Iterable[tuple[tuple[str, str], tuple[str, str], int]]:
        """A leg of ordered sources takes what is there from each; the last is short if they have too little."""
        credit, left_minor = (leg.credit.owner, leg.credit.kind), leg.amount.amount_minor
        if not leg.sources:
            yield (leg.debit.owner, leg.debit.kind), credit, left_minor
            return
        for position, source in enumerate(leg.sources, start=1):
            debit = (source.account.owner, source.account.kind)
            taken_minor = left_minor if position == len(leg.sources) else min(left_minor, self.balances[debit])
            left_minor -= taken_minor
            if taken_minor:
                yield debit, credit, taken_minor


class FakeCredit(credit_pb2_grpc.CreditServiceServicer):  # type: ignore[misc]
    """Terms as the test sets them; `down` answers UNAVAILABLE, `slow_s` waits."""

    def __init__(self) -> None:
        self.terms: dict[str, Any] = {
            "grade": "A",
            "score": 712,
            "fee_percent": 100,
            "auto_confirm_days": 7,
            "per_trade_limit_minor": 10_000_000,
            "payout_delay_hours": 0,
            "reserve_bps": 0,
            "model_version": "m1",
            "terms_version": "t1",
        }
        self.blocked: set[str] = set()
        self.currencies: Iterable[str] = ("CNY", "BRL")
        self.down = False
        self.slow_s = 0.0
        self.calls = 0

    async def GetTerms(self, request: credit_pb2.GetTermsRequest, context: Any) -> credit_pb2.TradeTerms:
        await self._behave([request], context)
        return self._terms(request)

    async def BatchGetTerms(
        self, request: credit_pb2.BatchGetTermsRequest, context: Any
    ) -> credit_pb2.BatchGetTermsResponse:
        await self._behave(request.requests, context)
        return credit_pb2.BatchGetTermsResponse(terms=[self._terms(item) for item in request.requests])

    async def _behave(self, requests: Iterable[credit_pb2.GetTermsRequest], context: Any) -> None:
        self.calls += 1
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        if any(request.currency not in self.currencies for request in requests):
            status = status_of(Refused("CURRENCY_WITHOUT_TERMS"))
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, status.message)

    def _terms(self, request: credit_pb2.GetTermsRequest) -> credit_pb2.TradeTerms:
        return credit_pb2.TradeTerms(
            subject=request.subject,
            currency=request.currency,
            blocked=request.subject in self.blocked,
            counterparty_blocked=request.counterparty in self.blocked,
            **self.terms,
        )


async def serve_peer(
    files: CertificateFiles, servicer: Any, register: Any, port: int = 0
) -> tuple[grpc.aio.Server, int]:
    """A server on 127.0.0.1 with a peer's certificate."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    register(servicer, server)
    credentials = grpc.ssl_server_credentials(
        [(files.key.read_bytes(), files.cert.read_bytes())],
        root_certificates=files.ca.read_bytes(),
        require_client_auth=True,
    )
    bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    return server, bound
