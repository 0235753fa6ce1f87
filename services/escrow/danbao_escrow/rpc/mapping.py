"""How trades, timelines and events look on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from danbao.escrow.v1 import event_pb2, trade_pb2
from danbao.type.v1 import money_pb2
from danbao_escrow.domain.checkout import Checkout, CheckoutState
from danbao_escrow.domain.events import TradeEvent
from danbao_escrow.domain.model import (
    Actor,
    Delivery,
    FeePayer,
    Line,
    LineState,
    Role,
    Terms,
    TimelineEntry,
    Trade,
    TradeState,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRADE_STATES = {state: trade_pb2.Trade.State.Value(f"STATE_{state}") for state in TradeState}
_LINE_STATES = {state: trade_pb2.Line.State.Value(f"STATE_{state}") for state in LineState}
_DELIVERIES = {delivery: trade_pb2.Delivery.Value(f"DELIVERY_{delivery}") for delivery in Delivery}
_FEE_PAYERS = {payer: trade_pb2.FeePayer.Value(f"FEE_PAYER_{payer}") for payer in FeePayer}
_CHECKOUT_STATES = {state: trade_pb2.Checkout.State.Value(f"STATE_{state}") for state in CheckoutState}
_ROLES = {role: trade_pb2.Role.Value(f"ROLE_{role}") for role in Role}


_TEXTS = ("payment", "step_refusal", "reference", "open_claim", "rail", "checkout", "partner")
_AMOUNTS = (
    "postage_minor", "funded_minor", "released_minor", "refunded_minor", "fees_minor", "held_back_minor",
    "buyer_fee_minor", "buyer_fee_released_minor", "buyer_fee_refunded_minor", "compensated_minor",
    "charged_back_minor",
)  # fmt: skip
_TIMES = (
    "pay_by_time", "ship_by_time", "create_time", "update_time", "pay_time", "end_time", "adjust_time",
    "deadline_time",
)  # fmt: skip
_MAY_BE_UNSET = (*_TEXTS, *_AMOUNTS, "step_blocked", "payment_pending", "made_by_partner")
_MAY_BE_UNSET_OF_LINE = (
    "released_minor", "refunded_minor", "carrier", "tracking", "postage_minor", "extended_days", "open_case",
)  # fmt: skip
_LINE_TIMES = ("ship_time", "deliver_time", "deadline_time", "settle_time")


def trade_message(trade: Trade) -> trade_pb2.Trade:
    """The trade as its contract shows it."""
    # Field by field, without what is unset: every answer and event comes by here, and by keywords it takes longer.
    message = trade_pb2.Trade()
    message.name = trade.name
    message.state = _TRADE_STATES[trade.state]
    message.buyer, message.seller = trade.buyer, trade.seller
    message.currency, message.total_minor = trade.currency, trade.total_minor
    for line in trade.lines:
        _fill_line(message.lines.add(), line)
    message.terms.MergeFrom(_terms(trade.terms))
    message.etag = str(trade.revision)
    message.made_by = _ROLES[trade.made_by]
    if trade.is_pending:
        message.step_pending = True
    for name in _MAY_BE_UNSET:
        if value := getattr(trade, name):
            setattr(message, name, value)
    for name in _TIMES:
        set_time(message, name, getattr(trade, name))
    return message


def checkout_message(checkout: Checkout) -> trade_pb2.Checkout:
    """The checkout as its contract shows it."""
    message = trade_pb2.Checkout(
        name=checkout.name,
        state=_CHECKOUT_STATES[checkout.state],
        buyer=checkout.buyer,
        trades=[f"trades/{trade_id}" for trade_id in checkout.trade_ids],
        amount=money_pb2.Money(currency=checkout.currency, amount_minor=checkout.amount_minor),
        payment=checkout.payment,
        rail=checkout.rail,
        refusal=checkout.refusal,
        etag=str(checkout.revision),
    )
    for name in ("create_time", "update_time", "end_time"):
        set_time(message, name, getattr(checkout, name))
    return message


def _fill_line(message: trade_pb2.Line, line: Line) -> None:
    message.line_id, message.title = line.line_id, line.title
    message.state = _LINE_STATES[line.state]
    message.amount_minor = line.amount_minor
    message.delivery = _DELIVERIES[line.delivery]
    for name in _MAY_BE_UNSET_OF_LINE:
        if value := getattr(line, name):
            setattr(message, name, value)
    for name in _LINE_TIMES:
        set_time(message, name, getattr(line, name))


# The same for a trade's whole life, and for most trades of a seller.
@lru_cache(maxsize=1024)
def _terms(terms: Terms) -> trade_pb2.Terms:
    return trade_pb2.Terms(
        grade=terms.grade,
        score=terms.score,
        model_version=terms.model_version,
        terms_version=terms.terms_version,
        fee_bps=terms.fee_bps,
        auto_confirm_days=terms.auto_confirm_days,
        auto_confirm_by_operator=terms.auto_confirm_by_operator,
        per_trade_limit_minor=terms.per_trade_limit_minor,
        payout_delay_hours=terms.payout_delay_hours,
        payout_by_operator=terms.payout_by_operator,
        reserve_bps=terms.reserve_bps,
        defaulted=terms.defaulted,
        fee_fixed_minor=terms.fee_fixed_minor,
        fee_cap_minor=terms.fee_cap_minor,
        fee_payer=_FEE_PAYERS[terms.fee_payer],
        buyer_fee_bps=terms.buyer_fee_bps,
        buyer_fee_fixed_minor=terms.buyer_fee_fixed_minor,
        buyer_fee_cap_minor=terms.buyer_fee_cap_minor,
        member=terms.member,
        compensation_limit_minor=terms.compensation_limit_minor,
    )


def actor_message(actor: Actor) -> trade_pb2.Actor:
    return trade_pb2.Actor(subject=actor.subject, role=_ROLES[actor.role])


def timeline_message(entry: TimelineEntry, currency: str) -> trade_pb2.TimelineEntry:
    """One line of a trade's history."""
    message = trade_pb2.TimelineEntry(
        position=entry.position,
        command=entry.command,
        actor=actor_message(entry.actor),
        token_subject=entry.token_subject,
        line_ids=entry.line_ids,
        state=_TRADE_STATES[entry.state],
        reason=entry.reason,
        ledger_reference=entry.ledger_reference,
        trace_id=entry.trace_id,
        subject=entry.subject,
    )
    if entry.amount_minor:
        message.amount.CopyFrom(money_pb2.Money(currency=currency, amount_minor=entry.amount_minor))
    set_time(message, "create_time", entry.create_time)
    return message


def event_message(event: TradeEvent, *, sequence: int, create_time: datetime, traceparent: str) -> event_pb2.Event:
    """One event of the stream, but for its payload: what it happened to, as it was right afterwards."""
    message = event_pb2.Event(
        sequence=sequence,
        traceparent=traceparent,
        actor=actor_message(event.actor),
        line_ids=event.line_ids,
        amount_minor=event.amount_minor,
        reason=event.reason,
        by_partner=event.by_partner,
    )
    set_time(message, "create_time", create_time)
    return message


def set_time(message: Any, name: str, value: datetime | None) -> None:
    """Sets a field of a message; None leaves it unset."""
    if value is not None:
        # Timestamp.FromDatetime does the same ten times slower, and a trade has many times.
        since = value - _EPOCH
        stamp = getattr(message, name)
        stamp.SetInParent()  # the epoch itself sets neither
        stamp.seconds, stamp.nanos = since.days * 86_400 + since.seconds, since.microseconds * 1000
