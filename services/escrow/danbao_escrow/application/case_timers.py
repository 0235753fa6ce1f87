"""What time does to cases and disputes. Decided under their trade's lock: of a timer and a party, one wins."""

from __future__ import annotations

from danbao_escrow.application import disputes, refund_cases
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.case_commands import FireCaseTimer
from danbao_escrow.domain.case_model import Dispute, RefundCase
from danbao_kit.decision import Moment


def fire_case_timer(command: FireCaseTimer, working: EscrowSet, moment: Moment) -> None:
    """Does what is due; with a step of the trade pending nothing, for it is looked for again when that has ended."""
    trade, thing = working.trades.get(command.trade_id), working.proceedings.get(command.subject)
    if trade is None or thing is None or trade.is_pending or thing.is_over:
        return
    if isinstance(thing, RefundCase):
        refund_cases.time_passes(thing, trade, working, moment)
    elif isinstance(thing, Dispute):
        disputes.time_passes(thing, trade, working, moment)
