"""What is asked of disputes, and what time does to them: one decision function a command."""

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
    AcceptOffer,
    AddEvidence,
    AppealDispute,
    DecideDispute,
    DisputeCommand,
    MakeOffer,
    OpenDispute,
)
from danbao_escrow.domain.case_errors import (
    CaseNotFound,
    DecisionNotEqualFrozen,
    DisputeNotFound,
    DisputeWindowClosed,
    EtagMismatch,
    TooMuch,
)
from danbao_escrow.domain.case_model import (
    DISPUTES,
    REFUND_CASES,
    Decision,
    Dispute,
    DisputeState,
    Offer,
    RefundCase,
    RefundCaseState,
)
from danbao_escrow.domain.deadlines import has_passed
from danbao_escrow.domain.dispute import MOST_EVIDENCE, TIMERS, time_in, too_late
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.machine import Way
from danbao_escrow.domain.model import Trade
from danbao_escrow.domain.step_model import Cause
from danbao_kit.decision import DEFERRED, Moment
from danbao_kit.immutable import replace


def open_dispute(command: OpenDispute, working: EscrowSet, moment: Moment) -> Dispute:
    """Row 11: the case → DISPUTED, the dispute → OPEN. What the case claims is frozen."""
    case, trade = found(command, f"{REFUND_CASES}/{command.refund_case}", RefundCase, CaseNotFound, working)
    if case.state is RefundCaseState.REJECTED and (case.is_over or has_passed(case.deadline_time, moment.now)):
        raise DisputeWindowClosed(case.name, command.name_of_command)
    way = way_of(command, case, moment)
    opened = Dispute(
        dispute_id=moment.new_id(),
        state=DisputeState.OPEN,
        case_id=case.case_id,
        trade_id=trade.trade_id,
        line_id=case.line_id,
        buyer=trade.buyer,
        seller=trade.seller,
        partner=trade.partner,
        currency=trade.currency,
        frozen_minor=case.frozen_minor,
        reason=command.reason,
        evidence=case.evidence + evidence_of(command.evidence, command.actor, moment),
        create_time=moment.now,
        update_time=moment.now,
    )
    dispute = write(working, moment, opened, **waits(moment.now, time_in(DisputeState.OPEN)))
    write(working, moment, case, state=way.to, dispute=dispute.name, deadline_time=None, remind_time=None)
    disputed = with_line(trade, replace(line_of(trade, case), open_case=dispute.name))
    written = record(
        working, moment, disputed, command_cause(command, moment), line_ids=(case.line_id,), subject=dispute.name
    )
    tell_of(moment, EventKind.DISPUTE_OPENED, dispute, written, command.actor, reason=command.reason)
    return dispute


def add_evidence(command: AddEvidence, working: EscrowSet, moment: Moment) -> Dispute:
    """References to what speaks for one side."""
    dispute, trade, way = _begun(command, working, moment)
    evidence = dispute.evidence + evidence_of(command.evidence, command.actor, moment)
    if len(evidence) > MOST_EVIDENCE:
        raise TooMuch(dispute.name, "the number of evidence", limit=MOST_EVIDENCE, given=len(evidence))
    given = replace(dispute, evidence=evidence)
    return _moved(
        working, moment, given, trade, way, command_cause(command, moment), EventKind.EVIDENCE_ADDED, restarts=False
    )


def make_offer(command: MakeOffer, working: EscrowSet, moment: Moment) -> Dispute:
    """Row 13: → OFFERED. The time for an agreement goes on as before."""
    dispute, trade, way = _begun(command, working, moment)
    _check_whole(dispute, command)
    offer = Offer(command.actor, command.buyer_minor, command.seller_minor, moment.now)
    offered = replace(dispute, offer=offer)
    cause = command_cause(command, moment)
    return _moved(working, moment, offered, trade, way, cause, EventKind.OFFER_MADE, restarts=False)


def accept_offer(command: AcceptOffer, working: EscrowSet, moment: Moment) -> Any:
    """Row 13: → SETTLED, and CLOSED once both parts are paid."""
    dispute, trade, way = _begun(command, working, moment)
    _check_etag(dispute, command.etag)
    offer = dispute.offer
    assert offer is not None, "only an offer is accepted"
    cause = command_cause(command, moment)
    return _divide(working, moment, dispute, trade, way, offer, cause, EventKind.DISPUTE_SETTLED)


def decide_dispute(command: DecideDispute, working: EscrowSet, moment: Moment) -> Any:
    """Row 12: → DECIDED until the time for an appeal has passed; after an appeal → CLOSED once both parts are paid."""
    dispute, trade, way = _begun(command, working, moment)
    _check_etag(dispute, command.etag)
    _check_whole(dispute, command)
    decision = Decision(
        made_by=actors.officer(command.actor, command.token),
        buyer_minor=command.buyer_minor,
        seller_minor=command.seller_minor,
        reason=command.reason,
        final=dispute.appealed_by is not None,
        create_time=moment.now,
    )
    decided, cause = replace(dispute, decision=decision), command_cause(command, moment)
    if way.step is not None:
        return _divide(working, moment, decided, trade, way, decision, cause, EventKind.DISPUTE_DECIDED)
    return _moved(working, moment, decided, trade, way, cause, EventKind.DISPUTE_DECIDED)


def appeal_dispute(command: AppealDispute, working: EscrowSet, moment: Moment) -> Dispute:
    """→ APPEALED: an arbiter decides once more, and finally."""
    name = f"{DISPUTES}/{command.name}"
    dispute, trade = found(command, name, Dispute, DisputeNotFound, working)
    if dispute.state is DisputeState.DECIDED and too_late(dispute, moment.now):
        raise DisputeWindowClosed(dispute.name, command.name_of_command)
    way = way_of(command, dispute, moment)
    appealed = replace(dispute, appealed_by=command.actor, appeal_reason=command.reason)
    cause = command_cause(command, moment)
    return _moved(working, moment, appealed, trade, way, cause, EventKind.DISPUTE_APPEALED)


def time_passes(dispute: Dispute, trade: Trade, working: EscrowSet, moment: Moment) -> None:
    """The reminder, or what the deadline that has passed does."""
    way = way_of_time(dispute, moment)
    if way is not None and way.step is not None:
        assert dispute.decision is not None, "only a decision is paid by time"
        cause = timer_cause(TIMERS[dispute.state], moment)
        _divide(working, moment, dispute, trade, way, dispute.decision, cause, None)
    elif way is not None:
        waiting = replace(dispute, arbiter_needed=True)
        cause = timer_cause(TIMERS[dispute.state], moment)
        _moved(working, moment, waiting, trade, way, cause, EventKind.DISPUTE_OVERDUE, over_time=True)
    elif has_passed(dispute.remind_time, moment.now):
        reminded = write(working, moment, dispute, remind_time=None)
        reason = TIMERS[dispute.state]
        tell_of(moment, EventKind.DISPUTE_REMINDER, reminded, trade, actors.SYSTEM, reason=reason)


def _begun(
    command: DisputeCommand, working: EscrowSet, moment: Moment
) -> tuple[Dispute, Trade, Way[DisputeState, Dispute]]:
    dispute, trade = found(command, f"{DISPUTES}/{command.name}", Dispute, DisputeNotFound, working)
    return dispute, trade, way_of(command, dispute, moment)


def _check_whole(dispute: Dispute, command: MakeOffer | DecideDispute) -> None:
    """Raises DecisionNotEqualFrozen."""
    if command.buyer_minor + command.seller_minor != dispute.frozen_minor:
        raise DecisionNotEqualFrozen(
            dispute.name,
            frozen_minor=dispute.frozen_minor,
            buyer_minor=command.buyer_minor,
            seller_minor=command.seller_minor,
        )


def _check_etag(dispute: Dispute, etag: str) -> None:
    """Raises EtagMismatch."""
    if etag and etag != str(dispute.revision):
        raise EtagMismatch(dispute.name, str(dispute.revision))


def _divide(
    working: EscrowSet,
    moment: Moment,
    dispute: Dispute,
    trade: Trade,
    way: Way[DisputeState, Dispute],
    parts: Offer | Decision,
    cause: Cause,
    kind: EventKind | None,
) -> Any:
    """Sets the step that pays both parts; the buyer's part first."""
    check_no_step(trade)
    case = working.proceedings.get(dispute.refund_case)
    assert isinstance(case, RefundCase), "a dispute is over a refund case"
    assert way.step is not None, "it moves money"
    line = line_of(trade, dispute)
    movement = money_legs.settlement(
        trade,
        line,
        buyer_minor=parts.buyer_minor,
        seller_minor=parts.seller_minor,
        claims_postage=case.claims_postage,
    )
    steps.begin(working, moment, trade, way.step, movement, cause, lines=(line,), subject=dispute.name)
    state = way.meanwhile or dispute.state
    paying = write(working, moment, dispute, state=state, step_pending=True, deadline_time=None, remind_time=None)
    if kind is not None:
        tell_of(moment, kind, paying, trade, cause.actor, reason=cause.reason)
    return DEFERRED


def _moved(
    working: EscrowSet,
    moment: Moment,
    dispute: Dispute,
    trade: Trade,
    way: Way[DisputeState, Dispute],
    cause: Cause,
    kind: EventKind,
    *,
    restarts: bool = True,
    over_time: bool = False,
) -> Dispute:
    """Without money. `restarts`: a new time begins with the new state, unless its time is over."""
    changes = waits(moment.now, None if over_time else time_in(way.to)) if restarts else {}
    moved = write(working, moment, dispute, state=way.to, **changes)
    written = record(working, moment, trade, cause, line_ids=(dispute.line_id,), subject=dispute.name)
    tell_of(moment, kind, moved, written, cause.actor, reason=cause.reason)
    return moved
