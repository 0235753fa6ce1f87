"""What is read of memberships outside the write path: themselves, and what is due."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from danbao_credit.application.membership_commands import ClaimDepositStep, Token
from danbao_credit.application.memberships import return_time
from danbao_credit.application.ports import DueLook
from danbao_credit.domain.membership_model import Deposit, MembershipView, deposit_account
from danbao_credit.domain.membership_rules import MembershipRules
from danbao_credit.store.memberships import membership_of
from danbao_kit.database import Database
from danbao_kit.tables import PARTITION

# With deposits and claims in one statement, hence as of one moment.
_VIEW = (
    "SELECT m.*, c.opened - c.ended AS open_claims, c.last_end_time,"
    " (SELECT json_object_agg(d.currency, d.balance_minor) FROM deposits d WHERE d.subject = m.subject) AS balances"
    " FROM memberships m LEFT JOIN claim_counts c ON c.subject = m.subject"
)
_BY_ID = text(f"{_VIEW} WHERE m.membership_id = :membership_id")
_BY_SUBJECT = text(f"{_VIEW} WHERE m.subject = :subject AND m.state <> 'LEFT'")
_PAGE = text(
    f"{_VIEW} WHERE (m.create_time, m.membership_id) > (:after_time, :after_id)"
    " AND (:sees_all OR m.subject = :own AND :own <> '' OR m.partner = :partner AND :partner <> '')"
    " AND (:subject = '' OR m.subject = :subject) AND (:state = '' OR m.state = :state)"
    " ORDER BY m.create_time, m.membership_id LIMIT :limit"
)
# A decision's moment may be ahead of a clock that stands still: what is due as of the latest decision is due.
_DUE = text(
    "SELECT membership_id, look_cause FROM memberships WHERE state <> 'LEFT' AND look_time <="
    " greatest(:now, (SELECT last_time FROM stream_heads WHERE partition = :partition)) ORDER BY look_time LIMIT :limit"
)
_ABANDONED = text(
    "SELECT membership_id, number, generation, claim FROM deposit_steps"
    " WHERE state = 'PENDING' AND attempt_at <= clock_timestamp() ORDER BY attempt_at LIMIT :limit"
)
_UNDER_WAY = text("SELECT count(*) FROM deposit_steps WHERE state = 'PENDING' AND refusals = 0")
_BEGINNING = (datetime.fromisoformat("1970-01-01T00:00:00+00:00"), UUID(int=0))


class MembershipQueries:
    """Reads of one partition. Raise StoreUnavailable."""

    def __init__(self, database: Database, rules: MembershipRules) -> None:
        self._database = database
        self._rules = rules

    async def membership(self, membership_id: UUID) -> MembershipView | None:
        """One as it is now."""
        return await self._one(_BY_ID, membership_id=membership_id)

    async def membership_of(self, subject: str) -> MembershipView | None:
        """The one of a subject that is not LEFT."""
        return await self._one(_BY_SUBJECT, subject=subject)

    async def memberships(
        self, token: Token, *, subject: str, state: str, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[MembershipView]:
        """Those that the caller may see, by creation, after a position."""
        after_time, after_id = after or _BEGINNING
        asked = {
            "after_time": after_time,
            "after_id": after_id,
            "sees_all": token.sees_all or token.is_operator,
            "own": token.subject,
            "partner": token.partner if token.is_partner else "",
            "subject": subject,
            "state": state,
            "limit": limit,
        }
        async with self._database.read() as connection:
            rows = (await connection.execute(_PAGE, asked)).mappings().all()
        return [self._view(row) for row in rows]

    async def due_looks(self, now: datetime, limit: int) -> list[DueLook]:
        """Those whose time has come, the longest due first."""
        rows = await self._database.look(_DUE, now=now, partition=PARTITION, limit=limit)
        return [DueLook(UUID(int=row["membership_id"].int), row["look_cause"]) for row in rows]

    async def abandoned_steps(self, limit: int) -> list[ClaimDepositStep]:
        """Pending steps whose lease or backoff is over, as claims of them."""
        return [
            ClaimDepositStep(UUID(int=row["membership_id"].int), row["number"], row["generation"], row["claim"])
            for row in await self._database.look(_ABANDONED, limit=limit)
        ]

    async def steps_under_way(self) -> int:
        """Pending steps that were not refused."""
        async with self._database.read() as connection:
            return int((await connection.execute(_UNDER_WAY)).scalar_one())

    async def _one(self, query: Any, **asked: Any) -> MembershipView | None:
        async with self._database.read() as connection:
            row = (await connection.execute(query, asked)).mappings().one_or_none()
        return None if row is None else self._view(row)

    def _view(self, row: Any) -> MembershipView:
        membership = membership_of(row)
        balances = row["balances"] or {}
        deposits = [
            Deposit(
                deposit_account(membership.subject, currency), membership.subject, currency, balances.get(currency, 0)
            )
            for currency in membership.currencies
        ]
        returns = return_time(membership, row["last_end_time"], self._rules)
        return MembershipView(membership, tuple(deposits), row["open_claims"] or 0, returns)
