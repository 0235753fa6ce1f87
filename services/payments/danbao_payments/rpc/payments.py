"""Serves PaymentService."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import grpc

from danbao.payments.v1 import payment_pb2, payment_pb2_grpc, rail_pb2
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.errors import PageTokenInvalid
from danbao_kit.money import check_currency
from danbao_kit.paging import decode_token, encode_token, page_size
from danbao_kit.timestamps import moment_of
from danbao_payments.application.ports import BooksReader, MovementsReader, PaymentFilter, PaymentsReader
from danbao_payments.domain.access import can_see_payment
from danbao_payments.domain.callers import Party
from danbao_payments.domain.errors import MovementNotFound, PaymentNotFound, TopUpNotFound, WithdrawalNotFound
from danbao_payments.domain.limits import SUBJECT_PREFIX
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_access import can_see_movement
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.tenancy import sees
from danbao_payments.rpc.commands import MutationRunner
from danbao_payments.rpc.limits import limits_as_they_stand
from danbao_payments.rpc.mapping import PAYMENT_STATES, caller_of, payment_message, top_up_message
from danbao_payments.rpc.rails import refund_message, withdrawal_message
from danbao_payments.rpc.values import id_of

Context: TypeAlias = grpc.aio.ServicerContext
_STATES = {number: name for name, number in PAYMENT_STATES.items() if number}


class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    def __init__(
        self,
        mutations: MutationRunner,
        reader: BooksReader,
        payments: PaymentsReader,
        movements: MovementsReader,
        clock: Clock,
    ) -> None:
        self._mutations = mutations
        self._reader = reader
        self._payments = payments
        self._movements = movements
        self._clock = clock

    async def CreatePayment(self, request: payment_pb2.CreatePaymentRequest, context: Context) -> payment_pb2.Payment:
        return await self._mutations.run("CreatePayment", request, context)

    async def CapturePayment(self, request: payment_pb2.CapturePaymentRequest, context: Context) -> payment_pb2.Payment:
        return await self._mutations.run("CapturePayment", request, context)

    async def VoidPayment(self, request: payment_pb2.VoidPaymentRequest, context: Context) -> payment_pb2.Payment:
        return await self._mutations.run("VoidPayment", request, context)

    async def RefundPayment(self, request: payment_pb2.RefundPaymentRequest, context: Context) -> payment_pb2.Payment:
        return await self._mutations.run("RefundPayment", request, context)

    async def CreateTopUp(self, request: payment_pb2.CreateTopUpRequest, context: Context) -> payment_pb2.TopUp:
        return await self._mutations.run("CreateTopUp", request, context)

    async def RefundTopUp(self, request: payment_pb2.RefundTopUpRequest, context: Context) -> payment_pb2.TopUp:
        return await self._mutations.run("RefundTopUp", request, context)

    async def CreateWithdrawal(
        self, request: rail_pb2.CreateWithdrawalRequest, context: Context
    ) -> rail_pb2.Withdrawal:
        return await self._mutations.run("CreateWithdrawal", request, context)

    async def ReportRailResult(
        self, request: rail_pb2.ReportRailResultRequest, context: Context
    ) -> payment_pb2.RailReport:
        return await self._mutations.run("ReportRailResult", request, context)

    async def BatchExecute(
        self, request: payment_pb2.BatchExecuteRequest, context: Context
    ) -> payment_pb2.BatchExecuteResponse:
        current_call().facts["operations"] = str(len(request.operations))
        return await self._mutations.run_many(request.operations)

    async def GetPayment(self, request: payment_pb2.GetPaymentRequest, context: Context) -> payment_pb2.Payment:
        payment = await self._reader.payment(id_of(request.name, "name"), self._clock.now())
        if payment is None or not await self._sees_payment(payment):
            raise PaymentNotFound(request.name)
        return payment_message(payment)

    async def ListPayments(
        self, request: payment_pb2.ListPaymentsRequest, context: Context
    ) -> payment_pb2.ListPaymentsResponse:
        caller = caller_of(current_call())
        asked = PaymentFilter(
            payer=request.payer,
            payee_owner=request.payee,
            party=caller.subject if caller.is_confined else "",
            partner=caller.partner,
            state=_STATES.get(request.state, ""),
            begin=_time_of(request, "create_time_from"),
            end=_time_of(request, "create_time_before"),
        )
        scope = f"payments {asked!r}"
        after = _position(scope, request.page_token) if request.page_token else None
        if caller.is_confined and not caller.subject:
            return payment_pb2.ListPaymentsResponse()
        size = page_size(request.page_size)
        found = await self._payments.payments(asked, after=after, limit=size + 1, now=self._clock.now())
        answer = payment_pb2.ListPaymentsResponse(payments=[payment_message(each) for each in found[:size]])
        if len(found) > size:
            answer.next_page_token = encode_token(scope, str(found[size - 1].id))
        return answer

    async def SetLimits(self, request: payment_pb2.SetLimitsRequest, context: Context) -> payment_pb2.Limits:
        return await self._mutations.run("SetLimits", request, context)

    async def GetLimits(self, request: payment_pb2.GetLimitsRequest, context: Context) -> payment_pb2.Limits:
        check_currency(request.currency, "currency")
        caller = caller_of(current_call())
        is_subject = request.scope.startswith(SUBJECT_PREFIX)
        if not caller.owns(request.scope) or (is_subject and not await self._sees_owner(request.scope)):
            return payment_pb2.Limits(scope=request.scope, currency=request.currency)
        limits, usage = await self._payments.limits(request.scope, request.currency)
        today = self._clock.now().date()
        return limits_as_they_stand(request.scope, request.currency, limits, usage, today)

    async def GetTopUp(self, request: payment_pb2.GetTopUpRequest, context: Context) -> payment_pb2.TopUp:
        top_up = await self._movements.top_up(id_of(request.name, "name"))
        if top_up is None or not await self._sees_movement(top_up.owner, top_up.rail):
            raise TopUpNotFound(request.name)
        return top_up_message(top_up)

    async def GetWithdrawal(self, request: rail_pb2.GetWithdrawalRequest, context: Context) -> rail_pb2.Withdrawal:
        found = await self._movements.withdrawal(id_of(request.name, "name"))
        if found is None or not await self._sees_movement(found.owner, found.rail):
            raise WithdrawalNotFound(request.name)
        return withdrawal_message(found)

    async def GetRailRefund(self, request: rail_pb2.GetRailRefundRequest, context: Context) -> rail_pb2.RailRefund:
        found = await self._movements.rail_refund(id_of(request.name, "name"))
        if found is None or not await self._sees(found):
            raise MovementNotFound(request.name)
        return refund_message(found)

    async def _sees(self, refund: RailRefund) -> bool:
        """Whoever sees what goes back sees that it goes back."""
        if await self._sees_movement(refund.owner, refund.rail):
            return True
        payment = None
        if refund.payment_id is not None:
            payment = await self._reader.payment(refund.payment_id, self._clock.now())
        return payment is not None and await self._sees_payment(payment)

    async def _sees_payment(self, payment: Payment) -> bool:
        nobodys = [payment.payer, payment.payee_owner] if not payment.partner else []
        partners = await self._partners(nobodys)
        return can_see_payment(payment, caller_of(current_call()), lambda owner: partners.get(owner, ""))

    async def _sees_movement(self, owner: str, rail: str) -> bool:
        partners = await self._partners([owner])
        return can_see_movement(owner, rail, caller_of(current_call()), partners.get(owner, ""))

    async def _sees_owner(self, owner: str) -> bool:
        partners = await self._partners([owner])
        return sees(caller_of(current_call()), owner, partners.get(owner, ""))

    async def _partners(self, owners: Sequence[str]) -> dict[str, str]:
        """Who has brought them, where it matters to who asks."""
        if not owners or caller_of(current_call()).party is not Party.PARTNER:
            return {}
        return {owner: found.partner for owner, found in (await self._reader.owners(owners)).items()}


def _time_of(request: payment_pb2.ListPaymentsRequest, field: str) -> datetime | None:
    return moment_of(getattr(request, field), field) if request.HasField(field) else None  # type: ignore[arg-type]


def _position(scope: str, token: str) -> UUID:
    try:
        return UUID(decode_token(scope, token))
    except ValueError as error:
        raise PageTokenInvalid from error
