"""How a compared statement becomes part of the books' records, and how its breaks are explained."""

from __future__ import annotations

from uuid import UUID

from danbao_kit.decision import Moment
from danbao_payments.application.transactions import post_transaction
from danbao_payments.domain.account import account_id
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Party
from danbao_payments.domain.chart import PLATFORM, SUSPENSE
from danbao_payments.domain.commands import Leg, SpreadLeg
from danbao_payments.domain.errors import (
    ItemAlreadyResolved,
    KindNotAllowed,
    RailUnknown,
    ReconciliationItemNotFound,
    ReconciliationOvertaken,
    TransactionNotFound,
    TransactionUnrelated,
)
from danbao_payments.domain.events import ReconciliationEvent, ReconciliationItemEvent
from danbao_payments.domain.reconciliation import (
    RAIL_KINDS,
    SHOWN,
    Break,
    ImportedStatement,
    RailDirection,
    Reconciliation,
    ReconciliationItem,
    ReconciliationState,
    totals_of,
)
from danbao_payments.domain.reconciliation_commands import ImportStatement, ResolveReconciliationItem

_OPEN, _RESOLVED = ReconciliationState.OPEN.value, ReconciliationState.RESOLVED.value


def import_statement(command: ImportStatement, books: Books, moment: Moment, rails: frozenset[str]) -> Reconciliation:
    """Writes down what the comparison found. Raises RailUnknown, KindNotAllowed, ReconciliationOvertaken."""
    if command.rail not in rails:
        raise RailUnknown(command.rail)
    if command.caller.party is not Party.OPERATOR:
        caller = command.caller.party.value
        raise KindNotAllowed("statements are an operator's to import", owner=command.rail, kind="", caller=caller)
    reading = command.reading
    assert reading is not None, "a statement is compared before it is imported"
    last_number = books.last_statements.get(command.rail) or 0
    if reading.last_number != last_number:
        raise ReconciliationOvertaken(command.rail)
    matches, breaks = reading.matching
    lines = command.lines.rows
    made = Reconciliation(
        moment.ids.new(),
        last_number + 1,
        _OPEN if breaks else _RESOLVED,
        command.rail,
        command.currency,
        command.start_time,
        command.end_time,
        command.source,
        reading.movements_from,
        reading.movements_until,
        reading.ledger_sequence,
        len(lines),
        sum(line.amount_minor for line in lines if line.direction == RailDirection.IN),
        sum(line.amount_minor for line in lines if line.direction == RailDirection.OUT),
        sum(len(match.lines) for match in matches),
        sum(len(match.movements) for match in matches),
        sum(line.amount_minor for match in matches for line in match.lines),
        totals_of(breaks),
        len(breaks),
        moment.now,
        moment.now,
    )
    books.last_statements.put(made.rail, made.number)
    books.reconciliations.put(made.id, made)
    books.imported.append(ImportedStatement(made, reading.matching))
    for number, each in enumerate(breaks, start=1):
        books.reconciliation_items.put((made.id, number), _item(made, number, each))
    moment.emit(ReconciliationEvent("reconciliation_completed", made))
    return made


def resolve_item(command: ResolveReconciliationItem, books: Books, moment: Moment) -> ReconciliationItem:
    """Explains a break, for good. Raises ReconciliationItemNotFound, TransactionNotFound, ItemAlreadyResolved,
    TransactionUnrelated, and what post_transaction raises."""
    name = f"reconciliations/{command.reconciliation}/items/{command.number}"
    item = books.reconciliation_items.get((command.reconciliation, command.number))
    if item is None or command.caller.party is not Party.OPERATOR:
        raise ReconciliationItemNotFound(name)
    transaction, touched = command.transaction, None
    if transaction is not None:
        touched = books.touched.get(transaction)
        if touched is None:
            raise TransactionNotFound(f"transactions/{transaction}")
    if item.state == _RESOLVED:
        raise ItemAlreadyResolved(name)
    reconciliation = books.reconciliations.get(command.reconciliation)
    assert reconciliation is not None, "an item is of a reconciliation"
    if command.legs:
        touched = _named(command.legs)
    _check_explains(name, touched, reconciliation)
    if command.legs:
        posted = post_transaction(command.posting(name), books, moment)
        transaction = posted.transaction.id
        # A source that is named and has nothing gives nothing.
        _check_explains(
            name,
            frozenset(
                account
                for transfer in posted.transfers
                for account in (transfer.debit_account, transfer.credit_account)
            ),
            reconciliation,
        )
    resolved = item._replace(
        state=_RESOLVED,
        transaction_id=transaction,
        reason=command.reason or command.description,
        resolved_by=command.caller.subject or command.caller.party.value.lower(),
        resolve_time=moment.now,
    )
    books.reconciliation_items.put((command.reconciliation, command.number), resolved)
    left = reconciliation.open_items - 1
    books.reconciliations.put(
        reconciliation.id,
        reconciliation._replace(open_items=left, state=_OPEN if left else _RESOLVED, update_time=moment.now),
    )
    moment.emit(ReconciliationItemEvent("reconciliation_item_resolved", resolved))
    return resolved


def _item(made: Reconciliation, number: int, each: Break) -> ReconciliationItem:
    return ReconciliationItem(
        made.id,
        number,
        each.kind.value,
        _OPEN,
        each.direction,
        made.currency,
        each.lines_minor,
        each.movements_minor,
        each.lines[:SHOWN],
        len(each.lines),
        each.movements[:SHOWN],
        len(each.movements),
        None,
        "",
        "",
        None,
    )


def _named(legs: tuple[Leg | SpreadLeg, ...]) -> frozenset[UUID]:
    """The accounts that a posting may touch."""
    return frozenset(
        account_id(key.owner, key.kind, leg.amount.currency) for leg in legs for key in (*leg.debits, *leg.credits)
    )


def _check_explains(name: str, touched: frozenset[UUID] | None, reconciliation: Reconciliation) -> None:
    """Raises TransactionUnrelated. None: words explain it."""
    if touched is not None and not touched & _explaining(reconciliation):
        raise TransactionUnrelated(name, rail=reconciliation.rail, currency=reconciliation.currency)


def _explaining(reconciliation: Reconciliation) -> frozenset[object]:
    """The accounts of which one is touched by whatever explains a break."""
    currency = reconciliation.currency
    of_rail = {account_id(reconciliation.rail, kind, currency) for kind in RAIL_KINDS}
    return frozenset({*of_rail, account_id(PLATFORM, SUSPENSE, currency)})
