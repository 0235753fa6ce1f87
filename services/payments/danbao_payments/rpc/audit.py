"""Serves AuditService."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc

from danbao.payments.v1 import audit_pb2, audit_pb2_grpc
from danbao.type.v1 import privileged_action_pb2
from danbao_kit.action_calls import ActionCalls
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import MAX_MINOR, Money, check_currency
from danbao_kit.timestamps import moment_of
from danbao_payments.application.ports import Auditor
from danbao_payments.domain.audit import Look, Loss, Term, Violation, Window, losses
from danbao_payments.rpc.values import money_of, timestamp

Context: TypeAlias = grpc.aio.ServicerContext

# Left of the caller's time to tell what was found.
_TO_TELL_S = 0.3
_LEAST_S = 0.05
_SHOWN = 100


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """`last` gives the last complete look that this replica took by itself, if there is one."""

    def __init__(self, auditor: Auditor, clock: Clock, last: Callable[[], Look | None], actions: ActionCalls) -> None:
        self._auditor = auditor
        self._actions = actions
        self._clock = clock
        self._last = last

    async def GetAudit(self, request: audit_pb2.GetAuditRequest, context: Context) -> audit_pb2.Audit:
        _check_currency(request.currency)
        look = self._last() if request.max_age_seconds else None
        if look is None or _age_s(look) > request.max_age_seconds:
            look = await self._auditor.look(now=self._clock.now(), budget_s=budget_s())
        return audit_message(look, request.currency)

    async def GetAssetLoss(self, request: audit_pb2.GetAssetLossRequest, context: Context) -> audit_pb2.AssetLoss:
        since = moment_of(request.start_time, "start_time") if request.HasField("start_time") else None
        until = moment_of(request.end_time, "end_time") if request.HasField("end_time") else None
        if since is not None and until is not None and since >= until:
            raise FieldInvalid(FieldViolation("end_time", "is not after start_time"))
        _check_currency(request.currency)
        look = await self._auditor.look(
            now=self._clock.now(), budget_s=budget_s(), window=Window(since, until), losses_only=True
        )
        return audit_pb2.AssetLoss(
            currencies=[_loss_message(loss) for loss in losses(look, request.currency)],
            complete=look.is_complete and look.flows is not None,
            create_time=timestamp(look.read_time),
            sequence=look.sequence,
        )

    async def ListPrivilegedActions(
        self, request: privileged_action_pb2.ListPrivilegedActionsRequest, context: Context
    ) -> privileged_action_pb2.ListPrivilegedActionsResponse:
        return await self._actions.list(request)

    async def VerifyPrivilegedActions(
        self, request: privileged_action_pb2.VerifyPrivilegedActionsRequest, context: Context
    ) -> privileged_action_pb2.PrivilegedActionsCheck:
        return await self._actions.verify(request)


def budget_s() -> float | None:
    """How long the call at hand may read; None: its caller waits for ever."""
    remaining_s = current_call().remaining_s()
    return None if remaining_s is None else max(remaining_s - _TO_TELL_S, _LEAST_S)


def amount_of_reply(parse: Callable[[str, bytes], Any], method: str, reply: bytes) -> Money | None:
    """Which sum a recorded answer is about, where it is about one."""
    message = parse(method, reply)
    if "amount" in message.DESCRIPTOR.fields_by_name:
        return money_of(message.amount)
    if "transfers" in message.DESCRIPTOR.fields_by_name and message.transfers:
        currency = message.transfers[0].amount.currency
        moved = [each.amount.amount_minor for each in message.transfers if each.amount.currency == currency]
        return Money(currency, sum(moved))
    return None


def audit_message(look: Look, currency: str) -> audit_pb2.Audit:
    violations, count = look.violations(currency), look.count(currency)
    return audit_pb2.Audit(
        intact=look.is_complete and count == 0,
        complete=look.is_complete,
        create_time=timestamp(look.read_time),
        age_seconds=_age_s(look),
        elapsed_ms=round(look.elapsed_s * 1000),
        sequence=look.sequence,
        event_sequence=look.event_sequence,
        chain_hash=look.chain_hash.hex(),
        violations=[_violation_message(each) for each in violations[:_SHOWN]],
        violation_count=count,
        checks=[
            audit_pb2.AuditCheck(
                invariant=each.rule.invariant,
                check=each.rule.name,
                title=each.rule.title,
                complete=each.done,
                violation_count=each.count(currency),
            )
            for each in look.checked
        ],
        counts=audit_pb2.AuditCounts(**look.counts._asdict()),
    )


def _violation_message(violation: Violation) -> audit_pb2.AuditViolation:
    return audit_pb2.AuditViolation(
        invariant=violation.rule.invariant,
        check=violation.rule.name,
        title=violation.rule.title,
        resource=violation.resource,
        expected=violation.expected,
        found=violation.found,
        off_minor=_shown(violation.off_minor),
        currency=violation.currency,
    )


def _loss_message(loss: Loss) -> audit_pb2.CurrencyLoss:
    return audit_pb2.CurrencyLoss(
        currency=loss.currency,
        loss_minor=_shown(loss.total_minor),
        unbalanced_minor=_shown(loss.terms[Term.UNBALANCED]),
        mismatched_minor=_shown(loss.terms[Term.MISMATCHED]),
        held_mismatch_minor=_shown(loss.terms[Term.HELD]),
        duplicated_minor=_shown(loss.terms[Term.DUPLICATED]),
        missing_minor=_shown(loss.terms[Term.MISSING]),
        overpaid_minor=_shown(loss.terms[Term.OVERPAID]),
        settled_minor=_shown(loss.flows.settled_minor),
        loss_parts_per_billion=_shown(loss.parts_per_billion),
        limbo_minor=_shown(loss.flows.limbo_minor),
        limbo_count=loss.flows.limbo_count,
        fraud_loss_minor=_shown(loss.flows.fraud_minor),
    )


def _shown(number: int) -> int:
    return max(-MAX_MINOR, min(number, MAX_MINOR))


def _age_s(look: Look) -> int:
    """Rounded up, so that what is a little too old is too old."""
    return -int(-(datetime.now(UTC) - look.read_time).total_seconds() // 1)


def _check_currency(currency: str) -> None:
    if currency:
        check_currency(currency, "currency")
