"""How movements over rails are read: SQLAlchemy Core on the readers' pool."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Interval,
    Select,
    Table,
    Text,
    Uuid,
    all_,
    and_,
    bindparam,
    func,
    literal_column,
    select,
)

from danbao_kit.database import Database
from danbao_kit.decision import RequestKey
from danbao_payments.application.ports import RailOrder
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.withdrawal import Withdrawal
from danbao_payments.store import rows
from danbao_payments.store.movements import order_of_payment, order_of_refund, order_of_top_up, order_of_withdrawal
from danbao_payments.store.tables import payments, rail_refunds, top_ups, withdrawals

_TOP_UP = [top_ups.c[name] for name in TopUp._fields]
_WITHDRAWAL = [withdrawals.c[name] for name in Withdrawal._fields]
_REFUND = [rail_refunds.c[name] for name in RailRefund._fields]
_PAYMENT = [payments.c[name] for name in Payment._fields]
_UNKNOWN = "UNKNOWN"
# Written out, not as parameters: so they are what the partial indexes say.
_UNANSWERED = [literal_column("'PENDING'", Text), literal_column("'UNKNOWN'", Text)]
_EMPTY = literal_column("''", Text)


class RailQueries:
    """Reads of movements over rails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def top_up(self, top_up_id: UUID) -> TopUp | None:
        found = await self._all(select(*_TOP_UP).where(top_ups.c.id == top_up_id))
        return rows.top_up_of(found[0]) if found else None

    async def withdrawal(self, withdrawal_id: UUID) -> Withdrawal | None:
        found = await self._all(select(*_WITHDRAWAL).where(withdrawals.c.id == withdrawal_id))
        return rows.withdrawal_of(found[0]) if found else None

    async def rail_refund(self, refund_id: UUID) -> RailRefund | None:
        found = await self._all(select(*_REFUND).where(rail_refunds.c.id == refund_id))
        return RailRefund._make(found[0]) if found else None

    async def awaiting(self, requests: Sequence[RequestKey]) -> dict[RequestKey, TopUp | Withdrawal]:
        asked = set(requests)
        if not asked:
            return {}
        ids = [request.request_id for request in asked]
        awaiting: dict[RequestKey, TopUp | Withdrawal] = {}
        for row in await self._all(select(*_TOP_UP).where(*_waits_for(top_ups, ids))):
            top_up = rows.top_up_of(row)
            awaiting[RequestKey(top_up.request_caller, top_up.request_method, top_up.request_id)] = top_up
        for row in await self._all(select(*_WITHDRAWAL).where(*_waits_for(withdrawals, ids))):
            out = rows.withdrawal_of(row)
            awaiting[RequestKey(out.request_caller, out.request_method, out.request_id)] = out
        refunds = rail_refunds.c
        paybacks = (
            select(refunds.request_caller, refunds.request_method, refunds.request_id, *_TOP_UP)
            .join(top_ups, top_ups.c.id == refunds.top_up_id)
            .where(*_waits_for(rail_refunds, ids))
        )
        for row in await self._all(paybacks):
            awaiting[RequestKey(*row[:3])] = rows.top_up_of(row[3:])
        return {request: movement for request, movement in awaiting.items() if request in asked}

    async def overdue_rail_work(
        self, *, older_than_s: float, limit: int, without: Collection[UUID]
    ) -> Sequence[RailOrder]:
        async def overdue(query: Select[Any]) -> Sequence[Any]:
            older_than = timedelta(seconds=older_than_s)
            return await self._database.look(query, older_than=older_than, without=list(without), limit=limit)

        charges = [rows.top_up_of(row) for row in await overdue(_OVERDUE_TOP_UPS)]
        payouts = [rows.withdrawal_of(row) for row in await overdue(_OVERDUE_WITHDRAWALS)]
        paybacks = [RailRefund._make(row) for row in await overdue(_OVERDUE_REFUNDS)]
        brought = [rows.payment_of(row) for row in await overdue(_OVERDUE_PAYMENTS)]
        return [
            # A payment has no state for an answer that is unknown: it stays PENDING, and writing that down is no news.
            *[replace(order_of_payment(each), is_unknown=True) for each in brought],
            *[replace(order_of_top_up(each), is_unknown=each.state == _UNKNOWN) for each in charges],
            *[replace(order_of_withdrawal(each), is_unknown=each.state == _UNKNOWN) for each in payouts],
            *[replace(order_of_refund(each), is_unknown=each.state == _UNKNOWN) for each in paybacks],
        ]

    async def _all(self, query: Any) -> Sequence[Any]:
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()


def _is_unanswered(table: Table) -> ColumnElement[bool]:
    if table is payments:
        return and_(payments.c.rail != _EMPTY, payments.c.last_transaction.is_(None), payments.c.failure == _EMPTY)
    return table.c.state.in_(_UNANSWERED)


def _waits_for(table: Table, request_ids: Sequence[str]) -> tuple[Any, Any]:
    return table.c.state.in_(_UNANSWERED), table.c.request_id.in_(request_ids)


def _overdue(table: Table, columns: Sequence[Any]) -> Select[Any]:
    return (
        select(*columns)
        .where(
            _is_unanswered(table),
            table.c.recorded_at < func.now() - bindparam("older_than", type_=Interval),
            # One parameter however many there are.
            table.c.id != all_(bindparam("without", type_=ARRAY(Uuid))),
        )
        .order_by(table.c.recorded_at)
        .limit(bindparam("limit"))
    )


# Asked every second.
_OVERDUE_TOP_UPS = _overdue(top_ups, _TOP_UP)
_OVERDUE_WITHDRAWALS = _overdue(withdrawals, _WITHDRAWAL)
_OVERDUE_REFUNDS = _overdue(rail_refunds, _REFUND)
_OVERDUE_PAYMENTS = _overdue(payments, _PAYMENT)
