"""Calls through the gateway, many at once; what fails for a while is sent again with the same request id."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from danbao.credit.v1 import credit_pb2_grpc
from danbao.escrow.v1 import dispute_pb2_grpc, refund_pb2_grpc, trade_pb2_grpc
from danbao.escrow.v1 import event_pb2_grpc as escrow_events
from danbao.payments.v1 import account_pb2_grpc, ledger_pb2_grpc, payment_pb2_grpc
from danbao.payments.v1 import event_pb2_grpc as payments_events
from danbao_local.card import Card
from danbao_local.errors import StackFailed

RETRIED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
RETRY_SECONDS = 120.0
_CALL_SECONDS = 10.0
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 2.0
_DETAILS = "grpc-status-details-bin"
_T = TypeVar("_T")
_REPLAYED = ("x-danbao-replayed", "true")

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


class Refused(Exception):
    """A call was refused for good: its status, and the reason Danbao gives."""

    def __init__(self, *, method: str, code: str, reason: str, message: str) -> None:
        super().__init__(f"{method} answered {code}{f' / {reason}' if reason else ''}: {message}")
        self.method = method
        self.code = code
        self.reason = reason


class GaveUp(StackFailed):
    """A call kept failing for longer than a restart takes."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(
            f"{failure} (for {RETRY_SECONDS:.0f} s, the same request each time). "
            "Nothing is lost: start the replay again and it goes on."
        )


class Gateway:
    """The stubs of every service behind one channel, and the caller's tokens by role."""

    def __init__(self, card: Card, in_flight: int) -> None:
        if card.ca is None:
            self._channel = grpc.aio.insecure_channel(card.gateway, options=OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(Path(card.ca).read_bytes())
            self._channel = grpc.aio.secure_channel(card.gateway, credentials, options=OPTIONS)
        self._metadata = {role: (("authorization", f"Bearer {token}"),) for role, token in card.token.items()}
        self._slots = asyncio.Semaphore(in_flight)
        self.trades = trade_pb2_grpc.TradeServiceStub(self._channel)
        self.refunds = refund_pb2_grpc.RefundServiceStub(self._channel)
        self.disputes = dispute_pb2_grpc.DisputeServiceStub(self._channel)
        self.payments = payment_pb2_grpc.PaymentServiceStub(self._channel)
        self.accounts = account_pb2_grpc.AccountServiceStub(self._channel)
        self.ledger = ledger_pb2_grpc.LedgerServiceStub(self._channel)
        self.credit = credit_pb2_grpc.CreditServiceStub(self._channel)
        self.events = {
            "payments": payments_events.EventServiceStub(self._channel),
            "escrow": escrow_events.EventServiceStub(self._channel),
        }
        self.sent: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.replayed = 0

    async def call(self, method: grpc.aio.UnaryUnaryMultiCallable, request: Any, role: str) -> Any:
        """The answer. Raises Refused, or GaveUp after RETRY_SECONDS of failures."""
        async with self._slots:
            return await self._until_answered(method, request, role)

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable, request: Any, role: str, seconds: float
    ) -> AsyncIterator[Any]:
        """The answers of a stream, for at most that long. Raises grpc.RpcError."""
        async for answer in method(request, timeout=seconds, metadata=self._metadata[role]):
            yield answer

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _until_answered(self, method: grpc.aio.UnaryUnaryMultiCallable, request: Any, role: str) -> Any:
        name = type(request).__name__.removesuffix("Request")
        give_up: float | None = None
        wait = _FIRST_WAIT_SECONDS
        while True:
            self.sent[name] += 1
            call = method(request, timeout=_CALL_SECONDS, metadata=self._metadata[role], wait_for_ready=True)
            try:
                answer = await call
            except grpc.aio.AioRpcError as failure:
                await self._note_replay(call)
                refused = _refused(name, failure)
                if failure.code() not in RETRIED:
                    raise refused from failure
                give_up = give_up or time.monotonic() + RETRY_SECONDS
                if time.monotonic() > give_up:
                    raise GaveUp(refused) from failure
                self.retried[failure.code().name] += 1
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
                continue
            await self._note_replay(call)
            return answer

    async def _note_replay(self, call: grpc.aio.UnaryUnaryCall) -> None:
        told = [*(await call.initial_metadata() or ()), *(await call.trailing_metadata() or ())]
        if _REPLAYED in [(key, value) for key, value in told]:
            self.replayed += 1


def _refused(method: str, failure: grpc.aio.AioRpcError) -> Refused:
    reason = ""
    for key, value in failure.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    reason = info.reason
    return Refused(method=method, code=failure.code().name, reason=reason, message=failure.details() or "")


async def in_turns(things: Sequence[_T], do: Callable[[_T], Awaitable[None]], *, at_once: int = 256) -> None:
    """Each thing is done, many at once."""
    for start in range(0, len(things), at_once):
        async with asyncio.TaskGroup() as tasks:
            for thing in things[start : start + at_once]:
                tasks.create_task(_awaited(do(thing)))


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable
