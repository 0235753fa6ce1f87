"""Payments' events in escrow's words. Of a chargeback, the transaction's legs are asked for: they say who bore what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC
from typing import Any
from uuid import UUID, uuid5

import grpc

from danbao.payments.v1 import event_pb2, event_pb2_grpc, ledger_pb2, ledger_pb2_grpc, payment_pb2
from danbao_escrow.domain.money_legs import ESCROW
from danbao_escrow.domain.payment_events import (
    Brought,
    ChargebackReversed,
    ChargedBack,
    Declined,
    EventMalformed,
    Facts,
    PaymentMovement,
)
from danbao_kit.rpc_client import invoke

KINDS = (
    "payment_captured",
    "payment_declined",
    "payment_charged_back",
    "payment_chargeback_reversed",
    "transaction_posted",
)
_CALL_S = 3.0
# Of the contract: see Account.name.
_ACCOUNTS = UUID("6f0d8e0a-54c1-4d5e-9a86-0d4f3a8f5c11")


def escrow_account(trade: str, currency: str) -> str:
    """accounts/{uuid} of a trade."""
    return f"accounts/{uuid5(_ACCOUNTS, f'{trade}|{ESCROW}|{currency}')}"


class PaymentEvents:
    """The stream of payments, and what it takes to understand it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._events = event_pb2_grpc.EventServiceStub(channel)
        self._ledger = ledger_pb2_grpc.LedgerServiceStub(channel)

    async def open(self, after: int) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        """Everything after a sequence, then what follows."""
        # What pays nobody in a trade is most of what payments does, and none of escrow's business.
        request = event_pb2.WatchEventsRequest(kinds=KINDS, naming="trades/")
        request.cursor.sequence = after
        call = self._events.WatchEvents(request)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    async def read(self, event: event_pb2.Event) -> Facts:
        """Raises EventMalformed, and RemoteError where payments has to be asked and cannot answer."""
        kind = event.WhichOneof("payload")
        facts = Facts()
        if kind == "transaction_posted":
            _posted(event, event.transaction_posted, facts)
        elif kind == "payment_captured":
            _captured(event, event.payment_captured, facts)
        elif kind == "payment_declined":
            _declined(event.payment_declined, facts)
        elif kind in ("payment_charged_back", "payment_chargeback_reversed"):
            payment: payment_pb2.Payment = getattr(event, kind)
            if any(True for _ in _shares(payment)):
                request = ledger_pb2.GetTransactionRequest(name=payment.last_transaction)
                name = "payments.GetTransaction"
                transaction = await invoke(self._ledger.GetTransaction, request, name=name, cap_s=_CALL_S)
                _charged_back(event, payment, transaction, facts)
        return facts


def _posted(event: event_pb2.Event, transaction: ledger_pb2.Transaction, facts: Facts) -> None:
    trade = transaction.metadata.get("trade", "")
    if not trade:
        return
    currency = transaction.transfers[0].amount.currency
    # Also one that does not touch the trade's account, such as a payout: its step is told from it.
    moved = _moved(transaction, escrow_account(trade, currency))
    payment = next((transfer.payment for transfer in transaction.transfers if transfer.payment), "")
    step = _number(transaction.metadata, "step")
    facts.movements.append(_movement(event, trade, transaction.name, payment, step, currency, *moved))


def _captured(event: event_pb2.Event, payment: payment_pb2.Payment, facts: Facts) -> None:
    step, generation = _number(payment.metadata, "step"), _number(payment.metadata, "generation")
    for trade, minor in _shares(payment):
        currency = payment.amount.currency
        facts.movements.append(
            _movement(event, trade, payment.last_transaction, payment.name, step, currency, minor, 0)
        )
        if payment.rail:
            facts.effects.append(Brought(_trade_id(trade), payment.name, step, generation, minor))


def _declined(payment: payment_pb2.Payment, facts: Facts) -> None:
    step, generation = _number(payment.metadata, "step"), _number(payment.metadata, "generation")
    for trade, _ in _shares(payment):
        facts.effects.append(Declined(_trade_id(trade), payment.name, step, generation, payment.failure))


def _charged_back(
    event: event_pb2.Event, payment: payment_pb2.Payment, transaction: ledger_pb2.Transaction, facts: Facts
) -> None:
    """Of a payment of several trades, each is told what its account gave; the amount is of the whole payment."""
    currency = payment.amount.currency
    amount_minor = sum(
        transfer.amount.amount_minor
        for transfer in transaction.transfers
        if transfer.payment == payment.name and transfer.purpose == ledger_pb2.PURPOSE_CHARGEBACK
    )
    is_reversed = event.WhichOneof("payload") == "payment_chargeback_reversed"
    for trade, _ in _shares(payment):
        in_minor, out_minor = _moved(transaction, escrow_account(trade, currency))
        if in_minor or out_minor:
            facts.movements.append(
                _movement(event, trade, transaction.name, payment.name, 0, currency, in_minor, out_minor)
            )
        trade_id = _trade_id(trade)
        if is_reversed:
            facts.effects.append(ChargebackReversed(trade_id, payment.name, transaction.name, amount_minor))
        else:
            facts.effects.append(ChargedBack(trade_id, payment.name, transaction.name, amount_minor, out_minor))


def _shares(payment: payment_pb2.Payment) -> list[tuple[str, int]]:
    """Trades that the payment is for, and what of it each received."""
    if payment.splits:
        return [
            (part.split.destination.owner, part.captured_minor)
            for part in payment.splits
            if part.split.destination.kind == ESCROW
        ]
    return [(payment.payee.owner, payment.captured_minor)] if payment.payee.kind == ESCROW else []


def _moved(transaction: ledger_pb2.Transaction, account: str) -> tuple[int, int]:
    """Into the account and out of it."""
    moving = (ledger_pb2.Transfer.KIND_POSTED, ledger_pb2.Transfer.KIND_POST)
    transfers = [transfer for transfer in transaction.transfers if transfer.kind in moving]
    return (
        sum(transfer.amount.amount_minor for transfer in transfers if transfer.credit_account == account),
        sum(transfer.amount.amount_minor for transfer in transfers if transfer.debit_account == account),
    )


def _movement(
    event: event_pb2.Event,
    trade: str,
    reference: str,
    payment: str,
    step: int,
    currency: str,
    in_minor: int,
    out_minor: int,
) -> PaymentMovement:
    return PaymentMovement(
        event_sequence=event.sequence,
        trade_id=_trade_id(trade),
        reference=reference,
        payment=payment,
        kind=str(event.WhichOneof("payload")),
        step=step,
        currency=currency,
        in_minor=in_minor,
        out_minor=out_minor,
        create_time=event.create_time.ToDatetime(UTC),
    )


def _trade_id(trade: str) -> UUID:
    try:
        return UUID(trade.removeprefix("trades/"))
    except ValueError:
        raise EventMalformed(f"{trade[:80]} is no trade") from None


def _number(metadata: Mapping[str, Any], key: str) -> int:
    try:
        return int(metadata.get(key, "0"))
    except ValueError:
        raise EventMalformed(f"{key} is no number") from None
