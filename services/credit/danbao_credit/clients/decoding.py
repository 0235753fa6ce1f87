"""How the events of payments and escrow are read: their messages in credit's own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from danbao.escrow.v1 import claim_pb2, dispute_pb2, refund_pb2, trade_pb2
from danbao.escrow.v1 import event_pb2 as escrow_event_pb2
from danbao.payments.v1 import account_pb2, ledger_pb2, payment_pb2, rail_pb2
from danbao.payments.v1 import event_pb2 as payments_event_pb2
from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import (
    AccountEvent,
    CaseEvent,
    ClaimEvent,
    DisputeEvent,
    Event,
    Line,
    OtherEvent,
    OwnerEvent,
    PaymentEvent,
    RailRefundEvent,
    Role,
    TopUpEvent,
    TradeEvent,
    TradeState,
    WithdrawalEvent,
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
_REASONS = {
    refund_pb2.REFUND_REASON_NOT_RECEIVED: "not_received",
    refund_pb2.REFUND_REASON_NOT_AS_DESCRIBED: "not_as_described",
    refund_pb2.REFUND_REASON_DAMAGED: "damaged",
    refund_pb2.REFUND_REASON_LATE: "late",
    refund_pb2.REFUND_REASON_COUNTERFEIT: "counterfeit",
    refund_pb2.REFUND_REASON_CHANGED_MIND: "changed_mind",
}
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
        payload = getattr(message, kind)
        actor = _ROLES.get(message.actor.role)
        if actor is None:
            raise EventMalformed(f"{kind}: nobody is named as its actor")
        read = _READERS.get(type(payload))
        if read is None:
            return OtherEvent(message.sequence, kind, at_us, message.traceparent)
        event: Event = read(message, kind, at_us, payload, actor)
        return event

    def heard(self) -> tuple[Heard, ...]:
        """A claim that was opened or has ended. Raises EventMalformed."""
        message = self.message
        kind = message.WhichOneof("payload")
        opens = _CLAIM_TURNS.get(kind or "")
        if kind is None or opens is None:
            return ()
        turn = ClaimTurn(_seller(message, kind), opens)
        return (Heard(message.sequence, _time_of(message), message.traceparent, turn),)


def _trade(message: escrow_event_pb2.Event, kind: str, at_us: int, trade: trade_pb2.Trade, actor: Role) -> TradeEvent:
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
                is_to_ship=line.state == trade_pb2.Line.STATE_PAID,
                ship_us=_us(line, "ship_time"),
                deliver_us=_us(line, "deliver_time"),
                settle_us=_us(line, "settle_time"),
                extended_days=line.extended_days,
            )
            for line in trade.lines
        ),
        create_us=_required_us(trade, "create_time"),
        pay_us=_us(trade, "pay_time"),
        ship_by_us=_us(trade, "ship_by_time"),
        total_minor=trade.total_minor,
        refunded_minor=trade.refunded_minor,
        by_rail=bool(trade.rail),
        in_checkout=bool(trade.checkout),
        is_adjusted=trade.HasField("adjust_time"),
        reason=message.reason,
        partner=trade.partner,
        # Of a replica before this was told: as nearly all trades are made.
        made_by=_ROLES.get(trade.made_by, Role.BUYER),
        made_by_partner=trade.made_by_partner,
        by_partner=message.by_partner,
    )


def _case(
    message: escrow_event_pb2.Event, kind: str, at_us: int, case: refund_pb2.RefundCase, actor: Role
) -> CaseEvent:
    return CaseEvent(
        sequence=message.sequence,
        kind=kind,
        at_us=at_us,
        traceparent=message.traceparent,
        case=case.name,
        trade=case.trade,
        buyer=case.buyer,
        seller=case.seller,
        currency=case.currency,
        actor=actor,
        amount_minor=case.amount_minor,
        moved_minor=message.amount_minor,
        reason=_REASONS.get(case.reason_code, "other"),
        with_return=case.with_return,
        is_returned=bool(case.return_tracking),
        create_us=_required_us(case, "create_time"),
    )


def _dispute(
    message: escrow_event_pb2.Event, kind: str, at_us: int, dispute: dispute_pb2.Dispute, actor: Role
) -> DisputeEvent:
    is_decided = dispute.HasField("decision")
    division = dispute.decision if is_decided else dispute.offer
    return DisputeEvent(
        sequence=message.sequence,
        kind=kind,
        at_us=at_us,
        traceparent=message.traceparent,
        dispute=dispute.name,
        trade=dispute.trade,
        buyer=dispute.buyer,
        seller=dispute.seller,
        currency=dispute.currency,
        actor=actor,
        frozen_minor=dispute.frozen_minor,
        is_decided=is_decided,
        buyer_minor=division.buyer_minor,
        seller_minor=division.seller_minor,
        moved_minor=message.amount_minor,
        create_us=_required_us(dispute, "create_time"),
    )


def _claim(message: escrow_event_pb2.Event, kind: str, at_us: int, claim: claim_pb2.Claim, actor: Role) -> ClaimEvent:
    return ClaimEvent(
        sequence=message.sequence,
        kind=kind,
        at_us=at_us,
        traceparent=message.traceparent,
        claim=claim.name,
        trade=claim.trade,
        buyer=claim.buyer,
        seller=claim.seller,
        currency=claim.currency,
        amount_minor=claim.amount_minor,
        compensated_minor=claim.compensated_minor,
        is_goodwill=claim.finding == claim_pb2.FINDING_NOT_FRAUD,
        create_us=_required_us(claim, "create_time"),
    )


_READERS: dict[type, Any] = {
    trade_pb2.Trade: _trade,
    refund_pb2.RefundCase: _case,
    dispute_pb2.Dispute: _dispute,
    claim_pb2.Claim: _claim,
}


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
        if kind is None:
            return OtherEvent(message.sequence, _UNKNOWN, at_us, message.traceparent)
        payload = getattr(message, kind)
        head = (message.sequence, kind, at_us, message.traceparent)
        if isinstance(payload, payment_pb2.Payment):
            return PaymentEvent(
                *head,
                payment=payload.name,
                payer=payload.payer,
                currency=payload.amount.currency,
                payee=payload.payee.owner,
                amount_minor=payload.amount.amount_minor,
                charged_back_minor=payload.charged_back_minor,
                funding_source=f"{payload.rail} {payload.instrument}" if payload.rail else "",
            )
        if isinstance(payload, account_pb2.Account):
            return AccountEvent(*head, account=payload.name, owner=payload.owner, currency=payload.currency)
        if isinstance(payload, account_pb2.Owner):
            return OwnerEvent(*head, owner=payload.owner, partner=payload.partner)
        if not isinstance(payload, payment_pb2.TopUp | rail_pb2.Withdrawal | rail_pb2.RailRefund):
            return OtherEvent(*head)
        owner, money = payload.owner, payload.amount
        if isinstance(payload, payment_pb2.TopUp):
            source = f"{payload.rail} {payload.instrument}"
            return TopUpEvent(*head, payload.name, owner, money.currency, money.amount_minor, funding_source=source)
        if isinstance(payload, rail_pb2.RailRefund):
            return RailRefundEvent(*head, payload.name, owner, money.currency, money.amount_minor)
        return WithdrawalEvent(
            *head,
            withdrawal=payload.name,
            owner=owner,
            currency=money.currency,
            amount_minor=money.amount_minor,
            destination=f"{payload.rail} {payload.instrument}",
            create_us=_required_us(payload, "create_time"),
        )

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
