"""What a withdrawal is, and what each report of its rail means in each state: the whole table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from danbao_payments.domain.movement import CONFLICT, NOTHING_NEW, Movement, MovementKind, RailResult, Step
from danbao_payments.domain.transfer import Metadata


class WithdrawalState(StrEnum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    UNKNOWN = "UNKNOWN"


# In these its rail has not said what becomes of it.
AWAITING = frozenset({WithdrawalState.PENDING, WithdrawalState.UNKNOWN})


class Withdrawal(NamedTuple):
    """A withdrawal's row. Minor units. The request that made it is answered when the rail has answered."""

    id: UUID
    state: str
    owner: str
    kind: str
    currency: str
    amount_minor: int
    rail: str
    instrument: str
    rail_reference: str
    failure: str
    metadata: Metadata
    create_time: datetime
    update_time: datetime
    request_caller: str
    request_method: str
    request_id: str
    traceparent: str

    @property
    def movement(self) -> Movement:
        """Its name among movements."""
        return Movement(MovementKind.WITHDRAWAL, self.id)


class WithdrawalEffect(StrEnum):
    """What a report of the rail does."""

    SUCCEED = "SUCCEED"  # clearing.payout → rail.settled
    FAIL = "FAIL"  # clearing.payout → the account it came from
    RETURN = "RETURN"  # rail.settled → the account it came from
    LOSE_SIGHT = "LOSE_SIGHT"  # nothing moves; the rail is asked what became of it


_S, _R, _E = WithdrawalState, RailResult, WithdrawalEffect

# A withdrawal's money is with the bank as soon as it has left it: SETTLED says no more than SUCCEEDED.
# fmt: off
REPORTS: Mapping[tuple[WithdrawalState, RailResult], Step | None] = MappingProxyType({
    (_S.PENDING,   _R.SUCCEEDED):  Step(_S.SUCCEEDED, (_E.SUCCEED,)),
    (_S.PENDING,   _R.FAILED):     Step(_S.FAILED, (_E.FAIL,)),
    (_S.PENDING,   _R.SETTLED):    Step(_S.SUCCEEDED, (_E.SUCCEED,)),
    (_S.PENDING,   _R.RETURNED):   Step(_S.RETURNED, (_E.SUCCEED, _E.RETURN)),
    (_S.PENDING,   _R.UNANSWERED): Step(_S.UNKNOWN, (_E.LOSE_SIGHT,)),
    (_S.SUCCEEDED, _R.SUCCEEDED):  NOTHING_NEW,
    (_S.SUCCEEDED, _R.FAILED):     CONFLICT,
    (_S.SUCCEEDED, _R.SETTLED):    NOTHING_NEW,
    (_S.SUCCEEDED, _R.RETURNED):   Step(_S.RETURNED, (_E.RETURN,)),
    (_S.SUCCEEDED, _R.UNANSWERED): NOTHING_NEW,
    (_S.FAILED,    _R.SUCCEEDED):  CONFLICT,
    (_S.FAILED,    _R.FAILED):     NOTHING_NEW,
    (_S.FAILED,    _R.SETTLED):    CONFLICT,
    (_S.FAILED,    _R.RETURNED):   CONFLICT,
    (_S.FAILED,    _R.UNANSWERED): NOTHING_NEW,
    (_S.RETURNED,  _R.SUCCEEDED):  NOTHING_NEW,
    (_S.RETURNED,  _R.FAILED):     CONFLICT,
    (_S.RETURNED,  _R.SETTLED):    NOTHING_NEW,
    (_S.RETURNED,  _R.RETURNED):   NOTHING_NEW,
    (_S.RETURNED,  _R.UNANSWERED): NOTHING_NEW,
    (_S.UNKNOWN,   _R.SUCCEEDED):  Step(_S.SUCCEEDED, (_E.SUCCEED,)),
    (_S.UNKNOWN,   _R.FAILED):     Step(_S.FAILED, (_E.FAIL,)),
    (_S.UNKNOWN,   _R.SETTLED):    Step(_S.SUCCEEDED, (_E.SUCCEED,)),
    (_S.UNKNOWN,   _R.RETURNED):   Step(_S.RETURNED, (_E.SUCCEED, _E.RETURN)),
    (_S.UNKNOWN,   _R.UNANSWERED): NOTHING_NEW,
})
# fmt: on
