"""What escrow needs from outside, as escrow sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from danbao_escrow.domain.case_commands import FireCaseTimer
from danbao_escrow.domain.case_model import Proceeding
from danbao_escrow.domain.checkout import Checkout
from danbao_escrow.domain.commands import ClaimStep, StepDone, StepRefused, Token
from danbao_escrow.domain.model import TimelineEntry, Trade, TradeState
from danbao_escrow.domain.step_model import Step
from danbao_escrow.domain.terms import GradeTerms


@dataclass(frozen=True, slots=True)
class TermsQuestion:
    """Which terms does this seller give in this currency, and may the two trade."""

    seller: str
    currency: str
    buyer: str


class Credit(Protocol):
    """Who knows how sellers are treated."""

    async def terms(self, questions: Sequence[TermsQuestion]) -> list[GradeTerms]:
        """One answer a question, in order; the default grade's, marked so, where none came in time. Never fails."""
        ...


@dataclass(frozen=True, slots=True)
class StepUnknown:
    """Nobody can say yet whether the step was executed: the same id has to be sent again."""

    reason: str


StepResult = StepDone | StepRefused | StepUnknown


class Payments(Protocol):
    """Who moves money."""

    async def execute(self, steps: Sequence[Step]) -> list[StepResult]:
        """One result a step, in order. The same version of a step moves money at most once, however often sent."""
        ...


@dataclass(frozen=True, slots=True)
class Parties:
    """What never changes about a trade."""

    buyer: str
    seller: str
    currency: str


@dataclass(frozen=True, slots=True)
class TradeFilter:
    """Which trades; an empty field leaves nothing out. `party`: buyer or seller."""

    # Who asks: None sees all.
    seen_by: Token | None
    buyer: str
    seller: str
    party: str
    states: tuple[TradeState, ...]
    deadline_before: datetime | None
    has_open_case: bool | None
    newest_first: bool


TradePosition = tuple[datetime, UUID]
"""Where a trade stands in a list: by creation."""


class Reads(Protocol):
    """Reads of the store, for callers."""

    async def trade(self, trade_id: UUID) -> Trade | None:
        """The trade as it is now."""
        ...

    async def checkout(self, checkout_id: UUID) -> Checkout | None:
        """The checkout as it is now."""
        ...

    async def parties(self, trade_ids: Iterable[UUID]) -> Mapping[UUID, Parties]:
        """The parties of those trades that exist."""
        ...

    def remember(self, trade_id: UUID, parties: Parties) -> None:
        """A trade that was just made here: the next question about its parties needs no store."""
        ...

    async def trades(self, asked: TradeFilter, *, after: TradePosition | None, limit: int) -> list[Trade]:
        """Trades by their creation, after a position."""
        ...

    async def timeline(self, trade_id: UUID, *, after: int, limit: int) -> list[TimelineEntry]:
        """Entries after a position, oldest first."""
        ...


class DueReads(Protocol):
    """Reads of the store, for what nobody asked for but time."""

    async def due_trades(self, now: datetime, limit: int) -> list[UUID]:
        """Trades with a deadline at or before `now`, the oldest first."""
        ...

    async def abandoned_steps(self, limit: int) -> list[ClaimStep]:
        """Pending steps whose lease or backoff is over, as claims of them."""
        ...

    async def last_moment(self) -> datetime:
        """The business time of the latest decision."""
        ...

    async def steps_under_way(self, until: datetime) -> int:
        """Pending steps set by then that were not refused: those that wait out a backoff are not counted."""
        ...


@dataclass(frozen=True, slots=True)
class ProceedingFilter:
    """Which cases, disputes or claims; `seen_by` None sees all. An empty field leaves nothing out."""

    seen_by: Token | None
    trade: UUID | None
    party: str
    state: str
    open_only: bool


class CaseReads(Protocol):
    """Reads of refund cases, disputes and claims; `of` is the type."""

    async def proceeding(self, of: type, thing_id: UUID) -> Proceeding | None:
        """The case, dispute or claim as it is now."""
        ...

    async def proceedings(
        self, of: type, wanted: ProceedingFilter, *, after: tuple[int, UUID] | None, limit: int
    ) -> list[Any]:
        """Those that pass the filter, oldest first, after a position: create_time in µs since the epoch, and id."""
        ...

    async def due_cases(self, now: datetime, limit: int) -> list[FireCaseTimer]:
        """Cases and disputes with a deadline at or before `now` whose trade has no step pending, the oldest first."""
        ...
