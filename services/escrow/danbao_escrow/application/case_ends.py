"""How cases and disputes end from outside: the buyer's bank took back what they are about."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from danbao_escrow.application.case_records import line_of, tell_of, with_line, write
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import dispute, refund_case
from danbao_escrow.domain.case_commands import CaseCommandName
from danbao_escrow.domain.case_model import Dispute, RefundCase
from danbao_escrow.domain.deadlines import resumed
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.model import Actor, Role, Trade
from danbao_kit.decision import Moment

_CHARGED_BACK = CaseCommandName.CHARGED_BACK


def end_charged_back(
    working: EscrowSet, moment: Moment, trade: Trade, line_ids: Collection[str], actor: Actor, reason: str
) -> Trade:
    """Row 16: what is open on these lines is over: a case WITHDRAWN, or DISPUTED with its dispute CLOSED.

    A step of theirs is the caller's to end. Gives the trade with those lines' timers going on; it is not written.
    """
    over: dict[str, Any] = {
        "end_time": moment.now,
        "deadline_time": None,
        "remind_time": None,
        "step_pending": False,
        "step_blocked": False,
    }
    open_cases = [
        thing
        for thing in list(working.proceedings.values())
        if isinstance(thing, RefundCase) and thing.trade_id == trade.trade_id and not thing.is_over
    ]
    for case in open_cases:
        if case.line_id not in line_ids:
            continue
        way = refund_case.TABLE.way(case, _CHARGED_BACK, Role.SYSTEM, moment.now)
        assert way is not None, "whatever is open ends"
        trade = with_line(trade, resumed(line_of(trade, case), trade.terms, moment.now))
        found = working.proceedings.get(case.dispute)
        if isinstance(found, Dispute):
            closing = dispute.TABLE.way(found, _CHARGED_BACK, Role.SYSTEM, moment.now)
            assert closing is not None, "an open case has an open dispute"
            closed = write(working, moment, found, state=closing.to, **over)
            tell_of(moment, EventKind.DISPUTE_CLOSED, closed, trade, actor, reason=reason)
        ended = write(working, moment, case, state=way.to, **over)
        if not case.dispute:
            tell_of(moment, EventKind.REFUND_CASE_WITHDRAWN, ended, trade, actor, reason=reason)
    return trade
