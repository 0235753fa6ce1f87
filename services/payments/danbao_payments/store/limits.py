"""How limits and what counts against them are locked, read and written."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from danbao_payments.domain.books import Books
from danbao_payments.domain.commands import Command, CreatePayment, CreateWithdrawal, SetLimits
from danbao_payments.domain.limits import SUBJECT_PREFIX, Limits, Usage, class_scope
from danbao_payments.store import rows

_READ_LIMITS = f"SELECT {', '.join(Limits._fields)} FROM limits WHERE scope = ANY($1::text[])"
_LOCK_USAGE = (
    f"SELECT {', '.join(Usage._fields)} FROM limit_usage WHERE subject = ANY($1::text[])"
    " ORDER BY subject, currency FOR UPDATE"
)
_PUT_LIMITS = (
    f"INSERT INTO limits ({', '.join(Limits._fields)})"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[])"
    " ON CONFLICT (scope, currency) DO UPDATE SET per_transaction_minor = EXCLUDED.per_transaction_minor,"
    " per_day_minor = EXCLUDED.per_day_minor, per_month_minor = EXCLUDED.per_month_minor,"
    " update_time = EXCLUDED.update_time"
)
_PUT_USAGE = (
    f"INSERT INTO limit_usage ({', '.join(Usage._fields)})"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::date[], $4::bigint[], $5::bigint[])"
    " ON CONFLICT (subject, currency) DO UPDATE SET day = EXCLUDED.day, day_minor = EXCLUDED.day_minor,"
    " month_minor = EXCLUDED.month_minor"
)


async def load_limits(connection: asyncpg.Connection, books: Books, commands: Sequence[Command]) -> None:
    """Reads the limits that may apply and, only where there are any, what has been used of them."""
    scopes: set[str] = set()
    payers: set[str] = set()
    for command in commands:
        if isinstance(command, CreatePayment | CreateWithdrawal):
            payers.add(command.payer if isinstance(command, CreatePayment) else command.owner)
            if command.limit_class:
                scopes.add(class_scope(command.limit_class))
        elif isinstance(command, SetLimits):
            # Set and used in one batch: what was used so far must be there.
            scopes.add(command.scope)
    if not (scopes or payers):
        return
    asked = any(isinstance(command, SetLimits) for command in commands)
    of_class = False
    limited: set[str] = set()
    for row in await connection.fetch(_READ_LIMITS, sorted(scopes | payers)):
        limits = Limits._make(row)
        books.limits.load((limits.scope, limits.currency), limits)
        if limits.scope.startswith(SUBJECT_PREFIX):
            limited.add(limits.scope)
        else:
            of_class = True
    wanted = payers if of_class or asked else limited & payers
    if wanted:
        for row in await connection.fetch(_LOCK_USAGE, sorted(wanted)):
            usage = Usage._make(row)
            books.usage.load((usage.subject, usage.currency), usage)


async def save_limits(connection: asyncpg.Connection, books: Books) -> None:
    """Writes what accepted commands set and counted."""
    if limits := [value for _, value in (*books.limits.created(), *books.limits.updated())]:
        await connection.execute(_PUT_LIMITS, *rows.columns_of(limits))
    if usage := [value for _, value in (*books.usage.created(), *books.usage.updated())]:
        await connection.execute(_PUT_USAGE, *rows.columns_of(usage))
