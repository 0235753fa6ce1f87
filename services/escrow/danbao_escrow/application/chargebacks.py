"""Row 16: what a chargeback took out of a trade's account counts as refunded; what it ends on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from danbao_escrow.application.actors import SYSTEM
from danbao_escrow.application.case_records import tell_of, write
from danbao_escrow.application.records import cause_of, record, tell
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.case_model import Dispute, DisputeState, RefundCase, RefundCaseState
from danbao_escrow.domain.commands import PaymentsSays
from danbao_escrow.domain.deadlines import resumed
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import OPEN_LINE_STATES, OUT_OF_ESCROW, Line, LinePart, StepState, Trade, TradeState
from danbao_escrow.domain.payment_events import ChargebackReversed, ChargedBack
from danbao_escrow.domain.trade import after_parts
from danbao_kit.decision import Moment

_OVER = {"step_pending": False, "step_blocked": False, "deadline_time": None, "remind_time": None}
_WHY = "CHARGED_BACK"


def charged_back(fact: ChargedBack, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """Applies it now; while a step asks for money of the same account, once that has ended: it may have been first."""
    if not fact.taken_minor:
        _tell(working, moment, trade, fact.transaction, fact.amount_minor)
        return
    due = replace(
        trade,
        chargeback_due_minor=trade.chargeback_due_minor + fact.taken_minor,
        chargeback_due=fact.transaction,
    )
    step = working.steps.get((trade.trade_id, trade.pending_step)) if trade.is_pending else None
    waits = step is not None and step.state is StepState.PENDING and step.kind in OUT_OF_ESCROW
    # The account of a trade that ended unpaid holds something only while the step that voids or returns it is pending.
    if waits or trade.state is TradeState.CANCELLED:
        working.trades.put(trade.trade_id, due)
        if step is not None and step.refusals:
            # It waits out a refusal: its next attempt is the last one.
            working.steps.put((trade.trade_id, step.number), replace(step, attempt_in_ms=0))
        return
    apply_due(working, moment, due, amount_minor=fact.amount_minor)


def apply_due(working: EscrowSet, moment: Moment, trade: Trade, *, subject: str = "", amount_minor: int = 0) -> None:
    """Counts as refunded what was taken; ends what is open on the lines concerned, and `subject`, whose step ended."""
    movement = money_legs.charged_back(trade, trade.chargeback_due_minor)
    touched = {part.line_id for part in movement.parts}
    over = {line.open_case for line in trade.lines if line.open_case and (line.line_id in touched)}
    over |= {subject} - {""}
    lines = tuple(resumed(line, trade.terms, moment.now) if line.open_case in over else line for line in trade.lines)
    after = replace(
        trade,
        lines=settled_lines(replace(trade, lines=lines), movement.parts, moment),
        refunded_minor=trade.refunded_minor + movement.refunded_minor,
        buyer_fee_refunded_minor=trade.buyer_fee_refunded_minor + movement.buyer_fee_refunded_minor,
        charged_back_minor=trade.charged_back_minor + movement.refunded_minor,
        chargeback_due_minor=0,
        chargeback_due="",
    )
    line_ids = tuple(part.line_id for part in movement.parts)
    told_minor = amount_minor or movement.refunded_minor
    written = _tell(working, moment, after, trade.chargeback_due, told_minor, line_ids=line_ids)
    for name in sorted(over):
        _end(working, moment, written, name)


def apply_to_late(working: EscrowSet, moment: Moment, trade: Trade) -> Trade:
    """Of a trade that ended unpaid and whose rail had brought the money: less is left to go back."""
    after = replace(
        trade,
        charged_back_minor=trade.charged_back_minor + trade.chargeback_due_minor,
        chargeback_due_minor=0,
        chargeback_due="",
    )
    if after.charged_back_minor == after.price_minor:
        after = come_and_gone(after)
    return _tell(working, moment, after, trade.chargeback_due, trade.chargeback_due_minor)


def come_and_gone(trade: Trade) -> Trade:
    """A trade that ended unpaid: what came late has gone back, all of it."""
    return replace(
        trade,
        funded_minor=trade.price_minor,
        refunded_minor=trade.price_minor,
        buyer_fee_refunded_minor=trade.buyer_fee_minor,
        payment_pending=False,
    )


def reversed_(fact: ChargebackReversed, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """Payments has given the amount to the seller: the trade only notes it."""
    cause = cause_of(moment, command=PaymentsSays.CHARGEBACK_REVERSED, actor=SYSTEM)
    written = record(working, moment, trade, cause, ledger_reference=fact.transaction, amount_minor=fact.amount_minor)
    tell(moment, EventKind.TRADE_CHARGEBACK_REVERSED, written, SYSTEM, amount_minor=fact.amount_minor)


def settled_lines(trade: Trade, parts: Iterable[LinePart], moment: Moment) -> tuple[Line, ...]:
    """The lines with these parts of them settled. A case that was open on one of those is over with it."""
    parts = tuple(parts)
    taken = {part.line_id for part in parts}

    def settled(line: Line) -> Line:
        if line.line_id not in taken:
            return line
        going_on = resumed(line, trade.terms, moment.now) if line.open_case else line
        if line.state in OPEN_LINE_STATES:
            return going_on
        return replace(going_on, deadline_time=None, operator_needed=False, settle_time=moment.now)

    return tuple(settled(line) for line in after_parts(trade.lines, parts))


def _tell(
    working: EscrowSet,
    moment: Moment,
    trade: Trade,
    transaction: str,
    amount_minor: int,
    *,
    line_ids: tuple[str, ...] = (),
) -> Trade:
    cause = cause_of(moment, command=PaymentsSays.CHARGED_BACK, actor=SYSTEM)
    written = record(
        working,
        moment,
        trade,
        cause,
        line_ids=line_ids,
        ledger_reference=transaction,
        amount_minor=amount_minor,
    )
    tell(moment, EventKind.TRADE_CHARGED_BACK, written, SYSTEM, line_ids=line_ids, amount_minor=amount_minor)
    return written


def _end(working: EscrowSet, moment: Moment, trade: Trade, name: str) -> None:
    """A case becomes WITHDRAWN, a dispute CLOSED with its case over: the bank has decided."""
    thing = working.proceedings.get(name)
    if thing is None or thing.is_over:
        return
    if isinstance(thing, RefundCase):
        ended = write(working, moment, thing, state=RefundCaseState.WITHDRAWN, end_time=moment.now, **_OVER)
        tell_of(moment, EventKind.REFUND_CASE_WITHDRAWN, ended, trade, SYSTEM, reason=_WHY)
    elif isinstance(thing, Dispute):
        closed = write(working, moment, thing, state=DisputeState.CLOSED, end_time=moment.now, **_OVER)
        case = working.proceedings.get(thing.refund_case)
        if isinstance(case, RefundCase) and not case.is_over:
            write(working, moment, case, end_time=moment.now, **_OVER)
        tell_of(moment, EventKind.DISPUTE_CLOSED, closed, trade, SYSTEM, reason=_WHY)
