"""Does what a complaint says: refund cases and disputes, call by call, under request ids that follow from the order."""

import hashlib
from dataclasses import dataclass
from typing import Any

from danbao.escrow.v1 import dispute_pb2, evidence_pb2, refund_pb2, trade_pb2
from danbao_local.olist.orders import Order
from danbao_local.replay.calls import Gateway
from danbao_local.replay.complaints import (
    UNSHIPPED,
    WITH_RETURN,
    CaseAction,
    Complaint,
    Course,
    PlannedCase,
    lowest_review,
)
from danbao_local.replay.parties import buyer_of, money, request_id, seller_subject, tracking_of
from danbao_local.replay.planned import PlannedTrade
from danbao_local.replay.record import CaseRecord, TradeRecord
from danbao_local.tokens import HOLDERS

_ARBITER = f"subjects/{HOLDERS['arbiter'].subject}"
_RETURN_CARRIER = "Correios"
_BUYER, _SELLER = trade_pb2.ROLE_BUYER, trade_pb2.ROLE_SELLER
_CHANGED_MIND = frozenset(course for course in Course if course.value.startswith("CANCELED"))
_NOT_RECEIVED = frozenset({Course.UNSHIPPED_UNANSWERED, Course.LOST_UNANSWERED, Course.LOST_ACCEPTED})
_LATE = frozenset(course for course in Course if course.value.startswith("LATE"))


@dataclass(frozen=True, slots=True)
class _Play:
    """One action on the cases of one trade."""

    complaint: Complaint
    action: CaseAction
    order: Order
    trade: PlannedTrade
    made: TradeRecord

    def command(self, role: trade_pb2.Role, what: str) -> dict[str, Any]:
        """Request id and actor. `what` is told apart within the action: a line."""
        party = buyer_of(self.order) if role == _BUYER else seller_subject(self.trade.seller_id)
        subject = _ARBITER if role == trade_pb2.ROLE_ARBITER else party
        return {
            "request_id": request_id(self.order.order_id, self.trade.seller_id, f"{self.action} {what}"),
            "actor": trade_pb2.Actor(subject=subject, role=role),
        }


class Cases:
    """Plays actions; the cases of one trade one after another, for a trade has one money step at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def play(
        self, complaint: Complaint, action: CaseAction, order: Order, trade: PlannedTrade, made: TradeRecord
    ) -> None:
        """One action. Raises Refused, GaveUp."""
        play = _Play(complaint, action, order, trade, made)
        if complaint.course not in UNSHIPPED and not made.shipped:
            return
        if action is CaseAction.CONFIRM:
            await self._confirm(play)
            return
        for case in complaint.cases:
            if action is CaseAction.OPEN:
                await self._open(play, case)
            else:
                await self._go_on(play, case, made.cases[case.line_id])

    async def _open(self, play: _Play, case: PlannedCase) -> None:
        request = refund_pb2.OpenRefundCaseRequest(
            **play.command(_BUYER, case.line_id),
            trade=play.made.name,
            line_id=case.line_id,
            amount=money(case.amount_minor),
            with_return=play.complaint.course in WITH_RETURN,
            claims_postage=case.postage_minor > 0,
            reason_code=_reason(play.complaint.course),
            reason=_words(play.order),
        )
        answer = await self._gateway.call(self._gateway.refunds.OpenRefundCase, request, "partner")
        play.made.cases[case.line_id] = CaseRecord(answer.name)

    async def _go_on(self, play: _Play, case: PlannedCase, made: CaseRecord) -> None:
        refunds, disputes, call = self._gateway.refunds, self._gateway.disputes, self._gateway.call
        complaint, line_id = play.complaint, case.line_id
        of_case: dict[str, Any] = {"name": made.name}
        of_dispute: dict[str, Any] = {"name": made.dispute}
        match play.action:
            case CaseAction.ACCEPT:
                content = play.command(_SELLER, line_id) | of_case
                await call(refunds.AcceptRefundCase, refund_pb2.AcceptRefundCaseRequest(**content), "partner")
            case CaseAction.REJECT:
                content = play.command(_SELLER, line_id) | of_case | {"reason": "sent as it was described"}
                await call(refunds.RejectRefundCase, refund_pb2.RejectRefundCaseRequest(**content), "partner")
            case CaseAction.WITHDRAW:
                content = play.command(_BUYER, line_id) | of_case | {"reason": "settled otherwise"}
                await call(refunds.CancelRefundCase, refund_pb2.CancelRefundCaseRequest(**content), "partner")
            case CaseAction.SEND_BACK:
                tracking = tracking_of(play.order.order_id, play.trade.seller_id, f" of line {line_id} on its way back")
                content = play.command(_BUYER, line_id) | of_case | {"carrier": _RETURN_CARRIER, "tracking": tracking}
                await call(refunds.SubmitReturn, refund_pb2.SubmitReturnRequest(**content), "partner")
            case CaseAction.RECEIVE_BACK:
                content = play.command(_SELLER, line_id) | of_case
                await call(refunds.ConfirmReturn, refund_pb2.ConfirmReturnRequest(**content), "partner")
            case CaseAction.DISPUTE:
                request = dispute_pb2.OpenDisputeRequest(
                    **play.command(_BUYER, line_id),
                    refund_case=made.name,
                    reason=_words(play.order),
                    evidence=[_evidence(play.order)],
                )
                answer = await call(disputes.OpenDispute, request, "partner")
                made.dispute = answer.name
            case CaseAction.OFFER:
                buyer_minor = complaint.offered_minor(case)
                content = play.command(_SELLER, line_id) | of_dispute | _parts(case, buyer_minor)
                await call(disputes.MakeOffer, dispute_pb2.MakeOfferRequest(**content), "partner")
            case CaseAction.TAKE_OFFER:
                content = play.command(_BUYER, line_id) | of_dispute
                await call(disputes.AcceptOffer, dispute_pb2.AcceptOfferRequest(**content), "partner")
            case CaseAction.APPEAL:
                content = play.command(_BUYER, line_id) | of_dispute | {"reason": "it came far too late"}
                await call(disputes.AppealDispute, dispute_pb2.AppealDisputeRequest(**content), "partner")
            case CaseAction.DECIDE | CaseAction.DECIDE_FINALLY:
                buyer_minor = complaint.decided_minor(case, finally_=play.action is CaseAction.DECIDE_FINALLY)
                content = play.command(trade_pb2.ROLE_ARBITER, line_id) | of_dispute | _parts(case, buyer_minor)
                request = dispute_pb2.DecideDisputeRequest(**content, reason="by how late it came")
                await call(disputes.DecideDispute, request, "arbiter")

    async def _confirm(self, play: _Play) -> None:
        """Whatever a case has not taken, and does not hold."""
        taken = {
            case.line_id: play.complaint.course is not Course.POOR_WITHDRAWN and case.amount_minor
            for case in play.complaint.cases
        }
        held = {case.line_id for case in play.complaint.cases} if play.complaint.course is Course.POOR_RETURNED else ()
        left = [
            line.line_id
            for line in play.trade.lines
            if line.line_id not in held and line.amount_minor > taken.get(line.line_id, 0)
        ]
        if not left:
            return
        request = trade_pb2.ConfirmLinesRequest(
            **play.command(_BUYER, "what is left"), name=play.made.name, line_ids=left
        )
        await self._gateway.call(self._gateway.trades.ConfirmLines, request, "partner")
        play.made.confirmed = True


def _parts(case: PlannedCase, buyer_minor: int) -> dict[str, int]:
    return {"buyer_minor": buyer_minor, "seller_minor": case.frozen_minor - buyer_minor}


def _reason(course: Course) -> refund_pb2.RefundReason:
    if course in _CHANGED_MIND:
        return refund_pb2.REFUND_REASON_CHANGED_MIND
    if course in _NOT_RECEIVED:
        return refund_pb2.REFUND_REASON_NOT_RECEIVED
    return refund_pb2.REFUND_REASON_LATE if course in _LATE else refund_pb2.REFUND_REASON_NOT_AS_DESCRIBED


def _words(order: Order) -> str:
    review = lowest_review(order)
    return f"status {order.status}" + (f", review {review.score}" if review else "")


def _evidence(order: Order) -> evidence_pb2.NewEvidence:
    """The review, by its hash."""
    content = f"{order.order_id} {_words(order)}".encode()
    return evidence_pb2.NewEvidence(
        uri=f"olist://reviews/{order.order_id}",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        media_type="text/plain",
        note="the buyer's review",
    )
