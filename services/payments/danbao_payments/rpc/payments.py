"""Serves PaymentService."""

from __future__ import annotations

from typing import TypeAlias

import grpc

from danbao.payments.v1 import payment_pb2, payment_pb2_grpc
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_payments.application.ports import BooksReader
from danbao_payments.domain.access import can_see_payment
from danbao_payments.domain.errors import PaymentNotFound, TopUpNotFound
from danbao_payments.rpc.commands import MutationRunner
from danbao_payments.rpc.mapping import caller_of, id_of, payment_message, top_up_message

Context: TypeAlias = grpc.aio.ServicerContext


class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    def __init__(self, mutations: MutationRunner, reader: BooksReader, clock: Clock) -> None:
        self._mutations = mutations
        self._reader = reader
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

    async def BatchExecute(
        self, request: payment_pb2.BatchExecuteRequest, context: Context
    ) -> payment_pb2.BatchExecuteResponse:
        current_call().facts["operations"] = str(len(request.operations))
        return payment_pb2.BatchExecuteResponse(results=await self._mutations.run_many(request.operations))

    async def GetPayment(self, request: payment_pb2.GetPaymentRequest, context: Context) -> payment_pb2.Payment:
        payment = await self._reader.payment(id_of(request.name, "name"), self._clock.now())
        if payment is None or not can_see_payment(payment, caller_of(current_call())):
            raise PaymentNotFound(request.name)
        return payment_message(payment)

    async def GetTopUp(self, request: payment_pb2.GetTopUpRequest, context: Context) -> payment_pb2.TopUp:
        top_up = await self._reader.top_up(id_of(request.name, "name"))
        if top_up is None or not caller_of(current_call()).owns(top_up.owner):
            raise TopUpNotFound(request.name)
        return top_up_message(top_up)
