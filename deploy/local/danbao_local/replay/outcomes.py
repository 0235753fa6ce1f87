"""What became of each order, in words, and whether a rule explains it."""

from collections.abc import Iterator
from typing import Any

from danbao.escrow.v1 import trade_pb2
from danbao_local.replay.audit import order_difference, state_of
from danbao_local.replay.complaints import CASE_ENDS, Complaint, Course
from danbao_local.replay.record import OrderRecord, TradeRecord
from danbao_local.replay.run import ENDED, Replay
from danbao_local.replay.troubles import case_state

_State = trade_pb2.Trade


def outcome(replay: Replay, number: int) -> str:
    """What was done with an order; several trades that ended differently are joined by `and`."""
    plan, record = replay.plans[number], replay.records[number]
    courses = {complaint.seller_id: complaint.course for complaint in plan.complaints}
    found = sorted(
        {
            _of_trade(made, replay.trades.get(made.name), courses.get(seller_id) if made.cases else None)
            for seller_id, made in record.trades.items()
        }
    )
    if not found:
        return "no trade: money sent back" if record.top_ups else "no trade and no money"
    if plan.approved is None:
        return " and ".join(f"never approved, money sent back; {text}" for text in found)
    return " and ".join(found)


def unaccounted(replay: Replay, number: int) -> Iterator[str]:
    """Whatever no rule explains about an order; nothing when all is well."""
    plan, record = replay.plans[number], replay.records[number]
    yield from record.unexpected
    if not record.finished:
        yield "not everything was done"
    if set(record.trades) != {trade.seller_id for trade in plan.trades}:
        yield "not every trade was asked for"
    for made in record.trades.values():
        if not made.name:
            if not made.refusal:
                yield "a trade was neither made nor refused"
            continue
        trade = replay.trades[made.name]
        if trade.state not in ENDED:
            yield f"{made.name} stays {state_of(trade)}"
    difference = order_difference(replay, record)
    if difference:
        yield f"{difference} minor units are not where they belong"
    yield from _against_plan(replay, number, record)


def _of_trade(made: TradeRecord, trade: Any, course: Course | None) -> str:
    if trade is None:
        return f"refused ({made.refusal}), money sent back"
    if course is not None and trade.state in ENDED:
        return f"complained of: {course}"
    match trade.state:
        case _State.STATE_COMPLETED:
            if made.confirmed:
                return "released: confirmed by the buyer"
            by_operator = trade.terms.auto_confirm_by_operator
            return f"released: confirmed by {'an operator' if by_operator else 'time'}"
        case _State.STATE_CLOSED:
            return "refunded: cancelled by the seller" if made.cancelled else "refunded: cancelled by the system"
        case _State.STATE_CANCELLED:
            return "ended unpaid: by the buyer" if made.cancelled else "ended unpaid: by pay-by"
        case _:
            return f"still {state_of(trade)}"


def _against_plan(replay: Replay, number: int, record: OrderRecord) -> Iterator[str]:
    """The end that the files ask for, and to the cent what the buyer gets back: released if it was shipped in time

    and nobody complained, else refunded as the rule of complaints says, or never paid.
    """
    plan = replay.plans[number]
    for trade in plan.trades:
        made = record.trades.get(trade.seller_id)
        if made is None or not made.name:
            continue
        found = replay.trades[made.name]
        state, complaint, refunded_minor = found.state, plan.complaint_of(trade), 0
        if plan.approved is None or plan.pays_too_late:
            wanted = _State.STATE_CANCELLED
        elif plan.shipped is None or plan.ships_too_late(trade):
            wanted, refunded_minor = _State.STATE_CLOSED, trade.total_minor
        elif complaint is not None:
            refunded_minor = complaint.refunded_minor
            wanted = _State.STATE_CLOSED if refunded_minor == trade.total_minor else _State.STATE_COMPLETED
            yield from _against_complaint(replay, made, complaint)
        elif plan.never_sent:
            wanted, refunded_minor = _State.STATE_CLOSED, trade.total_minor
        else:
            wanted = _State.STATE_COMPLETED
        if state in ENDED and state != wanted:
            yield f"{made.name} ended {_State.State.Name(state)} instead of {_State.State.Name(wanted)}"
        if state in ENDED and found.refunded_minor != refunded_minor:
            yield f"{made.name} gave {found.refunded_minor} minor units back instead of {refunded_minor}"


def _against_complaint(replay: Replay, made: TradeRecord, complaint: Complaint) -> Iterator[str]:
    """Every case ended as its course says."""
    wanted = CASE_ENDS[complaint.course]
    for case in complaint.cases:
        opened = made.cases.get(case.line_id)
        if opened is None:
            yield f"{made.name}: no case on line {case.line_id}"
            continue
        found = replay.cases.get(opened.name)
        if found is None:
            yield f"{opened.name} is not among the cases"
        elif not found.HasField("end_time") or case_state(found) != wanted:
            yield f"{opened.name} ended {case_state(found)} instead of {wanted}"
