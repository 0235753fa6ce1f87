"""Serves ReconciliationService."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypeAlias

import grpc

from danbao.payments.v1 import reconciliation_pb2, reconciliation_pb2_grpc
from danbao_kit.call import current_call
from danbao_kit.commands import CommandRunner
from danbao_kit.errors import CardNumber, FieldInvalid, FieldViolation
from danbao_kit.paging import encode_token, page_size
from danbao_kit.timestamps import moment_of
from danbao_payments.application.statement_comparison import ReconciliationReader, compare
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.errors import ReconciliationNotFound, ReconciliationOvertaken
from danbao_payments.domain.reconciliation import (
    BreakKind,
    RailDirection,
    RailMovement,
    Reconciliation,
    ReconciliationItem,
    ReconciliationState,
    StatementLine,
)
from danbao_payments.domain.reconciliation_commands import (
    MOST_LINES,
    ImportStatement,
    ResolveReconciliationItem,
    StatementLines,
    day_of,
)
from danbao_payments.rpc.accounts import sequence_of
from danbao_payments.rpc.legs import legs_of
from danbao_payments.rpc.mapping import caller_of
from danbao_payments.rpc.values import id_of, timestamp

Context: TypeAlias = grpc.aio.ServicerContext

# Statements of one rail that are imported at once find out at their commit, and all but one compare again.
_ATTEMPTS = 10
_LINE_OF_CHUNK = re.compile(r"^lines\.lines\[(\d+)\]")

_DIRECTIONS = {
    reconciliation_pb2.RAIL_DIRECTION_IN: RailDirection.IN.value,
    reconciliation_pb2.RAIL_DIRECTION_OUT: RailDirection.OUT.value,
}
_DIRECTION_NUMBERS = {name: number for number, name in _DIRECTIONS.items()}
_KIND_NUMBERS = {kind.value: reconciliation_pb2.BreakKind.Value(f"BREAK_KIND_{kind.value}") for kind in BreakKind}
_KINDS = {number: name for name, number in _KIND_NUMBERS.items()} | {0: ""}
_STATE_NUMBERS = {
    state.value: reconciliation_pb2.Reconciliation.State.Value(f"STATE_{state.value}") for state in ReconciliationState
}
_ITEM_STATE_NUMBERS = {
    state.value: reconciliation_pb2.ReconciliationItem.State.Value(f"STATE_{state.value}")
    for state in ReconciliationState
}
_ITEM_STATES = {number: name for name, number in _ITEM_STATE_NUMBERS.items()} | {0: ""}


class ReconciliationServicer(reconciliation_pb2_grpc.ReconciliationServiceServicer):
    def __init__(self, commands: CommandRunner, reader: ReconciliationReader) -> None:
        self._commands = commands
        self._reader = reader

    async def ImportStatement(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> reconciliation_pb2.Reconciliation:
        header, rows = await _read(request_iterator)
        current_call().facts["lines"] = str(len(rows))
        asked = _import_of(header, rows, caller_of(current_call()))
        asked.check()
        for attempt in range(1, _ATTEMPTS + 1):
            command = asked.compared(await compare(asked, self._reader))
            try:
                made: reconciliation_pb2.Reconciliation = await self._commands.run(
                    context, "ImportStatement", header.request_id, command
                )
                return made
            except ReconciliationOvertaken:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt has returned or raised")

    async def GetReconciliation(
        self, request: reconciliation_pb2.GetReconciliationRequest, context: Context
    ) -> reconciliation_pb2.Reconciliation:
        return reconciliation_message(await self._find(request.name))

    async def ListReconciliationItems(
        self, request: reconciliation_pb2.ListReconciliationItemsRequest, context: Context
    ) -> reconciliation_pb2.ListReconciliationItemsResponse:
        found = await self._find(request.name)
        scope = f"items of {request.name} {request.kind} {request.state}"
        after = sequence_of(scope, request.page_token) if request.page_token else 0
        size = page_size(request.page_size)
        items = await self._reader.items(
            found.id, kind=_KINDS[request.kind], state=_ITEM_STATES[request.state], after=after, limit=size + 1
        )
        answer = reconciliation_pb2.ListReconciliationItemsResponse(items=[item_message(each) for each in items[:size]])
        if len(items) > size:
            answer.next_page_token = encode_token(scope, str(items[size - 1].number))
        return answer

    async def ResolveReconciliationItem(
        self, request: reconciliation_pb2.ResolveReconciliationItemRequest, context: Context
    ) -> reconciliation_pb2.ReconciliationItem:
        command = _resolve_of(request, caller_of(current_call()))
        command.check()
        resolved: reconciliation_pb2.ReconciliationItem = await self._commands.run(
            context, "ResolveReconciliationItem", request.request_id, command
        )
        return resolved

    async def _find(self, name: str) -> Reconciliation:
        key = id_of(name, "name")
        found = await self._reader.reconciliation(key) if _sees(caller_of(current_call())) else None
        if found is None:
            raise ReconciliationNotFound(name)
        return found


def _sees(caller: Caller) -> bool:
    """Statements tell of everybody's money: to others than operators there are none."""
    return caller.party is Party.OPERATOR


async def _read(stream: AsyncIterator[Any]) -> tuple[reconciliation_pb2.StatementHeader, list[StatementLine]]:
    """The whole statement. Raises FieldInvalid, with a line's place in the statement."""
    header: reconciliation_pb2.StatementHeader | None = None
    rows: list[StatementLine] = []
    try:
        async for part in stream:
            if part.HasField("header"):
                if header is not None:
                    raise FieldInvalid(FieldViolation("header", "comes once"))
                header = part.header
            elif header is None:
                raise FieldInvalid(FieldViolation("header", "must come before the lines"))
            else:
                for line in part.lines.lines:
                    rows.append(_line_of(line, len(rows)))
            if len(rows) > MOST_LINES:
                raise FieldInvalid(FieldViolation("lines", f"more than {MOST_LINES}; send several statements"))
    except CardNumber as error:
        raise CardNumber(*[_in_statement(each, len(rows)).field for each in error.fields]) from error
    except FieldInvalid as error:
        raise FieldInvalid(*[_in_statement(each, len(rows)) for each in error.fields]) from error
    if header is None:
        raise FieldInvalid(FieldViolation("header", "required"))
    return header, rows


def _in_statement(violation: FieldViolation, before: int) -> FieldViolation:
    """A field of a chunk's line, counted over the whole statement."""

    def counted(place: re.Match[str]) -> str:
        return f"lines[{before + int(place[1])}]"

    return FieldViolation(_LINE_OF_CHUNK.sub(counted, violation.field), violation.description)


def _line_of(line: reconciliation_pb2.StatementLine, position: int) -> StatementLine:
    return StatementLine(
        position,
        line.external_id,
        _DIRECTIONS[line.direction],
        line.amount_minor,
        day_of(line.booking_date, f"lines[{position}].booking_date"),
        line.reference,
        line.description,
    )


def _import_of(
    header: reconciliation_pb2.StatementHeader, rows: list[StatementLine], caller: Caller
) -> ImportStatement:
    digest = hashlib.sha256()
    # The same lines in another order are the same statement.
    for told in sorted(tuple(row)[1:] for row in rows):
        digest.update(repr(told).encode())
    return ImportStatement(
        header.rail,
        header.currency,
        moment_of(header.start_time, "header.start_time"),
        moment_of(header.end_time, "header.end_time"),
        StatementLines(digest.hexdigest(), tuple(rows)),
        header.source,
        timedelta(seconds=header.grace.seconds, microseconds=header.grace.nanos // 1000),
        None,
        caller,
    )


def _resolve_of(
    request: reconciliation_pb2.ResolveReconciliationItemRequest, caller: Caller
) -> ResolveReconciliationItem:
    parent, _, number = request.name.rpartition("/items/")
    return ResolveReconciliationItem(
        id_of(parent, "name"),
        int(number),
        id_of(request.transaction, "transaction") if request.HasField("transaction") else None,
        request.reason,
        legs_of(request.posting.legs, "posting."),
        request.posting.description,
        caller,
    )


def reconciliation_message(made: Reconciliation) -> reconciliation_pb2.Reconciliation:
    return reconciliation_pb2.Reconciliation(
        name=f"reconciliations/{made.id}",
        state=_STATE_NUMBERS[made.state],
        rail=made.rail,
        currency=made.currency,
        start_time=timestamp(made.start_time),
        end_time=timestamp(made.end_time),
        source=made.source,
        movements_from=timestamp(made.movements_from),
        movements_until=timestamp(made.movements_until),
        ledger_sequence=made.ledger_sequence,
        lines=made.lines,
        in_minor=made.in_minor,
        out_minor=made.out_minor,
        matched_lines=made.matched_lines,
        matched_movements=made.matched_movements,
        matched_minor=made.matched_minor,
        breaks=[
            reconciliation_pb2.BreakTotal(kind=_KIND_NUMBERS[each.kind], items=each.items, minor=each.minor)
            for each in made.breaks
        ],
        open_items=made.open_items,
        create_time=timestamp(made.create_time),
        update_time=timestamp(made.update_time),
    )


def item_message(item: ReconciliationItem) -> reconciliation_pb2.ReconciliationItem:
    message = reconciliation_pb2.ReconciliationItem(
        name=item.name,
        kind=_KIND_NUMBERS[item.kind],
        state=_ITEM_STATE_NUMBERS[item.state],
        direction=_DIRECTION_NUMBERS[item.direction],
        currency=item.currency,
        lines_minor=item.lines_minor,
        movements_minor=item.movements_minor,
        lines=[_line_message(line) for line in item.lines],
        line_count=item.line_count,
        movements=[_movement_message(movement) for movement in item.movements],
        movement_count=item.movement_count,
        transaction="" if item.transaction_id is None else f"transactions/{item.transaction_id}",
        reason=item.reason,
        resolved_by=item.resolved_by,
    )
    if item.resolve_time is not None:
        message.resolve_time.CopyFrom(timestamp(item.resolve_time))
    return message


def _line_message(line: StatementLine) -> reconciliation_pb2.StatementLine:
    return reconciliation_pb2.StatementLine(
        external_id=line.external_id,
        direction=_DIRECTION_NUMBERS[line.direction],
        amount_minor=line.amount_minor,
        booking_date=line.booking_date.isoformat(),
        reference=line.reference,
        description=line.description,
    )


def _movement_message(movement: RailMovement) -> reconciliation_pb2.RailMovement:
    return reconciliation_pb2.RailMovement(
        name=movement.name,
        transaction=f"transactions/{movement.transaction_id}",
        amount_minor=movement.amount_minor,
        rail_reference=movement.rail_reference,
        effective_time=timestamp(movement.effective_time),
    )
