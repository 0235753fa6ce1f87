"""What comes of a rail's report."""

from __future__ import annotations

from typing import NamedTuple

from danbao_payments.domain.commands import ReportRailResult
from danbao_payments.domain.errors import RailResultConflicts
from danbao_payments.domain.movement import CONFLICT, Movement, RailResult, Step
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.withdrawal import Withdrawal


class RailReport(NamedTuple):
    """The movement as it is now, and whether the report told anything new."""

    movement: TopUp | Withdrawal | Payment | RailRefund
    changed: bool


# Reports that are of the movement itself. A settlement, a return and a chargeback may have references of their own.
_OF_ITSELF = frozenset({RailResult.SUCCEEDED, RailResult.FAILED})


def own_reference(known: str, result: RailResult, told: str) -> str:
    """The movement's reference after a report: what it was told as its own, never a settlement's or a return's."""
    return told or known if result in _OF_ITSELF else known


def tells_reference(known: str, command: ReportRailResult) -> bool:
    """Whether a report that moves nothing any more is the first to tell the movement's own reference."""
    return not known and command.rail_reference != "" and command.result in _OF_ITSELF


def check_no_conflict(
    movement: Movement, *, state: str, known_reference: str, result: RailResult, rail_reference: str, step: Step | None
) -> Step:
    """The table's step. Raises RailResultConflicts where it has none, and for a second reference of one movement."""
    other = result in _OF_ITSELF and rail_reference and known_reference and rail_reference != known_reference
    if step is CONFLICT or other:
        raise RailResultConflicts(
            movement.name,
            state=state,
            result=result.value,
            known_reference=known_reference,
            rail_reference=rail_reference,
        )
    return step
