"""What is asked of claims: one decision function a command."""

from __future__ import annotations

from typing import Any

from danbao_escrow.application import actors, steps
from danbao_escrow.application.case_records import (
    check_no_step,
    command_cause,
    evidence_of,
    found,
    tell_of,
    visible_trade,
    way_of,
    write,
)
from danbao_escrow.application.records import record
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import money_legs
from danbao_escrow.domain.case_commands import DecideClaim, OpenClaim
from danbao_escrow.domain.case_errors import ClaimNotFound, ClaimPending, ClaimWindowClosed, NotAMember, TooMuch
from danbao_escrow.domain.case_model import CLAIMS, Claim, ClaimState
from danbao_escrow.domain.claim import CLAIM_WINDOW, OPEN_ROLES, counts_as
from danbao_escrow.domain.deadlines import has_passed
from danbao_escrow.domain.errors import AmountMismatch, TradeStateInvalid
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import Trade, TradeState
from danbao_escrow.domain.trade import legal_commands
from danbao_kit.decision import DEFERRED, Moment
from danbao_kit.immutable import replace


def open_claim(command: OpenClaim, working: EscrowSet, moment: Moment) -> Claim:
    """→ OPEN."""
    trade = visible_trade(command, command.trade, working)
    actors.check_actor(command.name_of_command, command.actor, command.token, trade, allowed=OPEN_ROLES)
    if trade.state is not TradeState.COMPLETED:
        legal = legal_commands(trade, moment.now)
        raise TradeStateInvalid(trade.name, command.name_of_command, trade.state, legal)
    if trade.open_claim:
        raise ClaimPending(trade.name, trade.open_claim, command.name_of_command, trade.state)
    assert trade.end_time is not None, "a completed trade has ended"
    if has_passed(trade.end_time + CLAIM_WINDOW, moment.now):
        raise ClaimWindowClosed(trade.name)
    if not trade.terms.member:
        raise NotAMember(trade.name, trade.seller)
    if command.amount.currency != trade.currency:
        raise AmountMismatch("amount.currency", f"must be {trade.currency} as of the trade")
    _check_within(trade, command.amount.minor)
    opened = Claim(
        claim_id=moment.new_id(),
        state=ClaimState.OPEN,
        trade_id=trade.trade_id,
        buyer=trade.buyer,
        seller=trade.seller,
        partner=trade.partner,
        currency=trade.currency,
        amount_minor=command.amount.minor,
        reason=command.reason,
        evidence=evidence_of(command.evidence, command.actor, moment),
        create_time=moment.now,
        update_time=moment.now,
    )
    claim = write(working, moment, opened)
    claimed = replace(trade, open_claim=claim.name)
    written = record(working, moment, claimed, command_cause(command, moment), subject=claim.name)
    tell_of(moment, EventKind.CLAIM_OPENED, claim, written, command.actor, reason=claim.reason)
    return claim


def decide_claim(command: DecideClaim, working: EscrowSet, moment: Moment) -> Any:
    """Row 14: → COMPENSATED once the money has moved; → REJECTED with nothing."""
    claim, trade = found(command, f"{CLAIMS}/{command.name}", Claim, ClaimNotFound, working)
    amount_minor, cause = command.compensation_minor, command_cause(command, moment)
    finding = counts_as(command.finding, amount_minor)
    way = way_of(command, replace(claim, compensated_minor=amount_minor), moment)
    if way.step is not None:
        if amount_minor > claim.amount_minor:
            raise TooMuch(claim.name, "the compensation", limit=claim.amount_minor, given=amount_minor)
        _check_within(trade, amount_minor)
        check_no_step(trade)
        movement = money_legs.compensation(trade, amount_minor)
        steps.begin(working, moment, trade, way.step, movement, cause, subject=claim.name)
        write(working, moment, claim, step_pending=True, step_refusal="", finding=finding)
        return DEFERRED
    rejected = write(
        working,
        moment,
        claim,
        state=way.to,
        end_time=moment.now,
        decided_by=actors.officer(command.actor, command.token),
        decision_reason=command.reason,
        finding=finding,
    )
    written = record(working, moment, replace(trade, open_claim=""), cause, subject=claim.name)
    tell_of(moment, EventKind.CLAIM_REJECTED, rejected, written, command.actor, reason=command.reason)
    return rejected


def _check_within(trade: Trade, amount_minor: int) -> None:
    """Raises TooMuch: over all claims of a trade the seller's limit, with the refunds what was paid."""
    compensated_minor = trade.compensated_minor + amount_minor
    limit_minor = trade.terms.compensation_limit_minor
    if compensated_minor > limit_minor:
        raise TooMuch(trade.name, "the compensation", limit=limit_minor, given=compensated_minor)
    given_minor = compensated_minor + trade.refunded_minor
    if given_minor > trade.funded_minor:
        raise TooMuch(trade.name, "compensation with refunds", limit=trade.funded_minor, given=given_minor)
