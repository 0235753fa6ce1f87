"""What a load sends and how it judges the answers; runs inside the load client's process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc

from danbao.credit.v1 import credit_pb2
from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import payment_pb2
from danbao.testing.v1 import echo_pb2
from danbao_local.bench.bodies import RequestIds, TradeBodies, payment_tails, top_up_tail, wrap, wrap_operation
from danbao_local.bench.orders import Order

_TIMEOUT_S = 20.0
_REPLAYED = "x-danbao-replayed"
_PAYMENTS = "/danbao.payments.v1.PaymentService"
_TRADES = "/danbao.escrow.v1.TradeService"


class WrongAnswer(Exception):
    """A call was answered OK with something else than what was asked for."""


class Tally:
    """What was answered so far."""

    def __init__(self) -> None:
        self.replies: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self.replayed = 0


class Caller:
    """Calls one method after the other over several channels; raw bytes go out, messages come back."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], metadata: Sequence[tuple[str, str]], tally: Tally) -> None:
        self._channels = channels
        self._metadata = tuple(metadata)
        self._tally = tally

    def method(self, path: str, answer: type[Any]) -> Callable[[bytes, int], Any]:
        """An async function (request, worker) → answer. Raises grpc.RpcError."""
        stubs = [channel.unary_unary(path, response_deserializer=answer.FromString) for channel in self._channels]
        metadata, tally = self._metadata, self._tally

        async def call(request: bytes, worker: int) -> Any:
            under_way = stubs[worker % len(stubs)](request, metadata=metadata, timeout=_TIMEOUT_S)
            reply = await under_way
            for key, value in await under_way.initial_metadata():
                if key == _REPLAYED and value == "true":
                    tally.replayed += 1
            return reply

        return call


class Load(Protocol):
    """A stream of calls by several workers."""

    async def next(self, worker: int) -> float:
        """The worker's next call; how many items it finished. Raises WrongAnswer, grpc.RpcError."""
        ...

    def is_between(self, worker: int) -> bool:
        """Whether the worker may stop here: nothing of its own is half done."""
        ...


class _OneCall:
    """Loads whose every call stands alone."""

    def is_between(self, worker: int) -> bool:
        """Always."""
        return True


class Echo(_OneCall):
    """The yardstick: as many bytes there and back."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        self._request = echo_pb2.EchoRequest(payload=bytes(order.parameters["bytes"])).SerializeToString()
        self._call = caller.method("/danbao.testing.v1.EchoService/Echo", echo_pb2.EchoResponse)
        self._size = order.parameters["bytes"]

    async def next(self, worker: int) -> float:
        """One echo."""
        reply = await self._call(self._request, worker)
        if len(reply.payload) != self._size:
            raise WrongAnswer("the echo is not what was sent")
        return 1


class Payments(_OneCall):
    """CreatePayment, one a call."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        self._ids = RequestIds(order.id_prefix)
        self._tails = payment_tails(**order.parameters)
        self._call = caller.method(f"{_PAYMENTS}/CreatePayment", payment_pb2.Payment)
        self._tally = tally

    async def next(self, worker: int) -> float:
        """One payment."""
        number, request_id = self._ids.take()
        payment = await self._call(wrap(1, request_id) + self._tails[number % len(self._tails)], worker)
        if payment.state != payment_pb2.Payment.STATE_CAPTURED:
            raise WrongAnswer(f"the payment's state is {payment.state}")
        self._tally.replies["CreatePayment"] += 1
        return 1


class PaymentBatches(_OneCall):
    """CreatePayment by BatchExecute."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        parameters = dict(order.parameters)
        self._size: int = parameters.pop("batch")
        self._ids = RequestIds(order.id_prefix)
        self._tails = payment_tails(**parameters)
        self._call = caller.method(f"{_PAYMENTS}/BatchExecute", payment_pb2.BatchExecuteResponse)
        self._tally = tally

    async def next(self, worker: int) -> float:
        """One batch; as many items as payments."""
        parts = []
        for _ in range(self._size):
            number, request_id = self._ids.take()
            parts.append(wrap_operation(1, wrap(1, request_id) + self._tails[number % len(self._tails)]))
        answer = await self._call(b"".join(parts), worker)
        for result in answer.results:
            if result.WhichOneof("result") == "payment":
                self._tally.replies["CreatePayment"] += 1
                self._tally.replayed += result.replayed
            else:
                self._tally.failures[_refusal(result.error)] += 1
        return len(answer.results)


class TopUps(_OneCall):
    """Money for every account: a CreateTopUp for each, in batches."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        self._size: int = order.parameters["batch"]
        self._accounts: int = order.parameters["accounts"]
        self._ids = RequestIds(order.id_prefix)
        self._call = caller.method(f"{_PAYMENTS}/BatchExecute", payment_pb2.BatchExecuteResponse)
        self._tally = tally

    async def next(self, worker: int) -> float:
        """One batch; as many items as top-ups that succeeded."""
        parts = []
        for _ in range(self._size):
            number, request_id = self._ids.take()
            parts.append(wrap_operation(6, wrap(1, request_id) + top_up_tail(number % self._accounts)))
        answer = await self._call(b"".join(parts), worker)
        for result in answer.results:
            if result.WhichOneof("result") != "top_up":
                self._tally.failures[_refusal(result.error)] += 1
            elif result.top_up.state != payment_pb2.TopUp.STATE_SUCCEEDED:
                self._tally.failures[f"top-up in state {result.top_up.state}"] += 1
            else:
                self._tally.replies["CreateTopUp"] += 1
                self._tally.replayed += result.replayed
        return len(answer.results)


class Trades:
    """Whole trades, each worker one at a time: create, pay, ship, confirm. A command is a quarter of an item."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        self._bodies = TradeBodies(RequestIds(order.id_prefix), **order.parameters)
        self._calls = {
            command: caller.method(f"{_TRADES}/{command}", trade_pb2.Trade) for command in TradeBodies.COMMANDS
        }
        self._tally = tally
        self._under_way: dict[int, tuple[int, Any]] = {}

    def is_between(self, worker: int) -> bool:
        """Whether the worker's last trade is over."""
        return worker not in self._under_way

    async def next(self, worker: int) -> float:
        """The next command of the worker's trade."""
        stage, trade = self._under_way.pop(worker, (0, None))
        command = TradeBodies.COMMANDS[stage]
        request = self._bodies.request(command, trade)
        trade = await self._calls[command](request.SerializeToString(), worker)
        _check_trade(command, trade, self._tally)
        self._tally.replies[command] += 1
        if stage + 1 < len(TradeBodies.COMMANDS):
            self._under_way[worker] = (stage + 1, trade)
        return 1 / len(TradeBodies.COMMANDS)


class TradeBatches:
    """Whole trades by BatchExecute: a worker takes `batch` trades through all commands together."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        parameters = dict(order.parameters)
        self._size: int = parameters.pop("batch")
        self._bodies = TradeBodies(RequestIds(order.id_prefix), **parameters)
        self._call = caller.method(f"{_TRADES}/BatchExecute", trade_pb2.BatchExecuteResponse)
        self._tally = tally
        self._under_way: dict[int, tuple[int, Sequence[Any]]] = {}

    def is_between(self, worker: int) -> bool:
        """Whether the worker's last trades are over."""
        return worker not in self._under_way

    async def next(self, worker: int) -> float:
        """The next command of all the worker's trades."""
        stage, trades = self._under_way.pop(worker, (0, [None] * self._size))
        command = TradeBodies.COMMANDS[stage]
        operations = [self._bodies.operation(command, trade) for trade in trades]
        answer = await self._call(trade_pb2.BatchExecuteRequest(operations=operations).SerializeToString(), worker)
        going_on = []
        for result in answer.results:
            if result.WhichOneof("result") != "trade":
                self._tally.failures[_refusal(result.error)] += 1
                continue
            _check_trade(command, result.trade, self._tally)
            self._tally.replies[command] += 1
            self._tally.replayed += result.replayed
            going_on.append(result.trade)
        if going_on and stage + 1 < len(TradeBodies.COMMANDS):
            self._under_way[worker] = (stage + 1, going_on)
        return len(going_on) / len(TradeBodies.COMMANDS)


class Evaluations(_OneCall):
    """Evaluate of buyers and sellers in turn."""

    def __init__(self, order: Order, caller: Caller, tally: Tally) -> None:
        bodies = TradeBodies(RequestIds(order.id_prefix), **order.parameters)
        self._requests = [
            (subject, credit_pb2.EvaluateRequest(subject=subject, purpose="checkout").SerializeToString())
            for number in range(2048)
            for subject in (bodies.buyer(number), bodies.seller(number))
        ]
        self._call = caller.method("/danbao.credit.v1.CreditService/Evaluate", credit_pb2.Evaluation)
        self._next = 0

    async def next(self, worker: int) -> float:
        """One evaluation."""
        subject, request = self._requests[self._next % len(self._requests)]
        self._next += 1
        evaluation = await self._call(request, worker)
        if evaluation.subject != subject or not evaluation.grade:
            raise WrongAnswer("the evaluation is of somebody else, or has no grade")
        return 1


LOADS: Mapping[str, Callable[[Order, Caller, Tally], Load]] = {
    "echo": Echo,
    "payments": Payments,
    "payment_batches": PaymentBatches,
    "top_ups": TopUps,
    "trades": Trades,
    "trade_batches": TradeBatches,
    "evaluations": Evaluations,
}
"""By the name that an order gives."""


def _check_trade(command: str, trade: Any, tally: Tally) -> None:
    wanted = TradeBodies.STATES[command]
    if trade.state != wanted:
        raise WrongAnswer(f"after {command} the trade's state is {trade.state}, not {wanted}")
    if command == "CreateTrade" and trade.terms.defaulted:
        tally.remarks["trades on default terms, for credit did not answer in time"] += 1


def _refusal(status: Any) -> str:
    return f"code {status.code}: {status.message[:80]}"
