"""Serves AccountService."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TypeAlias

import grpc

from danbao.payments.v1 import account_pb2, account_pb2_grpc
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.errors import FieldInvalid, FieldViolation, PageTokenInvalid
from danbao_kit.paging import decode_token, encode_token, page_size
from danbao_kit.timestamps import moment_of
from danbao_payments.application.ports import BooksReader, Period, StatementReader
from danbao_payments.domain.account import Account
from danbao_payments.domain.callers import PEERS, Party
from danbao_payments.domain.chart import CHART, ESCROW_TRADE, Side
from danbao_payments.domain.errors import AccountNotFound
from danbao_payments.domain.tenancy import sees
from danbao_payments.rpc.commands import MutationRunner
from danbao_payments.rpc.mapping import STATES_SHOWN_AS, account_message, caller_of, entry_message, owner_message
from danbao_payments.rpc.values import id_of

Context: TypeAlias = grpc.aio.ServicerContext
_TOLD_WHOSE = frozenset({Party.OPERATOR, Party.ARBITER, *PEERS})


class AccountServicer(account_pb2_grpc.AccountServiceServicer):
    def __init__(
        self, mutations: MutationRunner, reader: BooksReader, statements: StatementReader, clock: Clock
    ) -> None:
        self._mutations = mutations
        self._statements = statements
        self._reader = reader
        self._clock = clock

    async def CreateAccount(self, request: account_pb2.CreateAccountRequest, context: Context) -> account_pb2.Account:
        return await self._mutations.run("CreateAccount", request, context)

    async def BatchCreateAccounts(
        self, request: account_pb2.BatchCreateAccountsRequest, context: Context
    ) -> account_pb2.BatchCreateAccountsResponse:
        return await self._mutations.run("BatchCreateAccounts", request, context)

    async def FreezeAccount(self, request: account_pb2.FreezeAccountRequest, context: Context) -> account_pb2.Account:
        return await self._mutations.run("FreezeAccount", request, context)

    async def UnfreezeAccount(
        self, request: account_pb2.UnfreezeAccountRequest, context: Context
    ) -> account_pb2.Account:
        return await self._mutations.run("UnfreezeAccount", request, context)

    async def CloseAccount(self, request: account_pb2.CloseAccountRequest, context: Context) -> account_pb2.Account:
        return await self._mutations.run("CloseAccount", request, context)

    async def GetAccount(self, request: account_pb2.GetAccountRequest, context: Context) -> account_pb2.Account:
        return account_message(await self._find(request.name, "name"))

    async def GetOwner(self, request: account_pb2.GetOwnerRequest, context: Context) -> account_pb2.Owner:
        found = (await self._reader.owners([request.owner])).get(request.owner)
        caller = caller_of(current_call())
        told = caller.party in _TOLD_WHOSE or (found is not None and caller.partner == found.partner)
        return owner_message(request.owner, found if told else None)

    async def GetBalance(self, request: account_pb2.GetBalanceRequest, context: Context) -> account_pb2.Balance:
        account = await self._find(request.account, "account")
        kind = request.WhichOneof("at")
        at = self._clock.now() if kind is None else moment_of(getattr(request, kind), kind)
        debits, credits = await self._reader.balance_at(account, at=at, effective=kind == "effective_time")
        grows_by_debits = CHART[account.kind].normal_side is Side.DEBIT
        return account_pb2.Balance(
            account=request.account,
            currency=account.currency,
            balance_minor=debits - credits if grows_by_debits else credits - debits,
            debits_posted_minor=debits,
            credits_posted_minor=credits,
        )

    async def ListAccounts(
        self, request: account_pb2.ListAccountsRequest, context: Context
    ) -> account_pb2.ListAccountsResponse:
        scope = f"accounts of {request.owner} {request.kind} {request.state}"
        after = _account_key(scope, request.page_token) if request.page_token else None
        caller = caller_of(current_call())
        of_trades = caller.party is Party.ESCROW and request.kind == ESCROW_TRADE
        if not request.owner and caller.party is not Party.OPERATOR and not of_trades:
            raise FieldInvalid(FieldViolation("owner", "only operators see accounts of all owners"))
        if request.owner and not caller.owns(request.owner):
            return account_pb2.ListAccountsResponse()
        seen_by = caller.partner if caller.party is Party.PARTNER else None
        size = page_size(request.page_size)
        found = await self._reader.accounts_of(
            request.owner,
            kind=request.kind,
            states=STATES_SHOWN_AS.get(request.state, ()),
            after=after,
            limit=size + 1,
            now=self._clock.now(),
            seen_by=seen_by,
        )
        answer = account_pb2.ListAccountsResponse(accounts=[account_message(account) for account in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = encode_token(scope, json.dumps([last.owner, last.kind, last.currency]))
        return answer

    async def ListEntries(
        self, request: account_pb2.ListEntriesRequest, context: Context
    ) -> account_pb2.ListEntriesResponse:
        account = await self._find(request.account, "account")
        period = Period(
            moment_of(request.start_time, "start_time") if request.HasField("start_time") else None,
            moment_of(request.end_time, "end_time") if request.HasField("end_time") else None,
            request.by_effective_time,
        )
        scope = f"entries of {request.account} {period}"
        after, head = _place(scope, request.page_token) if request.page_token else (None, None)
        size = page_size(request.page_size)
        if not period.effective:
            head = None  # what was recorded meanwhile comes at the end
        found = await self._statements.statement(account, period, after=after, head=head, limit=size + 1)
        answer = account_pb2.ListEntriesResponse(
            entries=[entry_message(entry) for entry in found.entries[:size]],
            opening_balance_minor=found.opening_minor,
            closing_balance_minor=found.closing_minor,
        )
        if len(found.entries) > size:
            at, sequence = found.positions[size - 1]
            answer.next_page_token = encode_token(scope, json.dumps([at.isoformat(), sequence, found.head]))
        return answer

    async def _find(self, name: str, field: str) -> Account:
        account = await self._reader.account(id_of(name, field), self._clock.now())
        if account is None or not sees(caller_of(current_call()), account.owner, account.partner):
            raise AccountNotFound(name)
        return account


def sequence_of(scope: str, token: str) -> int:
    """The sequence after which a page begins. Raises PageTokenInvalid."""
    position = decode_token(scope, token)
    if not (position.isascii() and position.isdigit() and len(position) < 19):
        raise PageTokenInvalid
    return int(position)


def _place(scope: str, token: str) -> tuple[tuple[datetime, int], int]:
    try:
        at, sequence, head = json.loads(decode_token(scope, token))
        place = datetime.fromisoformat(at)
    except (TypeError, ValueError) as error:
        raise PageTokenInvalid from error
    if not (isinstance(sequence, int) and isinstance(head, int) and 0 < max(sequence, head) < 2**63 and place.tzinfo):
        raise PageTokenInvalid
    return (place, sequence), head


def _account_key(scope: str, token: str) -> tuple[str, str, str]:
    try:
        owner, kind, currency = json.loads(decode_token(scope, token))
    except (TypeError, ValueError) as error:
        raise PageTokenInvalid from error
    if not (isinstance(owner, str) and isinstance(kind, str) and isinstance(currency, str)):
        raise PageTokenInvalid
    return owner, kind, currency
