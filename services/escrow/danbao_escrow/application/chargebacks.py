"""Row 16: what a chargeback took out of a trade's account counts as refunded; what it ends on the way."""

from __future__ import annotations

from collections.abc import Iterable

from danbao_escrow.application.actors import SYSTEM
from danbao_escrow.application.case_ends import end_charged_back
from danbao_escrow.application.records import cause_of, record, tell
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.commands import PaymentsSays
from danbao_escrow.domain.deadlines import resumed
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import OPEN_LINE_STATES, Line, Trade, TradeState
from danbao_escrow.domain.payment_events import ChargebackReversed, ChargedBack
from danbao_escrow.domain.step_model import OUT_OF_ESCROW, LinePart, Step, StepState
from danbao_escrow.domain.trade import after_movement, after_parts
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace

WHY = "CHARGED_BACK"
"""The reason why a step, case or dispute is over."""


def charged_back(fact: ChargedBack, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """Applies it now, beside the pending step where that leaves what the step moves; else once the step has ended."""
    if not fact.taken_minor:
        _tell(working, moment, trade, fact.transaction, fact.amount_minor)
        return
    due = replace(
        trade,
        chargeback_due_minor=trade.chargeback_due_minor + fact.taken_minor,
        chargeback_due=fact.transaction,
    )
    step = working.steps.get((trade.trade_id, trade.pending_step)) if trade.is_pending else None
    asks = step is not None and step.state is StepState.PENDING and step.kind in OUT_OF_ESCROW
    beside = step if asks else None
    # The account of a trade that ended unpaid holds something only while the step that voids or returns it is pending.
    if trade.state is TradeState.CANCELLED or (beside is not None and not _leaves_enough(due, beside)):
        working.trades.put(trade.trade_id, due)
        if step is not None and step.refusals:
            # It waits out a refusal, and can but be refused again: its next attempt is the last one.
            working.steps.put((trade.trade_id, step.number), replace(step, attempt_in_ms=0))
        return
    apply_due(working, moment, due, beside=beside, amount_minor=fact.amount_minor)


def apply_due(
    working: EscrowSet,
    moment: Moment,
    trade: Trade,
    *,
    ended: str = "",
    beside: Step | None = None,
    amount_minor: int = 0,
) -> None:
    """Counts as refunded what was taken; ends what is open on the lines concerned, and `ended`, whose step has ended.

    `beside` is a step that stays pending: it keeps what it moves, and whose step it is goes on.
    """
    kept = "" if beside is None else beside.subject
    if beside is None:
        movement = money_legs.charged_back(trade, trade.chargeback_due_minor)
    else:
        # What the step moves, its share of the buyer's fee and the postage are as good as gone.
        left = _once_moved(trade, beside)
        movement = money_legs.charged_back(left, trade.chargeback_due_minor, last=beside.line_ids)
    touched = {part.line_id for part in movement.parts}
    over = {line.open_case for line in trade.lines if line.line_id in touched} | {ended}
    over -= {"", kept}
    lines = tuple(resumed(line, trade.terms, moment.now) if line.open_case in over else line for line in trade.lines)
    settled = settled_lines(replace(trade, lines=lines), movement.parts, moment, kept=kept)
    after = replace(
        after_movement(trade, movement, settled),
        charged_back_minor=trade.charged_back_minor + movement.refunded_minor,
        chargeback_due_minor=0,
        chargeback_due="",
    )
    line_ids = tuple(part.line_id for part in movement.parts)
    told_minor = amount_minor or movement.refunded_minor
    written = _tell(working, moment, after, trade.chargeback_due, told_minor, line_ids=line_ids)
    for name in sorted(over):
        end_charged_back(working, moment, written, name, WHY)


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


def settled_lines(trade: Trade, parts: Iterable[LinePart], moment: Moment, *, kept: str = "") -> tuple[Line, ...]:
    """The lines with these parts of them settled. A case that was open on one of those is over with it, but `kept`."""
    parts = tuple(parts)
    taken = {part.line_id for part in parts}

    def settled(line: Line) -> Line:
        if line.line_id not in taken:
            return line
        going_on = resumed(line, trade.terms, moment.now) if line.open_case not in ("", kept) else line
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


def _once_moved(trade: Trade, step: Step) -> Trade:
    """The trade as the pending step will leave it."""
    return after_movement(trade, step.movement, after_parts(trade.lines, money_legs.parts_of(trade, step)))


def _leaves_enough(trade: Trade, step: Step) -> bool:
    """Whether the trade's account still holds what the pending step moves, with all that chargebacks took of it."""
    gone_minor = trade.released_minor + trade.refunded_minor + trade.chargeback_due_minor
    return gone_minor + step.movement.released_minor + step.movement.refunded_minor <= trade.funded_minor
