"""The state table of disputes: who may do what, when, what becomes of the dispute, and whether its money moves.

TABLE is the whole of it: what is not in it is refused. Numbers in the comments are the rows of the design's table.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType

from danbao_escrow.domain.case_commands import CaseCommandName as C
from danbao_escrow.domain.case_commands import CaseTimerName
from danbao_escrow.domain.case_model import Dispute
from danbao_escrow.domain.case_model import DisputeState as S
from danbao_escrow.domain.deadlines import has_passed
from danbao_escrow.domain.machine import Machine, Way
from danbao_escrow.domain.model import Role as R
from danbao_escrow.domain.step_model import StepKind

NEGOTIATION = timedelta(days=14)
"""From the opening: then an arbiter is called, who may also come earlier."""
APPEAL_WINDOW = timedelta(days=7)
MOST_EVIDENCE = 100

TIMERS = MappingProxyType(
    {
        S.OPEN: CaseTimerName.NEGOTIATION,
        S.OFFERED: CaseTimerName.NEGOTIATION,
        S.DECIDED: CaseTimerName.APPEAL_WINDOW,
    }
)
"""What a dispute waits for in each state that time acts on."""


def too_late(dispute: Dispute, now: datetime) -> bool:
    return has_passed(dispute.deadline_time, now)


def may_appeal(dispute: Dispute, now: datetime) -> bool:
    """Once, against the first decision, in the window."""
    return dispute.decision is not None and not dispute.decision.final and not too_late(dispute, now)


def buyer_is_offered(dispute: Dispute, now: datetime) -> bool:
    return dispute.offer is not None and dispute.offer.made_by.role is R.SELLER


def seller_is_offered(dispute: Dispute, now: datetime) -> bool:
    return dispute.offer is not None and dispute.offer.made_by.role is R.BUYER


_W = Way[S, Dispute]
_ANY_SIDE = (R.BUYER, R.SELLER, R.ARBITER)

TABLE: Machine[S, Dispute] = Machine(
    {
        # what speaks for either side, while it can still matter
        **{
            (state, C.ADD_EVIDENCE, role): _W(state)
            for state in (S.OPEN, S.OFFERED, S.DECIDED, S.APPEALED)
            for role in _ANY_SIDE
        },
        # 13: the parties divide it themselves
        (S.OPEN, C.MAKE_OFFER, R.BUYER): _W(S.OFFERED),
        (S.OPEN, C.MAKE_OFFER, R.SELLER): _W(S.OFFERED),
        (S.OFFERED, C.MAKE_OFFER, R.BUYER): _W(S.OFFERED),
        (S.OFFERED, C.MAKE_OFFER, R.SELLER): _W(S.OFFERED),
        (S.OFFERED, C.ACCEPT_OFFER, R.BUYER): _W(S.CLOSED, buyer_is_offered, StepKind.SETTLE, meanwhile=S.SETTLED),
        (S.OFFERED, C.ACCEPT_OFFER, R.SELLER): _W(S.CLOSED, seller_is_offered, StepKind.SETTLE, meanwhile=S.SETTLED),
        (S.OPEN, C.TIME_PASSES, R.SYSTEM): _W(S.OPEN, too_late),
        (S.OFFERED, C.TIME_PASSES, R.SYSTEM): _W(S.OFFERED, too_late),
        # 12: an arbiter divides it
        (S.OPEN, C.DECIDE_DISPUTE, R.ARBITER): _W(S.DECIDED),
        (S.OFFERED, C.DECIDE_DISPUTE, R.ARBITER): _W(S.DECIDED),
        (S.DECIDED, C.TIME_PASSES, R.SYSTEM): _W(S.CLOSED, too_late, StepKind.SETTLE),
        # once more, and finally
        (S.DECIDED, C.APPEAL_DISPUTE, R.BUYER): _W(S.APPEALED, may_appeal),
        (S.DECIDED, C.APPEAL_DISPUTE, R.SELLER): _W(S.APPEALED, may_appeal),
        (S.APPEALED, C.DECIDE_DISPUTE, R.ARBITER): _W(S.CLOSED, step=StepKind.SETTLE, meanwhile=S.DECIDED),
        # 16: the buyer's bank took back what is frozen
        **{
            (state, C.CHARGED_BACK, R.SYSTEM): _W(S.CLOSED)
            for state in (S.OPEN, S.OFFERED, S.SETTLED, S.DECIDED, S.APPEALED)
        },
    },
    ends=frozenset({S.CLOSED}),
)


def time_in(state: S) -> timedelta | None:
    """How long a dispute may stand in a state that it enters before time acts on it; None: for ever."""
    return {S.OPEN: NEGOTIATION, S.DECIDED: APPEAL_WINDOW}.get(state)
