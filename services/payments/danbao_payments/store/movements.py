"""How movements over rails are locked, read and written, and what a committed batch wants of rails."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from danbao_kit.money import Money
from danbao_payments.application.ports import Direction, RailOrder
from danbao_payments.domain.books import Books
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.rail_payment import movement_of, waiting_accounts
from danbao_payments.domain.rail_refund import RailRefund, RailRefundState
from danbao_payments.domain.top_up import TopUp, TopUpState, awaiting_accounts
from danbao_payments.domain.withdrawal import Withdrawal, WithdrawalState
from danbao_payments.store import rows
from danbao_payments.store.copy import insert

_LOCK_TOP_UPS = f"SELECT {rows.TOP_UP} FROM top_ups WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_LOCK_WITHDRAWALS = f"SELECT {rows.WITHDRAWAL} FROM withdrawals WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_LOCK_REFUNDS = f"SELECT {rows.RAIL_REFUND} FROM rail_refunds WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_OPEN_REFUNDS = (
    f"SELECT {rows.RAIL_REFUND} FROM rail_refunds WHERE payment_id = ANY($1::uuid[])"
    " AND state IN ('PENDING', 'UNKNOWN') ORDER BY id"
)

_AWAITED = (
    "SELECT owner, rail, currency, sum(amount_minor) FROM top_ups WHERE state IN ('PENDING', 'UNKNOWN')"
    " AND (rail, currency) IN (SELECT * FROM unnest($1::text[], $2::text[])) GROUP BY owner, rail, currency"
)
# Payments that were voided may be brought all the same, and then go back.
_AWAITED_PAYMENTS = (
    "SELECT rail, currency, payer, payee_account, parts, amount_minor FROM payments"
    " WHERE rail <> '' AND last_transaction IS NULL AND failure = ''"
    " AND (rail, currency) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)

_UPDATE_TOP_UPS = (
    "UPDATE top_ups SET state = new.state, rail_reference = new.rail_reference, failure = new.failure,"
    " refunded_minor = new.refunded_minor, refunds_settled_minor = new.refunds_settled_minor,"
    " update_time = new.update_time, settle_time = new.settle_time, returned_minor = new.returned_minor"
    " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::timestamptz[],"
    " $8::timestamptz[], $9::bigint[])"
    " AS new (id, state, rail_reference, failure, refunded_minor, refunds_settled_minor, update_time, settle_time,"
    " returned_minor) WHERE top_ups.id = new.id"
)
_UPDATE = (
    "UPDATE {table} SET state = new.state, rail_reference = new.rail_reference, failure = new.failure,"
    " update_time = new.update_time FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])"
    " AS new (id, state, rail_reference, failure, update_time) WHERE {table}.id = new.id"
)


async def load_refunds(connection: asyncpg.Connection, books: Books, ids: Iterable[UUID]) -> list[RailRefund]:
    """Locks these refunds."""
    found = [RailRefund._make(row) for row in await connection.fetch(_LOCK_REFUNDS, sorted(ids))]
    for refund in found:
        books.rail_refunds.load(refund.id, refund)
    return found


async def load_open_refunds(connection: asyncpg.Connection, books: Books, payments: Iterable[UUID]) -> None:
    """What is on its way back of these payments; who changes that holds the stream's head, as we do."""
    for row in await connection.fetch(_OPEN_REFUNDS, sorted(payments)):
        refund = RailRefund._make(row)
        if refund.id not in books.rail_refunds:
            books.rail_refunds.load(refund.id, refund)


async def load_top_ups(connection: asyncpg.Connection, books: Books, ids: Iterable[UUID]) -> list[TopUp]:
    """Locks these top-ups."""
    found = [rows.top_up_of(row) for row in await connection.fetch(_LOCK_TOP_UPS, sorted(ids))]
    for top_up in found:
        books.top_ups.load(top_up.id, top_up)
    return found


async def load_withdrawals(connection: asyncpg.Connection, books: Books, ids: Iterable[UUID]) -> list[Withdrawal]:
    """Locks these withdrawals."""
    found = [rows.withdrawal_of(row) for row in await connection.fetch(_LOCK_WITHDRAWALS, sorted(ids))]
    for withdrawal in found:
        books.withdrawals.load(withdrawal.id, withdrawal)
    return found


async def load_awaited(connection: asyncpg.Connection, books: Books, charging: set[tuple[str, str]]) -> None:
    """After the rails' accounts are locked: whoever makes or answers a movement of theirs holds these."""
    rails, currencies = zip(*charging, strict=True)
    awaited: dict[UUID, int] = {}
    for owner, rail, currency, minor in await connection.fetch(_AWAITED, rails, currencies):
        for key in awaiting_accounts(owner, rail, currency):
            awaited[key] = awaited.get(key, 0) + int(minor)
    for rail, currency, payer, payee_account, parts, minor in await connection.fetch(
        _AWAITED_PAYMENTS, rails, currencies
    ):
        for key in waiting_accounts(rail, currency, payer, payee_account, rows.parts_of(parts)):
            awaited[key] = awaited.get(key, 0) + int(minor)
    for key, minor in awaited.items():
        books.awaited.load(key, minor)


async def save_movements(connection: asyncpg.Connection, books: Books) -> None:
    """Writes what accepted commands made and changed."""
    if created := [top_up for _, top_up in books.top_ups.created()]:
        await insert(connection, "top_ups", TopUp._fields, rows.with_json(created, TopUp))
    if updated := [
        (
            t.id,
            t.state,
            t.rail_reference,
            t.failure,
            t.refunded_minor,
            t.refunds_settled_minor,
            t.update_time,
            t.settle_time,
            t.returned_minor,
        )
        for _, t in books.top_ups.updated()
    ]:
        await connection.execute(_UPDATE_TOP_UPS, *rows.columns_of(updated))
    if withdrawals := [withdrawal for _, withdrawal in books.withdrawals.created()]:
        await insert(connection, "withdrawals", Withdrawal._fields, rows.with_json(withdrawals, Withdrawal))
    if refunds := [refund for _, refund in books.rail_refunds.created()]:
        await insert(connection, "rail_refunds", RailRefund._fields, refunds)
    for table, told in (
        ("withdrawals", [each for _, each in books.withdrawals.updated()]),
        ("rail_refunds", [each for _, each in books.rail_refunds.updated()]),
    ):
        if told:
            values = [(each.id, each.state, each.rail_reference, each.failure, each.update_time) for each in told]
            await connection.execute(_UPDATE.format(table=table), *rows.columns_of(values))


def rail_work_of(books: Books) -> list[RailOrder]:
    """What a committed batch wants of rails. Whoever takes it and dies is found by its age."""
    orders = [order_of_top_up(t) for _, t in books.top_ups.created() if t.state == TopUpState.PENDING]
    orders += [order_of_withdrawal(w) for _, w in books.withdrawals.created() if w.state == WithdrawalState.PENDING]
    orders += [order_of_refund(r) for _, r in books.rail_refunds.created() if r.state == RailRefundState.PENDING]
    orders += [order_of_payment(p) for _, p in books.payments.created() if p.state == PaymentState.PENDING]
    return orders


def order_of_top_up(top_up: TopUp) -> RailOrder:
    amount = Money(top_up.currency, top_up.amount_minor)
    return RailOrder(
        top_up.movement, Direction.CHARGE, top_up.rail, top_up.instrument, amount, traceparent=top_up.traceparent
    )


def order_of_withdrawal(withdrawal: Withdrawal) -> RailOrder:
    amount = Money(withdrawal.currency, withdrawal.amount_minor)
    return RailOrder(
        withdrawal.movement,
        Direction.PAY_OUT,
        withdrawal.rail,
        withdrawal.instrument,
        amount,
        traceparent=withdrawal.traceparent,
    )


def order_of_payment(payment: Payment) -> RailOrder:
    return RailOrder(
        movement_of(payment),
        Direction.CHARGE,
        payment.rail,
        payment.instrument,
        Money(payment.currency, payment.amount_minor),
        traceparent=payment.traceparent,
        is_wanted=payment.state == PaymentState.PENDING,
    )


def order_of_refund(refund: RailRefund) -> RailOrder:
    return RailOrder(
        refund.movement,
        Direction.PAY_BACK,
        refund.rail,
        refund.instrument,
        Money(refund.currency, refund.amount_minor),
        refund.charge_reference,
        refund.traceparent,
    )
