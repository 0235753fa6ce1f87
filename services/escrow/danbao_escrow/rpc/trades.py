"""TradeService: each method validates, asks credit where needed, and hands a command to the one write path."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc

from danbao.escrow.v1 import trade_pb2, trade_pb2_grpc
from danbao_escrow.application import checkouts
from danbao_escrow.application.actors import may_see
from danbao_escrow.application.ports import Parties, Reads
from danbao_escrow.domain.checkout import CheckoutNotFound
from danbao_escrow.domain.commands import (
    CommandName,
    CreateCheckout,
    ExtendConfirmation,
    PayCheckout,
    ReportDelivery,
    ShipLines,
)
from danbao_escrow.domain.errors import StepInFlight, TradeNotFound
from danbao_escrow.domain.model import Trade
from danbao_escrow.rpc.credit_check import CreditCheck
from danbao_escrow.rpc.mapping import checkout_message, timeline_message, trade_message
from danbao_escrow.rpc.requests import OPERATIONS, checkout_id, command_of, token_of, trade_id
from danbao_escrow.rpc.running import LOOK_AGAIN_S, run_waiting, time_is_left
from danbao_escrow.rpc.trade_lists import list_trades
from danbao_kit.call import current_call
from danbao_kit.commands import CommandRunner
from danbao_kit.errors import DanbaoError, FieldInvalid, FieldViolation, PageTokenInvalid
from danbao_kit.group_commit import Outcome
from danbao_kit.paging import decode_token, encode_token, page_size
from danbao_kit.rpc_status import status_of
from danbao_kit.validation import check

# Each money operation of a trade waits for the one before, and the call waits for all.
_MOST_ON_ONE_TRADE = 50
# They never wait for a step and start none, so what follows on the same trade may be decided in the same commit.
_NEVER_WAIT = (ShipLines, ReportDelivery, ExtendConfirmation)


class TradeServicer(trade_pb2_grpc.TradeServiceServicer):
    """Commands and reads of trades."""

    def __init__(self, runner: CommandRunner, credit: CreditCheck, reads: Reads) -> None:
        self._runner = runner
        self._credit = credit
        self._reads = reads

    async def CreateTrade(self, request: trade_pb2.CreateTradeRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.CREATE_TRADE, request, context)

    async def PayTrade(self, request: trade_pb2.PayTradeRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.PAY_TRADE, request, context)

    async def ShipLines(self, request: trade_pb2.ShipLinesRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.SHIP_LINES, request, context)

    async def ReportDelivery(self, request: trade_pb2.ReportDeliveryRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.REPORT_DELIVERY, request, context)

    async def ConfirmLines(self, request: trade_pb2.ConfirmLinesRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.CONFIRM_LINES, request, context)

    async def CancelLines(self, request: trade_pb2.CancelLinesRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.CANCEL_LINES, request, context)

    async def CancelTrade(self, request: trade_pb2.CancelTradeRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.CANCEL_TRADE, request, context)

    async def ReleaseHeld(self, request: trade_pb2.ReleaseHeldRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.RELEASE_HELD, request, context)

    async def AdjustPrice(self, request: trade_pb2.AdjustPriceRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.ADJUST_PRICE, request, context)

    async def ExtendConfirmation(self, request: trade_pb2.ExtendConfirmationRequest, context: Any) -> trade_pb2.Trade:
        return await self._run(CommandName.EXTEND_CONFIRMATION, request, context)

    async def CreateCheckout(self, request: trade_pb2.CreateCheckoutRequest, context: Any) -> trade_pb2.Checkout:
        return await self._run(CommandName.CREATE_CHECKOUT, request, context)

    async def PayCheckout(self, request: trade_pb2.PayCheckoutRequest, context: Any) -> trade_pb2.Checkout:
        return await self._run(CommandName.PAY_CHECKOUT, request, context)

    async def GetCheckout(self, request: trade_pb2.GetCheckoutRequest, context: Any) -> trade_pb2.Checkout:
        checkout = await self._reads.checkout(checkout_id(request.name))
        if checkout is None or not checkouts.may_see(token_of(current_call()), checkout):
            raise CheckoutNotFound(request.name)
        return checkout_message(checkout)

    async def BatchExecute(
        self, request: trade_pb2.BatchExecuteRequest, context: Any
    ) -> trade_pb2.BatchExecuteResponse:
        _check_spread(request.operations)
        operations = await self._prepared(request.operations)
        outcomes: dict[int, Outcome] = {}
        for wave in _waves(operations):
            run = await self._run_many(
                [operations[position] for position in wave], [request.operations[position] for position in wave]
            )
            outcomes.update(zip(wave, run, strict=True))
        response = trade_pb2.BatchExecuteResponse()
        for position in range(len(operations)):
            _tell(outcomes[position], response.results.add())
        return response

    async def GetTrade(self, request: trade_pb2.GetTradeRequest, context: Any) -> trade_pb2.Trade:
        return trade_message(await self._visible(request.name))

    async def ListTrades(self, request: trade_pb2.ListTradesRequest, context: Any) -> trade_pb2.ListTradesResponse:
        return await list_trades(self._reads, request, token_of(current_call()))

    async def ListTradeTimeline(
        self, request: trade_pb2.ListTradeTimelineRequest, context: Any
    ) -> trade_pb2.ListTradeTimelineResponse:
        trade = await self._visible(request.trade, field="trade")
        scope = f"timeline of {trade.name}"
        after = _position(scope, request.page_token)
        size = page_size(request.page_size)
        entries = await self._reads.timeline(trade.trade_id, after=after, limit=size + 1)
        more = encode_token(scope, str(entries[size - 1].position)) if len(entries) > size else ""
        return trade_pb2.ListTradeTimelineResponse(
            entries=[timeline_message(entry, trade.currency) for entry in entries[:size]], next_page_token=more
        )

    async def _visible(self, name: str, field: str = "name") -> Trade:
        trade = await self._reads.trade(trade_id(name, field))
        token = token_of(current_call())
        if trade is None or not may_see(token, buyer=trade.buyer, seller=trade.seller, partner=trade.partner):
            raise TradeNotFound(name)
        return trade

    async def _run(self, name: CommandName, request: Any, context: grpc.aio.ServicerContext) -> Any:
        command = command_of(name, request, token_of(current_call()))
        (completed,) = await self._credit.completed([command])
        reply = await run_waiting(self._runner, context, name, request.request_id, completed)
        self._remember(name, reply)
        return reply

    async def _prepared(self, messages: Sequence[trade_pb2.Operation]) -> list[tuple[str, str, Any] | DanbaoError]:
        token = token_of(current_call())
        prepared = [_prepare(message, token) for message in messages]
        commands = [operation[2] for operation in prepared if not isinstance(operation, DanbaoError)]
        completed = iter(await self._credit.completed(commands))
        return [
            operation if isinstance(operation, DanbaoError) else (operation[0], operation[1], next(completed))
            for operation in prepared
        ]

    async def _run_many(
        self, operations: list[tuple[str, str, Any] | DanbaoError], asked: list[trade_pb2.Operation]
    ) -> list[Outcome]:
        outcomes = await self._runner.run_many(operations, asked)
        while waiting := [index for index, found in enumerate(outcomes) if isinstance(found.error, StepInFlight)]:
            if not time_is_left():
                break
            await asyncio.sleep(LOOK_AGAIN_S)
            again = await self._runner.run_many(
                [operations[index] for index in waiting], [asked[index] for index in waiting]
            )
            for index, outcome in zip(waiting, again, strict=True):
                outcomes[index] = outcome
        for operation, outcome in zip(operations, outcomes, strict=True):
            if not isinstance(operation, DanbaoError) and outcome.error is None:
                self._remember(operation[0], outcome.message)
        return outcomes

    def _remember(self, name: str, trade: Any) -> None:
        if name == CommandName.CREATE_TRADE:
            self._reads.remember(trade_id(trade.name), Parties(trade.buyer, trade.seller, trade.currency))


def _prepare(message: trade_pb2.Operation, token: Any) -> tuple[str, str, Any] | DanbaoError:
    field = message.WhichOneof("operation")
    try:
        if field is None:
            raise FieldInvalid(FieldViolation("operation", "exactly one is required"))
        request = getattr(message, field)
        check(request)
        return OPERATIONS[field], request.request_id, command_of(OPERATIONS[field], request, token)
    except DanbaoError as error:
        return error.kept()


def _check_spread(messages: Sequence[trade_pb2.Operation]) -> None:
    """Raises FieldInvalid when too many operations are on one trade."""
    fields = [(message, message.WhichOneof("operation")) for message in messages]
    counts = Counter(getattr(getattr(message, field), "name", "") for message, field in fields if field is not None)
    del counts[""]  # new trades, and operations that are refused in their place
    for name, count in counts.most_common(1):
        if count > _MOST_ON_ONE_TRADE:
            text = f"must have at most {_MOST_ON_ONE_TRADE} on one trade; there are {count} on {name[:100]}"
            raise FieldInvalid(FieldViolation("operations", text))


def _waves(operations: Sequence[tuple[str, str, Any] | DanbaoError]) -> list[list[int]]:
    """Positions to run together, in their order: on one trade, nothing runs together with what it may wait for."""
    waves: list[list[int]] = []
    depth: dict[Any, int] = {}
    floor = 0
    for position, operation in enumerate(operations):
        command = None if isinstance(operation, DanbaoError) else operation[2]
        if isinstance(command, CreateCheckout | PayCheckout):
            # It concerns several trades: alone, after all that came before it.
            waves.append([position])
            floor = len(waves)
            continue
        key = getattr(command, "name", None)
        level = floor if key is None else max(floor, depth.get(key, 0))
        if key is not None and not isinstance(command, _NEVER_WAIT):
            depth[key] = level + 1
        while level >= len(waves):
            waves.append([])
        waves[level].append(position)
    return waves


def _tell(outcome: Outcome, result: trade_pb2.OperationResult) -> None:
    result.replayed = outcome.replayed
    if outcome.error is not None:
        result.error.CopyFrom(status_of(outcome.error))
    elif isinstance(outcome.message, trade_pb2.Checkout):
        result.checkout.CopyFrom(outcome.message)
    else:
        result.trade.CopyFrom(outcome.message)


def _position(scope: str, token: str) -> int:
    if not token:
        return 0
    try:
        return min(int(decode_token(scope, token)), 2**31 - 1)
    except ValueError as error:
        raise PageTokenInvalid from error
