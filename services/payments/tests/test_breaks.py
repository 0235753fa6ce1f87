"""Breaks between a statement and the books: who sees them, and how each is explained, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from danbao.payments.v1 import audit_pb2, event_pb2, ledger_pb2, reconciliation_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, money, new_id
from danbao_payments.testing.statements import RAIL, Kind, fund, get, items_of, send, statement_of_today

OTHERS = {
    "user": as_caller(subject="buyer", roles="user"),
    "partner": PARTNER,
    "arbiter": as_caller(subject="ann", roles="arbiter"),
    "rail": as_caller(subject="simulated", roles="rail"),
}


async def broken_statement(stack: PaymentsStack) -> tuple[str, list[reconciliation_pb2.ReconciliationItem]]:
    """A reconciliation with three breaks, MISSING_HERE, MISSING_THERE and AMOUNT_DIFFERS."""
    known, _ = await fund(stack, 500), await fund(stack, 40)
    statement = await statement_of_today(stack)
    statement.say("IN", 510, known.reference)
    statement.say("IN", 7, "stranger")
    made = await send(stack, statement.parts())
    return made.name, await items_of(stack, made.name)


def resolving(item: Any, **others: Any) -> reconciliation_pb2.ResolveReconciliationItemRequest:
    return reconciliation_pb2.ResolveReconciliationItemRequest(request_id=new_id(), name=item.name, **others)


def leg(debit: str, credit: str, minor: int, owner: str = "platform") -> dict[str, Any]:
    def key(kind: str) -> dict[str, str]:
        return {"owner": RAIL if kind.startswith("rail.") and kind != "rail.cost" else owner, "kind": kind}

    return {"debit": key(debit), "credit": key(credit), "amount": money(minor)}


async def test_each_break_is_explained_in_its_own_way_and_the_last_ends_it(stack: PaymentsStack):
    name, (here, there, differs) = await broken_statement(stack)
    resolved = await stack.call(
        "ResolveReconciliationItem", resolving(there, reason="the bank books it tomorrow"), as_=OPERATOR
    )
    assert resolved.state == reconciliation_pb2.ReconciliationItem.STATE_RESOLVED
    assert (resolved.reason, resolved.transaction) == ("the bank books it tomorrow", "")
    assert resolved.resolved_by == "subjects/olga"
    assert resolved.HasField("resolve_time")
    # What is not resolved stays as it was.
    assert (resolved.kind, list(resolved.movements)) == (there.kind, list(there.movements))
    posting = ledger_pb2.PostTransactionRequest(
        request_id=new_id(), legs=[leg("rail.in_transit", "suspense", 7)], description="whose is it?"
    )
    posted = await stack.call("PostTransaction", posting, as_=OPERATOR)
    resolved = await stack.call("ResolveReconciliationItem", resolving(here, transaction=posted.name), as_=OPERATOR)
    assert (resolved.transaction, resolved.reason) == (posted.name, "")
    assert (await stack.call("GetReconciliation", get(name), as_=OPERATOR)).open_items == 1
    request = resolving(differs, posting={"legs": [leg("rail.in_transit", "suspense", 10)], "description": "10 more"})
    resolved = await stack.call("ResolveReconciliationItem", request, as_=OPERATOR)
    transaction = await stack.call(
        "GetTransaction", ledger_pb2.GetTransactionRequest(name=resolved.transaction), as_=OPERATOR
    )
    assert dict(transaction.metadata) == {"reconciliation_item": differs.name}
    assert [transfer.amount.amount_minor for transfer in transaction.transfers] == [10]
    # The same request again gets the same answer and posts nothing.
    assert await stack.call("ResolveReconciliationItem", request, as_=OPERATOR) == resolved
    ended = await stack.call("GetReconciliation", get(name), as_=OPERATOR)
    assert (ended.open_items, ended.state) == (0, reconciliation_pb2.Reconciliation.STATE_RESOLVED)
    assert await stack.available("platform", "suspense") == -17
    states = reconciliation_pb2.ReconciliationItem
    assert await items_of(stack, name, state=states.STATE_OPEN) == []
    assert len(await items_of(stack, name, state=states.STATE_RESOLVED)) == 3
    audit = await stack.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR, timeout=30)
    assert audit.intact, audit
    # What explains a break is no movement of the rail's: no statement has to tell of it.
    assert (await send(stack, (await statement_of_today(stack)).parts())).open_items == 0


async def test_a_break_is_explained_once(stack: PaymentsStack):
    _, items = await broken_statement(stack)
    request = resolving(items[0], reason="a")
    await stack.call("ResolveReconciliationItem", request, as_=OPERATOR)
    legs = {"legs": [leg("rail.in_transit", "suspense", 7)]}
    before = await stack.sql("SELECT count(*) FROM transfers")
    for again in (resolving(items[0], reason="a"), resolving(items[0], posting=legs)):
        with pytest.raises(RemoteError) as refused:
            await stack.call("ResolveReconciliationItem", again, as_=OPERATOR)
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "ITEM_ALREADY_RESOLVED")
        assert refused.value.metadata["item"] == items[0].name
    assert await stack.sql("SELECT count(*) FROM transfers") == before
    # Many at once: one of them explains it.
    sent = [stack.call("ResolveReconciliationItem", resolving(items[1], reason=str(n)), as_=OPERATOR) for n in range(8)]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    assert Counter(getattr(answer, "reason", "") == "ITEM_ALREADY_RESOLVED" for answer in answers) == {
        True: 7,
        False: 1,
    }
    assert [row["open_items"] for row in await stack.sql("SELECT open_items FROM reconciliations")] == [1]


@pytest.mark.parametrize(
    ("resolution", "reason"),
    [
        ({"transaction": "transactions/019a0000-0000-7000-8000-000000000000"}, "TRANSACTION_NOT_FOUND"),
        ({"transaction": "elsewhere"}, "TRANSACTION_UNRELATED"),
        ({"posting": {"legs": [leg("goodwill", "fee.escrow", 7)]}}, "TRANSACTION_UNRELATED"),
        ({"posting": {"legs": [leg("fee.escrow", "goodwill", 7)]}}, "TRANSACTION_UNRELATED"),
        ({"posting": {"legs": [leg("fee.escrow", "suspense", 7)]}}, "INSUFFICIENT_FUNDS"),
        ({"posting": {"legs": [leg("rail.in_transit", "clearing.capture", 7)]}}, "KIND_NOT_ALLOWED"),
        ({"posting": {"legs": [leg("suspense", "suspense", 7)]}}, "LEGS_INVALID"),
        ({"posting": {"legs": [leg("rail.in_transit", "suspense", 0)]}}, "AMOUNT_NOT_POSITIVE"),
        ({"posting": {}}, "FIELD_INVALID"),
        ({"reason": ""}, "FIELD_INVALID"),
        ({}, "FIELD_INVALID"),
    ],
)
async def test_what_explains_nothing_is_refused_and_posts_nothing(stack: PaymentsStack, resolution: Any, reason: str):
    name, items = await broken_statement(stack)
    if resolution.get("transaction") == "elsewhere":
        posting = ledger_pb2.PostTransactionRequest(
            request_id=new_id(), legs=[leg("goodwill", "fee.escrow", 1)], description="nothing to do with it"
        )
        resolution = {"transaction": (await stack.call("PostTransaction", posting, as_=OPERATOR)).name}
    before = await stack.sql("SELECT count(*), max(sequence) FROM transfers")
    with pytest.raises(RemoteError) as refused:
        await stack.call("ResolveReconciliationItem", resolving(items[0], **resolution), as_=OPERATOR)
    assert refused.value.reason == reason
    if reason in ("LEGS_INVALID", "AMOUNT_NOT_POSITIVE"):
        assert refused.value.metadata["field"].startswith("posting.legs[0].")
    assert await stack.sql("SELECT count(*), max(sequence) FROM transfers") == before
    assert await items_of(stack, name) == items


@pytest.mark.parametrize("role", OTHERS)
async def test_to_others_than_operators_there_are_no_reconciliations(stack: PaymentsStack, role: str):
    name, items = await broken_statement(stack)
    calls = {
        "GetReconciliation": (get(name), "RECONCILIATION_NOT_FOUND"),
        "ListReconciliationItems": (
            reconciliation_pb2.ListReconciliationItemsRequest(name=name),
            "RECONCILIATION_NOT_FOUND",
        ),
        "ResolveReconciliationItem": (resolving(items[0], reason="mine"), "RECONCILIATION_ITEM_NOT_FOUND"),
    }
    for method, (request, reason) in calls.items():
        with pytest.raises(RemoteError) as refused:
            await stack.call(method, request, as_=OTHERS[role])
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", reason)
    with pytest.raises(RemoteError) as refused:
        await send(stack, (await statement_of_today(stack)).parts(), as_=OTHERS[role])
    assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "KIND_NOT_ALLOWED")
    assert await items_of(stack, name) == items


@pytest.mark.parametrize("peer", ["escrow", "credit"])
async def test_peers_have_no_business_with_statements(stack: PaymentsStack, peer: str):
    with pytest.raises(RemoteError) as refused:
        await send(stack, (await statement_of_today(stack)).parts(), as_=(), peer=peer)
    assert refused.value.reason == "PEER_NOT_ALLOWED"
    assert (await send(stack, (await statement_of_today(stack)).parts(), as_=(), peer="operator")).lines == 0


async def test_breaks_are_listed_in_pages_by_kind(stack: PaymentsStack):
    await fund(stack, 40)
    statement = await statement_of_today(stack)
    for number in range(7):
        statement.say("OUT", number + 1, "", external_id=f"s{number}")
    made = await send(stack, statement.parts())
    listed: list[Any] = []
    request = reconciliation_pb2.ListReconciliationItemsRequest(
        name=made.name, kind=Kind.BREAK_KIND_MISSING_HERE, page_size=3
    )
    sizes = []
    while True:
        page = await stack.call("ListReconciliationItems", request, as_=OPERATOR)
        sizes.append(len(page.items))
        listed += page.items
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        if len(sizes) == 1:
            await stack.call("ResolveReconciliationItem", resolving(listed[0], reason="in between"), as_=OPERATOR)
    assert sizes == [3, 3, 1]
    assert [item.lines[0].external_id for item in listed] == [f"s{number}" for number in range(7)]
    assert [item.lines_minor for item in listed] == [1, 2, 3, 4, 5, 6, 7]
    request.kind = Kind.BREAK_KIND_MISSING_THERE
    with pytest.raises(RemoteError) as refused:
        await stack.call("ListReconciliationItems", request, as_=OPERATOR)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_others_are_told_what_was_imported_and_explained(stack: PaymentsStack):
    name, items = await broken_statement(stack)
    await stack.call("ResolveReconciliationItem", resolving(items[0], reason="a"), as_=OPERATOR)
    kinds = ["reconciliation_completed", "reconciliation_item_resolved"]
    watch = stack.stub_method("WatchEvents", "credit")(event_pb2.WatchEventsRequest(kinds=kinds), timeout=10)
    seen: list[Any] = []
    async for chunk in watch:
        seen += chunk.events
        if len(seen) == 2:
            watch.cancel()
            break
    completed, explained = seen
    assert (completed.reconciliation_completed.name, completed.reconciliation_completed.open_items) == (name, 3)
    assert explained.reconciliation_item_resolved.name == items[0].name
    assert explained.reconciliation_item_resolved.reason == "a"


@pytest.mark.parametrize("table", ["statement_lines", "reconciled_movements"])
async def test_who_serves_cannot_change_what_a_rail_said(stack: PaymentsStack, table: str):
    connection = await asyncpg.connect(stack.database.dsn)
    try:
        for statement in (f"UPDATE {table} SET amount_minor = 1", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
