"""How cases and disputes end from outside: the buyer's bank took back what they are about."""

from __future__ import annotations

from danbao_escrow.application.actors import SYSTEM
from danbao_escrow.application.case_records import tell_of, write
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import dispute, refund_case
from danbao_escrow.domain.case_commands import CaseCommandName
from danbao_escrow.domain.case_model import Dispute, RefundCase
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import Role, Trade
from danbao_kit.decision import Moment

_CHARGED_BACK = CaseCommandName.CHARGED_BACK
_OVER = {"step_pending": False, "step_blocked": False, "deadline_time": None, "remind_time": None}


def end_charged_back(working: EscrowSet, moment: Moment, trade: Trade, name: str, reason: str) -> None:
    """Row 16: the case is over, or the dispute with its case. Its line and its step are the caller's to end."""
    thing = working.proceedings.get(name)
    if isinstance(thing, Dispute):
        _end_dispute(working, moment, trade, thing, reason)
    elif isinstance(thing, RefundCase):
        ended = _end_case(working, moment, thing)
        if ended is not None:
            tell_of(moment, EventKind.REFUND_CASE_WITHDRAWN, ended, trade, SYSTEM, reason=reason)


def _end_dispute(working: EscrowSet, moment: Moment, trade: Trade, found: Dispute, reason: str) -> None:
    way = dispute.TABLE.way(found, _CHARGED_BACK, Role.SYSTEM, moment.now)
    if way is None:
        return
    closed = write(working, moment, found, state=way.to, end_time=moment.now, **_OVER)
    case = working.proceedings.get(found.refund_case)
    assert isinstance(case, RefundCase), "a dispute is over a refund case"
    _end_case(working, moment, case)
    tell_of(moment, EventKind.DISPUTE_CLOSED, closed, trade, SYSTEM, reason=reason)


def _end_case(working: EscrowSet, moment: Moment, case: RefundCase) -> RefundCase | None:
    """None: it was over before."""
    way = refund_case.TABLE.way(case, _CHARGED_BACK, Role.SYSTEM, moment.now)
    return None if way is None else write(working, moment, case, state=way.to, end_time=moment.now, **_OVER)
