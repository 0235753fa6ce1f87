"""What events of trades say about buyer and seller."""

from __future__ import annotations

from datetime import UTC, datetime

from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import Line, Role, TradeEvent, TradeState
from danbao_credit.domain.hearsay import is_invoice
from danbao_credit.domain.profile import peer_hash
from danbao_credit.domain.telling import HOUR_US, MINUTE_US, Measures, Telling, amount, between

# Squares are summed up over a life: amounts count in hundreds of minor units, up to a million of them.
_MOST_HUNDREDS = 1_000_000
_MOST_HOURS = 2_000
_REMINDERS = {"PayBy": "pay_by", "ShipBy": "ship_by", "SystemCancel": "ship_by", "AutoConfirm": "auto_confirm"}


def telling(event: TradeEvent) -> Telling:
    """one; amount_minor: what moved; order: the order's hash; order_minor: what it costs; buyer, seller: their hashes.

    Of some kinds more: see below. An invoice that nobody has paid is told of its seller only.
    """
    measures = {
        "one": 1,
        "amount_minor": amount(event.amount_minor),
        "order": peer_hash(event.trade),
        "order_minor": amount(event.total_minor),
        "order_lines": len(event.lines),
        "buyer": peer_hash(event.buyer),
        "seller": peer_hash(event.seller),
    }
    more = _MORE.get(event.kind)
    if more is not None:
        measures |= more(event)
    if measures.get("completed"):
        measures["completed_buyer"], measures["completed_seller"] = measures["buyer"], measures["seller"]
    if measures.get("confirmed"):
        measures["confirmed_buyer"], measures["confirmed_seller"] = measures["buyer"], measures["seller"]
    buyer = () if is_invoice(event) else (("buyer", event.buyer),)
    return Telling(event.trade, event.currency, (*buyer, ("seller", event.seller)), measures)


def _paid(event: TradeEvent) -> Measures:
    """night: from 0 to 6 h UTC; weekend: Saturday or Sunday, UTC; hundreds: of minor units, and their square;

    accepted: it was the seller's, and its buyer is told of only now.
    """
    moment = datetime.fromtimestamp(event.at_us // 1_000_000, UTC)
    hundreds = min(event.amount_minor // 100, _MOST_HUNDREDS)
    return {
        "pay_minutes": between(event.create_us, event.at_us) // MINUTE_US,
        "night": int(moment.hour < 6),
        "weekend": int(moment.weekday() >= 5),
        "by_rail": int(event.by_rail),
        "in_checkout": int(event.in_checkout),
        "accepted": int(event.made_by is Role.SELLER),
        "adjusted": int(event.is_adjusted),
        "hundreds": hundreds,
        "hundreds_squared": hundreds**2,
    }


def _shipped(event: TradeEvent) -> Measures:
    """first: its first lines were shipped; late: for the first time lines were shipped after ship-by, late_hours after.

    whole: its first shipment leaves nothing to ship.
    """
    here, others = _parted(event)
    first = not any(line.ship_us is not None for line in others)
    late = _is_late(event.at_us, event) and not _was_late(others, event)
    hours = between(event.pay_us, event.at_us) // HOUR_US if first else 0
    return {
        "first": int(first),
        "late": int(late),
        "late_hours": between(event.ship_by_us, event.at_us) // HOUR_US if late else 0,
        "lines": len(here),
        "ship_hours": hours,
        "ship_hours_squared": min(hours, _MOST_HOURS) ** 2,
        "whole": int(first and not any(line.is_to_ship for line in event.lines)),
    }


def _delivered(event: TradeEvent) -> Measures:
    """first: its first lines arrived, `transit_hours` after shipment and `door_hours` after payment."""
    here, others = _parted(event)
    first = not any(line.deliver_us is not None for line in others)
    shipped = [line.ship_us for line in here if line.ship_us is not None]
    hours = between(min(shipped), event.at_us) // HOUR_US if first and shipped else 0
    door = between(event.pay_us, event.at_us) // HOUR_US if first else 0
    return {"first": int(first), "transit_hours": hours, "door_hours": door}


def _released(event: TradeEvent) -> Measures:
    """completed: it ended and something was released, `cycle_hours` after payment; confirmed: by its buyer,

    `confirm_hours` after delivery; timed: by time; extended: completed after its buyer had asked for more time.
    """
    completed = event.state is TradeState.COMPLETED
    confirmed = completed and event.actor is Role.BUYER
    here, _ = _parted(event)
    delivered = [line.deliver_us for line in here if line.deliver_us is not None]
    hours = between(max(delivered), event.at_us) // HOUR_US if confirmed and delivered else 0
    return {
        "completed": int(completed),
        "confirmed": int(confirmed),
        "confirm_hours": hours,
        "timed": int(completed and event.actor is Role.SYSTEM),
        "extended": int(completed and any(line.extended_days for line in event.lines)),
        "cycle_hours": between(event.pay_us, event.at_us) // HOUR_US if completed else 0,
    }


def _refunded(event: TradeEvent) -> Measures:
    """first: money of the order went back for the first time; shipped, delivered: and its lines had been; defective:

    lines were never shipped, and by_… says who gave up: the seller, the system, or the buyer after ship-by; overdue:
    ship-by had passed; unshipped_order: the order's hash if defective.
    """
    here, others = _parted(event)
    first = not any(line.is_refunded for line in others) and event.refunded_minor <= event.amount_minor
    unshipped_before = any(line.is_refunded and line.ship_us is None for line in others)
    defective = any(line.is_refunded and line.ship_us is None for line in here) and not unshipped_before
    overdue = defective and _is_late(event.at_us, event) and not _was_late(others, event)
    measures = {
        "first": int(first),
        "shipped": int(first and any(line.ship_us is not None for line in here)),
        "delivered": int(first and any(line.deliver_us is not None for line in here)),
        "defective": int(defective),
        "overdue": int(overdue),
        "unshipped_order": peer_hash(event.trade) if defective else 0,
    }
    return measures | _ended(event) | ({f"by_{event.actor}": 1} if defective else {})


def _ended(event: TradeEvent) -> Measures:
    """completed: it ended and something was released; closed: it ended with everything given back."""
    completed = event.state is TradeState.COMPLETED
    hours = between(event.pay_us, event.at_us) // HOUR_US if completed else 0
    return {"completed": int(completed), "closed": int(event.state is TradeState.CLOSED), "cycle_hours": hours}


def _cancelled(event: TradeEvent) -> Measures:
    """by_…: who ended it unpaid; open_hours after it was made."""
    return {f"by_{event.actor}": 1, "open_hours": between(event.create_us, event.at_us) // HOUR_US}


def _reminded(event: TradeEvent) -> Measures:
    """of_pay_by, of_ship_by, of_auto_confirm: which time will soon have passed."""
    return {f"of_{_REMINDERS.get(event.reason, 'other')}": 1}


def _parted(event: TradeEvent) -> tuple[list[Line], list[Line]]:
    """The lines that the event is about, and the others."""
    if not event.line_ids:
        return list(event.lines), []
    known = {line.line_id for line in event.lines}
    unknown = set(event.line_ids) - known
    if unknown:
        raise EventMalformed(f"{event.kind}: lines {', '.join(sorted(unknown))} are not of {event.trade}")
    concerned = set(event.line_ids)
    return (
        [line for line in event.lines if line.line_id in concerned],
        [line for line in event.lines if line.line_id not in concerned],
    )


def _is_late(at_us: int, event: TradeEvent) -> bool:
    return event.ship_by_us is not None and at_us > event.ship_by_us


def _was_late(lines: list[Line], event: TradeEvent) -> bool:
    """Whether one of these lines was shipped after ship-by, or given up unshipped after it."""
    moments = [line.ship_us if line.ship_us is not None else line.settle_us for line in lines]
    return any(moment is not None and _is_late(moment, event) for moment in moments)


_MORE = {
    "trade_paid": _paid,
    "lines_shipped": _shipped,
    "lines_delivered": _delivered,
    "lines_released": _released,
    "lines_refunded": _refunded,
    "lines_settled": _ended,
    "trade_cancelled": _cancelled,
    "trade_reminder": _reminded,
}
