"""The state table of escrow: which command is legal for a line, by whom, when, what becomes of it, what money it moves.

TABLE is the whole of it: what is not in it is refused. Numbers in the comments are the rows of the README's table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from danbao_escrow.domain.commands import CommandName as C
from danbao_escrow.domain.deadlines import (
    auto_confirm_passed,
    has_passed,
    pay_by_passed,
    ship_by_passed,
    system_cancel_due,
)
from danbao_escrow.domain.model import OPEN_LINE_STATES, Line, LineState, Role, Trade, TradeState
from danbao_escrow.domain.model import LineState as L
from danbao_escrow.domain.model import Role as R
from danbao_escrow.domain.step_model import LinePart, Movement, StepKind
from danbao_kit.immutable import replace

Guard = Callable[[Trade, Line, datetime], bool]


def always(trade: Trade, line: Line, now: datetime) -> bool:
    """No condition."""
    return True


def within_pay_by(trade: Trade, line: Line, now: datetime) -> bool:
    """A deadline that has passed wins over a command that comes before the timer."""
    return not pay_by_passed(trade, now)


def nothing_on_its_way(trade: Trade, line: Line, now: datetime) -> bool:
    """Before pay-by, and no rail is bringing the money."""
    return within_pay_by(trade, line, now) and not trade.payment_pending


def may_end_unpaid(trade: Trade, line: Line, now: datetime) -> bool:
    """A payment over a rail is then voided, but not one that pays other trades too."""
    return within_pay_by(trade, line, now) and not trade.is_paid_together


def runs_out(trade: Trade, line: Line, now: datetime) -> bool:
    """A payment of several trades is not voided because one of them was too late: what the rail says decides."""
    return pay_by_passed(trade, now) and not trade.is_paid_together


def not_too_late_to_ship(trade: Trade, line: Line, now: datetime) -> bool:
    """Late is allowed until the system cancels."""
    return not system_cancel_due(trade, line, now)


def after_ship_by(trade: Trade, line: Line, now: datetime) -> bool:
    return ship_by_passed(trade, line, now)


def system_cancels(trade: Trade, line: Line, now: datetime) -> bool:
    return system_cancel_due(trade, line, now)


def before_auto_confirm(trade: Trade, line: Line, now: datetime) -> bool:
    """A report cannot put off a confirmation whose time has come, unless that is an operator's anyway."""
    return trade.terms.auto_confirm_by_operator or not auto_confirm_passed(line, now)


def before_deadline(trade: Trade, line: Line, now: datetime) -> bool:
    """What has passed is not put off."""
    return not auto_confirm_passed(line, now)


def left_to_operator(trade: Trade, line: Line, now: datetime) -> bool:
    """Grade E: auto-confirm's time has passed, and only an operator ends it."""
    return trade.terms.auto_confirm_by_operator and auto_confirm_passed(line, now)


def auto_confirms(trade: Trade, line: Line, now: datetime) -> bool:
    return auto_confirm_passed(line, now) and not line.operator_needed


def something_held(trade: Trade, line: Line, now: datetime) -> bool:
    return bool(trade.held)


def held_due(trade: Trade, line: Line, now: datetime) -> bool:
    return any(has_passed(part.due_time, now) for part in trade.held)


@dataclass(frozen=True, slots=True)
class Transition:
    """What becomes of a line. With a step, only once payments has executed it."""

    to: LineState
    step: StepKind | None = None
    guard: Guard = always


TABLE: Mapping[tuple[LineState, C, Role], Transition] = MappingProxyType(
    {
        # 2: another price, and pay-by starts again
        (L.UNPAID, C.ADJUST_PRICE, R.SELLER): Transition(L.UNPAID, guard=nothing_on_its_way),
        # 3: ends unpaid
        (L.UNPAID, C.CANCEL_TRADE, R.BUYER): Transition(L.CANCELLED, guard=may_end_unpaid),
        (L.UNPAID, C.CANCEL_TRADE, R.SELLER): Transition(L.CANCELLED, guard=may_end_unpaid),
        (L.UNPAID, C.CANCEL_TRADE, R.OPERATOR): Transition(L.CANCELLED, guard=may_end_unpaid),
        (L.UNPAID, C.CANCEL_TRADE, R.SYSTEM): Transition(L.CANCELLED, guard=runs_out),
        # 4 and 4r: the buyer's wallet pays, or a rail
        (L.UNPAID, C.PAY_TRADE, R.BUYER): Transition(L.PAID, StepKind.PAY, nothing_on_its_way),
        # 5: on its way
        (L.PAID, C.SHIP_LINES, R.SELLER): Transition(L.SHIPPED, guard=not_too_late_to_ship),
        # 5d: arrived
        (L.SHIPPED, C.REPORT_DELIVERY, R.SELLER): Transition(L.SHIPPED, guard=before_auto_confirm),
        (L.SHIPPED, C.REPORT_DELIVERY, R.CARRIER): Transition(L.SHIPPED, guard=before_auto_confirm),
        (L.SHIPPED, C.REPORT_DELIVERY, R.OPERATOR): Transition(L.SHIPPED, guard=before_auto_confirm),
        # the buyer wants to look at it for longer
        (L.SHIPPED, C.EXTEND_CONFIRMATION, R.BUYER): Transition(L.SHIPPED, guard=before_deadline),
        # 6: back to the buyer
        (L.PAID, C.CANCEL_LINES, R.SELLER): Transition(L.REFUNDED, StepKind.REFUND),
        (L.PAID, C.CANCEL_LINES, R.BUYER): Transition(L.REFUNDED, StepKind.REFUND, after_ship_by),
        (L.PAID, C.CANCEL_LINES, R.SYSTEM): Transition(L.REFUNDED, StepKind.REFUND, system_cancels),
        # 7: to the seller
        (L.SHIPPED, C.CONFIRM_LINES, R.BUYER): Transition(L.RELEASED, StepKind.RELEASE),
        (L.SHIPPED, C.CONFIRM_LINES, R.OPERATOR): Transition(L.RELEASED, StepKind.RELEASE, left_to_operator),
        (L.SHIPPED, C.CONFIRM_LINES, R.SYSTEM): Transition(L.RELEASED, StepKind.RELEASE, auto_confirms),
        # 7b: what was kept back, also of a line that was settled in part, or of the postage alone
        (L.PAID, C.RELEASE_HELD, R.OPERATOR): Transition(L.PAID, StepKind.PAYOUT_HELD, something_held),
        (L.PAID, C.RELEASE_HELD, R.SYSTEM): Transition(L.PAID, StepKind.PAYOUT_HELD, held_due),
        (L.SHIPPED, C.RELEASE_HELD, R.OPERATOR): Transition(L.SHIPPED, StepKind.PAYOUT_HELD, something_held),
        (L.SHIPPED, C.RELEASE_HELD, R.SYSTEM): Transition(L.SHIPPED, StepKind.PAYOUT_HELD, held_due),
        (L.RELEASED, C.RELEASE_HELD, R.OPERATOR): Transition(L.RELEASED, StepKind.PAYOUT_HELD, something_held),
        (L.RELEASED, C.RELEASE_HELD, R.SYSTEM): Transition(L.RELEASED, StepKind.PAYOUT_HELD, held_due),
        (L.REFUNDED, C.RELEASE_HELD, R.OPERATOR): Transition(L.REFUNDED, StepKind.PAYOUT_HELD, something_held),
        (L.REFUNDED, C.RELEASE_HELD, R.SYSTEM): Transition(L.REFUNDED, StepKind.PAYOUT_HELD, held_due),
    }
)

CREATE_ROLES = frozenset({R.BUYER, R.SELLER, R.OPERATOR})
"""Row 1: who may make a trade."""

OUTSIDE_ROLES = frozenset(R) - {R.SYSTEM}

# They move no money and wait for none.
_LEGAL_WHILE_PENDING = frozenset({C.SHIP_LINES, C.REPORT_DELIVERY, C.EXTEND_CONFIRMATION})
# They move or ship a line, and a line under a case is neither moved nor shipped but by the case.
_REFUSED_UNDER_CASE = frozenset({C.SHIP_LINES, C.CONFIRM_LINES, C.CANCEL_LINES})


def roles_for(command: C) -> frozenset[Role]:
    """Who may give a command from outside, in some state."""
    if command is C.CREATE_TRADE:
        return CREATE_ROLES
    return frozenset(role for _, name, role in TABLE if name is command and role is not R.SYSTEM)


def transition(trade: Trade, line: Line, command: C, role: Role, now: datetime) -> Transition | None:
    """What the command does to the line now; None: it is refused."""
    return None if is_under_case(line, command) else _without_case(trade, line, command, role, now)


def is_under_case(line: Line, command: C) -> bool:
    """Whether an open case keeps the command from the line."""
    return bool(line.open_case) and command in _REFUSED_UNDER_CASE


def refused_by_case(trade: Trade, line: Line, command: C, role: Role, now: datetime) -> bool:
    """Whether nothing but an open case keeps the command from the line."""
    return is_under_case(line, command) and _without_case(trade, line, command, role, now) is not None


def _without_case(trade: Trade, line: Line, command: C, role: Role, now: datetime) -> Transition | None:
    found = TABLE.get((line.state, command, role))
    return found if found is not None and found.guard(trade, line, now) else None


def legal_lines(trade: Trade, lines: Iterable[Line], command: C, role: Role, now: datetime) -> tuple[Line, ...]:
    """Those of the lines for which the command is legal now."""
    return tuple(line for line in lines if transition(trade, line, command, role, now) is not None)


def legal_commands(trade: Trade, now: datetime) -> frozenset[C]:
    """What somebody may ask of the trade now, from outside."""
    return frozenset(
        command
        for state, command, role in TABLE
        if role is not R.SYSTEM
        and (command in _LEGAL_WHILE_PENDING or not trade.is_pending)
        and any(line.state is state and transition(trade, line, command, role, now) for line in trade.lines)
    )


def after_part(line: Line, part: LinePart) -> Line:
    """The line with a part of it settled. It ends when nothing is left: REFUNDED if its whole amount went back."""
    left = replace(
        line,
        released_minor=line.released_minor + part.released_minor,
        refunded_minor=line.refunded_minor + part.refunded_minor,
        postage_minor=line.postage_minor + part.postage_minor,
    )
    assert left.unsettled_minor >= 0, "a line gives no more than it has"
    if left.unsettled_minor:
        return left
    return replace(left, state=L.REFUNDED if left.refunded_minor >= left.amount_minor else L.RELEASED)


def after_parts(lines: Iterable[Line], parts: Iterable[LinePart]) -> tuple[Line, ...]:
    """The lines with these parts of them settled: for commands that move no money, what is leaving is gone already."""
    taken = {part.line_id: part for part in parts}
    return tuple(after_part(line, taken[line.line_id]) if line.line_id in taken else line for line in lines)


def after_movement(trade: Trade, movement: Movement, lines: tuple[Line, ...]) -> Trade:
    """The trade with so much gone from its account, and its lines as that leaves them."""
    return replace(
        trade,
        lines=lines,
        released_minor=trade.released_minor + movement.released_minor,
        refunded_minor=trade.refunded_minor + movement.refunded_minor,
        fees_minor=trade.fees_minor + movement.fee_minor,
        buyer_fee_released_minor=trade.buyer_fee_released_minor + movement.buyer_fee_released_minor,
        buyer_fee_refunded_minor=trade.buyer_fee_refunded_minor + movement.buyer_fee_refunded_minor,
    )


def derived_state(lines: tuple[Line, ...]) -> TradeState:
    """Where the trade stands by its lines."""
    states = {line.state for line in lines}
    if L.UNPAID in states:
        return TradeState.PENDING_PAYMENT
    if states == {L.CANCELLED}:
        return TradeState.CANCELLED
    if not states & OPEN_LINE_STATES:
        was_released = any(line.released_minor for line in lines)
        return TradeState.COMPLETED if was_released else TradeState.CLOSED
    if L.PAID not in states:
        return TradeState.AWAITING_CONFIRMATION
    if states & {L.SHIPPED, L.RELEASED}:
        return TradeState.PARTIALLY_SHIPPED
    return TradeState.AWAITING_SHIPMENT
