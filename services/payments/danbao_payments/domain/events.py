"""What can happen in payments, told to others in order."""

from __future__ import annotations

from dataclasses import dataclass

from danbao_payments.domain.account import Account
from danbao_payments.domain.owner import Owner
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.reconciliation import Reconciliation, ReconciliationItem
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction
from danbao_payments.domain.withdrawal import Withdrawal


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """`kind` is payment_authorized, _captured, _voided, _expired, _refunded; of a rail: _pending, _declined, _settled,
    _charged_back or _chargeback_reversed."""

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
class OwnerEvent:
    """`kind` is owner_brought."""

    kind: str
    owner: Owner


@dataclass(frozen=True, slots=True)
class TopUpEvent:
    """`kind` is top_up_created, _succeeded, _failed, _unknown, _settled, _returned, _refund_created, _refund_settled or
    _refund_refused."""

    kind: str
    top_up: TopUp


@dataclass(frozen=True, slots=True)
class WithdrawalEvent:
    """`kind` is withdrawal_created, _succeeded, _failed, _returned or _unknown."""

    kind: str
    withdrawal: Withdrawal


@dataclass(frozen=True, slots=True)
class RailRefundEvent:
    """`kind` is rail_refund_created, _settled, _refused, _unknown. Of a top-up's refund, a TopUpEvent tells more."""

    kind: str
    refund: RailRefund


@dataclass(frozen=True, slots=True)
class ReconciliationEvent:
    """`kind` is reconciliation_completed."""

    kind: str
    reconciliation: Reconciliation


@dataclass(frozen=True, slots=True)
class ReconciliationItemEvent:
    """`kind` is reconciliation_item_resolved."""

    kind: str
    item: ReconciliationItem


Event = (
    PaymentEvent
    | TransactionEvent
    | TopUpEvent
    | WithdrawalEvent
    | RailRefundEvent
    | AccountEvent
    | OwnerEvent
    | ReconciliationEvent
    | ReconciliationItemEvent
)
