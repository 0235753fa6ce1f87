"""The state table of refund cases: who may do what, when, what becomes of the case, and whether its money moves.

TABLE is the whole of it: what is not in it is refused. Numbers in the comments are the rows of the design's table.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType

from danbao_escrow.domain.case_commands import CaseCommandName as C
from danbao_escrow.domain.case_commands import CaseTimerName
from danbao_escrow.domain.case_model import RefundCase
from danbao_escrow.domain.case_model import RefundCaseState as S
from danbao_escrow.domain.deadlines import has_passed
from danbao_escrow.domain.machine import Machine, Way
from danbao_escrow.domain.model import LineState, Role
from danbao_escrow.domain.model import Role as R
from danbao_escrow.domain.step_model import StepKind

REPLY_BEFORE_SHIPMENT = timedelta(hours=48)
REPLY_AFTER_SHIPMENT = timedelta(days=5)
RETURN_SHIP = timedelta(days=7)
RETURN_RECEIPT = timedelta(days=10)
DISPUTE_WINDOW = timedelta(days=7)
"""From the rejection: until then the buyer may open a dispute."""

TIMERS = MappingProxyType(
    {
        S.REQUESTED: CaseTimerName.SELLER_REPLY,
        S.AWAITING_RETURN: CaseTimerName.RETURN_SHIP,
        S.AWAITING_RECEIPT: CaseTimerName.RETURN_RECEIPT,
        S.REJECTED: CaseTimerName.DISPUTE_WINDOW,
    }
)
"""What a case waits for in each state that time ends."""


def in_time(case: RefundCase, now: datetime) -> bool:
    """A deadline that has passed wins over a command that comes before the timer."""
    return not has_passed(case.deadline_time, now)


def too_late(case: RefundCase, now: datetime) -> bool:
    return has_passed(case.deadline_time, now)


def returns(case: RefundCase, now: datetime) -> bool:
    return case.with_return


def pays_at_once(case: RefundCase, now: datetime) -> bool:
    return not case.with_return


def returns_by_time(case: RefundCase, now: datetime) -> bool:
    return case.with_return and too_late(case, now)


def pays_by_time(case: RefundCase, now: datetime) -> bool:
    return not case.with_return and too_late(case, now)


_W = Way[S, RefundCase]

TABLE: Machine[S, RefundCase] = Machine(
    {
        # 9: the seller agrees, or says nothing; nothing has to come back
        (S.REQUESTED, C.ACCEPT_REFUND_CASE, R.SELLER): (
            _W(S.AWAITING_RETURN, returns),
            _W(S.SUCCEEDED, pays_at_once, StepKind.REFUND),
        ),
        (S.REQUESTED, C.TIME_PASSES, R.SYSTEM): (
            _W(S.AWAITING_RETURN, returns_by_time),
            _W(S.SUCCEEDED, pays_by_time, StepKind.REFUND),
        ),
        # 10: the goods come back first
        (S.AWAITING_RETURN, C.SUBMIT_RETURN, R.BUYER): _W(S.AWAITING_RECEIPT, in_time),
        (S.AWAITING_RETURN, C.TIME_PASSES, R.SYSTEM): _W(S.WITHDRAWN, too_late),
        (S.AWAITING_RECEIPT, C.CONFIRM_RETURN, R.SELLER): _W(S.SUCCEEDED, step=StepKind.REFUND),
        (S.AWAITING_RECEIPT, C.TIME_PASSES, R.SYSTEM): _W(S.SUCCEEDED, too_late, StepKind.REFUND),
        # the seller refuses
        (S.REQUESTED, C.REJECT_REFUND_CASE, R.SELLER): _W(S.REJECTED, in_time),
        (S.AWAITING_RECEIPT, C.REJECT_REFUND_CASE, R.SELLER): _W(S.REJECTED, in_time),
        # 11: the buyer does not take that
        (S.REJECTED, C.OPEN_DISPUTE, R.BUYER): _W(S.DISPUTED, in_time),
        (S.REJECTED, C.TIME_PASSES, R.SYSTEM): _W(S.REJECTED, too_late, ends=True),
        # the buyer takes it back
        (S.REQUESTED, C.CANCEL_REFUND_CASE, R.BUYER): _W(S.WITHDRAWN, in_time),
        (S.AWAITING_RETURN, C.CANCEL_REFUND_CASE, R.BUYER): _W(S.WITHDRAWN),
        (S.AWAITING_RECEIPT, C.CANCEL_REFUND_CASE, R.BUYER): _W(S.WITHDRAWN, in_time),
        (S.REJECTED, C.CANCEL_REFUND_CASE, R.BUYER): _W(S.WITHDRAWN, in_time),
        # 16: the buyer's bank took back what is claimed
        (S.REQUESTED, C.CHARGED_BACK, R.SYSTEM): _W(S.WITHDRAWN),
        (S.AWAITING_RETURN, C.CHARGED_BACK, R.SYSTEM): _W(S.WITHDRAWN),
        (S.AWAITING_RECEIPT, C.CHARGED_BACK, R.SYSTEM): _W(S.WITHDRAWN),
        (S.REJECTED, C.CHARGED_BACK, R.SYSTEM): _W(S.WITHDRAWN),
        (S.DISPUTED, C.CHARGED_BACK, R.SYSTEM): _W(S.DISPUTED, ends=True),
    },
    ends=frozenset({S.SUCCEEDED, S.WITHDRAWN}),
)

OPEN_ROLES = frozenset({Role.BUYER})
"""Row 8: who may open a case."""


def time_in(state: S, line_state: LineState) -> timedelta | None:
    """How long a case may stand in a state before time acts on it; None: for ever."""
    if state is S.REQUESTED:
        return REPLY_BEFORE_SHIPMENT if line_state is LineState.PAID else REPLY_AFTER_SHIPMENT
    return {S.AWAITING_RETURN: RETURN_SHIP, S.AWAITING_RECEIPT: RETURN_RECEIPT, S.REJECTED: DISPUTE_WINDOW}.get(state)
