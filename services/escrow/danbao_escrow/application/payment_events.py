"""How payments' events change trades: each once, in their order, with the reader's cursor in one transaction."""

from __future__ import annotations

from danbao_escrow.application import chargebacks, checkout_ends, steps
from danbao_escrow.application.actors import SYSTEM
from danbao_escrow.application.records import cause_of, record, tell
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.commands import PaymentsSays
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import Trade, TradeState
from danbao_escrow.domain.payment_events import (
    PAYMENTS,
    ApplyPaymentEvents,
    Brought,
    ChargebackReversed,
    ChargedBack,
    Declined,
    Effect,
    StreamGap,
)
from danbao_escrow.domain.step_model import StepKind
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace


def apply_payment_events(command: ApplyPaymentEvents, working: EscrowSet, moment: Moment) -> None:
    """Applies a chunk. One that was applied before, by whichever replica, changes nothing. Raises StreamGap."""
    applied = working.cursors.get(PAYMENTS) or 0
    if command.through <= applied:
        return
    if command.after > applied:
        raise StreamGap(applied=applied, after=command.after)
    working.cursors.put(PAYMENTS, command.through)
    for movement in command.movements:
        if movement.event_sequence > applied:
            working.movements.append(movement)
    for parked in command.parked:
        working.parked.append(parked)
    for effect in command.effects:
        trade = working.trades.get(effect.trade_id)
        if trade is not None:
            _apply(effect, trade, working, moment)


def _apply(effect: Effect, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    if isinstance(effect, Brought):
        _brought(effect, _accepted(effect, trade, working, moment), working, moment)
    elif isinstance(effect, Declined):
        _declined(effect, _accepted(effect, trade, working, moment), working, moment)
    elif effect.payment != trade.payment:
        return
    elif isinstance(effect, ChargedBack):
        chargebacks.charged_back(effect, trade, working, moment)
    elif isinstance(effect, ChargebackReversed):
        chargebacks.reversed_(effect, trade, working, moment)


def _accepted(effect: Brought | Declined, trade: Trade, working: EscrowSet, moment: Moment) -> Trade:
    """The trade whose funding has ended: the event may be here before the answer to our own call."""
    step = working.steps.get((trade.trade_id, trade.pending_step)) if trade.is_pending else None
    if step is None or step.kind is not StepKind.PAY:
        return trade
    together = step.movement.together
    is_its = step.number == effect.step if together is None else together.generation == effect.generation
    return steps.accepted_by_event(working, moment, trade, payment=effect.payment, is_its=is_its)


def _brought(effect: Brought, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """Row 4r. Of a trade that has ended meanwhile, its step that voids the payment finds out and gives it back."""
    if trade.payment != effect.payment or not trade.payment_pending or trade.state is not TradeState.PENDING_PAYMENT:
        return
    cause = cause_of(moment, command=PaymentsSays.CAPTURED, actor=SYSTEM)
    line_ids = tuple(line.line_id for line in trade.lines)
    written = record(
        working,
        moment,
        replace(steps.funded(trade, moment), step_refusal=""),
        cause,
        line_ids=line_ids,
        ledger_reference=effect.payment,
        amount_minor=effect.amount_minor,
        subject=trade.checkout,
    )
    tell(moment, EventKind.TRADE_PAID, written, SYSTEM, line_ids=line_ids, amount_minor=effect.amount_minor)
    checkout_ends.captured(working, moment, written)


def _declined(effect: Declined, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """Row 4f: it may be paid again until pay-by."""
    if trade.payment != effect.payment or not trade.payment_pending or trade.state is not TradeState.PENDING_PAYMENT:
        return
    cause = cause_of(moment, command=PaymentsSays.DECLINED, actor=SYSTEM)
    after = replace(trade, payment="", payment_pending=False, rail="", step_refusal=effect.failure)
    written = record(
        working,
        moment,
        after,
        cause,
        reason=effect.failure,
        ledger_reference=effect.payment,
        subject=trade.checkout,
    )
    tell(moment, EventKind.TRADE_PAYMENT_REFUSED, written, SYSTEM, reason=effect.failure)
    checkout_ends.declined(working, moment, written, effect.payment, effect.failure)
