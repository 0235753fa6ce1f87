"""How escrow's answers and events are written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from danbao.escrow.v1 import claim_pb2, dispute_pb2, refund_pb2, trade_pb2
from danbao_escrow.domain.case_commands import CaseCommandName as C
from danbao_escrow.domain.case_model import Proceeding
from danbao_escrow.domain.checkout import Checkout
from danbao_escrow.domain.commands import CommandName
from danbao_escrow.domain.events import TradeEvent
from danbao_escrow.domain.model import Trade
from danbao_escrow.rpc.mapping import checkout_message, event_message, trade_message
from danbao_escrow.rpc.proceedings import proceeding_message
from danbao_kit.wire import with_field

_REPLIES: Mapping[str, Any] = MappingProxyType(
    {
        C.OPEN_REFUND_CASE: refund_pb2.RefundCase,
        C.ACCEPT_REFUND_CASE: refund_pb2.RefundCase,
        C.REJECT_REFUND_CASE: refund_pb2.RefundCase,
        C.SUBMIT_RETURN: refund_pb2.RefundCase,
        C.CONFIRM_RETURN: refund_pb2.RefundCase,
        C.CANCEL_REFUND_CASE: refund_pb2.RefundCase,
        C.OPEN_DISPUTE: dispute_pb2.Dispute,
        C.ADD_EVIDENCE: dispute_pb2.Dispute,
        C.MAKE_OFFER: dispute_pb2.Dispute,
        C.ACCEPT_OFFER: dispute_pb2.Dispute,
        C.DECIDE_DISPUTE: dispute_pb2.Dispute,
        C.APPEAL_DISPUTE: dispute_pb2.Dispute,
        C.OPEN_CLAIM: claim_pb2.Claim,
        C.DECIDE_CLAIM: claim_pb2.Claim,
        CommandName.CREATE_CHECKOUT: trade_pb2.Checkout,
        CommandName.PAY_CHECKOUT: trade_pb2.Checkout,
    }
)
"""What a method answers with; every other one with the trade."""


class EscrowCodec:
    """A mutation answers mostly with what its event tells too: made once for both."""

    def __init__(self) -> None:
        self._last: tuple[Trade | Proceeding, Any] | None = None

    def reply(self, command: Any, reply: Trade | Proceeding | Checkout) -> Any:
        return checkout_message(reply) if isinstance(reply, Checkout) else self._message(reply)

    def parse_reply(self, method: str, data: bytes) -> Any:
        return _REPLIES.get(method, trade_pb2.Trade).FromString(data)

    def event(self, event: TradeEvent, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        payload = self._message(event.trade if event.about is None else event.about)
        message = event_message(event, sequence=sequence, create_time=create_time, traceparent=traceparent)
        return event.kind.value, with_field(message, event.kind.value, payload.SerializeToString())

    def _message(self, value: Trade | Proceeding) -> Any:
        if self._last is None or self._last[0] is not value:
            self._last = (value, trade_message(value) if isinstance(value, Trade) else proceeding_message(value))
        return self._last[1]
