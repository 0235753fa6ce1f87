"""What money on its way back over a rail is, and what each report of the rail means in each state: the whole table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from danbao_payments.domain.movement import CONFLICT, NOTHING_NEW, Movement, MovementKind, RailResult, Step


class RailRefundState(StrEnum):
    PENDING = "PENDING"
    SETTLED = "SETTLED"
    REFUSED = "REFUSED"
    RETURNED = "RETURNED"
    UNKNOWN = "UNKNOWN"


# In these its rail has not said what becomes of it.
AWAITING = frozenset({RailRefundState.PENDING, RailRefundState.UNKNOWN})


class RailRefund(NamedTuple):
    """A refund's row: of a top-up or of a payment that a rail brought, one of the two. Minor units."""

    id: UUID
    top_up_id: UUID | None
    payment_id: UUID | None
    state: str
    # Into whose user.available it goes if the rail refuses.
    owner: str
    currency: str
    amount_minor: int
    rail: str
    instrument: str
    # The rail's own reference of the movement that goes back.
    charge_reference: str
    rail_reference: str
    failure: str
    create_time: datetime
    update_time: datetime
    # The request that waits for the rail; empty when none does.
    request_caller: str
    request_method: str
    request_id: str
    traceparent: str

    @property
    def movement(self) -> Movement:
        """Its name among movements."""
        return Movement(MovementKind.REFUND, self.id)

    @property
    def source(self) -> Movement:
        """What goes back."""
        if self.top_up_id is not None:
            return Movement(MovementKind.TOP_UP, self.top_up_id)
        assert self.payment_id is not None, "a refund is of a top-up or of a payment"
        return Movement(MovementKind.PAYMENT, self.payment_id)


class RailRefundEffect(StrEnum):
    """What a report of the rail does."""

    SETTLE = "SETTLE"  # clearing.refund → rail.settled
    REFUSE = "REFUSE"  # clearing.refund → the owner's user.available
    RETURN = "RETURN"  # rail.settled → the owner's user.available
    LOSE_SIGHT = "LOSE_SIGHT"  # nothing moves; the rail is asked what became of it


_S, _R, _E = RailRefundState, RailResult, RailRefundEffect

# fmt: off
REPORTS: Mapping[tuple[RailRefundState, RailResult], Step | None] = MappingProxyType({
    (_S.PENDING,  _R.SUCCEEDED):  Step(_S.SETTLED, (_E.SETTLE,)),
    (_S.PENDING,  _R.FAILED):     Step(_S.REFUSED, (_E.REFUSE,)),
    (_S.PENDING,  _R.SETTLED):    Step(_S.SETTLED, (_E.SETTLE,)),
    (_S.PENDING,  _R.RETURNED):   Step(_S.RETURNED, (_E.SETTLE, _E.RETURN)),
    (_S.PENDING,  _R.UNANSWERED): Step(_S.UNKNOWN, (_E.LOSE_SIGHT,)),
    (_S.SETTLED,  _R.SUCCEEDED):  NOTHING_NEW,
    (_S.SETTLED,  _R.FAILED):     CONFLICT,
    (_S.SETTLED,  _R.SETTLED):    NOTHING_NEW,
    (_S.SETTLED,  _R.RETURNED):   Step(_S.RETURNED, (_E.RETURN,)),
    (_S.SETTLED,  _R.UNANSWERED): NOTHING_NEW,
    (_S.REFUSED,  _R.SUCCEEDED):  CONFLICT,
    (_S.REFUSED,  _R.FAILED):     NOTHING_NEW,
    (_S.REFUSED,  _R.SETTLED):    CONFLICT,
    (_S.REFUSED,  _R.RETURNED):   CONFLICT,
    (_S.REFUSED,  _R.UNANSWERED): NOTHING_NEW,
    (_S.RETURNED, _R.SUCCEEDED):  NOTHING_NEW,
    (_S.RETURNED, _R.FAILED):     CONFLICT,
    (_S.RETURNED, _R.SETTLED):    NOTHING_NEW,
    (_S.RETURNED, _R.RETURNED):   NOTHING_NEW,
    (_S.RETURNED, _R.UNANSWERED): NOTHING_NEW,
    (_S.UNKNOWN,  _R.SUCCEEDED):  Step(_S.SETTLED, (_E.SETTLE,)),
    (_S.UNKNOWN,  _R.FAILED):     Step(_S.REFUSED, (_E.REFUSE,)),
    (_S.UNKNOWN,  _R.SETTLED):    Step(_S.SETTLED, (_E.SETTLE,)),
    (_S.UNKNOWN,  _R.RETURNED):   Step(_S.RETURNED, (_E.SETTLE, _E.RETURN)),
    (_S.UNKNOWN,  _R.UNANSWERED): NOTHING_NEW,
})
# fmt: on
