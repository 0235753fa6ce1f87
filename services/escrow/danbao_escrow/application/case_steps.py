"""What the end of a money step means for the case, dispute or claim that it was for."""

from __future__ import annotations

from typing import Any

from danbao_escrow.application.case_records import tell_of, write
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.case_errors import GuaranteeExhausted
from danbao_escrow.domain.case_model import Claim, ClaimState, Dispute, DisputeState, Finding, Proceeding, RefundCase
from danbao_escrow.domain.case_model import RefundCaseState as CaseState
from danbao_escrow.domain.commands import StepDone, StepRefused
from danbao_escrow.domain.errors import PaymentRefused
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import Trade
from danbao_escrow.domain.step_model import Step
from danbao_kit.decision import Moment
from danbao_kit.errors import DanbaoError

_NO_STEP = {"step_pending": False, "step_blocked": False, "step_refusal": ""}
_NO_DEADLINE = {"deadline_time": None, "remind_time": None}
_TOO_LITTLE = "INSUFFICIENT_FUNDS"


def paid(working: EscrowSet, moment: Moment, trade: Trade, step: Step, done: StepDone) -> Any:
    """Its money has moved: it is over. The answer to whoever asked for it."""
    thing, actor, reason = _subject(working, step), step.cause.actor, step.cause.reason
    refunded_minor, moved_minor = step.movement.refunded_minor, step.movement.amount_minor
    if isinstance(thing, RefundCase):
        ended = write(
            working,
            moment,
            thing,
            state=CaseState.SUCCEEDED,
            end_time=moment.now,
            refunded_minor=refunded_minor,
            **_NO_STEP,
            **_NO_DEADLINE,
        )
        tell_of(
            moment, EventKind.REFUND_CASE_SUCCEEDED, ended, trade, actor, amount_minor=refunded_minor, reason=reason
        )
        return ended
    if isinstance(thing, Dispute):
        case = working.proceedings.get(thing.refund_case)
        assert isinstance(case, RefundCase), "a dispute is over a refund case"
        write(working, moment, case, end_time=moment.now, refunded_minor=refunded_minor)
        closed = write(
            working, moment, thing, state=DisputeState.CLOSED, end_time=moment.now, **_NO_STEP, **_NO_DEADLINE
        )
        tell_of(moment, EventKind.DISPUTE_CLOSED, closed, trade, actor, amount_minor=moved_minor, reason=reason)
        return closed
    compensated = write(
        working,
        moment,
        thing,
        state=ClaimState.COMPENSATED,
        end_time=moment.now,
        compensated_minor=moved_minor,
        decided_by=actor,
        decision_reason=reason,
        ledger_reference=done.reference,
        step_pending=False,
        step_refusal="",
    )
    tell_of(moment, EventKind.CLAIM_COMPENSATED, compensated, trade, actor, amount_minor=moved_minor, reason=reason)
    return compensated


def blocked(working: EscrowSet, moment: Moment, step: Step, refused: StepRefused) -> Any:
    """Payments refused; the step stands and is tried again. The answer to whoever asked for it."""
    thing = _subject(working, step)
    assert not isinstance(thing, Claim), "a compensation is never tried again by itself"
    if thing.step_blocked and thing.step_refusal == refused.reason:
        return thing
    changes = {"step_blocked": True, "step_refusal": refused.reason}
    if isinstance(thing, Dispute):
        return write(working, moment, thing, **changes)
    return write(working, moment, thing, **changes)


def not_compensated(working: EscrowSet, moment: Moment, trade: Trade, step: Step, refused: StepRefused) -> DanbaoError:
    """Payments refused a compensation: nothing moved, nothing will, and the claim is open as before. Why."""
    claim = _subject(working, step)
    assert isinstance(claim, Claim), "only claims are compensated"
    still_open = write(
        working, moment, claim, step_pending=False, step_refusal=refused.reason, finding=Finding.UNSPECIFIED
    )
    tell_of(moment, EventKind.CLAIM_PAYMENT_REFUSED, still_open, trade, step.cause.actor, reason=refused.reason)
    if refused.reason == _TOO_LITTLE:
        return GuaranteeExhausted(claim.name, step.movement.amount_minor)
    return PaymentRefused(trade.name, refused.reason, refused.message)


def _subject(working: EscrowSet, step: Step) -> Proceeding:
    thing = working.proceedings.get(step.subject)
    assert thing is not None, "whose step it is was loaded with the trade"
    return thing
