"""What time does to a trade. Decided under its lock: of a timer and a party, one wins."""

from __future__ import annotations

from danbao_escrow.application import checkout_ends, steps
from danbao_escrow.application.actors import SYSTEM
from danbao_escrow.application.records import cause_of, record, tell
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.commands import CommandName, FireTimer, PaymentsSays, TimerName
from danbao_escrow.domain.deadlines import has_passed
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import Line, LineState, Role, Trade
from danbao_escrow.domain.reminders import due_reminders, next_look
from danbao_escrow.domain.step_model import Cause, StepKind
from danbao_escrow.domain.trade import legal_lines
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace


def fire_timer(command: FireTimer, working: EscrowSet, moment: Moment) -> None:
    """Does the first thing that is due; with a step pending nothing, for the step's end sets the deadline anew."""
    trade = working.trades.get(command.trade_id)
    if trade is None:
        return
    if trade.is_pending:
        _look_later(working, trade)
        return
    if _due(trade, CommandName.CANCEL_TRADE, moment):
        cancel_unpaid(working, moment, trade, None)
    elif overdue := _due(trade, CommandName.CANCEL_LINES, moment):
        movement = money_legs.refund(trade, overdue)
        steps.begin(working, moment, trade, StepKind.REFUND, movement, _cause(TimerName.SHIP_BY, moment), lines=overdue)
    elif unconfirmed := _due(trade, CommandName.CONFIRM_LINES, moment):
        if trade.terms.auto_confirm_by_operator:
            _ask_operator(working, moment, trade, unconfirmed)
            return
        movement = money_legs.release(trade, unconfirmed)
        cause = _cause(TimerName.AUTO_CONFIRM, moment)
        steps.begin(working, moment, trade, StepKind.RELEASE, movement, cause, lines=unconfirmed)
    elif _due(trade, CommandName.RELEASE_HELD, moment):
        parts = tuple(part for part in trade.held if has_passed(part.due_time, moment.now))
        cause = _cause(TimerName.HELD_DUE, moment)
        steps.begin(working, moment, trade, StepKind.PAYOUT_HELD, money_legs.payout(trade, parts), cause, held=parts)
    elif has_passed(next_look(trade), moment.now):
        _remind(working, moment, trade)
    else:
        _look_later(working, trade)


def cancel_unpaid(
    working: EscrowSet, moment: Moment, trade: Trade, cause: Cause | None, *, by_partner: bool = False
) -> Trade:
    """Row 3: by a party, or a partner in its name, or by pay-by when `cause` is None."""
    given = cause or _cause(TimerName.PAY_BY, moment)
    ended = replace(trade, lines=tuple(replace(line, state=LineState.CANCELLED) for line in trade.lines))
    written = record(working, moment, ended, given)
    tell(moment, EventKind.TRADE_CANCELLED, written, given.actor, reason=given.reason, by_partner=by_partner)
    checkout_ends.leave(working, moment, trade)
    if written.payment_pending:
        cause = cause_of(moment, command=PaymentsSays.VOID, actor=SYSTEM, reason=given.command)
        steps.begin(working, moment, written, StepKind.VOID, money_legs.void(), cause, is_waited_for=False)
    current = working.trades.get(trade.trade_id)
    assert current is not None
    return current


def _remind(working: EscrowSet, moment: Moment, trade: Trade) -> None:
    """Says what is due soon; nobody is told of what has passed meanwhile."""
    current = replace(trade, remind_time=moment.now)
    # The trade as such has not changed unless somebody is told.
    working.trades.put(trade.trade_id, current)
    for deadline, line_ids in due_reminders(trade, moment.now).items():
        cause = _cause(TimerName.REMINDER, moment, reason=deadline)
        current = record(working, moment, current, cause, line_ids=line_ids)
        tell(moment, EventKind.TRADE_REMINDER, current, SYSTEM, line_ids=line_ids, reason=deadline)


def _look_later(working: EscrowSet, trade: Trade) -> None:
    """Nothing is due, so the store has another deadline than the trade: writing the trade writes the right one."""
    working.trades.put(trade.trade_id, trade)


def _ask_operator(working: EscrowSet, moment: Moment, trade: Trade, lines: tuple[Line, ...]) -> None:
    line_ids = tuple(line.line_id for line in lines)
    waiting = tuple(replace(line, operator_needed=True) if line.line_id in line_ids else line for line in trade.lines)
    cause = _cause(TimerName.AUTO_CONFIRM, moment, reason="the seller's terms leave this to an operator")
    written = record(working, moment, replace(trade, lines=waiting), cause, line_ids=line_ids)
    tell(moment, EventKind.OPERATOR_NEEDED, written, SYSTEM, line_ids=line_ids, reason=cause.reason)


def _due(trade: Trade, command: CommandName, moment: Moment) -> tuple[Line, ...]:
    return legal_lines(trade, trade.lines, command, Role.SYSTEM, moment.now)


def _cause(timer: TimerName, moment: Moment, reason: str = "") -> Cause:
    return cause_of(moment, command=timer, actor=SYSTEM, reason=reason)
