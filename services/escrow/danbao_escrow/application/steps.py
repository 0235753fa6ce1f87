"""Money steps: how one is set, taken over, and ended by what payments said."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from danbao_escrow.application import case_steps, chargebacks, checkout_ends
from danbao_escrow.application.actors import SYSTEM
from danbao_escrow.application.records import cause_of, changed, record, tell
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.commands import ClaimStep, PaymentsSays, SettleStep, StepDone, StepRefused
from danbao_escrow.domain.deadlines import RESERVE_LASTS, SHIP_BY_DEFAULT
from danbao_escrow.domain.errors import PaymentRefused
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import HeldPart, Line, LineState, Trade, TradeState
from danbao_escrow.domain.money_legs import parts_of
from danbao_escrow.domain.step_model import OUT_OF_ESCROW, Asker, Cause, Movement, Step, StepKind, StepState
from danbao_escrow.domain.trade import after_movement
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace

LEASE_MS = 8_000
"""How long, in real time, a step belongs to the process that took it; longer than its call to payments may last."""
FIRST_BACKOFF_MS = 1_000
LAST_BACKOFF_MS = 60_000

_NOBODY = Asker()
_LATE = "HOLD_ALREADY_CAPTURED"
# The payment has ended otherwise: nothing is to be voided any more.
_NOT_VOIDED = frozenset({_LATE, "HOLD_ALREADY_VOIDED", "PAYMENT_STATE_INVALID"})

_EVENTS = {
    StepKind.PAY: EventKind.TRADE_PAID,
    StepKind.RELEASE: EventKind.LINES_RELEASED,
    StepKind.REFUND: EventKind.LINES_REFUNDED,
    StepKind.SETTLE: EventKind.LINES_SETTLED,
    StepKind.PAYOUT_HELD: EventKind.HELD_RELEASED,
}


def begin(
    working: EscrowSet,
    moment: Moment,
    trade: Trade,
    kind: StepKind,
    movement: Movement,
    cause: Cause,
    *,
    lines: Iterable[Line] = (),
    held: tuple[HeldPart, ...] = (),
    subject: str = "",
    asker: Asker = _NOBODY,
    is_waited_for: bool = True,
) -> None:
    """Sets the trade's pending step: the intent, committed before any money moves. `subject`: whose it is besides."""
    assert not trade.is_pending, "one step at a time"
    number = trade.last_step + 1
    step = Step(
        trade_id=trade.trade_id,
        number=number,
        generation=0,
        kind=kind,
        state=StepState.PENDING,
        line_ids=tuple(line.line_id for line in lines),
        movement=movement,
        cause=cause,
        request=moment.request if is_waited_for else None,
        held=held,
        subject=subject,
        payer=trade.buyer,
        beneficiary=trade.seller,
        currency=trade.currency,
        payment=trade.payment,
        attempt_in_ms=LEASE_MS,
        create_time=moment.now,
        for_partner=asker.partner,
        for_subject=asker.subject,
    )
    working.steps.put((trade.trade_id, number), step)
    working.taken.append(step)
    pending = replace(trade, last_step=number, pending_step=number, step_blocked=False, step_refusal="")
    working.trades.put(trade.trade_id, changed(pending, moment))


def claim_step(command: ClaimStep, working: EscrowSet, moment: Moment) -> None:
    """Takes over a step whose lease has passed, unless somebody else was first."""
    step = working.steps.get((command.trade_id, command.number))
    if step is None or step.state is not StepState.PENDING:
        return
    if (step.generation, step.claim) != (command.generation, command.claim):
        return
    claimed = replace(step, claim=step.claim + 1, attempt_in_ms=LEASE_MS)
    working.steps.put((command.trade_id, command.number), claimed)
    working.taken.append(claimed)


def settle_step(command: SettleStep, working: EscrowSet, moment: Moment) -> None:
    """Writes a step's outcome, once: a late or second outcome, or one of another generation, changes nothing."""
    trade = working.trades.get(command.trade_id)
    step = working.steps.get((command.trade_id, command.number))
    if trade is None or step is None or trade.pending_step != command.number:
        return
    if step.state is not StepState.PENDING or step.generation != command.generation:
        return
    if isinstance(command.outcome, StepDone):
        _finish(working, moment, trade, step, command.outcome)
    elif step.kind is StepKind.PAY:
        _end_refused_funding(working, moment, trade, step, command.outcome)
    elif step.kind is StepKind.COMPENSATE:
        _end_refused_compensation(working, moment, trade, step, command.outcome)
    elif step.kind is StepKind.VOID and command.outcome.reason in _NOT_VOIDED:
        _end_refused_void(working, moment, trade, step, command.outcome)
    elif step.kind in OUT_OF_ESCROW and trade.chargeback_due_minor:
        _end_charged_back(working, moment, trade, step, command.outcome)
    else:
        _block(working, moment, trade, step, command.outcome)


def accepted_by_event(working: EscrowSet, moment: Moment, trade: Trade, *, payment: str, is_its: bool) -> Trade:
    """What a rail's report means for a funding whose own outcome has not come yet: payments has accepted it."""
    step = working.steps.get((trade.trade_id, trade.pending_step))
    if not is_its or step is None or step.kind is not StepKind.PAY:
        return trade
    _finish(working, moment, trade, step, StepDone(payment))
    found = working.trades.get(trade.trade_id)
    assert found is not None
    return found


def give_back_late(working: EscrowSet, moment: Moment, trade: Trade) -> None:
    """Row 4L: the trade has ended, and its account holds what a rail brought all the same."""
    cause = cause_of(moment, command=PaymentsSays.RETURN, actor=SYSTEM, reason=_LATE)
    begin(working, moment, trade, StepKind.RETURN, money_legs.late_return(trade), cause, is_waited_for=False)


def _finish(working: EscrowSet, moment: Moment, trade: Trade, step: Step, done: StepDone) -> None:
    after = replace(applied(trade, step, done, moment), pending_step=0, step_blocked=False, step_refusal="")
    is_pending = bool(step.movement.rail)
    moved_minor = 0 if is_pending else step.movement.amount_minor
    written = record(
        working,
        moment,
        after,
        step.cause,
        line_ids=step.line_ids,
        ledger_reference=done.reference,
        amount_minor=moved_minor,
        subject=step.subject,
    )
    if step.kind in _EVENTS:
        tell(
            moment,
            EventKind.TRADE_PAYMENT_PENDING if is_pending else _EVENTS[step.kind],
            written,
            step.cause.actor,
            line_ids=step.line_ids,
            amount_minor=step.movement.refunded_minor if step.kind is StepKind.REFUND else moved_minor,
            reason=step.cause.reason,
            by_partner=_asked_by_partner(step),
        )
    ended = replace(step, state=StepState.DONE, ledger_reference=done.reference, settle_time=moment.now)
    working.steps.put((trade.trade_id, step.number), ended)
    if step.movement.together is not None:
        checkout_ends.step_done(working, moment, step, done.reference)
        return
    answer = case_steps.paid(working, moment, written, step, done) if step.subject else written
    if step.request is not None:
        moment.answer(step.request, answer)
    if written.chargeback_due_minor:
        chargebacks.apply_due(working, moment, written)


def applied(trade: Trade, step: Step, done: StepDone, moment: Moment) -> Trade:
    """The trade after the money has moved."""
    if step.kind is StepKind.PAY and step.movement.rail:
        return replace(trade, payment=done.reference, payment_pending=True, rail=step.movement.rail)
    if step.kind is StepKind.PAY:
        return funded(replace(trade, payment=done.reference, rail=""), moment)
    if step.kind is StepKind.VOID:
        return replace(trade, payment_pending=False)
    if step.kind is StepKind.RETURN:
        return chargebacks.come_and_gone(trade)
    if step.kind is StepKind.PAYOUT_HELD:
        left = list(trade.held)
        for part in step.held:
            left.remove(part)
        return replace(trade, held=tuple(left))
    if step.kind is StepKind.COMPENSATE:
        compensated_minor = trade.compensated_minor + step.movement.amount_minor
        return replace(trade, compensated_minor=compensated_minor, open_claim="")
    after = after_movement(trade, step.movement, chargebacks.settled_lines(trade, parts_of(trade, step), moment))
    return replace(after, held=trade.held + _held_parts(trade, step.movement, moment))


def funded(trade: Trade, moment: Moment) -> Trade:
    """The trade with its money in its account."""
    return replace(
        trade,
        lines=tuple(replace(line, state=LineState.PAID) for line in trade.lines),
        funded_minor=trade.price_minor,
        payment_pending=False,
        pay_time=moment.now,
        ship_by_time=trade.ship_by_time or moment.now + SHIP_BY_DEFAULT,
    )


def _held_parts(trade: Trade, movement: Movement, moment: Moment) -> tuple[HeldPart, ...]:
    """What the release keeps back, and until when."""
    terms = trade.terms
    parts = []
    if movement.delayed_minor:
        due_time = None if terms.payout_by_operator else moment.now + timedelta(hours=terms.payout_delay_hours)
        parts.append(HeldPart(movement.delayed_minor, due_time))
    if movement.reserve_minor:
        parts.append(HeldPart(movement.reserve_minor, moment.now + RESERVE_LASTS))
    return tuple(parts)


def _asked_by_partner(step: Step) -> bool:
    """Whether a partner asks the payer for the money, and not the payer itself."""
    return bool(step.for_partner) and not step.for_subject


def _end_refused_funding(working: EscrowSet, moment: Moment, trade: Trade, step: Step, refused: StepRefused) -> None:
    """Nothing was held: the trade waits for payment as before."""
    after = replace(trade, pending_step=0, step_refusal=refused.reason)
    written = record(working, moment, after, step.cause, reason=refused.reason)
    by_partner, why = _asked_by_partner(step), refused.reason
    tell(moment, EventKind.TRADE_PAYMENT_REFUSED, written, step.cause.actor, reason=why, by_partner=by_partner)
    ended = replace(step, state=StepState.REFUSED, refusal=refused.reason, settle_time=moment.now)
    working.steps.put((trade.trade_id, step.number), ended)
    if step.movement.together is not None:
        checkout_ends.step_refused(working, moment, step, refused.reason, refused.message)
    elif step.request is not None:
        moment.refuse(step.request, PaymentRefused(trade.name, refused.reason, refused.message))


def _end_refused_void(working: EscrowSet, moment: Moment, trade: Trade, step: Step, refused: StepRefused) -> None:
    """The payment came to its end before: either nothing was brought, or the money is in the trade's account."""
    after = replace(trade, pending_step=0, payment_pending=False, step_blocked=False, step_refusal="")
    written = record(working, moment, after, step.cause, reason=refused.reason)
    ended = replace(step, state=StepState.REFUSED, refusal=refused.reason, settle_time=moment.now)
    working.steps.put((trade.trade_id, step.number), ended)
    if refused.reason == _LATE:
        tell(
            moment,
            EventKind.LATE_PAYMENT_RETURNING,
            written,
            SYSTEM,
            amount_minor=trade.price_minor,
            reason=refused.reason,
        )
        give_back_late(working, moment, written)


def _end_charged_back(working: EscrowSet, moment: Moment, trade: Trade, step: Step, refused: StepRefused) -> None:
    """A chargeback is due only where it took of what the step asks for: it ends, whatever it was refused for now."""
    after = replace(trade, pending_step=0, step_blocked=False, step_refusal=refused.reason)
    why = chargebacks.WHY
    written = record(working, moment, after, step.cause, line_ids=step.line_ids, reason=why, subject=step.subject)
    tell(moment, EventKind.STEP_ENDED, written, step.cause.actor, line_ids=step.line_ids, reason=why)
    ended = replace(step, state=StepState.REFUSED, refusal=refused.reason, settle_time=moment.now)
    working.steps.put((trade.trade_id, step.number), ended)
    if step.request is not None:
        moment.refuse(step.request, PaymentRefused(trade.name, refused.reason, refused.message))
    if trade.state is TradeState.CANCELLED:
        left = chargebacks.apply_to_late(working, moment, written)
        if left.price_minor > left.charged_back_minor:
            give_back_late(working, moment, left)
        return
    chargebacks.apply_due(working, moment, written, ended=step.subject)


def _end_refused_compensation(
    working: EscrowSet, moment: Moment, trade: Trade, step: Step, refused: StepRefused
) -> None:
    """Nothing moved: the claim is open as before."""
    after = replace(trade, pending_step=0)
    written = record(working, moment, after, step.cause, reason=refused.reason, subject=step.subject)
    error = case_steps.not_compensated(working, moment, written, step, refused)
    ended = replace(step, state=StepState.REFUSED, refusal=refused.reason, settle_time=moment.now)
    working.steps.put((trade.trade_id, step.number), ended)
    if step.request is not None:
        moment.refuse(step.request, error)


def _block(working: EscrowSet, moment: Moment, trade: Trade, step: Step, refused: StepRefused) -> None:
    """The money stays where it is; the step goes on under its next generation, later and later.

    Whoever asked for it is told the trade with its blocked step, not a refusal: the command stands, and the money will
    still move.
    """
    again = replace(
        step,
        generation=step.generation + 1,
        claim=0,
        refusals=step.refusals + 1,
        refusal=refused.reason,
        attempt_in_ms=min(FIRST_BACKOFF_MS << min(step.refusals, 10), LAST_BACKOFF_MS),
        request=None,
    )
    working.steps.put((trade.trade_id, step.number), again)
    if not trade.step_blocked or trade.step_refusal != refused.reason:
        after = replace(trade, step_blocked=True, step_refusal=refused.reason)
        trade = record(
            working,
            moment,
            after,
            step.cause,
            line_ids=step.line_ids,
            reason=refused.reason,
            subject=step.subject,
        )
        tell(
            moment,
            EventKind.STEP_BLOCKED,
            trade,
            step.cause.actor,
            line_ids=step.line_ids,
            reason=refused.reason,
        )
    answer = case_steps.blocked(working, moment, step, refused) if step.subject else trade
    if step.request is not None:
        moment.answer(step.request, answer)
