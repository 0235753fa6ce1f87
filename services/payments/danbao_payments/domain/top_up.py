"""What a top-up is, and what each report of its rail means in each state: the whole table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from danbao_payments.domain.account import account_id
from danbao_payments.domain.chart import RAIL_IN_TRANSIT, RAIL_SETTLED, USER_AVAILABLE
from danbao_payments.domain.errors import TopUpStateInvalid
from danbao_payments.domain.movement import CONFLICT, NOTHING_NEW, Movement, MovementKind, RailResult, Step
from danbao_payments.domain.transfer import Metadata


class TopUpState(StrEnum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    UNKNOWN = "UNKNOWN"


# In these its rail has not said what becomes of it.
AWAITING = frozenset({TopUpState.PENDING, TopUpState.UNKNOWN})


class TopUp(NamedTuple):
    """A top-up's row. Minor units. The request that made it is answered when the rail has answered."""

    id: UUID
    state: str
    owner: str
    currency: str
    amount_minor: int
    rail: str
    instrument: str
    rail_reference: str
    failure: str
    refunded_minor: int
    refunds_settled_minor: int
    metadata: Metadata
    create_time: datetime
    update_time: datetime
    request_caller: str
    request_method: str
    request_id: str
    traceparent: str
    # When the rail's money reached our account at the bank.
    settle_time: datetime | None = None
    returned_minor: int = 0

    @property
    def movement(self) -> Movement:
        """Its name among movements."""
        return Movement(MovementKind.TOP_UP, self.id)

    @property
    def refundable_minor(self) -> int:
        """What may still be sent back."""
        return self.amount_minor - self.refunded_minor - self.returned_minor


class TopUpEffect(StrEnum):
    """What a report of the rail does."""

    SUCCEED = "SUCCEED"  # rail.in_transit → the wallet
    FAIL = "FAIL"  # nothing moves
    # rail.settled → rail.in_transit, once; what was returned while it was in transit goes back the other way
    SETTLE = "SETTLE"
    RETURN = "RETURN"  # what was not refunded goes from the wallet, what lacks is owed, to where the rail's money is
    LOSE_SIGHT = "LOSE_SIGHT"  # nothing moves; the rail is asked what became of it


_S, _R, _E = TopUpState, RailResult, TopUpEffect

# fmt: off
REPORTS: Mapping[tuple[TopUpState, RailResult], Step | None] = MappingProxyType({
    (_S.PENDING,   _R.SUCCEEDED):  Step(_S.SUCCEEDED, (_E.SUCCEED,)),
    (_S.PENDING,   _R.FAILED):     Step(_S.FAILED, (_E.FAIL,)),
    (_S.PENDING,   _R.SETTLED):    Step(_S.SUCCEEDED, (_E.SUCCEED, _E.SETTLE)),
    (_S.PENDING,   _R.RETURNED):   Step(_S.RETURNED, (_E.SUCCEED, _E.RETURN)),
    (_S.PENDING,   _R.UNANSWERED): Step(_S.UNKNOWN, (_E.LOSE_SIGHT,)),
    (_S.SUCCEEDED, _R.SUCCEEDED):  NOTHING_NEW,
    (_S.SUCCEEDED, _R.FAILED):     CONFLICT,
    (_S.SUCCEEDED, _R.SETTLED):    Step(_S.SUCCEEDED, (_E.SETTLE,)),
    (_S.SUCCEEDED, _R.RETURNED):   Step(_S.RETURNED, (_E.RETURN,)),
    (_S.SUCCEEDED, _R.UNANSWERED): NOTHING_NEW,
    (_S.FAILED,    _R.SUCCEEDED):  CONFLICT,
    (_S.FAILED,    _R.FAILED):     NOTHING_NEW,
    (_S.FAILED,    _R.SETTLED):    CONFLICT,
    (_S.FAILED,    _R.RETURNED):   CONFLICT,
    (_S.FAILED,    _R.UNANSWERED): NOTHING_NEW,
    (_S.RETURNED,  _R.SUCCEEDED):  NOTHING_NEW,
    (_S.RETURNED,  _R.FAILED):     CONFLICT,
    (_S.RETURNED,  _R.SETTLED):    Step(_S.RETURNED, (_E.SETTLE,)),
    (_S.RETURNED,  _R.RETURNED):   NOTHING_NEW,
    (_S.RETURNED,  _R.UNANSWERED): NOTHING_NEW,
    (_S.UNKNOWN,   _R.SUCCEEDED):  Step(_S.SUCCEEDED, (_E.SUCCEED,)),
    (_S.UNKNOWN,   _R.FAILED):     Step(_S.FAILED, (_E.FAIL,)),
    (_S.UNKNOWN,   _R.SETTLED):    Step(_S.SUCCEEDED, (_E.SUCCEED, _E.SETTLE)),
    (_S.UNKNOWN,   _R.RETURNED):   Step(_S.RETURNED, (_E.SUCCEED, _E.RETURN)),
    (_S.UNKNOWN,   _R.UNANSWERED): NOTHING_NEW,
})
# fmt: on


def step_of(top_up: TopUp, result: RailResult) -> Step | None:
    """What the table says, with what was told before left out: a movement settles once."""
    if result is RailResult.SETTLED and top_up.settle_time is not None:
        return NOTHING_NEW
    return REPORTS[TopUpState(top_up.state), result]


def awaiting_accounts(owner: str, rail: str, currency: str) -> tuple[UUID, UUID, UUID]:
    """The accounts in which a top-up that its rail has not answered yet needs room."""
    return (
        account_id(owner, USER_AVAILABLE, currency),
        account_id(rail, RAIL_IN_TRANSIT, currency),
        account_id(rail, RAIL_SETTLED, currency),
    )


def check_refundable(top_up: TopUp) -> None:
    """Raises TopUpStateInvalid unless money of it is here to be sent back."""
    if top_up.state != TopUpState.SUCCEEDED:
        raise TopUpStateInvalid(top_up.id, state=top_up.state)
