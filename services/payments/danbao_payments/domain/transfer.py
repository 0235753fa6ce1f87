"""What a transfer and a transaction are: rows that are written once and never change."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

Metadata = tuple[tuple[str, str], ...]


class TransferKind(StrEnum):
    POSTED = "POSTED"  # moves money at once
    PENDING = "PENDING"  # holds money
    POST = "POST"  # ends a hold by moving at most what it held
    VOID = "VOID"  # ends a hold, moving nothing
    EXPIRE = "EXPIRE"  # time has ended a hold


class Purpose(StrEnum):
    """Why money goes back to a payer."""

    NONE = ""
    REFUND = "REFUND"
    DISPUTE = "DISPUTE"
    COMPENSATION = "COMPENSATION"
    CHARGEBACK = "CHARGEBACK"


class Transfer(NamedTuple):
    """One movement between two accounts, with both accounts' totals after it. `pending_id` names the hold it ends."""

    sequence: int
    transaction_id: UUID
    kind: str
    debit_account: UUID
    credit_account: UUID
    currency: str
    amount_minor: int
    pending_id: int | None
    payment_id: UUID | None
    purpose: str
    create_time: datetime
    debit_debits_pending: int
    debit_debits_posted: int
    debit_credits_pending: int
    debit_credits_posted: int
    credit_debits_pending: int
    credit_debits_posted: int
    credit_credits_pending: int
    credit_credits_posted: int
    # Set where it counts for another time than the one at which it was recorded.
    effective_time: datetime | None = None


class Transaction(NamedTuple):
    """Transfers that happened together: those from `first_sequence` to `last_sequence`."""

    id: UUID
    first_sequence: int
    last_sequence: int
    description: str
    metadata: Metadata
    create_time: datetime
    effective_time: datetime | None = None
    # The transaction that it takes back.
    reverses: UUID | None = None


class PostedTransaction(NamedTuple):
    """A transaction with its transfers."""

    transaction: Transaction
    transfers: tuple[Transfer, ...]
