"""How withdrawals, refunds over rails and reports look on the wire."""

from __future__ import annotations

from danbao.payments.v1 import payment_pb2, rail_pb2
from danbao.type.v1 import money_pb2
from danbao_payments.domain.callers import Caller
from danbao_payments.domain.commands import CreateWithdrawal, ReportRailResult
from danbao_payments.domain.movement import Movement, MovementKind, RailResult
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.withdrawal import Withdrawal
from danbao_payments.rpc.values import facts_of, id_of, money_of, timestamp

_RESULTS = {
    number: RailResult(name.removeprefix("RAIL_RESULT_")) for name, number in rail_pb2.RailResult.items() if number
}
_WITHDRAWAL_STATES = {name.removeprefix("STATE_"): number for name, number in rail_pb2.Withdrawal.State.items()}
_REFUND_STATES = {name.removeprefix("STATE_"): number for name, number in rail_pb2.RailRefund.State.items()}


def create_withdrawal(request: rail_pb2.CreateWithdrawalRequest, caller: Caller) -> CreateWithdrawal:
    return CreateWithdrawal(
        owner=request.owner,
        kind=request.kind,
        amount=money_of(request.amount),
        rail=request.rail,
        instrument=request.instrument,
        limit_class=request.limit_class,
        metadata=facts_of(request.metadata),
        caller=caller,
    )


def report_rail_result(request: rail_pb2.ReportRailResultRequest, caller: Caller) -> ReportRailResult:
    kind = MovementKind(request.movement.partition("/")[0])
    return ReportRailResult(
        movement=Movement(kind, id_of(request.movement, "movement")),
        result=_RESULTS[request.result],
        amount=money_of(request.amount) if request.HasField("amount") else None,
        rail_reference=request.rail_reference,
        failure=request.failure,
        caller=caller,
    )


def withdrawal_message(withdrawal: Withdrawal) -> rail_pb2.Withdrawal:
    message = rail_pb2.Withdrawal(
        name=withdrawal.movement.name,
        state=_WITHDRAWAL_STATES[withdrawal.state],
        owner=withdrawal.owner,
        kind=withdrawal.kind,
        amount=money_pb2.Money(currency=withdrawal.currency, amount_minor=withdrawal.amount_minor),
        rail=withdrawal.rail,
        instrument=withdrawal.instrument,
        rail_reference=withdrawal.rail_reference,
        failure=withdrawal.failure,
        create_time=timestamp(withdrawal.create_time),
        update_time=timestamp(withdrawal.update_time),
    )
    if withdrawal.metadata:
        message.metadata.update(withdrawal.metadata)
    return message


def refund_message(refund: RailRefund) -> rail_pb2.RailRefund:
    return rail_pb2.RailRefund(
        name=refund.movement.name,
        state=_REFUND_STATES[refund.state],
        source=refund.source.name,
        owner=refund.owner,
        amount=money_pb2.Money(currency=refund.currency, amount_minor=refund.amount_minor),
        rail=refund.rail,
        rail_reference=refund.rail_reference,
        failure=refund.failure,
        create_time=timestamp(refund.create_time),
        update_time=timestamp(refund.update_time),
    )


# The field of RailReport that has each kind of movement.
REPORTED_AS: dict[type, str] = {
    payment_pb2.TopUp: "top_up",
    rail_pb2.Withdrawal: "withdrawal",
    payment_pb2.Payment: "payment",
    rail_pb2.RailRefund: "refund",
}
