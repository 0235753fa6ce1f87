"""What is remembered of a membership: the membership, the deposit, its movements, its money steps, and claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from danbao_credit.domain.membership import MEMBERS, Cause, State, StepKind
from danbao_kit.decision import RequestKey

DEPOSIT = "guarantee.deposit"
WALLET = "user.available"
SALES = "seller.payable"
# Payments' contract: an account's id is the UUIDv5 of "owner|kind|currency" in this namespace.
_ACCOUNTS = UUID("6f0d8e0a-54c1-4d5e-9a86-0d4f3a8f5c11")


def deposit_account(subject: str, currency: str) -> UUID:
    """The account of a subject's deposit in payments."""
    return uuid5(_ACCOUNTS, f"{subject}|{DEPOSIT}|{currency}")


@dataclass(frozen=True, slots=True)
class Membership:
    """One membership; a subject has one that is not LEFT. `required_minor` is by currency, as of the latest look."""

    membership_id: UUID
    subject: str
    partner: str
    state: State
    currencies: tuple[str, ...]
    required_minor: tuple[int, ...]
    create_time: datetime
    update_time: datetime
    causes: tuple[Cause, ...] = ()
    notice_end_time: datetime | None = None
    join_time: datetime | None = None
    leave_time: datetime | None = None
    last_step: int = 0
    pending_step: int = 0
    step_refusal: str = ""
    # When it is to be looked at next, in business time, and the trace of what made that necessary.
    look_time: datetime | None = None
    look_cause: str = ""
    revision: int = 1

    @property
    def name(self) -> str:
        return f"memberships/{self.membership_id}"

    @property
    def is_member(self) -> bool:
        return self.state in MEMBERS


@dataclass(frozen=True, slots=True)
class Deposit:
    """What is on a subject's deposit in one currency: the sum of its movements, each counted once."""

    account: UUID
    subject: str
    currency: str
    balance_minor: int = 0


@dataclass(frozen=True, slots=True)
class Movement:
    """What one transaction in payments put into a deposit, and took out of it."""

    account: UUID
    transaction_id: UUID
    credited_minor: int
    debited_minor: int


@dataclass(frozen=True, slots=True)
class ClaimCount:
    """Buyers' claims against a seller. A claim ends once."""

    subject: str
    opened: int = 0
    ended: int = 0
    last_end_time: datetime | None = None

    @property
    def open(self) -> int:
        return self.opened - self.ended


@dataclass(frozen=True, slots=True)
class ClaimTurn:
    """A claim against a seller was opened, or ended."""

    seller: str
    opens: bool


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction of payments: its transfers as (debit account, credit account, minor units)."""

    transaction_id: UUID
    transfers: tuple[tuple[UUID, UUID, int], ...]

    def accounts(self) -> Iterable[UUID]:
        for debit, credit, _ in self.transfers:
            yield debit
            yield credit


@dataclass(frozen=True, slots=True)
class Heard:
    """What one event says about memberships."""

    sequence: int
    at: datetime
    traceparent: str
    what: ClaimTurn | Posting


class StepState(StrEnum):
    """Whether a step's outcome is known."""

    PENDING = "PENDING"
    DONE = "DONE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class DepositStep:
    """Money between a merchant and its deposit: committed as an intent before payments is asked.

    `claim` counts the processes that took it: an outcome of one that was overtaken is the same outcome, for payments
    moves once under the step's id; `generation` rises with a definite refusal, and with it the id.
    """

    membership_id: UUID
    number: int
    kind: StepKind
    subject: str
    currency: str
    amount_minor: int
    counter_kind: str
    create_time: datetime
    state: StepState = StepState.PENDING
    generation: int = 0
    claim: int = 0
    refusals: int = 0
    refusal: str = ""
    transaction: str = ""
    request: RequestKey | None = None
    traceparent: str = ""
    settle_time: datetime | None = None
    # Real time from now on after which anybody may try it; written by the store.
    attempt_in_ms: int = 0
    # For whom the deposit is funded: the partner whose membership it is, and the subject where it asks itself.
    for_partner: str = ""
    for_subject: str = ""

    @property
    def request_id(self) -> str:
        """Known before the first attempt, the same after a crash."""
        return str(uuid5(self.membership_id, f"{self.number}/{self.generation}"))

    @property
    def account(self) -> UUID:
        return deposit_account(self.subject, self.currency)


@dataclass(frozen=True, slots=True)
class MembershipView:
    """A membership with its deposits and open claims: what is answered and told."""

    membership: Membership
    deposits: tuple[Deposit, ...]
    open_claims: int = 0
    return_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class MembershipEvent:
    """Something became of a membership; `kind` is the payload's name in the contract."""

    kind: str
    view: MembershipView = field(repr=False)
