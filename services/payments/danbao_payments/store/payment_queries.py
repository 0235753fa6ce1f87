"""How payments and limits are read: SQLAlchemy Core on the readers' pool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, exists, or_, select

from danbao_kit.database import Database
from danbao_payments.application.ports import PaymentFilter
from danbao_payments.domain.limits import Limits, Usage
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.store import rows
from danbao_payments.store.queries import has_ended
from danbao_payments.store.tables import limit_usage, limits, owners, payments

_PAYMENT = [payments.c[name] for name in Payment._fields]


class PaymentQueries:
    """Reads of payments and limits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def payments(self, asked: PaymentFilter, *, after: UUID | None, limit: int, now: datetime) -> list[Payment]:
        query = select(*_PAYMENT)
        if asked.payer:
            query = query.where(payments.c.payer == asked.payer)
        if asked.payee_owner:
            query = query.where(payments.c.payee_owner == asked.payee_owner)
        if asked.party:
            parties = payments.c.payer, payments.c.payee_owner, payments.c.beneficiary
            query = query.where(or_(*[party == asked.party for party in parties]))
        if asked.partner:
            query = query.where(_exists_for(asked.partner))
        if asked.state:
            query = query.where(_state_at(now) == asked.state)
        if asked.begin is not None:
            query = query.where(payments.c.create_time >= asked.begin)
        if asked.end is not None:
            query = query.where(payments.c.create_time < asked.end)
        if after is not None:
            query = query.where(payments.c.id > after)
        found = await self._all(query.order_by(payments.c.id).limit(limit))
        return [rows.payment_of(row).seen_at(now) for row in found]

    async def limits(self, scope: str, currency: str) -> tuple[Limits | None, Usage | None]:
        set_ = select(limits).where(limits.c.scope == scope, limits.c.currency == currency)
        used = select(limit_usage).where(limit_usage.c.subject == scope, limit_usage.c.currency == currency)
        found, usage = await self._all(set_), await self._all(used)
        return Limits._make(found[0]) if found else None, Usage._make(usage[0]) if usage else None

    async def _all(self, query: Any) -> Sequence[Any]:
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()


def _exists_for(partner: str) -> ColumnElement[bool]:
    """The partner's own, and what is nobody's between owners of whom no other has brought one."""
    anothers = exists().where(
        owners.c.owner.in_([payments.c.payer, payments.c.payee_owner]), owners.c.partner != partner
    )
    return or_(payments.c.partner == partner, and_(payments.c.partner == "", ~anothers))


def _state_at(now: datetime) -> ColumnElement[str]:
    ended = has_ended(now)
    return case(
        (ended & (payments.c.captured_minor == 0), PaymentState.EXPIRED.value),
        (ended, PaymentState.CAPTURED.value),
        else_=payments.c.state,
    )
