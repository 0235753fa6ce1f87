"""What the services find when they audit themselves and one another."""

from typing import Any

import grpc

from danbao.escrow.v1 import audit_pb2 as escrow_audit_pb2
from danbao.escrow.v1 import audit_pb2_grpc as escrow_audits
from danbao.payments.v1 import audit_pb2 as payments_audit_pb2
from danbao.payments.v1 import audit_pb2_grpc as payments_audits
from danbao_local.card import Card
from danbao_local.errors import StackFailed
from danbao_local.replay.calls import RETRIED
from danbao_local.replay.channels import operator_channels

_AUDIT_SECONDS = 300.0
_TRIES = 3


async def own_audits(card: Card) -> dict[str, Any]:
    """By service, payments first. Raises StackFailed."""
    channels = operator_channels(card)
    try:
        asked: tuple[tuple[str, Any, Any], ...] = (
            ("payments", payments_audits.AuditServiceStub(channels["payments"]), payments_audit_pb2.GetAuditRequest()),
            ("escrow", escrow_audits.AuditServiceStub(channels["escrow"]), escrow_audit_pb2.GetAuditRequest()),
        )
        return {name: await _audit(name, stub, request) for name, stub, request in asked}
    finally:
        for channel in channels.values():
            await channel.close()


async def _audit(name: str, stub: Any, request: Any) -> Any:
    for attempt in range(1, _TRIES + 1):
        try:
            return await stub.GetAudit(request, timeout=_AUDIT_SECONDS, wait_for_ready=True)
        except grpc.aio.AioRpcError as failure:
            if failure.code() not in RETRIED or attempt == _TRIES:
                raise StackFailed(f"{name} cannot be audited: {failure.code().name}, {failure.details()}") from failure
    raise AssertionError("returned or raised")
