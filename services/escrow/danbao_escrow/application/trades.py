"""What the parties ask of a trade that exists: one decision function a command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from danbao_escrow.application import actors, checkout_ends, steps
from danbao_escrow.application.create import check_limit
from danbao_escrow.application.records import cause_of, record, tell
from danbao_escrow.application.timers import cancel_unpaid
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.checkout import TradeInCheckout
from danbao_escrow.domain.commands import (
    AdjustPrice,
    CancelLines,
    CancelTrade,
    CommandName,
    ConfirmLines,
    ExtendConfirmation,
    LineCommand,
    PayTrade,
    ReleaseHeld,
    ReportDelivery,
    ShipLines,
    TradeCommand,
)
from danbao_escrow.domain.deadlines import MOST_EXTENDED_DAYS, pay_by_passed, with_auto_confirm
from danbao_escrow.domain.errors import (
    AmountMismatch,
    ExtensionLimitReached,
    LineNotFound,
    LineUnderCase,
    StepInFlight,
    SubjectBlocked,
    TradeNotFound,
    TradeStateInvalid,
)
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.fees import buyer_fee_minor
from danbao_escrow.domain.model import Line, LineState, Trade, TradeState
from danbao_escrow.domain.step_model import Cause, StepKind
from danbao_escrow.domain.trade import after_parts, legal_commands, legal_lines, refused_by_case, transition
from danbao_kit.decision import DEFERRED, Moment
from danbao_kit.immutable import replace
from danbao_kit.money import MAX_MINOR


def pay_trade(command: PayTrade, working: EscrowSet, moment: Moment) -> Any:
    """Row 4: PENDING_PAYMENT → AWAITING_SHIPMENT, once payments holds the money."""
    trade = _trade_for(command, working)
    _check_no_step(trade)
    if _is_overdue(trade, moment):
        return _end_overdue(command, working, moment, trade)
    lines = _all_legal(trade, command, moment)
    if command.blocked:
        raise SubjectBlocked(command.blocked)
    checkout_ends.leave(working, moment, trade)
    movement = money_legs.funding(trade, rail=command.rail, instrument=command.instrument)
    alone = replace(trade, checkout="")
    asker = actors.asker_of(command.token, trade.partner)
    steps.begin(working, moment, alone, StepKind.PAY, movement, _cause(command, moment), lines=lines, asker=asker)
    return DEFERRED


def cancel_trade(command: CancelTrade, working: EscrowSet, moment: Moment) -> Any:
    """Row 3: PENDING_PAYMENT → CANCELLED."""
    trade = _trade_for(command, working)
    _check_no_step(trade)
    if _is_overdue(trade, moment):
        return _end_overdue(command, working, moment, trade)
    _all_legal(trade, command, moment)
    by_partner = actors.is_by_partner(command.actor, command.token)
    return cancel_unpaid(working, moment, trade, _cause(command, moment), by_partner=by_partner)


def adjust_price(command: AdjustPrice, working: EscrowSet, moment: Moment) -> Any:
    """Row 2: another price before payment; pay-by starts again, as long as it was."""
    trade = _trade_for(command, working)
    _check_no_step(trade)
    if _is_overdue(trade, moment):
        return _end_overdue(command, working, moment, trade)
    _all_legal(trade, command, moment)
    priced = _priced(command, trade)
    check_limit(trade.terms, trade.seller, command.total)
    again = replace(
        priced,
        buyer_fee_minor=buyer_fee_minor(trade.terms, priced.total_minor),
        pay_by_time=moment.now + (trade.pay_by_time - trade.price_time),
        adjust_time=moment.now,
    )
    checkout_ends.leave(working, moment, trade)
    written = record(working, moment, again, _cause(command, moment), line_ids=command.line_ids)
    tell(
        moment,
        EventKind.PRICE_ADJUSTED,
        written,
        command.actor,
        line_ids=command.line_ids,
        reason=command.reason,
        by_partner=actors.is_by_partner(command.actor, command.token),
    )
    return written


def ship_lines(command: ShipLines, working: EscrowSet, moment: Moment) -> Trade:
    """Row 5: PAID → SHIPPED."""
    trade = _trade_for(command, working)
    chosen = _chosen_lines(_as_bound(trade, working), command, moment)

    def shipped(line: Line) -> Line:
        moved = replace(
            line,
            state=LineState.SHIPPED,
            carrier=command.carrier,
            tracking=command.tracking,
            ship_time=moment.now,
            paused_us=0,
        )
        return with_auto_confirm(moved, trade.terms)

    after, line_ids = _with_lines(trade, chosen, shipped)
    written = record(working, moment, after, _cause(command, moment), line_ids=line_ids)
    tell(moment, EventKind.LINES_SHIPPED, written, command.actor, line_ids=line_ids)
    return written


def report_delivery(command: ReportDelivery, working: EscrowSet, moment: Moment) -> Trade:
    """Row 5d: a shipped line arrived; a second report changes nothing."""
    trade = _trade_for(command, working)
    chosen = _chosen_lines(_as_bound(trade, working), command, moment)
    fresh = tuple(line for line in chosen if line.deliver_time is None)
    if not fresh:
        return trade

    def delivered(line: Line) -> Line:
        # Auto-confirm begins anew, and with it for how long it stands still.
        pause_time = moment.now if line.open_case else None
        moved = replace(line, deliver_time=moment.now, operator_needed=False, pause_time=pause_time, paused_us=0)
        return with_auto_confirm(moved, trade.terms)

    after, line_ids = _with_lines(trade, fresh, delivered)
    written = record(working, moment, after, _cause(command, moment), line_ids=line_ids)
    tell(moment, EventKind.LINES_DELIVERED, written, command.actor, line_ids=line_ids)
    return written


def extend_confirmation(command: ExtendConfirmation, working: EscrowSet, moment: Moment) -> Trade:
    """Auto-confirm comes later; bounded, so that a seller is paid some day."""
    trade = _trade_for(command, working)
    chosen = _chosen_lines(_as_bound(trade, working), command, moment)
    for line in chosen:
        left_days = MOST_EXTENDED_DAYS - line.extended_days
        if command.days > left_days:
            raise ExtensionLimitReached(trade.name, line.line_id, asked_days=command.days, left_days=left_days)

    def extended(line: Line) -> Line:
        return with_auto_confirm(replace(line, extended_days=line.extended_days + command.days), trade.terms)

    after, line_ids = _with_lines(trade, chosen, extended)
    reason = f"{command.days} days"
    written = record(working, moment, after, _cause(command, moment), line_ids=line_ids, reason=reason)
    tell(moment, EventKind.CONFIRMATION_EXTENDED, written, command.actor, line_ids=line_ids, reason=reason)
    return written


def confirm_lines(command: ConfirmLines, working: EscrowSet, moment: Moment) -> Any:
    """Row 7: SHIPPED → RELEASED, once payments has moved the money."""
    trade = _trade_for(command, working)
    _check_no_step(trade)
    lines = _chosen_lines(trade, command, moment)
    movement = money_legs.release(trade, lines)
    steps.begin(working, moment, trade, StepKind.RELEASE, movement, _cause(command, moment), lines=lines)
    return DEFERRED


def cancel_lines(command: CancelLines, working: EscrowSet, moment: Moment) -> Any:
    """Row 6: PAID → REFUNDED, once payments has moved the money."""
    trade = _trade_for(command, working)
    _check_no_step(trade)
    lines = _chosen_lines(trade, command, moment)
    movement = money_legs.refund(trade, lines)
    steps.begin(working, moment, trade, StepKind.REFUND, movement, _cause(command, moment), lines=lines)
    return DEFERRED


def release_held(command: ReleaseHeld, working: EscrowSet, moment: Moment) -> Any:
    """Row 7b by an operator: all that is kept back."""
    trade = _trade_for(command, working)
    _check_no_step(trade)
    _some_legal(trade, trade.lines, command, moment)
    movement = money_legs.payout(trade, trade.held)
    steps.begin(working, moment, trade, StepKind.PAYOUT_HELD, movement, _cause(command, moment), held=trade.held)
    return DEFERRED


def _trade_for(command: TradeCommand, working: EscrowSet) -> Trade:
    """Raises TradeNotFound, LineNotFound, RoleNotAllowed, NotAParty, in this order."""
    trade = working.trades.get(command.name)
    if trade is None or not actors.may_see(
        command.token, buyer=trade.buyer, seller=trade.seller, partner=trade.partner
    ):
        raise TradeNotFound(f"trades/{command.name}")
    if isinstance(command, LineCommand | AdjustPrice):
        for line_id in command.line_ids:
            if trade.line(line_id) is None:
                raise LineNotFound(trade.name, line_id)
    actors.check_actor(command.name_of_command, command.actor, command.token, trade)
    return trade


def _priced(command: AdjustPrice, trade: Trade) -> Trade:
    """The trade with other amounts. Raises AmountMismatch."""
    if command.total.currency != trade.currency:
        raise AmountMismatch("total.currency", f"must be {trade.currency} as of the trade")
    amounts = {line.line_id: line.amount.minor for line in command.lines}
    lines = tuple(replace(line, amount_minor=amounts.get(line.line_id, line.amount_minor)) for line in trade.lines)
    postage_minor = trade.postage_minor if command.postage is None else command.postage.minor
    total_minor = sum(line.amount_minor for line in lines) + postage_minor
    # A buyer's fee is at most the total.
    if total_minor > MAX_MINOR // 2:
        raise AmountMismatch("total.amount_minor", "lines and postage exceed what an amount can hold")
    if command.total.minor != total_minor:
        raise AmountMismatch("total.amount_minor", f"must be {total_minor}, the sum of lines and postage")
    fixed_minor = max(trade.terms.fee_fixed_minor, trade.terms.buyer_fee_fixed_minor)
    if total_minor < fixed_minor:
        raise AmountMismatch("total.amount_minor", f"must not be below {fixed_minor}, the fixed fee")
    return replace(trade, lines=lines, postage_minor=postage_minor, total_minor=total_minor)


def _check_no_step(trade: Trade) -> None:
    if trade.is_pending:
        raise StepInFlight(trade.name, trade.pending_step)


def _as_bound(trade: Trade, working: EscrowSet) -> Trade:
    """The trade with those lines gone whose money is on its way out."""
    step = working.steps.get((trade.trade_id, trade.pending_step)) if trade.is_pending else None
    if step is None:
        return trade
    gone = after_parts(trade.lines, money_legs.parts_of(trade, step))
    return replace(
        trade,
        lines=tuple(replace(line, state=after.state) for line, after in zip(trade.lines, gone, strict=True)),
    )


def _chosen_lines(trade: Trade, command: LineCommand, moment: Moment) -> tuple[Line, ...]:
    """The lines that are meant, in the trade's order, if the command is legal for each; no ids mean all legal ones."""
    if not command.line_ids:
        return _some_legal(trade, trade.lines, command, moment)
    chosen = tuple(line for line in trade.lines if line.line_id in command.line_ids)
    for line in chosen:
        if transition(trade, line, command.name_of_command, command.actor.role, moment.now) is None:
            _check_no_case(trade, line, command, moment)
            raise _state_invalid(trade, command, moment, line_id=line.line_id, line_state=line.state)
    return chosen


def _all_legal(trade: Trade, command: TradeCommand, moment: Moment) -> tuple[Line, ...]:
    if len(_some_legal(trade, trade.lines, command, moment)) < len(trade.lines):
        raise _state_invalid(trade, command, moment)
    return trade.lines


def _some_legal(trade: Trade, lines: tuple[Line, ...], command: TradeCommand, moment: Moment) -> tuple[Line, ...]:
    legal = legal_lines(trade, lines, command.name_of_command, command.actor.role, moment.now)
    if not legal:
        for line in lines:
            _check_no_case(trade, line, command, moment)
        if trade.is_paid_together:
            raise TradeInCheckout(trade.name, command.name_of_command, trade.state, trade.checkout)
        raise _state_invalid(trade, command, moment)
    return legal


def _check_no_case(trade: Trade, line: Line, command: TradeCommand, moment: Moment) -> None:
    """Raises LineUnderCase when nothing but an open case refuses."""
    if refused_by_case(trade, line, command.name_of_command, command.actor.role, moment.now):
        raise LineUnderCase(trade.name, line.line_id, command.name_of_command, line.open_case)


def _state_invalid(
    trade: Trade, command: TradeCommand, moment: Moment, *, line_id: str = "", line_state: str = ""
) -> TradeStateInvalid:
    name: CommandName = command.name_of_command
    legal = legal_commands(trade, moment.now)
    return TradeStateInvalid(trade.name, name, trade.state, legal, line_id=line_id, line_state=line_state)


def _is_overdue(trade: Trade, moment: Moment) -> bool:
    is_late = trade.state is TradeState.PENDING_PAYMENT and pay_by_passed(trade, moment.now)
    return is_late and not trade.is_paid_together


def _end_overdue(
    command: PayTrade | CancelTrade | AdjustPrice, working: EscrowSet, moment: Moment, trade: Trade
) -> Any:
    """Pay-by has passed and no timer was here yet: the deadline wins, the trade ends, the command is refused."""
    cancelled = cancel_unpaid(working, moment, trade, None)
    refusal = _state_invalid(cancelled, command, moment)
    if moment.request is None:
        raise refusal
    moment.refuse(moment.request, refusal)
    return DEFERRED


def _with_lines(trade: Trade, chosen: Iterable[Line], change: Callable[[Line], Line]) -> tuple[Trade, tuple[str, ...]]:
    """The trade with those of its lines changed, and their ids."""
    ids = tuple(line.line_id for line in chosen)
    lines = tuple(change(line) if line.line_id in ids else line for line in trade.lines)
    return replace(trade, lines=lines), ids


def _cause(command: TradeCommand, moment: Moment) -> Cause:
    reason = command.reason if isinstance(command, CancelLines | CancelTrade | ReleaseHeld | AdjustPrice) else ""
    return cause_of(
        moment,
        command=command.name_of_command,
        actor=command.actor,
        token_subject=command.token.subject,
        reason=reason,
    )
