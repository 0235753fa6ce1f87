"""How escrow's answers and events are written and read back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from danbao.escrow.v1 import trade_pb2
from danbao_escrow.domain.events import TradeEvent
from danbao_escrow.domain.model import Trade
from danbao_escrow.rpc.mapping import event_message, trade_message


class EscrowCodec:
    """Every mutation answers with the trade, which is mostly also what its event tells: made once for both."""

    def __init__(self) -> None:
        self._last: tuple[Trade, trade_pb2.Trade] | None = None

    def reply(self, command: Any, reply: Trade) -> trade_pb2.Trade:
        return self._message(reply)

    def parse_reply(self, method: str, data: bytes) -> trade_pb2.Trade:
        return trade_pb2.Trade.FromString(data)

    def event(self, event: TradeEvent, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        trade = self._message(event.trade)
        message = event_message(event, trade, sequence=sequence, create_time=create_time, traceparent=traceparent)
        return event.kind.value, message.SerializeToString()

    def _message(self, trade: Trade) -> trade_pb2.Trade:
        if self._last is None or self._last[0] is not trade:
            self._last = (trade, trade_message(trade))
        return self._last[1]
