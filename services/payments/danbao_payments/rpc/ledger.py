"""Serves LedgerService."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

import grpc

from danbao.payments.v1 import ledger_pb2, ledger_pb2_grpc
from danbao_kit.call import current_call
from danbao_payments.application.ports import BooksReader
from danbao_payments.domain.errors import TransactionNotFound
from danbao_payments.rpc.commands import MutationRunner
from danbao_payments.rpc.mapping import caller_of, transaction_message
from danbao_payments.rpc.values import id_of, timestamp

Context: TypeAlias = grpc.aio.ServicerContext


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    def __init__(self, mutations: MutationRunner, reader: BooksReader) -> None:
        self._mutations = mutations
        self._reader = reader

    async def PostTransaction(
        self, request: ledger_pb2.PostTransactionRequest, context: Context
    ) -> ledger_pb2.Transaction:
        return await self._mutations.run("PostTransaction", request, context)

    async def ReverseTransaction(
        self, request: ledger_pb2.ReverseTransactionRequest, context: Context
    ) -> ledger_pb2.Transaction:
        return await self._mutations.run("ReverseTransaction", request, context)

    async def GetTransaction(
        self, request: ledger_pb2.GetTransactionRequest, context: Context
    ) -> ledger_pb2.Transaction:
        found = await self._reader.transaction(id_of(request.name, "name"))
        if found is None or not caller_of(current_call()).owns_one_of(*found[1]):
            raise TransactionNotFound(request.name)
        return transaction_message(found[0])

    async def GetTrialBalance(
        self, request: ledger_pb2.GetTrialBalanceRequest, context: Context
    ) -> ledger_pb2.TrialBalance:
        answer = ledger_pb2.TrialBalance(read_time=timestamp(datetime.now(UTC)))
        totals: dict[str, ledger_pb2.TrialBalanceTotal] = {}
        for row in await self._reader.trial_balance():
            answer.rows.append(
                ledger_pb2.TrialBalanceRow(
                    currency=row.currency,
                    kind=row.kind,
                    accounts=row.accounts,
                    debits_posted_minor=row.debits_posted,
                    credits_posted_minor=row.credits_posted,
                    debits_pending_minor=row.debits_pending,
                    credits_pending_minor=row.credits_pending,
                )
            )
            total = totals.setdefault(row.currency, ledger_pb2.TrialBalanceTotal(currency=row.currency))
            total.debits_posted_minor += row.debits_posted
            total.credits_posted_minor += row.credits_posted
        answer.totals.extend(totals[currency] for currency in sorted(totals))
        return answer
