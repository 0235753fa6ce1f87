"""How answers and events are written down: the messages of the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from danbao.payments.v1 import event_pb2, ledger_pb2, payment_pb2
from danbao_payments.domain.events import Event, PaymentEvent, TransactionEvent
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction
from danbao_payments.rpc.mapping import payment_message, timestamp, top_up_message, transaction_message

_REPLIES: dict[str, type[Message]] = {
    "PostTransaction": ledger_pb2.Transaction,
    "CreateTopUp": payment_pb2.TopUp,
    "RefundTopUp": payment_pb2.TopUp,
}


class PaymentsCodec:
    """The group commit's codec. An event mostly carries the very value that is the answer: it is encoded once."""

    def __init__(self) -> None:
        self._last: tuple[object, Message] | None = None

    def reply(self, command: Any, reply: Payment | PostedTransaction | TopUp) -> Message:
        return self._message(reply)

    def parse_reply(self, method: str, data: bytes) -> Message:
        return _REPLIES.get(method, payment_pb2.Payment).FromString(data)

    def event(self, event: Event, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        if isinstance(event, PaymentEvent):
            payload = self._message(event.payment)
        elif isinstance(event, TransactionEvent):
            payload = self._message(event.posted)
        else:
            payload = self._message(event.top_up)
        message = event_pb2.Event(
            sequence=sequence, create_time=timestamp(create_time), traceparent=traceparent, **{event.kind: payload}
        )
        return event.kind, message.SerializeToString()

    def _message(self, value: Payment | PostedTransaction | TopUp) -> Message:
        if self._last is not None and self._last[0] is value:
            return self._last[1]
        message: Message
        if isinstance(value, Payment):
            message = payment_message(value)
        elif isinstance(value, TopUp):
            message = top_up_message(value)
        else:
            message = transaction_message(value)
        self._last = (value, message)
        return message
