"""Payments: executes steps, many in a call, each under an id of its own that is the same however often it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid5

import grpc

from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2, payment_pb2_grpc
from danbao.type.v1 import money_pb2
from danbao_escrow.application.ports import StepResult, StepUnknown
from danbao_escrow.domain.commands import StepDone, StepRefused
from danbao_escrow.domain.money_legs import ESCROW
from danbao_escrow.domain.step_model import Leg, Step, StepKind, Together
from danbao_kit.rpc_client import RemoteError, invoke, remote_error

CALL_S = 3.0
"""Well below a step's lease."""

# Refusals that payments has recorded under the id, or gives to the same message always: nothing will move under it.
_DEFINITE = frozenset({"FAILED_PRECONDITION", "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT", "OUT_OF_RANGE"})
# Said before the id was looked at: an earlier attempt may have been executed.
_NOT_RECORDED = frozenset({"PEER_NOT_ALLOWED", "DEADLINE_REQUIRED"})


class PaymentsClient:
    """Steps as operations of payments.BatchExecute."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = payment_pb2_grpc.PaymentServiceStub(channel)

    async def execute(self, steps: Sequence[Step]) -> list[StepResult]:
        """One result a step. A call that fails as a whole leaves every outcome open."""
        request = payment_pb2.BatchExecuteRequest(operations=[operation_of(step) for step in steps])
        try:
            reply = await invoke(self._stub.BatchExecute, request, name="payments.BatchExecute", cap_s=CALL_S)
        except RemoteError as error:
            return [StepUnknown(error.reason or error.code)] * len(steps)
        if len(reply.results) != len(steps):
            return [StepUnknown("RESULTS_MISSING")] * len(steps)
        return [_result(result) for result in reply.results]


def request_id_of(step: Step) -> str:
    """UUIDv5 of trade, step and generation: known before the first attempt, the same after a crash. Steps that ask for
    one payment of a checkout have one id: of the checkout and its generation."""
    together = step.movement.together
    if together is not None:
        return str(uuid5(UUID(together.checkout.partition("/")[2]), str(together.generation)))
    return str(uuid5(step.trade_id, f"{step.number}/{step.generation}"))


def operation_of(step: Step) -> payment_pb2.Operation:
    """What payments is asked to do."""
    metadata = {"trade": f"trades/{step.trade_id}", "step": str(step.number), "kind": step.kind.value}
    movement = step.movement
    if step.kind is StepKind.PAY and movement.together is not None:
        return payment_pb2.Operation(create_payment=_together(step, movement.together))
    if step.kind is StepKind.PAY:
        (leg,) = movement.legs
        return payment_pb2.Operation(
            create_payment=payment_pb2.CreatePaymentRequest(
                request_id=request_id_of(step),
                payer=step.payer,
                payee=account_pb2.AccountKey(owner=leg.credit_owner, kind=leg.credit_kind),
                beneficiary=step.beneficiary,
                amount=money_pb2.Money(currency=step.currency, amount_minor=leg.amount_minor),
                capture_mode=payment_pb2.CAPTURE_MODE_AUTOMATIC,
                metadata=metadata,
                description=f"trades/{step.trade_id}: paid",
                rail=movement.rail,
                instrument=movement.instrument,
                acting_for=_acting_for(step),
            )
        )
    if step.kind is StepKind.VOID:
        return payment_pb2.Operation(
            void_payment=payment_pb2.VoidPaymentRequest(request_id=request_id_of(step), name=step.payment)
        )
    return payment_pb2.Operation(
        post_transaction=ledger_pb2.PostTransactionRequest(
            request_id=request_id_of(step),
            legs=[_leg(step, leg) for leg in step.movement.legs],
            description=f"trades/{step.trade_id}: {step.cause.command}",
            metadata=metadata,
        )
    )


def _together(step: Step, together: Together) -> payment_pb2.CreatePaymentRequest:
    """The very same message whichever of the checkout's trades asks: payments moves once, however many do."""
    accounts = [account_pb2.AccountKey(owner=share.trade, kind=ESCROW) for share in together.shares]
    amount_minor = sum(share.amount_minor for share in together.shares)
    return payment_pb2.CreatePaymentRequest(
        request_id=request_id_of(step),
        payer=step.payer,
        payee=accounts[0],
        beneficiary=together.shares[0].seller,
        amount=money_pb2.Money(currency=step.currency, amount_minor=amount_minor),
        capture_mode=payment_pb2.CAPTURE_MODE_AUTOMATIC,
        metadata={"checkout": together.checkout, "generation": str(together.generation), "kind": step.kind.value},
        description=f"{together.checkout}: paid",
        splits=[
            payment_pb2.Split(destination=account, fixed_minor=share.amount_minor, beneficiary=share.seller)
            for account, share in zip(accounts, together.shares, strict=True)
        ],
        remainder_policy=ledger_pb2.REMAINDER_POLICY_FIRST,
        rail=step.movement.rail,
        instrument=step.movement.instrument,
        acting_for=_acting_for(step),
    )


def _acting_for(step: Step) -> account_pb2.ActingFor | None:
    if step.for_partner or step.for_subject:
        return account_pb2.ActingFor(partner=step.for_partner, subject=step.for_subject)
    return None


_PURPOSES = {
    StepKind.SETTLE: ledger_pb2.PURPOSE_DISPUTE,
    StepKind.COMPENSATE: ledger_pb2.PURPOSE_COMPENSATION,
}


def _leg(step: Step, leg: Leg) -> ledger_pb2.Leg:
    purpose = _PURPOSES.get(step.kind, ledger_pb2.PURPOSE_REFUND) if leg.is_refund else ledger_pb2.PURPOSE_UNSPECIFIED
    message = ledger_pb2.Leg(
        credit=account_pb2.AccountKey(owner=leg.credit_owner, kind=leg.credit_kind),
        amount=money_pb2.Money(currency=step.currency, amount_minor=leg.amount_minor),
        # What leaves the trade's account settles its payment; what was kept back has left it before.
        payment=step.payment if leg.is_refund or leg.debit_kind == ESCROW else "",
        purpose=purpose,
    )
    debit = account_pb2.AccountKey(owner=leg.debit_owner, kind=leg.debit_kind)
    if leg.fallback_owner:
        fallback = account_pb2.AccountKey(owner=leg.fallback_owner, kind=leg.fallback_kind)
        message.sources.extend([ledger_pb2.Source(account=debit), ledger_pb2.Source(account=fallback)])
    else:
        message.debit.CopyFrom(debit)
    return message


def _result(result: payment_pb2.OperationResult) -> StepResult:
    match result.WhichOneof("result"):
        case "payment":
            return StepDone(result.payment.name)
        case "transaction":
            return StepDone(result.transaction.name)
        case "error":
            error = remote_error(result.error)
            if error.code in _DEFINITE and error.reason not in _NOT_RECORDED:
                return StepRefused(error.reason or error.code, error.message)
            return StepUnknown(error.reason or error.code)
        case _:
            return StepUnknown("RESULT_MISSING")
