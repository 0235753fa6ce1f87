"""How requests about refund cases, disputes and claims become commands, and how these look on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

from danbao.escrow.v1 import claim_pb2, dispute_pb2, evidence_pb2, refund_pb2
from danbao_escrow.domain import case_commands as commands
from danbao_escrow.domain.case_commands import CaseCommand, CaseCommandName, NewEvidence
from danbao_escrow.domain.case_model import (
    CLAIMS,
    DISPUTES,
    REFUND_CASES,
    Claim,
    ClaimState,
    Dispute,
    DisputeState,
    Evidence,
    Finding,
    Proceeding,
    RefundCase,
    RefundCaseState,
    RefundReason,
)
from danbao_escrow.domain.commands import Token
from danbao_escrow.rpc.mapping import actor_message, set_time
from danbao_escrow.rpc.requests import actor_of, money_of, trade_id
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import check_currency, check_positive

_CASE_STATES = {state: refund_pb2.RefundCase.State.Value(f"STATE_{state}") for state in RefundCaseState}
_DISPUTE_STATES = {state: dispute_pb2.Dispute.State.Value(f"STATE_{state}") for state in DisputeState}
_CLAIM_STATES = {state: claim_pb2.Claim.State.Value(f"STATE_{state}") for state in ClaimState}
_FINDINGS = {finding: claim_pb2.Finding.Value(f"FINDING_{finding}") for finding in Finding}
_FOUND = {number: finding for finding, number in _FINDINGS.items()}
_REASONS = {reason: refund_pb2.RefundReason.Value(f"REFUND_REASON_{reason}") for reason in RefundReason}
_TIMES = ("create_time", "update_time", "end_time")


def proceeding_message(thing: Proceeding) -> Any:
    """The case, dispute or claim as its contract shows it."""
    message = _MESSAGES[type(thing)](thing)
    times = _TIMES if isinstance(thing, Claim) else (*_TIMES, "deadline_time")
    for name in times:
        set_time(message, name, getattr(thing, name))
    return message


def command_of(name: CaseCommandName, request: Any, token: Token) -> CaseCommand:
    """The command that a request message stands for. Raises what refuses the message."""
    return _COMMANDS[name](request, token)


def id_of(name: str, collection: str, field: str = "name") -> UUID:
    """The id in {collection}/{uuid}. Raises FieldInvalid for anything that is not a UUID in its usual form."""
    text = name.removeprefix(f"{collection}/")
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise FieldInvalid(FieldViolation(field, f"must be {collection}/{{uuid}}"))
    return value


def state_name(kind: Any, number: int) -> str:
    """The state's name without its prefix; empty for unspecified."""
    name = str(kind.State.Name(number)).removeprefix("STATE_")
    return "" if name == "UNSPECIFIED" else name


def _case(case: RefundCase) -> refund_pb2.RefundCase:
    return refund_pb2.RefundCase(
        name=case.name,
        state=_CASE_STATES[case.state],
        trade=f"trades/{case.trade_id}",
        line_id=case.line_id,
        buyer=case.buyer,
        seller=case.seller,
        currency=case.currency,
        amount_minor=case.amount_minor,
        claims_postage=case.claims_postage,
        postage_minor=case.postage_minor,
        with_return=case.with_return,
        reason_code=_REASONS[case.reason_code],
        reason=case.reason,
        evidence=_evidence(case.evidence),
        reject_reason=case.reject_reason,
        return_carrier=case.return_carrier,
        return_tracking=case.return_tracking,
        dispute=case.dispute,
        refunded_minor=case.refunded_minor,
        step_pending=case.step_pending,
        step_blocked=case.step_blocked,
        step_refusal=case.step_refusal,
        etag=str(case.revision),
    )


def _dispute(dispute: Dispute) -> dispute_pb2.Dispute:
    message = dispute_pb2.Dispute(
        name=dispute.name,
        state=_DISPUTE_STATES[dispute.state],
        refund_case=dispute.refund_case,
        trade=f"trades/{dispute.trade_id}",
        line_id=dispute.line_id,
        buyer=dispute.buyer,
        seller=dispute.seller,
        currency=dispute.currency,
        frozen_minor=dispute.frozen_minor,
        reason=dispute.reason,
        evidence=_evidence(dispute.evidence),
        appeal_reason=dispute.appeal_reason,
        arbiter_needed=dispute.arbiter_needed,
        step_pending=dispute.step_pending,
        step_blocked=dispute.step_blocked,
        step_refusal=dispute.step_refusal,
        etag=str(dispute.revision),
    )
    if dispute.appealed_by is not None:
        message.appealed_by.CopyFrom(actor_message(dispute.appealed_by))
    if dispute.offer is not None:
        offer = dispute.offer
        message.offer.made_by.CopyFrom(actor_message(offer.made_by))
        message.offer.buyer_minor, message.offer.seller_minor = offer.buyer_minor, offer.seller_minor
        set_time(message.offer, "create_time", offer.create_time)
    if dispute.decision is not None:
        decision = dispute.decision
        message.decision.made_by.CopyFrom(actor_message(decision.made_by))
        message.decision.buyer_minor, message.decision.seller_minor = decision.buyer_minor, decision.seller_minor
        message.decision.reason, message.decision.final = decision.reason, decision.final
        set_time(message.decision, "create_time", decision.create_time)
    return message


def _claim(claim: Claim) -> claim_pb2.Claim:
    message = claim_pb2.Claim(
        name=claim.name,
        state=_CLAIM_STATES[claim.state],
        trade=f"trades/{claim.trade_id}",
        buyer=claim.buyer,
        seller=claim.seller,
        currency=claim.currency,
        amount_minor=claim.amount_minor,
        compensated_minor=claim.compensated_minor,
        reason=claim.reason,
        evidence=_evidence(claim.evidence),
        decision_reason=claim.decision_reason,
        ledger_reference=claim.ledger_reference,
        step_pending=claim.step_pending,
        step_refusal=claim.step_refusal,
        etag=str(claim.revision),
        finding=_FINDINGS[claim.finding],
    )
    if claim.decided_by is not None:
        message.decided_by.CopyFrom(actor_message(claim.decided_by))
    return message


_MESSAGES: Mapping[type, Callable[[Any], Any]] = MappingProxyType({RefundCase: _case, Dispute: _dispute, Claim: _claim})


def _evidence(given: Iterable[Evidence]) -> list[evidence_pb2.Evidence]:
    messages = []
    for item in given:
        message = evidence_pb2.Evidence(
            uri=item.uri,
            sha256=item.sha256,
            size_bytes=item.size_bytes,
            media_type=item.media_type,
            note=item.note,
            given_by=actor_message(item.given_by),
        )
        set_time(message, "create_time", item.create_time)
        messages.append(message)
    return messages


def _new_evidence(messages: Iterable[evidence_pb2.NewEvidence]) -> tuple[NewEvidence, ...]:
    return tuple(NewEvidence(item.uri, item.sha256, item.size_bytes, item.media_type, item.note) for item in messages)


def _amount(request: Any) -> Any:
    """Raises AmountNotPositive, CurrencyUnknown."""
    amount = money_of(request.amount)
    check_positive(amount.minor, "amount.amount_minor")
    check_currency(amount.currency, "amount.currency")
    return amount


def _open_refund_case(request: Any, token: Token) -> commands.OpenRefundCase:
    return commands.OpenRefundCase(
        actor=actor_of(request.actor),
        trade=trade_id(request.trade, "trade"),
        line_id=request.line_id,
        amount=_amount(request),
        with_return=request.with_return,
        claims_postage=request.claims_postage,
        reason_code=refund_pb2.RefundReason.Name(request.reason_code).removeprefix("REFUND_REASON_"),
        reason=request.reason,
        evidence=_new_evidence(request.evidence),
        token=token,
    )


def _reject_refund_case(request: Any, token: Token) -> commands.RejectRefundCase:
    return commands.RejectRefundCase(actor_of(request.actor), id_of(request.name, REFUND_CASES), request.reason, token)


def _submit_return(request: Any, token: Token) -> commands.SubmitReturn:
    return commands.SubmitReturn(
        actor=actor_of(request.actor),
        name=id_of(request.name, REFUND_CASES),
        carrier=request.carrier,
        tracking=request.tracking,
        token=token,
    )


def _accept_refund_case(request: Any, token: Token) -> commands.AcceptRefundCase:
    return commands.AcceptRefundCase(actor_of(request.actor), id_of(request.name, REFUND_CASES), token)


def _confirm_return(request: Any, token: Token) -> commands.ConfirmReturn:
    return commands.ConfirmReturn(actor_of(request.actor), id_of(request.name, REFUND_CASES), token)


def _cancel_refund_case(request: Any, token: Token) -> commands.CancelRefundCase:
    return commands.CancelRefundCase(actor_of(request.actor), id_of(request.name, REFUND_CASES), request.reason, token)


def _open_dispute(request: Any, token: Token) -> commands.OpenDispute:
    return commands.OpenDispute(
        actor=actor_of(request.actor),
        refund_case=id_of(request.refund_case, REFUND_CASES, "refund_case"),
        reason=request.reason,
        evidence=_new_evidence(request.evidence),
        token=token,
    )


def _add_evidence(request: Any, token: Token) -> commands.AddEvidence:
    evidence = _new_evidence(request.evidence)
    return commands.AddEvidence(actor_of(request.actor), id_of(request.name, DISPUTES), evidence, token)


def _make_offer(request: Any, token: Token) -> commands.MakeOffer:
    return commands.MakeOffer(
        actor=actor_of(request.actor),
        name=id_of(request.name, DISPUTES),
        buyer_minor=request.buyer_minor,
        seller_minor=request.seller_minor,
        reason=request.reason,
        token=token,
    )


def _accept_offer(request: Any, token: Token) -> commands.AcceptOffer:
    return commands.AcceptOffer(actor_of(request.actor), id_of(request.name, DISPUTES), request.etag, token)


def _decide_dispute(request: Any, token: Token) -> commands.DecideDispute:
    return commands.DecideDispute(
        actor=actor_of(request.actor),
        name=id_of(request.name, DISPUTES),
        buyer_minor=request.buyer_minor,
        seller_minor=request.seller_minor,
        reason=request.reason,
        etag=request.etag,
        token=token,
    )


def _appeal_dispute(request: Any, token: Token) -> commands.AppealDispute:
    return commands.AppealDispute(actor_of(request.actor), id_of(request.name, DISPUTES), request.reason, token)


def _open_claim(request: Any, token: Token) -> commands.OpenClaim:
    return commands.OpenClaim(
        actor=actor_of(request.actor),
        trade=trade_id(request.trade, "trade"),
        amount=_amount(request),
        reason=request.reason,
        evidence=_new_evidence(request.evidence),
        token=token,
    )


def _decide_claim(request: Any, token: Token) -> commands.DecideClaim:
    finding = _FOUND[request.finding]
    if finding is Finding.FRAUD and not request.compensation_minor:
        raise FieldInvalid(FieldViolation("finding", "FRAUD is found with an award only"))
    return commands.DecideClaim(
        actor=actor_of(request.actor),
        name=id_of(request.name, CLAIMS),
        compensation_minor=request.compensation_minor,
        reason=request.reason,
        token=token,
        finding=finding,
    )


_COMMANDS: Mapping[CaseCommandName, Callable[[Any, Token], CaseCommand]] = MappingProxyType(
    {
        CaseCommandName.OPEN_REFUND_CASE: _open_refund_case,
        CaseCommandName.ACCEPT_REFUND_CASE: _accept_refund_case,
        CaseCommandName.REJECT_REFUND_CASE: _reject_refund_case,
        CaseCommandName.SUBMIT_RETURN: _submit_return,
        CaseCommandName.CONFIRM_RETURN: _confirm_return,
        CaseCommandName.CANCEL_REFUND_CASE: _cancel_refund_case,
        CaseCommandName.OPEN_DISPUTE: _open_dispute,
        CaseCommandName.ADD_EVIDENCE: _add_evidence,
        CaseCommandName.MAKE_OFFER: _make_offer,
        CaseCommandName.ACCEPT_OFFER: _accept_offer,
        CaseCommandName.DECIDE_DISPUTE: _decide_dispute,
        CaseCommandName.APPEAL_DISPUTE: _appeal_dispute,
        CaseCommandName.OPEN_CLAIM: _open_claim,
        CaseCommandName.DECIDE_CLAIM: _decide_claim,
    }
)
