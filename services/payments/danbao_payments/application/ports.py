"""What payments needs of the world outside: rails to move money, and a way to read the books."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from danbao_kit.decision import RequestKey
from danbao_kit.money import Money
from danbao_payments.domain.account import Account
from danbao_payments.domain.chain import Chain
from danbao_payments.domain.limits import Limits, Usage
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction

# --- rails ------------------------------------------------------------------------------------------------------------


class RailUnavailable(Exception):
    """The rail gave no answer; what became of the movement is not known. It is asked again with the same reference."""


@dataclass(frozen=True, slots=True)
class ChargeAnswer:
    """What a rail says to a charge: accepted with its reference, or not, with why in its own words."""

    accepted: bool
    rail_reference: str = ""
    failure: str = ""


class Rail(Protocol):
    """A way for money to come in and go back. The same reference asked again gives the same answer, and one effect."""

    async def charge(self, *, reference: str, instrument: str, amount: Money) -> ChargeAnswer:
        """Brings money in. Raises RailUnavailable."""
        ...

    async def pay_back(self, *, reference: str, charge: str, instrument: str, amount: Money) -> str:
        """Sends money of an earlier charge back and gives the rail's own reference. Raises RailUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class DueCharge:
    """A committed top-up about which its rail is to be asked."""

    id: UUID
    rail: str
    instrument: str
    amount: Money
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class DuePayback:
    """A committed refund of a top-up that its rail is to pay out."""

    id: UUID
    rail: str
    instrument: str
    charge: str
    amount: Money
    traceparent: str = ""


RailWork = DueCharge | DuePayback


# --- reading the books ------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One posted transfer, seen from one of its two accounts. Minor units."""

    sequence: int
    transaction_id: UUID
    side: str
    currency: str
    amount_minor: int
    counterparty: UUID
    counterparty_owner: str
    counterparty_kind: str
    balance_after_minor: int
    create_time: datetime
    description: str
    effective_time: datetime


@dataclass(frozen=True, slots=True)
class Period:
    """A statement's time, from `since` to before `until`: as it was recorded, or as it counts."""

    since: datetime | None
    until: datetime | None
    effective: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of a statement: balances before and after its period, and where each entry stands. Minor units."""

    opening_minor: int
    closing_minor: int
    # The last sequence of the ledger that it shows.
    head: int
    entries: Sequence[Entry]
    positions: Sequence[tuple[datetime, int]]


class KindTotals(NamedTuple):
    """Sums over the accounts of one currency and kind. Minor units."""

    currency: str
    kind: str
    accounts: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


class PaymentFilter(NamedTuple):
    """Which payments are asked for; what is empty does not matter. `party` is payer, payee or beneficiary."""

    payer: str = ""
    payee_owner: str = ""
    party: str = ""
    state: str = ""
    begin: datetime | None = None
    end: datetime | None = None


class PaymentsReader(Protocol):
    """Reads of payments and limits, each from one moment."""

    async def payments(
        self, asked: PaymentFilter, *, after: UUID | None, limit: int, now: datetime
    ) -> Sequence[Payment]:
        """In the order in which they were made, those after this one."""
        ...

    async def limits(self, scope: str, currency: str) -> tuple[Limits | None, Usage | None]: ...


class StatementReader(Protocol):
    """Reads statements."""

    async def statement(
        self, account: Account, period: Period, *, after: tuple[datetime, int] | None, head: int | None, limit: int
    ) -> Statement:
        """By time and sequence, those after."""
        ...


class ChainVerifier(Protocol):
    """Recomputes the hashes of everything posted."""

    async def verify(self) -> Chain: ...


class BooksReader(Protocol):
    """Reads of the books, each from one moment.

    `now` is business time: a hold that has run out by then no longer counts, whether it was ended yet or not.
    """

    async def account(self, account_id: UUID, now: datetime) -> Account | None: ...

    async def accounts_of(
        self,
        owner: str,
        *,
        kind: str,
        states: Sequence[str],
        after: tuple[str, str, str] | None,
        limit: int,
        now: datetime,
    ) -> Sequence[Account]:
        """By owner, kind and currency, those after; an empty owner, kind or states: any."""
        ...

    async def payment(self, payment_id: UUID, now: datetime) -> Payment | None: ...

    async def transaction(self, transaction_id: UUID) -> tuple[PostedTransaction, frozenset[str]] | None:
        """The transaction and the owners of its accounts."""
        ...

    async def transactions_of(
        self, accounts: Sequence[UUID], *, since: datetime | None, until: datetime | None, after: int, limit: int
    ) -> tuple[Sequence[PostedTransaction], int]:
        """Those that touch one of the accounts, by sequence, after it; and the sequence to go on after, 0 at the end.

        A page may be shorter than `limit` though others follow.
        """
        ...

    async def balance_at(self, account: Account, *, at: datetime, effective: bool) -> tuple[int, int]:
        """Posted debits and credits as recorded by then, or with `effective` as they count by then."""
        ...

    async def top_up(self, top_up_id: UUID) -> TopUp | None: ...

    async def top_ups_awaiting(self, requests: Sequence[RequestKey]) -> dict[RequestKey, TopUp]:
        """The top-ups for which these requests wait for a rail's answer."""
        ...

    async def trial_balance(self) -> Sequence[KindTotals]:
        """By currency and kind."""
        ...

    async def due_holds(self, now: datetime, limit: int) -> Sequence[UUID]:
        """Payments whose hold has run out, the longest ago first."""
        ...

    async def overdue_rail_work(
        self, *, older_than_s: float, limit: int, without: Collection[UUID]
    ) -> Sequence[RailWork]:
        """What rails have been owing an answer for so long, in real time, except for these movements."""
        ...
