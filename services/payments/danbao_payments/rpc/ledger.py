"""Serves LedgerService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

import grpc

from danbao.payments.v1 import ledger_pb2, ledger_pb2_grpc
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import MAX_MINOR
from danbao_kit.paging import encode_token, page_size
from danbao_kit.timestamps import moment_of
from danbao_payments.application.ports import BooksReader, ChainVerifier
from danbao_payments.domain.callers import Party
from danbao_payments.domain.errors import AccountNotFound, TransactionNotFound
from danbao_payments.domain.tenancy import sees
from danbao_payments.domain.transfer import PostedTransaction
from danbao_payments.rpc.accounts import sequence_of
from danbao_payments.rpc.audit import budget_s
from danbao_payments.rpc.commands import MutationRunner
from danbao_payments.rpc.mapping import caller_of, transaction_message
from danbao_payments.rpc.values import id_of, timestamp

Context: TypeAlias = grpc.aio.ServicerContext


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    def __init__(self, mutations: MutationRunner, reader: BooksReader, chain: ChainVerifier, clock: Clock) -> None:
        self._chain = chain
        self._clock = clock
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
        shown = await self._shown([found[0]])
        if not shown:
            raise TransactionNotFound(request.name)
        return transaction_message(shown[0])

    async def ListTransactions(
        self, request: ledger_pb2.ListTransactionsRequest, context: Context
    ) -> ledger_pb2.ListTransactionsResponse:
        if bool(request.account) == bool(request.owner):
            raise FieldInvalid(FieldViolation("account", "exactly one of it and owner is required"))
        since = moment_of(request.start_time, "start_time") if request.HasField("start_time") else None
        until = moment_of(request.end_time, "end_time") if request.HasField("end_time") else None
        scope = f"transactions of {request.account}{request.owner} {since} {until}"
        after = sequence_of(scope, request.page_token) if request.page_token else 0
        posted, last = await self._reader.transactions_of(
            await self._accounts(request), since=since, until=until, after=after, limit=page_size(request.page_size)
        )
        return ledger_pb2.ListTransactionsResponse(
            transactions=[transaction_message(each) for each in await self._shown(posted)],
            next_page_token=encode_token(scope, str(last)) if last else "",
        )

    async def _shown(self, posted: Sequence[PostedTransaction]) -> Sequence[PostedTransaction]:
        """As the caller is shown them: to a partner, what touches its own accounts. No customers of others."""
        caller = caller_of(current_call())
        if caller.party is not Party.PARTNER:
            return posted
        touched = {key for each in posted for one in each.transfers for key in (one.debit_account, one.credit_account)}
        own = {
            key for key, (owner, partner) in (await self._reader.whose(touched)).items() if sees(caller, owner, partner)
        }
        shown = []
        for each in posted:
            legs = tuple(one for one in each.transfers if one.debit_account in own or one.credit_account in own)
            if legs:
                shown.append(each._replace(transfers=legs))
        return shown

    async def _accounts(self, request: ledger_pb2.ListTransactionsRequest) -> list[UUID]:
        caller, now = caller_of(current_call()), self._clock.now()
        if request.account:
            account = await self._reader.account(id_of(request.account, "account"), now)
            if account is None or not sees(caller, account.owner, account.partner):
                raise AccountNotFound(request.account)
            return [account.id]
        if not caller.owns(request.owner):
            return []
        found = await self._reader.accounts_of(
            request.owner,
            kind="",
            states=(),
            after=None,
            limit=10_000,
            now=now,
            seen_by=caller.partner if caller.party is Party.PARTNER else None,
        )
        return [account.id for account in found]

    async def VerifyChain(self, request: ledger_pb2.VerifyChainRequest, context: Context) -> ledger_pb2.Chain:
        if bool(request.after_sequence) != bool(request.after_hash):
            raise FieldInvalid(FieldViolation("after_hash", "is given together with after_sequence"))
        chain = await self._chain.verify(
            after=(request.after_sequence, bytes.fromhex(request.after_hash)) if request.after_sequence else None,
            max_batches=request.max_batches or None,
            budget_s=budget_s(),
        )
        return ledger_pb2.Chain(
            intact=chain.complete and chain.broken is None,
            complete=chain.complete,
            verified_sequence=chain.last_sequence,
            batches=chain.batches,
            hash=chain.hash.hex(),
            broken_sequence=0 if chain.broken is None else chain.broken.sequence,
            broken_because="" if chain.broken is None else chain.broken.what,
        )

    async def GetTrialBalance(
        self, request: ledger_pb2.GetTrialBalanceRequest, context: Context
    ) -> ledger_pb2.TrialBalance:
        answer = ledger_pb2.TrialBalance(read_time=timestamp(self._clock.now()))
        totals: dict[str, tuple[int, int]] = {}
        for row in await self._reader.trial_balance():
            sums = (row.debits_posted, row.credits_posted, row.debits_pending, row.credits_pending)
            answer.rows.append(
                ledger_pb2.TrialBalanceRow(
                    currency=row.currency,
                    kind=row.kind,
                    accounts=row.accounts,
                    debits_posted_minor=min(row.debits_posted, MAX_MINOR),
                    credits_posted_minor=min(row.credits_posted, MAX_MINOR),
                    debits_pending_minor=min(row.debits_pending, MAX_MINOR),
                    credits_pending_minor=min(row.credits_pending, MAX_MINOR),
                    saturated=max(sums) > MAX_MINOR,
                )
            )
            debits, credits = totals.get(row.currency, (0, 0))
            totals[row.currency] = (debits + row.debits_posted, credits + row.credits_posted)
        for currency, (debits, credits) in sorted(totals.items()):
            answer.totals.add(
                currency=currency,
                debits_posted_minor=min(debits, MAX_MINOR),
                credits_posted_minor=min(credits, MAX_MINOR),
                saturated=max(debits, credits) > MAX_MINOR,
            )
        return answer
