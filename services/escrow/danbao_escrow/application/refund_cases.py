"""What is asked of refund cases, and what time does to them: one decision function a command."""

from __future__ import annotations

from typing import Any

from danbao_escrow.application import actors, steps
from danbao_escrow.application.case_records import (
    check_no_step,
    command_cause,
    evidence_of,
    found,
    line_of,
    tell_of,
    timer_cause,
    visible_trade,
    waits,
    way_of,
    way_of_time,
    with_line,
    write,
)
from danbao_escrow.application.records import record
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.case_commands import (
    AcceptRefundCase,
    CancelRefundCase,
    ConfirmReturn,
    OpenRefundCase,
    RefundCaseCommand,
    RejectRefundCase,
    SubmitReturn,
)
from danbao_escrow.domain.case_errors import CaseNotFound, TooMuch
from danbao_escrow.domain.case_model import REFUND_CASES, RefundCase, RefundCaseState, RefundReason
from danbao_escrow.domain.deadlines import auto_confirm_passed, has_passed, paused, resumed, system_cancel_due
from danbao_escrow.domain.errors import AmountMismatch, LineNotFound, LineUnderCase, TradeStateInvalid
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.machine import Way
from danbao_escrow.domain.model import OPEN_LINE_STATES, Line, LineState, Trade
from danbao_escrow.domain.refund_case import OPEN_ROLES, TABLE, TIMERS, time_in
from danbao_escrow.domain.step_model import Cause
from danbao_escrow.domain.trade import after_parts, legal_commands
from danbao_kit.decision import DEFERRED, Moment
from danbao_kit.immutable import replace


def open_refund_case(command: OpenRefundCase, working: EscrowSet, moment: Moment) -> RefundCase:
    """Row 8: → REQUESTED; the line's timers stand still."""
    trade = visible_trade(command, command.trade, working)
    line = trade.line(command.line_id)
    if line is None:
        raise LineNotFound(trade.name, command.line_id)
    actors.check_actor(command.name_of_command, command.actor, command.token, trade, allowed=OPEN_ROLES)
    if line.open_case:
        raise LineUnderCase(trade.name, line.line_id, command.name_of_command, line.open_case)
    bound = _as_bound(trade, working)
    _check_claimable(command, bound, moment)
    if command.amount.currency != trade.currency:
        raise AmountMismatch("amount.currency", f"must be {trade.currency} as of the trade")
    if command.amount.minor > line.unsettled_minor:
        what = f"what is left of line {line.line_id}"
        raise TooMuch(trade.name, what, limit=line.unsettled_minor, given=command.amount.minor)
    frozen_minor = money_legs.frozen_minor(bound, line, command.amount.minor, claims_postage=command.claims_postage)
    opened = RefundCase(
        case_id=moment.new_id(),
        state=RefundCaseState.REQUESTED,
        trade_id=trade.trade_id,
        line_id=line.line_id,
        buyer=trade.buyer,
        seller=trade.seller,
        partner=trade.partner,
        currency=trade.currency,
        amount_minor=command.amount.minor,
        postage_minor=frozen_minor - command.amount.minor,
        claims_postage=command.claims_postage,
        with_return=command.with_return,
        reason_code=RefundReason(command.reason_code),
        reason=command.reason,
        evidence=evidence_of(command.evidence, command.actor, moment),
        create_time=moment.now,
        update_time=moment.now,
    )
    period = time_in(RefundCaseState.REQUESTED, line.state)
    case = write(working, moment, opened, **waits(moment.now, period))
    under_case = with_line(trade, paused(line, case.name, moment.now))
    written = record(
        working, moment, under_case, command_cause(command, moment), line_ids=(line.line_id,), subject=case.name
    )
    tell_of(moment, EventKind.REFUND_CASE_OPENED, case, written, command.actor, reason=case.reason)
    return case


def accept_refund_case(command: AcceptRefundCase, working: EscrowSet, moment: Moment) -> Any:
    """Row 9: → SUCCEEDED once the money went back, or → AWAITING_RETURN."""
    case, trade, way = _begun(command, working, moment)
    return _go(working, moment, case, trade, way, command_cause(command, moment))


def reject_refund_case(command: RejectRefundCase, working: EscrowSet, moment: Moment) -> RefundCase:
    """→ REJECTED; the buyer may open a dispute."""
    case, trade, way = _begun(command, working, moment)
    rejected = replace(case, reject_reason=command.reason)
    return _moved(working, moment, rejected, trade, way, command_cause(command, moment))


def submit_return(command: SubmitReturn, working: EscrowSet, moment: Moment) -> RefundCase:
    """Row 10: → AWAITING_RECEIPT."""
    case, trade, way = _begun(command, working, moment)
    sent = replace(case, return_carrier=command.carrier, return_tracking=command.tracking)
    return _moved(working, moment, sent, trade, way, command_cause(command, moment))


def confirm_return(command: ConfirmReturn, working: EscrowSet, moment: Moment) -> Any:
    """Row 10: → SUCCEEDED once the money went back."""
    case, trade, way = _begun(command, working, moment)
    return _go(working, moment, case, trade, way, command_cause(command, moment))


def cancel_refund_case(command: CancelRefundCase, working: EscrowSet, moment: Moment) -> RefundCase:
    """→ WITHDRAWN; the line goes on."""
    case, trade, way = _begun(command, working, moment)
    return _moved(working, moment, case, trade, way, command_cause(command, moment))


def time_passes(case: RefundCase, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """The reminder, or what the deadline that has passed does."""
    way = way_of_time(case, moment)
    if way is not None:
        _go(working, moment, case, trade, way, timer_cause(TIMERS[case.state], moment))
    elif has_passed(case.remind_time, moment.now):
        reminded = write(working, moment, case, remind_time=None)
        tell_of(moment, EventKind.REFUND_CASE_REMINDER, reminded, trade, actors.SYSTEM, reason=TIMERS[case.state])


def _begun(
    command: RefundCaseCommand, working: EscrowSet, moment: Moment
) -> tuple[RefundCase, Trade, Way[RefundCaseState, RefundCase]]:
    case, trade = found(command, f"{REFUND_CASES}/{command.name}", RefundCase, CaseNotFound, working)
    return case, trade, way_of(command, case, moment)


def _go(
    working: EscrowSet, moment: Moment, case: RefundCase, trade: Trade, way: Way[Any, Any], cause: Cause
) -> RefundCase | Any:
    """With money: the step is set, and the answer comes with its end."""
    if way.step is None:
        return _moved(working, moment, case, trade, way, cause)
    check_no_step(trade)
    line = line_of(trade, case)
    movement = money_legs.refund_part(trade, line, case.amount_minor, claims_postage=case.claims_postage)
    steps.begin(working, moment, trade, way.step, movement, cause, lines=(line,), subject=case.name)
    write(working, moment, case, step_pending=True, deadline_time=None, remind_time=None)
    return DEFERRED


_TOLD = {
    RefundCaseState.AWAITING_RETURN: EventKind.REFUND_CASE_ACCEPTED,
    RefundCaseState.AWAITING_RECEIPT: EventKind.RETURN_SUBMITTED,
    RefundCaseState.REJECTED: EventKind.REFUND_CASE_REJECTED,
    RefundCaseState.WITHDRAWN: EventKind.REFUND_CASE_WITHDRAWN,
}


def _moved(
    working: EscrowSet, moment: Moment, case: RefundCase, trade: Trade, way: Way[Any, Any], cause: Cause
) -> RefundCase:
    """Without money. When it is over its line goes on."""
    line, is_end = line_of(trade, case), TABLE.is_end(way)
    period = None if is_end else time_in(way.to, line.state)
    end_time = moment.now if is_end else None
    moved = write(working, moment, case, state=way.to, end_time=end_time, **waits(moment.now, period))
    going_on = with_line(trade, resumed(line, trade.terms, moment.now)) if is_end else trade
    reason = case.reject_reason if way.to is RefundCaseState.REJECTED and not is_end else cause.reason
    written = record(working, moment, going_on, cause, line_ids=(line.line_id,), reason=reason, subject=case.name)
    kind = EventKind.REFUND_CASE_CLOSED if way.ends else _TOLD[way.to]
    tell_of(moment, kind, moved, written, cause.actor, reason=reason)
    return moved


def _as_bound(trade: Trade, working: EscrowSet) -> Trade:
    """The trade with those lines gone whose money is on its way out."""
    step = working.steps.get((trade.trade_id, trade.pending_step)) if trade.is_pending else None
    if step is None:
        return trade
    return replace(trade, lines=after_parts(trade.lines, money_legs.parts_of(trade, step)))


def _check_claimable(command: OpenRefundCase, trade: Trade, moment: Moment) -> None:
    """Raises TradeStateInvalid unless something of the line is held and nothing else has a hand on it."""
    line = trade.line(command.line_id)
    assert line is not None, "looked up before"
    has_postage = not command.claims_postage or money_legs.is_last_open(trade, line)
    if line.state in OPEN_LINE_STATES and has_postage and not _time_is_up(trade, line, moment):
        return
    raise TradeStateInvalid(
        trade.name,
        command.name_of_command,
        trade.state,
        legal_commands(trade, moment.now),
        line_id=line.line_id,
        line_state=line.state,
    )


def _time_is_up(trade: Trade, line: Line, moment: Moment) -> bool:
    """A deadline that has passed wins over a case that comes before the timer."""
    if line.state is LineState.PAID:
        return system_cancel_due(trade, line, moment.now)
    return auto_confirm_passed(line, moment.now) and not trade.terms.auto_confirm_by_operator
