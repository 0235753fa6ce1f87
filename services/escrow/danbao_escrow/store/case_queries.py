"""What is read of refund cases, disputes and claims outside the write path: one, lists, and what is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ScalarSelect, Select, and_, bindparam, literal, or_, select, tuple_, union_all

from danbao_escrow.application.ports import ProceedingFilter
from danbao_escrow.domain.case_commands import FireCaseTimer
from danbao_escrow.domain.case_model import Dispute, Proceeding, RefundCase
from danbao_escrow.store.case_rows import KINDS, Kind, thing_of
from danbao_escrow.store.tables import trades
from danbao_kit.database import Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMED = (KINDS[RefundCase], KINDS[Dispute])


class CaseQueries:
    """Reads of one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def proceeding(self, of: type, thing_id: UUID) -> Proceeding | None:
        """The case, dispute or claim as it is now."""
        kind = KINDS[of]
        query = select(kind.table).where(kind.table.c[kind.key] == thing_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        found: Proceeding | None = None if row is None else thing_of(kind, dict(row._mapping))
        return found

    async def proceedings(
        self, of: type, wanted: ProceedingFilter, *, after: tuple[int, UUID] | None, limit: int
    ) -> list[Any]:
        """Those that pass the filter, oldest first, after a position: create_time in µs since the epoch, and id."""
        kind = KINDS[of]
        columns = kind.table.c
        query = _filtered(kind, wanted).order_by(columns.create_time, columns[kind.key]).limit(limit)
        if after is not None:
            at = _EPOCH + timedelta(microseconds=after[0])
            position = tuple_(columns.create_time, columns[kind.key])
            query = query.where(position > tuple_(literal(at), literal(after[1])))
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return [thing_of(kind, dict(row._mapping)) for row in found]

    async def due_cases(self, now: datetime, limit: int) -> list[FireCaseTimer]:
        """Cases and disputes with a deadline at or before `now` whose trade has no step pending, the oldest first."""
        found = await self._database.look(_DUE, now=now, limit=limit)
        return [FireCaseTimer(UUID(int=row["trade_id"].int), f"{row['collection']}/{row['thing_id']}") for row in found]


def _due_query() -> Select[Any]:
    parts = [
        select(
            kind.table.c.trade_id,
            literal(kind.collection).label("collection"),
            kind.table.c[kind.key].label("thing_id"),
            kind.table.c.deadline_at,
        )
        .where(kind.table.c.deadline_at <= bindparam("now"), _pending_step_of(kind) == 0)
        .order_by(kind.table.c.deadline_at)
        .limit(bindparam("limit"))
        .subquery()
        for kind in _TIMED
    ]
    due = union_all(*[select(part) for part in parts]).subquery()
    return select(due).order_by(due.c.deadline_at).limit(bindparam("limit"))


def _pending_step_of(kind: Kind) -> ScalarSelect[int]:
    """Looked up for each that is due, and mostly none is: a join might read all trades to find that out."""
    return select(trades.c.pending_step).where(trades.c.trade_id == kind.table.c.trade_id).scalar_subquery()


# Asked four times a second, and building it costs more than asking.
_DUE = _due_query()


def _filtered(kind: Kind, wanted: ProceedingFilter) -> Select[Any]:
    columns = kind.table.c
    query = select(kind.table)
    if wanted.seen_by is not None:
        of_subject = or_(columns.buyer == wanted.seen_by.own_subject, columns.seller == wanted.seen_by.own_subject)
        mine = of_subject
        if wanted.seen_by.is_partner:
            mine = or_(of_subject, columns.partner == wanted.seen_by.partner)
        query = query.where(and_(mine))
    if wanted.trade is not None:
        query = query.where(columns.trade_id == wanted.trade)
    if wanted.party:
        query = query.where(or_(columns.buyer == wanted.party, columns.seller == wanted.party))
    if wanted.state:
        query = query.where(columns.state == wanted.state)
    if wanted.open_only:
        query = query.where(columns.end_time.is_(None))
    return query
