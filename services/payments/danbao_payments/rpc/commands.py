"""How a mutation's request is run: alone or as one of a batch, it is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2, rail_pb2
from danbao_kit.call import Call, current_call
from danbao_kit.commands import CommandRunner
from danbao_kit.decision import RequestKey
from danbao_kit.errors import DanbaoError, FieldInvalid, FieldViolation, RequestInProgress
from danbao_kit.group_commit import Outcome
from danbao_kit.rpc_status import status_of
from danbao_kit.validation import check
from danbao_payments.application.ports import MovementsReader
from danbao_payments.domain.callers import Caller
from danbao_payments.domain.commands import PostTransaction
from danbao_payments.domain.errors import WouldBePosted
from danbao_payments.domain.top_up import TopUp
from danbao_payments.rpc.mapping import COMMANDS, caller_of, top_up_message, transaction_message
from danbao_payments.rpc.rails import withdrawal_message

_BY_OPERATION = {
    "create_payment": "CreatePayment",
    "capture_payment": "CapturePayment",
    "void_payment": "VoidPayment",
    "refund_payment": "RefundPayment",
    "post_transaction": "PostTransaction",
    "create_top_up": "CreateTopUp",
    "refund_top_up": "RefundTopUp",
    "create_withdrawal": "CreateWithdrawal",
    "report_rail_result": "ReportRailResult",
    "set_limits": "SetLimits",
    "reverse_transaction": "ReverseTransaction",
    "create_account": "CreateAccount",
    "freeze_account": "FreezeAccount",
    "unfreeze_account": "UnfreezeAccount",
    "close_account": "CloseAccount",
}
_ASKS_A_RAIL = frozenset({"CreateTopUp", "RefundTopUp", "CreateWithdrawal"})
_TO_LOOK_S = 0.25


class MutationRunner:
    """Runs mutations. One that waits for a rail longer than its caller does is answered as it stands."""

    def __init__(self, commands: CommandRunner, movements: MovementsReader) -> None:
        self._commands = commands
        self._movements = movements

    async def run(self, method: str, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """The response of one mutation. Raises what refused it."""
        command = COMMANDS[method](request, caller_of(current_call()))
        command.check()
        if isinstance(command, PostTransaction) and command.validate_only:
            return await self._try_out(command)
        if method in _ASKS_A_RAIL:
            _leave_time_to_look(current_call())
        try:
            return await self._commands.run(context, method, request.request_id, command)
        except RequestInProgress:
            if method not in _ASKS_A_RAIL:
                raise
            awaiting = await self._awaiting([(method, request.request_id)])
            if not awaiting:
                raise
            return next(iter(awaiting.values()))

    async def _try_out(self, command: PostTransaction) -> ledger_pb2.Transaction:
        """What would come of it. Nothing is recorded, so neither name nor numbers mean anything."""
        error = (await self._commands.try_out(command)).error
        if not isinstance(error, WouldBePosted):
            assert error is not None, "what only validates is always dropped"
            raise error
        message = transaction_message(error.posted)
        message.ClearField("name")
        for transfer in message.transfers:
            transfer.ClearField("sequence")
        return message

    async def run_many(self, operations: Sequence[payment_pb2.Operation]) -> payment_pb2.BatchExecuteResponse:
        """The results of a batch's operations, in their order."""
        caller = caller_of(current_call())
        prepared = [_prepare(operation, caller) for operation in operations]
        if any(not isinstance(item, DanbaoError) and item[0] in _ASKS_A_RAIL for item in prepared):
            _leave_time_to_look(current_call())
        outcomes = await self._commands.run_many(prepared, operations)
        waiting = [
            (item[0], item[1])
            for item, outcome in zip(prepared, outcomes, strict=True)
            if not isinstance(item, DanbaoError) and item[0] in _ASKS_A_RAIL and _is_waiting(outcome)
        ]
        awaiting = await self._awaiting(waiting) if waiting else {}
        response = payment_pb2.BatchExecuteResponse()
        for item, outcome in zip(prepared, outcomes, strict=True):
            if not isinstance(item, DanbaoError) and _is_waiting(outcome) and (item[0], item[1]) in awaiting:
                outcome = Outcome(awaiting[item[0], item[1]])
            _tell(outcome, response.results.add())
        return response

    async def _awaiting(self, requests: list[tuple[str, str]]) -> dict[tuple[str, str], Message]:
        caller = current_call().request_caller
        found = await self._movements.awaiting(
            [RequestKey(caller, method, request_id) for method, request_id in requests]
        )
        return {
            (key.method, key.request_id): (
                top_up_message(movement) if isinstance(movement, TopUp) else withdrawal_message(movement)
            )
            for key, movement in found.items()
        }


def _prepare(operation: payment_pb2.Operation, caller: Caller) -> tuple[str, str, Any] | DanbaoError:
    """The operation as a command, or what is wrong with it."""
    try:
        kind, request = _checked(operation)
        method = _BY_OPERATION[kind]
        command = COMMANDS[method](request, caller)
        command.check()
        if isinstance(command, PostTransaction) and command.validate_only:
            raise FieldInvalid(FieldViolation("post_transaction.validate_only", "not within BatchExecute"))
    except DanbaoError as error:
        return error.kept()
    return method, request.request_id, command


def _checked(operation: payment_pb2.Operation) -> tuple[str, Any]:
    """Which operation it is, and its request. Raises FieldInvalid.

    The request is checked alone: to look for each of the other operations as well takes longer than that, and beyond
    that there be one, an operation has no rules of its own. What is wrong is then named by where it stands.
    """
    kind = operation.WhichOneof("operation")
    if kind is not None:
        request = getattr(operation, kind)
        try:
            check(request)
        except FieldInvalid:
            pass
        else:
            return kind, request
    check(operation)
    raise AssertionError(f"{kind} is refused alone and not in its place")


def _leave_time_to_look(call: Call) -> None:
    """Who waits for a rail stops early enough to tell how the movement stands."""
    remaining_s = call.remaining_s()
    if call.deadline is not None and remaining_s is not None:
        call.deadline -= min(_TO_LOOK_S, remaining_s / 4)


def _is_waiting(outcome: Outcome) -> bool:
    return isinstance(outcome.error, RequestInProgress)


# The field of OperationResult that has each kind of answer.
_ANSWERED_AS: dict[type, str] = {
    payment_pb2.Payment: "payment",
    ledger_pb2.Transaction: "transaction",
    payment_pb2.TopUp: "top_up",
    account_pb2.Account: "account",
    rail_pb2.Withdrawal: "withdrawal",
    payment_pb2.Limits: "limits",
    payment_pb2.RailReport: "rail_report",
}


def _tell(outcome: Outcome, result: payment_pb2.OperationResult) -> None:
    if outcome.replayed:
        result.replayed = True
    message = outcome.message
    if outcome.error is not None:
        result.error.CopyFrom(status_of(outcome.error))
    elif isinstance(message, payment_pb2.Payment):  # by far the most
        result.payment.CopyFrom(message)
    else:
        getattr(result, _ANSWERED_AS[type(message)]).CopyFrom(message)
