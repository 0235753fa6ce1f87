"""How the events of payments and escrow are read: their messages in credit's own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao.payments.v1 import ledger_pb2
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import (
    Event,
    Line,
    OtherEvent,
    PaymentEvent,
    Role,
    TopUpEvent,
    TradeEvent,
    TradeState,
)
from danbao_credit.domain.membership_model import ClaimTurn, Heard, Posting

_ROLES = {
    trade_pb2.ROLE_BUYER: Role.BUYER,
    trade_pb2.ROLE_SELLER: Role.SELLER,
    trade_pb2.ROLE_CARRIER: Role.CARRIER,
    trade_pb2.ROLE_ARBITER: Role.ARBITER,
    trade_pb2.ROLE_OPERATOR: Role.OPERATOR,
    trade_pb2.ROLE_SYSTEM: Role.SYSTEM,
}
_ENDS = {
    trade_pb2.Trade.STATE_COMPLETED: TradeState.COMPLETED,
    trade_pb2.Trade.STATE_CLOSED: TradeState.CLOSED,
    trade_pb2.Trade.STATE_CANCELLED: TradeState.CANCELLED,
}
# Whether a claim opens or ends; one whose payment was refused is still open.
_CLAIM_TURNS = {"claim_opened": True, "claim_compensated": False, "claim_rejected": False}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A payload that a newer service sends and this one does not know; it says nothing we could count.
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EscrowEvent:
    """An event of escrow as it came."""

    message: escrow_event_pb2.Event

    @property
    def sequence(self) -> int:
        return self.message.sequence

    @property
    def traceparent(self) -> str:
        return self.message.traceparent

    @property
    def payload(self) -> bytes:
        return self.message.SerializeToString()

    def read(self) -> Event:
        """Raises EventMalformed."""
        message = self.message
        at_us = _required_us(message, "create_time")
        kind = message.WhichOneof("payload")
        if kind is None:
            return OtherEvent(message.sequence, _UNKNOWN, at_us, message.traceparent)
        trade = getattr(message, kind)
        if not isinstance(trade, trade_pb2.Trade):
            # Refund cases, disputes and claims: what they do to the trade comes as the trade's own event.
            return OtherEvent(message.sequence, kind, at_us, message.traceparent)
        actor = _ROLES.get(message.actor.role)
        if actor is None:
            raise EventMalformed(f"{kind}: nobody is named as its actor")
        return TradeEvent(
            sequence=message.sequence,
            kind=kind,
            at_us=at_us,
            traceparent=message.traceparent,
            trade=trade.name,
            buyer=trade.buyer,
            seller=trade.seller,
            currency=trade.currency,
            state=_ENDS.get(trade.state, TradeState.OPEN),
            actor=actor,
            line_ids=tuple(message.line_ids),
            amount_minor=message.amount_minor,
            lines=tuple(
                Line(
                    line_id=line.line_id,
                    is_refunded=line.state == trade_pb2.Line.STATE_REFUNDED,
                    ship_us=_us(line, "ship_time"),
                    deliver_us=_us(line, "deliver_time"),
                    settle_us=_us(line, "settle_time"),
                )
                for line in trade.lines
            ),
            create_us=_required_us(trade, "create_time"),
            pay_us=_us(trade, "pay_time"),
            ship_by_us=_us(trade, "ship_by_time"),
        )

    def heard(self) -> tuple[Heard, ...]:
        """A claim that was opened or has ended. Raises EventMalformed."""
        message = self.message
        kind = message.WhichOneof("payload")
        opens = _CLAIM_TURNS.get(kind or "")
        if kind is None or opens is None:
            return ()
        turn = ClaimTurn(_seller(message, kind), opens)
        return (Heard(message.sequence, _time_of(message), message.traceparent, turn),)


@dataclass(frozen=True, slots=True)
class PaymentsEvent:
    """An event of payments as it came."""

    message: payments_event_pb2.Event

    @property
    def sequence(self) -> int:
        return self.message.sequence

    @property
    def traceparent(self) -> str:
        return self.message.traceparent

    @property
    def payload(self) -> bytes:
        return self.message.SerializeToString()

    def read(self) -> Event:
        """Raises EventMalformed."""
        message = self.message
        at_us = _required_us(message, "create_time")
        kind = message.WhichOneof("payload")
        if kind is not None and kind.startswith("payment_"):
            payment = getattr(message, kind)
            return PaymentEvent(
                message.sequence, kind, at_us, message.traceparent, payment.name, payment.payer, payment.amount.currency
            )
        if kind is not None and kind.startswith("top_up_"):
            top_up = getattr(message, kind)
            return TopUpEvent(
                sequence=message.sequence,
                kind=kind,
                at_us=at_us,
                traceparent=message.traceparent,
                top_up=top_up.name,
                owner=top_up.owner,
                currency=top_up.amount.currency,
                amount_minor=top_up.amount.amount_minor,
                funding_source=f"{top_up.rail} {top_up.instrument}",
            )
        return OtherEvent(message.sequence, kind or _UNKNOWN, at_us, message.traceparent)

    def heard(self) -> tuple[Heard, ...]:
        """A transaction, for it may have moved a deposit. Raises EventMalformed."""
        message = self.message
        if message.WhichOneof("payload") != "transaction_posted":
            return ()
        transaction = message.transaction_posted
        try:
            posting = Posting(
                _id(transaction.name),
                tuple(
                    (_id(transfer.debit_account), _id(transfer.credit_account), transfer.amount.amount_minor)
                    for transfer in transaction.transfers
                    if transfer.kind == ledger_pb2.Transfer.KIND_POSTED
                ),
            )
        except ValueError as error:
            raise EventMalformed(f"transaction_posted: {transaction.name!r} or an account of it has no id") from error
        return (Heard(message.sequence, _time_of(message), message.traceparent, posting),)


def _id(name: str) -> UUID:
    return UUID(name.partition("/")[2])


def _seller(message: escrow_event_pb2.Event, kind: str) -> str:
    seller: str = getattr(message, kind).seller
    if not seller.startswith("subjects/"):
        raise EventMalformed(f"{kind}: the seller {seller!r} is not a subject")
    return seller


def _time_of(message: object) -> datetime:
    return _EPOCH + timedelta(microseconds=_required_us(message, "create_time"))


def _us(message: object, field: str) -> int | None:
    """The time in a field, microseconds since the epoch; None if it is unset."""
    if not message.HasField(field):  # type: ignore[attr-defined]
        return None
    time: Timestamp = getattr(message, field)
    return time.seconds * 1_000_000 + time.nanos // 1_000


def _required_us(message: object, field: str) -> int:
    time = _us(message, field)
    if time is None or time < 0:
        raise EventMalformed(f"{field} is missing")
    return time
