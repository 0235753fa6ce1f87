"""What the rights of subjects need of the store besides commands: reads, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from danbao_credit.domain.appeal import Appeal, AppealState
from danbao_credit.domain.consent import Access, Consent
from danbao_credit.domain.erasure import Traces
from danbao_credit.domain.log import LogRow


@dataclass(frozen=True, slots=True)
class AppealFilter:
    """Which appeals; None: all."""

    subject: str | None = None
    filed_by: str | None = None
    state: AppealState | None = None


class KeptRecords(Protocol):
    """What the store has of one subject.

    Pages begin after a place, which is an id or as `export` writes it; empty: from the beginning. Raise
    StoreUnavailable, and PageTokenInvalid for a place that is none.
    """

    async def consents(self, subject: str, after: str, limit: int, partner: str | None = None) -> Sequence[Consent]:
        """In the order in which they were granted; with a partner, those to it or to all."""
        ...

    async def appeal(self, appeal_id: UUID) -> Appeal | None: ...

    async def appeals(self, wanted: AppealFilter, after: str, limit: int) -> Sequence[Appeal]:
        """In the order in which they were filed."""
        ...

    async def accesses(self, subject: str, after: str, limit: int) -> Sequence[Access]:
        """In the order in which they happened."""
        ...

    async def logged(self, subject: str, after: str, limit: int) -> Sequence[LogRow]:
        """By source, number and role."""
        ...

    async def others(
        self, section: str, subject: str, after: str, limit: int
    ) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Rows that another part of credit keeps by subject, each with its place."""
        ...

    async def traces(self, subject: str) -> Traces:
        """Where the subject's name stands in events and request records written up to now. May take seconds."""
        ...
