"""What payments needs of the world outside: rails to move money, and a way to read the books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from danbao_kit.decision import RequestKey
from danbao_kit.money import Money
from danbao_payments.domain.account import Account
from danbao_payments.domain.audit import ALWAYS, Look, Part, Position, Window
from danbao_payments.domain.chain import Chain
from danbao_payments.domain.limits import Limits, Usage
from danbao_payments.domain.movement import Movement, RailResult
from danbao_payments.domain.owner import Owner
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction
from danbao_payments.domain.withdrawal import Withdrawal

# --- rails ------------------------------------------------------------------------------------------------------------


class RailUnavailable(Exception):
    """The rail gave no answer; what became of the movement is not known. It is asked again with the same reference."""


class Direction(StrEnum):
    """Which way a rail is to move money."""

    CHARGE = "CHARGE"
    PAY_BACK = "PAY_BACK"
    PAY_OUT = "PAY_OUT"


@dataclass(frozen=True, slots=True)
class RailOrder:
    """What a rail is to do for a committed movement."""

    movement: Movement
    direction: Direction
    rail: str
    instrument: str
    amount: Money
    # The rail's own reference of the charge that is paid back.
    charge: str = ""
    traceparent: str = ""
    # It was written down that the rail's answer is unknown.
    is_unknown: bool = False
    # False: nobody wants it any more, so it is looked up and never asked again.
    is_wanted: bool = True

    @property
    def id(self) -> UUID:
        """The movement's own."""
        return self.movement.id

    @property
    def reference(self) -> str:
        """By which the rail knows the movement, however often it is asked."""
        return str(self.movement.id)


class Standing(StrEnum):
    """How an order stands with its rail."""

    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    # It will report later.
    PENDING = "PENDING"
    # It never got the order. An answer to looking it up only.
    NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class RailAnswer:
    """What a rail says of an order: with its own reference, or with why in its own words."""

    standing: Standing
    rail_reference: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class RailNotice:
    """What a rail says of a movement unasked."""

    movement: Movement
    result: RailResult
    rail_reference: str = ""
    failure: str = ""


# Gives whether it was booked; if not, it is to be said again.
Listener = Callable[[RailNotice], Awaitable[bool]]


class Rail(Protocol):
    """A way for money to come in, go back and go out. The same reference asked again has one effect."""

    async def charge(self, order: RailOrder) -> RailAnswer:
        """Brings money in. Raises RailUnavailable."""
        ...

    async def pay_back(self, order: RailOrder) -> RailAnswer:
        """Sends money of an earlier charge back. Raises RailUnavailable."""
        ...

    async def pay_out(self, order: RailOrder) -> RailAnswer:
        """Sends money out. Raises RailUnavailable."""
        ...

    async def look_up(self, order: RailOrder) -> RailAnswer:
        """What became of an order. Moves nothing. Raises RailUnavailable."""
        ...

    def listen(self, listener: Listener) -> None:
        """Whom to tell what it says unasked. A rail that reports by the RPC needs nobody."""

    async def stop(self) -> None:
        """Says nothing any more."""


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
    """Which payments are asked for; what is empty does not matter. `party` is payer, payee or beneficiary; `partner` is
    the one to whom they are shown."""

    payer: str = ""
    payee_owner: str = ""
    party: str = ""
    partner: str = ""
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

    async def verify(
        self, *, after: tuple[int, bytes] | None = None, max_batches: int | None = None, budget_s: float | None = None
    ) -> Chain:
        """From the beginning, or after the batch that ends with this sequence and has this hash; as far as the batches
        and the time suffice."""
        ...


class Auditor(Protocol):
    """Looks at the books, each time at one moment."""

    async def look(
        self, *, now: datetime, budget_s: float | None = None, window: Window = ALWAYS, losses_only: bool = False
    ) -> Look:
        """At all. `now` is business time. With `losses_only` only what tells a loss. Raises StoreUnavailable."""
        ...

    def parts(self) -> Sequence[Part]:
        """What a look at all can be made of, one after the other."""
        ...

    async def look_at_part(self, part: Part, *, now: datetime, window: Window = ALWAYS) -> Look:
        """At all rows, but for these rules only. Raises StoreUnavailable."""
        ...

    async def look_at_new(self, since: Position | None, *, now: datetime, most: int) -> Look:
        """At what came since, but no more than about the last `most` transfers; None: at the last `most` there are.
        Raises StoreUnavailable."""
        ...


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
        seen_by: str | None = None,
    ) -> Sequence[Account]:
        """By owner, kind and currency, those after; an empty owner, kind or states: any. `seen_by`: only what exists
        for this partner."""
        ...

    async def owners(self, owners: Collection[str]) -> dict[str, Owner]:
        """Those of them whom partners have brought."""
        ...

    async def whose(self, accounts: Collection[UUID]) -> dict[UUID, tuple[str, str]]:
        """Their owners, each with the partner that has brought it; empty: nobody."""
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

    async def trial_balance(self) -> Sequence[KindTotals]:
        """By currency and kind."""
        ...

    async def due_holds(self, now: datetime, limit: int) -> Sequence[UUID]:
        """Payments whose hold has run out, the longest ago first."""
        ...


class MovementsReader(Protocol):
    """Reads of movements over rails, each from one moment."""

    async def top_up(self, top_up_id: UUID) -> TopUp | None: ...

    async def withdrawal(self, withdrawal_id: UUID) -> Withdrawal | None: ...

    async def rail_refund(self, refund_id: UUID) -> RailRefund | None: ...

    async def awaiting(self, requests: Sequence[RequestKey]) -> dict[RequestKey, TopUp | Withdrawal]:
        """The movements for which these requests wait for a rail's answer."""
        ...

    async def overdue_rail_work(
        self, *, older_than_s: float, limit: int, without: Collection[UUID]
    ) -> Sequence[RailOrder]:
        """What rails have been owing an answer for so long, in real time, except for these movements."""
        ...
