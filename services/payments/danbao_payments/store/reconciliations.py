"""How statements and their breaks are locked, written and read, and what a statement is compared with."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import ARRAY, Text, Uuid, any_, cast, column, exists, func, literal, select, table, union_all

from danbao_kit.database import Database
from danbao_kit.tables import PARTITION
from danbao_payments.application.statement_comparison import Heads
from danbao_payments.domain.account import account_id
from danbao_payments.domain.books import Books
from danbao_payments.domain.movement import MovementKind
from danbao_payments.domain.reconciliation import (
    RAIL_KINDS,
    BreakTotal,
    Earlier,
    ImportedStatement,
    RailDirection,
    RailMovement,
    Reconciliation,
    ReconciliationItem,
    StatementLine,
)
from danbao_payments.domain.reconciliation_commands import ImportStatement, ResolveReconciliationItem
from danbao_payments.domain.transfer import TransferKind
from danbao_payments.store import rows
from danbao_payments.store.copy import insert
from danbao_payments.store.tables import (
    payments,
    rail_refunds,
    reconciled_movements,
    reconciliation_items,
    reconciliations,
    statement_lines,
    top_ups,
    transactions,
    transfers,
    withdrawals,
)

_RECONCILIATION = ", ".join(Reconciliation._fields)
_ITEM = ", ".join(ReconciliationItem._fields)
_BREAKS = Reconciliation._fields.index("breaks")
_LINES, _MOVEMENTS = ReconciliationItem._fields.index("lines"), ReconciliationItem._fields.index("movements")

_LAST_NUMBERS = "SELECT rail, max(number) FROM reconciliations WHERE rail = ANY($1::text[]) GROUP BY rail"
_LOCK_RECONCILIATIONS = (
    f"SELECT {_RECONCILIATION} FROM reconciliations WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
)
_LOCK_ITEMS = (
    f"SELECT {_ITEM} FROM reconciliation_items WHERE (reconciliation_id, number) IN"
    " (SELECT * FROM unnest($1::uuid[], $2::int[])) ORDER BY reconciliation_id, number FOR UPDATE"
)
_TOUCHED = (
    "SELECT id, debit_account, credit_account FROM transactions"
    " JOIN transfers ON sequence BETWEEN first_sequence AND last_sequence WHERE id = ANY($1::uuid[])"
)
_UPDATE_RECONCILIATIONS = (
    "UPDATE reconciliations SET state = new.state, open_items = new.open_items, update_time = new.update_time"
    " FROM unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[]) AS new (id, state, open_items, update_time)"
    " WHERE reconciliations.id = new.id"
)
_UPDATE_ITEMS = (
    "UPDATE reconciliation_items SET state = new.state, transaction_id = new.transaction_id, reason = new.reason,"
    " resolved_by = new.resolved_by, resolve_time = new.resolve_time"
    " FROM unnest($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[])"
    " AS new (reconciliation_id, number, state, transaction_id, reason, resolved_by, resolve_time)"
    " WHERE reconciliation_items.reconciliation_id = new.reconciliation_id"
    " AND reconciliation_items.number = new.number"
)
_LINE_COLUMNS = (
    "reconciliation_id", "rail", *StatementLine._fields, "match_number", "item_number",
)  # fmt: skip
_MOVEMENT_COLUMNS = (
    "reconciliation_id", "transaction_id", "direction", "name", "amount_minor",
    "match_number", "item_number",
)  # fmt: skip

# The kit's.
_HEADS = table("stream_heads", column("partition"), column("row_number"), column("last_time"))
# How much of the ledger, and how many ids, are looked at in one statement: others are served in between.
_SEQUENCES = 50_000
_IDS = 10_000
_ROWS_OF = {
    MovementKind.TOP_UP: top_ups,
    MovementKind.WITHDRAWAL: withdrawals,
    MovementKind.PAYMENT: payments,
    MovementKind.REFUND: rail_refunds,
}
_MOVES_MONEY = transfers.c.kind.in_([TransferKind.POSTED.value, TransferKind.POST.value])
# Not a direction of money over the rail, but between the rail's own two accounts.
_SETTLEMENT = "SETTLEMENT"


# --- in the write path ------------------------------------------------------------------------------------------------


async def load_reconciliations(connection: asyncpg.Connection, books: Books, commands: Sequence[Any]) -> None:
    """Locks the breaks that are to be explained, and reads what explains them and which statements are the last."""
    rails = sorted({command.rail for command in commands if isinstance(command, ImportStatement)})
    if rails:
        for rail, number in await connection.fetch(_LAST_NUMBERS, rails):
            books.last_statements.load(rail, number)
    resolving = [command for command in commands if isinstance(command, ResolveReconciliationItem)]
    if not resolving:
        return
    keys = sorted({(command.reconciliation, command.number) for command in resolving})
    for row in await connection.fetch(_LOCK_RECONCILIATIONS, sorted({key for key, _ in keys})):
        found = reconciliation_of(row)
        books.reconciliations.load(found.id, found)
    for row in await connection.fetch(_LOCK_ITEMS, *rows.columns_of(keys)):
        item = item_of(row)
        books.reconciliation_items.load((item.reconciliation_id, item.number), item)
    if named := sorted({command.transaction for command in resolving if command.transaction is not None}):
        touched: dict[UUID, set[UUID]] = {}
        for key, debit, credit in await connection.fetch(_TOUCHED, named):
            touched.setdefault(key, set()).update((debit, credit))
        for key, accounts in touched.items():
            books.touched.load(key, frozenset(accounts))


async def save_reconciliations(connection: asyncpg.Connection, books: Books) -> None:
    """Writes new reconciliations with all that belongs to them, and what was explained of others."""
    if created := [_reconciliation_row(made) for _, made in books.reconciliations.created()]:
        await insert(connection, "reconciliations", Reconciliation._fields, created)
    if updated := [(r.id, r.state, r.open_items, r.update_time) for _, r in books.reconciliations.updated()]:
        await connection.execute(_UPDATE_RECONCILIATIONS, *rows.columns_of(updated))
    for imported in books.imported.accepted:
        await insert(connection, "statement_lines", _LINE_COLUMNS, _line_rows(imported))
        await insert(connection, "reconciled_movements", _MOVEMENT_COLUMNS, _movement_rows(imported))
    if items := [_item_row(item) for _, item in books.reconciliation_items.created()]:
        await insert(connection, "reconciliation_items", ReconciliationItem._fields, items)
    if explained := [
        (i.reconciliation_id, i.number, i.state, i.transaction_id, i.reason, i.resolved_by, i.resolve_time)
        for _, i in books.reconciliation_items.updated()
    ]:
        await connection.execute(_UPDATE_ITEMS, *rows.columns_of(explained))


def _line_rows(imported: ImportedStatement) -> list[tuple[Any, ...]]:
    made, (matches, breaks) = imported
    matched = [
        (made.id, made.rail, *line, number, None)
        for number, match in enumerate(matches, start=1)
        for line in match.lines
    ]
    return matched + [
        (made.id, made.rail, *line, None, number) for number, each in enumerate(breaks, start=1) for line in each.lines
    ]


def _movement_rows(imported: ImportedStatement) -> list[tuple[Any, ...]]:
    made, (matches, breaks) = imported
    matched = [
        (made.id, m.transaction_id, m.direction, m.name, m.amount_minor, number, None)
        for number, match in enumerate(matches, start=1)
        for m in match.movements
    ]
    return matched + [
        (made.id, m.transaction_id, m.direction, m.name, m.amount_minor, None, number)
        for number, each in enumerate(breaks, start=1)
        for m in each.movements
    ]


# --- what a statement is compared with --------------------------------------------------------------------------------


class ReconciliationQueries:
    """Reads of reconciliations, and of what a statement is compared with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, rail: str, currency: str) -> Heads:
        """How far the rail's statements and the books go. The statements are read first: see ImportStatement."""
        last_number = select(func.coalesce(func.max(reconciliations.c.number), 0)).where(reconciliations.c.rail == rail)
        before = (
            select(reconciliations.c.end_time, reconciliations.c.movements_until)
            .where(reconciliations.c.rail == rail, reconciliations.c.currency == currency)
            .order_by(reconciliations.c.number.desc())
            .limit(1)
        )
        ledger = select(_HEADS.c.row_number, _HEADS.c.last_time).where(_HEADS.c.partition == PARTITION)
        async with self._database.read() as connection:
            number = (await connection.execute(last_number)).scalar_one()
            previous = (await connection.execute(before)).first()
            head = (await connection.execute(ledger)).one()
        return Heads(
            int(number),
            None if previous is None else previous.end_time,
            None if previous is None else previous.movements_until,
            int(head.row_number),
            head.last_time,
        )

    async def movements(
        self, rail: str, currency: str, *, since: datetime, until_sequence: int, most: int
    ) -> Sequence[RailMovement]:
        """What was recorded since then, up to this sequence, and was not matched yet; not many more than `most`."""
        first = (
            select(transactions.c.first_sequence)
            .where(transactions.c.create_time >= since)
            .order_by(transactions.c.create_time, transactions.c.last_sequence)
            .limit(1)
        )
        async with self._database.read() as connection:
            at = (await connection.execute(first)).scalar()
        if at is None:
            return ()
        accounts = [account_id(rail, kind, currency) for kind in RAIL_KINDS]
        found = _Found()
        while at <= until_sequence and len(found.moved) <= most:
            # Numbers may be of transactions that reach over the end: legs of one are put together from both.
            last = min(at + _SEQUENCES - 1, until_sequence)
            async with self._database.read() as connection:
                for row in (await connection.execute(_moved(accounts, at, last))).all():
                    found.add(row)
            at = last + 1
        return found.movements(await self._own_references(found.names()))

    async def _own_references(self, names: Collection[str]) -> dict[str, str]:
        """How rails call these movements. A reference that was told last stands on no transaction."""
        known: dict[str, str] = {}
        for kind, rows_of in _ROWS_OF.items():
            prefix = f"{kind.value}/"
            ids = sorted(UUID(name.removeprefix(prefix)) for name in names if name.startswith(prefix))
            for at in range(0, len(ids), _IDS):
                of_these = rows_of.c.id == any_(cast(ids[at : at + _IDS], ARRAY(Uuid)))
                query = select(rows_of.c.id, rows_of.c.rail_reference).where(of_these, rows_of.c.rail_reference != "")
                async with self._database.read() as connection:
                    found = (await connection.execute(query)).all()
                known.update((f"{prefix}{row.id}", row.rail_reference) for row in found)
        return known

    async def earlier(self, rail: str, lines: Sequence[StatementLine]) -> Earlier:
        """What earlier statements of the rail said in the same words."""
        ids = sorted({line.external_id for line in lines})
        references = sorted({line.reference for line in lines if line.reference})
        known: set[str] = set()
        matched: set[tuple[str, str, int]] = set()
        for at in range(0, len(ids), _IDS):
            query = select(statement_lines.c.external_id).where(
                statement_lines.c.rail == rail, _is_one_of(statement_lines.c.external_id, ids[at : at + _IDS])
            )
            async with self._database.read() as connection:
                known.update(row[0] for row in (await connection.execute(query)).all())
        for at in range(0, len(references), _IDS):
            said = (statement_lines.c.reference, statement_lines.c.direction, statement_lines.c.amount_minor)
            query = select(*said).where(
                statement_lines.c.rail == rail,
                _is_one_of(statement_lines.c.reference, references[at : at + _IDS]),
                statement_lines.c.match_number.is_not(None),
            )
            async with self._database.read() as connection:
                matched.update((row[0], row[1], row[2]) for row in (await connection.execute(query)).all())
        return Earlier(known, matched)

    async def reconciliation(self, key: UUID) -> Reconciliation | None:
        query = select(*[reconciliations.c[name] for name in Reconciliation._fields]).where(reconciliations.c.id == key)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else reconciliation_of(row)

    async def items(
        self, reconciliation: UUID, *, kind: str, state: str, after: int, limit: int
    ) -> Sequence[ReconciliationItem]:
        """By number, those after; an empty kind or state: any."""
        query = select(*[reconciliation_items.c[name] for name in ReconciliationItem._fields]).where(
            reconciliation_items.c.reconciliation_id == reconciliation, reconciliation_items.c.number > after
        )
        if kind:
            query = query.where(reconciliation_items.c.kind == kind)
        if state:
            query = query.where(reconciliation_items.c.state == state)
        async with self._database.read() as connection:
            found = (await connection.execute(query.order_by(reconciliation_items.c.number).limit(limit))).all()
        return [item_of(row) for row in found]


class _Found:
    """Rows of transfers on the way to movements: one per transaction and direction."""

    def __init__(self) -> None:
        self.moved: dict[tuple[UUID, str], RailMovement] = {}
        self._settled: dict[str, set[str]] = {}

    def add(self, row: Any) -> None:
        if row.direction == _SETTLEMENT:
            if row.reference:
                self._settled.setdefault(row.name, set()).add(row.reference)
            return
        key = (row.transaction_id, row.direction)
        before = self.moved.get(key)
        if before is not None:
            self.moved[key] = before._replace(amount_minor=before.amount_minor + row.amount_minor)
            return
        self.moved[key] = RailMovement(
            row.transaction_id,
            row.direction,
            row.name,
            row.amount_minor,
            row.reference,
            (),
            row.effective_time,
            row.sequence,
            row.reported,
        )

    def names(self) -> set[str]:
        return {movement.name for movement in self.moved.values()}

    def movements(self, own: Mapping[str, str]) -> list[RailMovement]:
        """`own`: the movements' own references, which a transaction may not have known."""
        return [
            m._replace(settlements=tuple(sorted(others))) if (others := self._others(m, own)) else m
            for m in self.moved.values()
        ]

    def _others(self, movement: RailMovement, own: Mapping[str, str]) -> set[str]:
        return {*self._settled.get(movement.name, ()), own.get(movement.name, "")} - {"", movement.rail_reference}


def _moved(accounts: Sequence[UUID], first: int, last: int) -> Any:
    """Transfers over the rail that name a movement and were not matched, and settlements of such."""
    incoming = _side(accounts, first, last, debited=True, direction=RailDirection.IN.value)
    outgoing = _side(accounts, first, last, debited=False, direction=RailDirection.OUT.value)
    settling = (
        select(*_MOVED, literal(_SETTLEMENT).label("direction"), literal(False).label("reported"))
        .join(transactions, transactions.c.id == transfers.c.transaction_id)
        .where(
            transfers.c.debit_account.in_(accounts),
            transfers.c.credit_account.in_(accounts),
            transfers.c.sequence.between(first, last),
            _MOVES_MONEY,
            _NAME.is_not(None),
        )
    )
    return union_all(incoming, outgoing, settling)


_METADATA = transactions.c.metadata
# Top-ups of before movements had names carry their own.
_NAME = func.coalesce(_METADATA["movement"].astext, _METADATA["top_up"].astext)
_MOVED = (
    transfers.c.sequence,
    transfers.c.transaction_id,
    transfers.c.amount_minor,
    _NAME.label("name"),
    func.coalesce(_METADATA["rail_reference"].astext, "").label("reference"),
    func.coalesce(transactions.c.effective_time, transactions.c.create_time).label("effective_time"),
)


def _side(accounts: Sequence[UUID], first: int, last: int, *, debited: bool, direction: str) -> Any:
    ours, theirs = transfers.c.debit_account, transfers.c.credit_account
    if not debited:
        ours, theirs = theirs, ours
    same = (
        reconciled_movements.c.transaction_id == transfers.c.transaction_id,
        reconciled_movements.c.direction == direction,
    )
    reported = exists().where(*same, reconciled_movements.c.item_number.is_not(None))
    matched = exists().where(*same, reconciled_movements.c.match_number.is_not(None))
    return (
        select(*_MOVED, literal(direction).label("direction"), reported.label("reported"))
        .join(transactions, transactions.c.id == transfers.c.transaction_id)
        .where(
            ours.in_(accounts),
            theirs.not_in(accounts),
            transfers.c.sequence.between(first, last),
            _MOVES_MONEY,
            _NAME.is_not(None),
            ~matched,
        )
    )


def _is_one_of(named: Any, texts: Sequence[str]) -> Any:
    # One parameter however many there are.
    return named == any_(cast(list(texts), ARRAY(Text)))


# --- rows and values --------------------------------------------------------------------------------------------------


def reconciliation_of(row: Any) -> Reconciliation:
    values = list(row)
    values[_BREAKS] = tuple(BreakTotal(*each) for each in _parsed(values[_BREAKS]))
    return Reconciliation._make(values)


def item_of(row: Any) -> ReconciliationItem:
    values = list(row)
    values[_LINES] = tuple(_line_of(each) for each in _parsed(values[_LINES]))
    values[_MOVEMENTS] = tuple(_movement_of(each) for each in _parsed(values[_MOVEMENTS]))
    return ReconciliationItem._make(values)


def _reconciliation_row(made: Reconciliation) -> tuple[Any, ...]:
    return (*made[:_BREAKS], json.dumps(made.breaks), *made[_BREAKS + 1 :])


def _item_row(item: ReconciliationItem) -> tuple[Any, ...]:
    lines = json.dumps([[*line[:4], line.booking_date.isoformat(), *line[5:]] for line in item.lines])
    movements = json.dumps(
        [[str(m.transaction_id), *m[1:6], m.effective_time.isoformat(), m.sequence, m.reported] for m in item.movements]
    )
    return (*item[:_LINES], lines, item.line_count, movements, *item[_MOVEMENTS + 1 :])


def _line_of(stored: Sequence[Any]) -> StatementLine:
    return StatementLine._make((*stored[:4], date.fromisoformat(stored[4]), *stored[5:]))


def _movement_of(stored: Sequence[Any]) -> RailMovement:
    at = datetime.fromisoformat(stored[6])
    return RailMovement._make((UUID(stored[0]), *stored[1:5], tuple(stored[5]), at, *stored[7:]))


def _parsed(stored: Any) -> Any:
    """The writer's driver gives JSON as text, the readers' as a value."""
    return json.loads(stored) if isinstance(stored, str) else stored
