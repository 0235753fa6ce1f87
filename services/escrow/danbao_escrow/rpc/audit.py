"""Serves AuditService."""

from __future__ import annotations

from collections import Counter
from typing import Any

from danbao.escrow.v1 import audit_pb2, audit_pb2_grpc
from danbao.type.v1 import privileged_action_pb2
from danbao_escrow.application.auditing import Auditor
from danbao_escrow.domain.audit import RULES, Look
from danbao_escrow.rpc.mapping import set_time
from danbao_kit.action_calls import ActionCalls
from danbao_kit.call import current_call
from danbao_kit.errors import PeerNotAllowed

# Between two looks, for what concerns two services.
AGAIN_AFTER_S = 3.0
_TO_TELL_S = 0.3
_SHOWN = 100


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Looks when it is asked to."""

    def __init__(self, auditor: Auditor, actions: ActionCalls) -> None:
        self._auditor = auditor
        self._actions = actions

    async def GetAudit(self, request: audit_pb2.GetAuditRequest, context: Any) -> audit_pb2.Audit:
        call = current_call()
        if not call.is_internal and "operator" not in call.roles:
            raise PeerNotAllowed(call.peer, call.method)
        remaining_s = call.remaining_s()
        budget_s = None if remaining_s is None else max(remaining_s - _TO_TELL_S, 0.05)
        return audit_message(await self._auditor.look(again_after_s=AGAIN_AFTER_S, budget_s=budget_s))

    async def ListPrivilegedActions(
        self, request: privileged_action_pb2.ListPrivilegedActionsRequest, context: Any
    ) -> privileged_action_pb2.ListPrivilegedActionsResponse:
        return await self._actions.list(request)

    async def VerifyPrivilegedActions(
        self, request: privileged_action_pb2.VerifyPrivilegedActionsRequest, context: Any
    ) -> privileged_action_pb2.PrivilegedActionsCheck:
        return await self._actions.verify(request)


def audit_message(look: Look) -> audit_pb2.Audit:
    """The look as its contract shows it."""
    counted = Counter(violation.rule.name for violation in look.violations)
    message = audit_pb2.Audit(
        intact=look.is_intact,
        complete=look.is_complete,
        elapsed_ms=round(look.elapsed_s * 1000),
        payments_sequence=look.counts.payments_sequence,
        violations=[
            audit_pb2.AuditViolation(
                invariant=violation.rule.invariant,
                check=violation.rule.name,
                title=violation.rule.title,
                resource=violation.resource,
                expected=violation.expected,
                found=violation.found,
                off_minor=violation.off_minor,
            )
            for violation in look.violations[:_SHOWN]
        ],
        violation_count=len(look.violations),
        checks=[
            audit_pb2.AuditCheck(
                invariant=rule.invariant,
                check=rule.name,
                title=rule.title,
                complete=rule.name in look.done,
                violation_count=counted[rule.name],
            )
            for rule in RULES
        ],
        trades=look.counts.trades,
        steps=look.counts.steps,
        movements=look.counts.movements,
        parked_events=look.counts.parked,
    )
    set_time(message, "create_time", look.read_time)
    return message
