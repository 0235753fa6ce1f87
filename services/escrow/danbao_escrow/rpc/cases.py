"""RefundService, DisputeService and CompensationService: commands on the one write path, and reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from danbao.escrow.v1 import claim_pb2, claim_pb2_grpc, dispute_pb2, dispute_pb2_grpc, refund_pb2, refund_pb2_grpc
from danbao_escrow.application.actors import may_see
from danbao_escrow.application.ports import CaseReads, ProceedingFilter
from danbao_escrow.domain.case_commands import CaseCommandName as C
from danbao_escrow.domain.case_errors import CaseNotFound, ClaimNotFound, DisputeNotFound
from danbao_escrow.domain.case_model import CLAIMS, DISPUTES, REFUND_CASES, Claim, Dispute, Proceeding, RefundCase
from danbao_escrow.rpc.proceedings import command_of, id_of, proceeding_message, state_name
from danbao_escrow.rpc.requests import token_of, trade_id
from danbao_escrow.rpc.running import run_waiting
from danbao_kit.call import current_call
from danbao_kit.commands import CommandRunner
from danbao_kit.errors import PageTokenInvalid
from danbao_kit.paging import decode_token, encode_token, page_size

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Cases:
    """What the three services share."""

    def __init__(self, runner: CommandRunner, reads: CaseReads) -> None:
        self._runner = runner
        self._reads = reads

    async def _run(self, name: C, request: Any, context: Any) -> Any:
        command = command_of(name, request, token_of(current_call()))
        return await run_waiting(self._runner, context, name, request.request_id, command)

    async def _get(self, of: type, name: str, collection: str, missing: Any) -> Any:
        thing = await self._reads.proceeding(of, id_of(name, collection))
        token = token_of(current_call())
        if thing is None or not may_see(token, buyer=thing.buyer, seller=thing.seller, partner=thing.partner):
            raise missing(name)
        return proceeding_message(thing)

    async def _list(self, of: type, collection: str, message: Any, request: Any) -> tuple[list[Any], str]:
        """A page and the token of the next."""
        token = token_of(current_call())
        wanted = ProceedingFilter(
            seen_by=None if token.sees_all else token,
            trade=trade_id(request.trade, "trade") if request.trade else None,
            party=request.party,
            state=state_name(message, request.state),
            open_only=request.open_only,
        )
        scope = f"{collection} {wanted}"
        size = page_size(request.page_size)
        after = _position(scope, request.page_token)
        found: list[Proceeding] = await self._reads.proceedings(of, wanted, after=after, limit=size + 1)
        more = encode_token(scope, _position_of(found[size - 1])) if len(found) > size else ""
        return [proceeding_message(thing) for thing in found[:size]], more


class RefundServicer(_Cases, refund_pb2_grpc.RefundServiceServicer):
    """Refund cases."""

    async def OpenRefundCase(self, request: refund_pb2.OpenRefundCaseRequest, context: Any) -> refund_pb2.RefundCase:
        return await self._run(C.OPEN_REFUND_CASE, request, context)

    async def AcceptRefundCase(
        self, request: refund_pb2.AcceptRefundCaseRequest, context: Any
    ) -> refund_pb2.RefundCase:
        return await self._run(C.ACCEPT_REFUND_CASE, request, context)

    async def RejectRefundCase(
        self, request: refund_pb2.RejectRefundCaseRequest, context: Any
    ) -> refund_pb2.RefundCase:
        return await self._run(C.REJECT_REFUND_CASE, request, context)

    async def SubmitReturn(self, request: refund_pb2.SubmitReturnRequest, context: Any) -> refund_pb2.RefundCase:
        return await self._run(C.SUBMIT_RETURN, request, context)

    async def ConfirmReturn(self, request: refund_pb2.ConfirmReturnRequest, context: Any) -> refund_pb2.RefundCase:
        return await self._run(C.CONFIRM_RETURN, request, context)

    async def CancelRefundCase(
        self, request: refund_pb2.CancelRefundCaseRequest, context: Any
    ) -> refund_pb2.RefundCase:
        return await self._run(C.CANCEL_REFUND_CASE, request, context)

    async def GetRefundCase(self, request: refund_pb2.GetRefundCaseRequest, context: Any) -> refund_pb2.RefundCase:
        return await self._get(RefundCase, request.name, REFUND_CASES, CaseNotFound)

    async def ListRefundCases(
        self, request: refund_pb2.ListRefundCasesRequest, context: Any
    ) -> refund_pb2.ListRefundCasesResponse:
        found, more = await self._list(RefundCase, REFUND_CASES, refund_pb2.RefundCase, request)
        return refund_pb2.ListRefundCasesResponse(refund_cases=found, next_page_token=more)


class DisputeServicer(_Cases, dispute_pb2_grpc.DisputeServiceServicer):
    """Disputes."""

    async def OpenDispute(self, request: dispute_pb2.OpenDisputeRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._run(C.OPEN_DISPUTE, request, context)

    async def AddEvidence(self, request: dispute_pb2.AddEvidenceRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._run(C.ADD_EVIDENCE, request, context)

    async def MakeOffer(self, request: dispute_pb2.MakeOfferRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._run(C.MAKE_OFFER, request, context)

    async def AcceptOffer(self, request: dispute_pb2.AcceptOfferRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._run(C.ACCEPT_OFFER, request, context)

    async def DecideDispute(self, request: dispute_pb2.DecideDisputeRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._run(C.DECIDE_DISPUTE, request, context)

    async def AppealDispute(self, request: dispute_pb2.AppealDisputeRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._run(C.APPEAL_DISPUTE, request, context)

    async def GetDispute(self, request: dispute_pb2.GetDisputeRequest, context: Any) -> dispute_pb2.Dispute:
        return await self._get(Dispute, request.name, DISPUTES, DisputeNotFound)

    async def ListDisputes(
        self, request: dispute_pb2.ListDisputesRequest, context: Any
    ) -> dispute_pb2.ListDisputesResponse:
        found, more = await self._list(Dispute, DISPUTES, dispute_pb2.Dispute, request)
        return dispute_pb2.ListDisputesResponse(disputes=found, next_page_token=more)


class CompensationServicer(_Cases, claim_pb2_grpc.CompensationServiceServicer):
    """Claims."""

    async def OpenClaim(self, request: claim_pb2.OpenClaimRequest, context: Any) -> claim_pb2.Claim:
        return await self._run(C.OPEN_CLAIM, request, context)

    async def DecideClaim(self, request: claim_pb2.DecideClaimRequest, context: Any) -> claim_pb2.Claim:
        return await self._run(C.DECIDE_CLAIM, request, context)

    async def GetClaim(self, request: claim_pb2.GetClaimRequest, context: Any) -> claim_pb2.Claim:
        return await self._get(Claim, request.name, CLAIMS, ClaimNotFound)

    async def ListClaims(self, request: claim_pb2.ListClaimsRequest, context: Any) -> claim_pb2.ListClaimsResponse:
        found, more = await self._list(Claim, CLAIMS, claim_pb2.Claim, request)
        return claim_pb2.ListClaimsResponse(claims=found, next_page_token=more)


def _position_of(thing: Proceeding) -> str:
    thing_id = thing.name.partition("/")[2]
    return f"{(thing.create_time - _EPOCH) // timedelta(microseconds=1)} {thing_id}"


def _position(scope: str, token: str) -> tuple[int, UUID] | None:
    if not token:
        return None
    try:
        at_us, thing_id = decode_token(scope, token).split()
        # What lies beyond a calendar is no position of ours.
        return min(max(int(at_us), 0), 2**57), UUID(thing_id)
    except ValueError as error:
        raise PageTokenInvalid from error
