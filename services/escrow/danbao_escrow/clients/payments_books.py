"""Payments' books as an audit reads them: what trades' accounts hold, and their transactions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from danbao.payments.v1 import account_pb2, account_pb2_grpc, ledger_pb2, ledger_pb2_grpc
from danbao_escrow.application.auditing import BooksUnavailable, Rest
from danbao_escrow.clients.payment_events import escrow_account
from danbao_escrow.domain.money_legs import ESCROW
from danbao_kit.rpc_client import RemoteError, invoke

_CALL_S = 10.0
_PAGE = 1000
_NOT_CLOSED = (account_pb2.Account.STATE_OPEN, account_pb2.Account.STATE_FROZEN)


class PaymentsBooks:
    """Reads only, page by page."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._accounts = account_pb2_grpc.AccountServiceStub(channel)
        self._ledger = ledger_pb2_grpc.LedgerServiceStub(channel)

    async def held(self, rest: Rest) -> dict[tuple[str, str], int]:
        """What each trade's account holds that is not closed, by trade and currency. Raises BooksUnavailable."""
        found = {}
        for state in _NOT_CLOSED:
            request = account_pb2.ListAccountsRequest(kind=ESCROW, state=state, page_size=_PAGE)
            asked = time.monotonic()
            async for page in _pages(self._accounts.ListAccounts, request, "payments.ListAccounts"):
                for account in page.accounts:
                    balance_minor = account.credits_posted_minor - account.debits_posted_minor
                    found[account.owner, account.currency] = balance_minor
                await rest(time.monotonic() - asked)
                asked = time.monotonic()
        return found

    async def transactions(self, trade: str, currency: str) -> set[str]:
        """transactions/{uuid} upon a trade's account. Raises BooksUnavailable."""
        found: set[str] = set()
        request = ledger_pb2.ListTransactionsRequest(account=escrow_account(trade, currency), page_size=_PAGE)
        async for page in _pages(self._ledger.ListTransactions, request, "payments.ListTransactions"):
            found |= {transaction.name for transaction in page.transactions}
        return found


async def _pages(method: Any, request: Any, name: str) -> AsyncIterator[Any]:
    while True:
        try:
            page = await invoke(method, request, name=name, cap_s=_CALL_S)
        except RemoteError as error:
            if error.reason == "ACCOUNT_NOT_FOUND":
                return
            raise BooksUnavailable(f"{name}: {error.reason or error.code}") from error
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
