"""How answers and events are written down: the messages of the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias, cast

from google.protobuf.message import Message

from danbao.payments.v1 import account_pb2, event_pb2, ledger_pb2, payment_pb2, rail_pb2, reconciliation_pb2
from danbao_kit.wire import with_field
from danbao_payments.domain.account import Account
from danbao_payments.domain.account_commands import CreateAccounts
from danbao_payments.domain.events import (
    AccountEvent,
    Event,
    OwnerEvent,
    PaymentEvent,
    RailRefundEvent,
    ReconciliationEvent,
    ReconciliationItemEvent,
    TopUpEvent,
    TransactionEvent,
)
from danbao_payments.domain.limits import Limits
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.rail_report import RailReport
from danbao_payments.domain.reconciliation import Reconciliation, ReconciliationItem
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction
from danbao_payments.domain.withdrawal import Withdrawal
from danbao_payments.rpc.limits import limits_message
from danbao_payments.rpc.mapping import (
    account_message,
    owner_message,
    payment_message,
    top_up_message,
    transaction_message,
)
from danbao_payments.rpc.rails import REPORTED_AS, refund_message, withdrawal_message
from danbao_payments.rpc.reconciliations import item_message, reconciliation_message
from danbao_payments.rpc.values import timestamp

_REPLIES: dict[str, type[Message]] = {
    "PostTransaction": ledger_pb2.Transaction,
    "ReverseTransaction": ledger_pb2.Transaction,
    "SetLimits": payment_pb2.Limits,
    "CreateTopUp": payment_pb2.TopUp,
    "RefundTopUp": payment_pb2.TopUp,
    "CreateWithdrawal": rail_pb2.Withdrawal,
    "ReportRailResult": payment_pb2.RailReport,
    "CreateAccount": account_pb2.Account,
    "BatchCreateAccounts": account_pb2.BatchCreateAccountsResponse,
    "FreezeAccount": account_pb2.Account,
    "UnfreezeAccount": account_pb2.Account,
    "CloseAccount": account_pb2.Account,
    "ImportStatement": reconciliation_pb2.Reconciliation,
    "ResolveReconciliationItem": reconciliation_pb2.ReconciliationItem,
}

Value: TypeAlias = (
    Payment
    | PostedTransaction
    | TopUp
    | Withdrawal
    | RailRefund
    | RailReport
    | Account
    | Limits
    | Reconciliation
    | ReconciliationItem
)


class PaymentsCodec:
    """The group commit's codec. An event mostly carries the very value that is the answer: it is encoded once."""

    def __init__(self) -> None:
        self._last: tuple[object, Message] | None = None

    def reply(self, command: Any, reply: Value | tuple[Account, ...]) -> Message:
        if isinstance(command, CreateAccounts):
            accounts = cast(tuple[Account, ...], reply)
            return account_pb2.BatchCreateAccountsResponse(accounts=[account_message(each) for each in accounts])
        return self._message(cast(Value, reply))

    def parse_reply(self, method: str, data: bytes) -> Message:
        return _REPLIES.get(method, payment_pb2.Payment).FromString(data)

    def event(self, event: Event, *, sequence: int, create_time: datetime, traceparent: str) -> tuple[str, bytes]:
        if isinstance(event, PaymentEvent):
            payload: Message = self._message(event.payment)
        elif isinstance(event, TransactionEvent):
            payload = self._message(event.posted)
        elif isinstance(event, AccountEvent):
            payload = self._message(event.account)
        elif isinstance(event, OwnerEvent):
            payload = owner_message(event.owner.owner, event.owner)
        elif isinstance(event, ReconciliationEvent):
            payload = self._message(event.reconciliation)
        elif isinstance(event, ReconciliationItemEvent):
            payload = self._message(event.item)
        elif isinstance(event, TopUpEvent):
            payload = self._message(event.top_up)
        elif isinstance(event, RailRefundEvent):
            payload = self._message(event.refund)
        else:
            payload = self._message(event.withdrawal)
        message = event_pb2.Event()
        message.sequence, message.traceparent = sequence, traceparent
        message.create_time.CopyFrom(timestamp(create_time))
        return event.kind, with_field(message, event.kind, payload.SerializeToString())

    def _message(self, value: Value) -> Message:
        if self._last is not None and self._last[0] is value:
            return self._last[1]
        message: Message
        if isinstance(value, Payment):
            message = payment_message(value)
        elif isinstance(value, TopUp):
            message = top_up_message(value)
        elif isinstance(value, Account):
            message = account_message(value)
        elif isinstance(value, Limits):
            message = limits_message(value)
        elif isinstance(value, Withdrawal):
            message = withdrawal_message(value)
        elif isinstance(value, RailRefund):
            message = refund_message(value)
        elif isinstance(value, RailReport):
            movement = self._message(value.movement)
            field: dict[str, Any] = {REPORTED_AS[type(movement)]: movement}
            message = payment_pb2.RailReport(changed=value.changed, **field)
        elif isinstance(value, Reconciliation):
            message = reconciliation_message(value)
        elif isinstance(value, ReconciliationItem):
            message = item_message(value)
        else:
            message = transaction_message(value)
        self._last = (value, message)
        return message
