"""What a top-up is, and which command is legal in which state: the whole table."""

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
from danbao_payments.domain.transfer import Metadata


class TopUpState(StrEnum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"
    UNKNOWN = "UNKNOWN"


class TopUpCommand(StrEnum):
    """What can happen to a top-up that exists."""

    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    REFUND = "REFUND"


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

    @property
    def refundable_minor(self) -> int:
        """What may still be sent back."""
        return self.amount_minor - self.refunded_minor


class TopUpRefundState(StrEnum):
    PENDING = "PENDING"
    SETTLED = "SETTLED"


class TopUpRefund(NamedTuple):
    """Money of a top-up on its way back over its rail. Minor units."""

    id: UUID
    top_up_id: UUID
    state: str
    amount_minor: int
    rail_reference: str
    create_time: datetime
    update_time: datetime
    request_caller: str
    request_method: str
    request_id: str
    traceparent: str


_S, _C = TopUpState, TopUpCommand

# None: refused to a caller (TOP_UP_STATE_INVALID); a rail that reports twice changes nothing.
# fmt: off
TRANSITIONS: Mapping[tuple[TopUpState, TopUpCommand], TopUpState | None] = MappingProxyType({
    (_S.PENDING,   _C.SUCCEED): _S.SUCCEEDED,
    (_S.PENDING,   _C.FAIL):    _S.FAILED,
    (_S.PENDING,   _C.REFUND):  None,
    (_S.SUCCEEDED, _C.SUCCEED): None,
    (_S.SUCCEEDED, _C.FAIL):    None,
    (_S.SUCCEEDED, _C.REFUND):  _S.SUCCEEDED,
    (_S.FAILED,    _C.SUCCEED): None,
    (_S.FAILED,    _C.FAIL):    None,
    (_S.FAILED,    _C.REFUND):  None,
    (_S.RETURNED,  _C.SUCCEED): None,
    (_S.RETURNED,  _C.FAIL):    None,
    (_S.RETURNED,  _C.REFUND):  None,
    (_S.UNKNOWN,   _C.SUCCEED): _S.SUCCEEDED,
    (_S.UNKNOWN,   _C.FAIL):    _S.FAILED,
    (_S.UNKNOWN,   _C.REFUND):  None,
})
# fmt: on


def awaiting_accounts(owner: str, rail: str, currency: str) -> tuple[UUID, UUID, UUID]:
    """The accounts in which a top-up that its rail has not answered yet needs room."""
    return (
        account_id(owner, USER_AVAILABLE, currency),
        account_id(rail, RAIL_IN_TRANSIT, currency),
        account_id(rail, RAIL_SETTLED, currency),
    )


def check_refundable(top_up: TopUp) -> None:
    """Raises TopUpStateInvalid unless money of it is here to be sent back."""
    if TRANSITIONS[TopUpState(top_up.state), TopUpCommand.REFUND] is None:
        raise TopUpStateInvalid(top_up.id, state=top_up.state)


def state_after_report(top_up: TopUp, command: TopUpCommand) -> TopUpState | None:
    """The state that a rail's report leads to; None when it changes nothing any more."""
    return TRANSITIONS[TopUpState(top_up.state), command]
