"""Serves AuditService: who did what by privilege."""

from __future__ import annotations

from typing import Any

from danbao.credit.v1 import audit_pb2_grpc
from danbao.type.v1 import privileged_action_pb2
from danbao_kit.action_calls import ActionCalls


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    def __init__(self, actions: ActionCalls) -> None:
        self._actions = actions

    async def ListPrivilegedActions(
        self, request: privileged_action_pb2.ListPrivilegedActionsRequest, context: Any
    ) -> privileged_action_pb2.ListPrivilegedActionsResponse:
        return await self._actions.list(request)

    async def VerifyPrivilegedActions(
        self, request: privileged_action_pb2.VerifyPrivilegedActionsRequest, context: Any
    ) -> privileged_action_pb2.PrivilegedActionsCheck:
        return await self._actions.verify(request)
