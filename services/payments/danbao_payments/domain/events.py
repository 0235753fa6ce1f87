"""What can happen in payments, told to others in order."""

from __future__ import annotations

from dataclasses import dataclass

from danbao_payments.domain.account import Account
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """`kind` is payment_authorized, _captured, _voided, _expired or _refunded."""

    kind: str
    payment: Payment


@dataclass(frozen=True, slots=True)
class TransactionEvent:
    """`kind` is transaction_posted."""

    kind: str
    posted: PostedTransaction


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """`kind` is account_opened, _frozen, _unfrozen or _closed."""

    kind: str
    account: Account


@dataclass(frozen=True, slots=True)
class TopUpEvent:
    """`kind` is top_up_created, _succeeded, _failed, _refund_created or _refund_settled."""

    kind: str
    top_up: TopUp


Event = PaymentEvent | TransactionEvent | TopUpEvent | AccountEvent
