"""For tests: merchants of a given past, and a ledger that moves deposits, refuses, is late, or loses its answers."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from danbao.payments.v1 import account_pb2, account_pb2_grpc, ledger_pb2, ledger_pb2_grpc
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.membership_model import deposit_account
from danbao_credit.domain.membership_rules import IDENTITY_SLOT
from danbao_credit.domain.profile import Change, Profile, peer_hash

DAY = timedelta(days=1)


def merchant(
    catalogue: Catalogue,
    now: datetime,
    *,
    completed: int = 150,
    days: int = 400,
    defective: int = 0,
    gmv_minor: Mapping[str, int] | None = None,
    verified: bool = True,
    newest: timedelta = DAY,
) -> Profile:
    """A seller who sold evenly since `days` ago up to `newest` ago, to as many buyers; `defective` of the newest orders
    were never shipped. `gmv_minor` was released ten days ago, by currency."""
    slots = {slot.name: slot for slot in catalogue.slots}
    changes: list[tuple[int, Change]] = []

    def put(at: datetime, name: str, amount: int = 1) -> None:
        slot = slots[name]
        changes.append((int(at.timestamp() * 1_000_000), Change(slot.id, slot.keep, amount)))

    begin, span = now - days * DAY, days * DAY - newest
    for n in range(completed):
        at = begin + span * n / max(completed - 1, 1)
        for name in ("seller_trades_created", "seller_orders_paid", "seller_orders_shipped", "first_sale", "last_sale"):
            put(at, name)
        for name in ("buyers", "completed_buyers", "confirming_buyers"):
            put(at, name, peer_hash(f"subjects/buyer-{n}"))
        for name in ("seller_orders_delivered", "seller_orders_completed", "seller_orders_confirmed"):
            put(at, name)
        if n >= completed - defective:
            put(at, "defective_orders", peer_hash(f"trades/{n}"))
    for currency, minor in (gmv_minor or {}).items():
        put(now - 10 * DAY, f"seller_released_minor_{currency.lower()}", minor)
    if verified:
        put(begin, IDENTITY_SLOT)
    return Profile.empty().with_changes(changes)


class ScriptedLedger(ledger_pb2_grpc.LedgerServiceServicer):
    """PostTransaction over balances in memory, recorded by request id, as payments does it; misbehaves when told to."""

    def __init__(self) -> None:
        self.balances: Counter[tuple[str, str, str]] = Counter()
        self.calls: list[str] = []
        self.posted: dict[str, ledger_pb2.Transaction] = {}
        self.refused: dict[str, str] = {}
        # Each is used up by one call: "lost" answers UNAVAILABLE after moving, "away" before, "late" after a while;
        # any other word is the reason of a refusal.
        self.script: list[str] = []
        self.late_s = 0.3
        # All that ever moved, as statements show it; how often one was asked for, and for how many times it is away.
        self.moved: list[ledger_pb2.Transaction] = []
        self.statements = 0
        self.away = 0
        # Who has brought whom, how often that was asked for, and whether nobody says.
        self.partners: dict[str, str] = {}
        self.asked_whose = 0
        self.whose_is_away = False
        # For whom each request was made.
        self.acting_for: dict[str, tuple[str, str]] = {}

    async def PostTransaction(self, request: ledger_pb2.PostTransactionRequest, context: Any) -> ledger_pb2.Transaction:
        self.calls.append(request.request_id)
        self.acting_for[request.request_id] = (request.acting_for.partner, request.acting_for.subject)
        word = self.script.pop(0) if self.script else ""
        if word == "away":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if word == "late":
            await asyncio.sleep(self.late_s)
        if request.request_id in self.refused:
            await self._refuse(context, self.refused[request.request_id])
        known = self.posted.get(request.request_id)
        if known is None:
            reason = word if word not in ("", "lost", "late") else self._shortage(request)
            if reason:
                self.refused[request.request_id] = reason
                await self._refuse(context, reason)
            known = self.posted[request.request_id] = self._post(request)
        if word == "lost":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        return known

    def balance(self, subject: str, kind: str, currency: str = "CNY") -> int:
        return self.balances[subject, kind, currency]

    def event_of(self, transaction: ledger_pb2.Transaction, at: datetime) -> payments_event_pb2.Event:
        """What payments' stream tells of it."""
        event = payments_event_pb2.Event(transaction_posted=transaction)
        event.create_time.FromDatetime(at)
        return event

    def take(self, subject: str, minor: int, currency: str = "CNY") -> ledger_pb2.Transaction:
        """A compensation out of the deposit, as escrow has it paid."""
        self.balances[subject, "guarantee.deposit", currency] -= minor
        transaction = self._transaction()
        self._transfer(transaction, deposit_account(subject, currency), uuid.uuid4(), currency, minor)
        return transaction

    def give(self, subject: str, minor: int, currency: str = "CNY") -> ledger_pb2.Transaction:
        """Money into the deposit that no step of ours moved."""
        self.balances[subject, "guarantee.deposit", currency] += minor
        transaction = self._transaction()
        self._transfer(transaction, uuid.uuid4(), deposit_account(subject, currency), currency, minor)
        return transaction

    def entries(self, account: str) -> list[account_pb2.Entry]:
        """The account's statement."""
        found: list[account_pb2.Entry] = []
        for transaction in self.moved:
            for transfer in transaction.transfers:
                for side, name in (
                    (account_pb2.Account.SIDE_DEBIT, transfer.debit_account),
                    (account_pb2.Account.SIDE_CREDIT, transfer.credit_account),
                ):
                    if name == account:
                        found.append(account_pb2.Entry(transaction=transaction.name, side=side, amount=transfer.amount))
        return found

    def _transaction(self) -> ledger_pb2.Transaction:
        self.moved.append(ledger_pb2.Transaction(name=f"transactions/{uuid.uuid4()}"))
        return self.moved[-1]

    def _shortage(self, request: ledger_pb2.PostTransactionRequest) -> str:
        for leg in request.legs:
            if self.balances[leg.debit.owner, leg.debit.kind, leg.amount.currency] < leg.amount.amount_minor:
                return "INSUFFICIENT_FUNDS"
        return ""

    def _post(self, request: ledger_pb2.PostTransactionRequest) -> ledger_pb2.Transaction:
        transaction = self._transaction()
        for leg in request.legs:
            money = leg.amount
            self.balances[leg.debit.owner, leg.debit.kind, money.currency] -= money.amount_minor
            self.balances[leg.credit.owner, leg.credit.kind, money.currency] += money.amount_minor
            ids = [
                deposit_account(key.owner, money.currency) if key.kind == "guarantee.deposit" else uuid.uuid4()
                for key in (leg.debit, leg.credit)
            ]
            self._transfer(transaction, ids[0], ids[1], money.currency, money.amount_minor)
        return transaction

    def _transfer(
        self, transaction: ledger_pb2.Transaction, debit: uuid.UUID, credit: uuid.UUID, currency: str, minor: int
    ) -> None:
        transfer = transaction.transfers.add(
            kind=ledger_pb2.Transfer.KIND_POSTED, debit_account=f"accounts/{debit}", credit_account=f"accounts/{credit}"
        )
        transfer.amount.currency, transfer.amount.amount_minor = currency, minor

    async def _refuse(self, context: Any, reason: str) -> None:
        info = error_details_pb2.ErrorInfo(reason=reason, domain="danbao")
        status = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=f"refused: {reason}")
        status.details.add().Pack(info)
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, status.message, trailing_metadata=trailing)


class ScriptedAccounts(account_pb2_grpc.AccountServiceServicer):
    """ListEntries over what the ledger moved, two entries a page whatever was asked for."""

    def __init__(self, ledger: ScriptedLedger) -> None:
        self._ledger = ledger

    async def GetOwner(self, request: account_pb2.GetOwnerRequest, context: Any) -> account_pb2.Owner:
        self._ledger.asked_whose += 1
        if self._ledger.whose_is_away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return account_pb2.Owner(owner=request.owner, partner=self._ledger.partners.get(request.owner, ""))

    async def ListEntries(
        self, request: account_pb2.ListEntriesRequest, context: Any
    ) -> account_pb2.ListEntriesResponse:
        self._ledger.statements += 1
        if self._ledger.away:
            self._ledger.away -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        entries, start = self._ledger.entries(request.account), int(request.page_token or 0)
        return account_pb2.ListEntriesResponse(
            entries=entries[start : start + 2], next_page_token=str(start + 2) if start + 2 < len(entries) else ""
        )
