"""Statements of a rail against the books: every planted break is found, none is invented, each is explained once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest

from danbao.payments.v1 import payment_pb2, reconciliation_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.application import statement_comparison as comparison
from danbao_payments.testing.stack import OPERATOR, PARTNER, PaymentsStack, money, new_id, top_up, withdrawal
from danbao_payments.testing.statements import (
    Done,
    Kind,
    Statement,
    found,
    fund,
    get,
    items_of,
    now_of,
    report,
    send,
    statement_of_today,
    today,
)

BUYER = "subjects/buyer"
DAY = timedelta(days=1)


# --- orders against a statement with planted breaks -------------------------------------------------------------------


async def orders(stack: PaymentsStack, seed: int, count: int) -> list[Done]:
    """Buyers top up, sellers withdraw, some money goes back: by seed, and written down from the rail's side."""
    chance = random.Random(seed)
    done: list[Done] = []
    amounts = [chance.randrange(1_000, 90_000) for _ in range(count)]
    operations = [{"create_top_up": top_up(f"subjects/b{n}", minor)} for n, minor in enumerate(amounts)]
    for result in (await execute(stack, operations)).results:
        done.append(Done(result.top_up.name, "IN", result.top_up.amount.amount_minor, result.top_up.rail_reference))
    operations = [
        {"create_withdrawal": withdrawal(f"subjects/b{n}", chance.randrange(1, minor // 2))}
        for n, minor in enumerate(amounts)
        if chance.random() < 0.5
    ]
    for result in (await execute(stack, operations)).results:
        paid = result.withdrawal
        done.append(Done(paid.name, "OUT", paid.amount.amount_minor, paid.rail_reference))
    return done


async def execute(stack: PaymentsStack, operations: Sequence[dict[str, Any]]) -> payment_pb2.BatchExecuteResponse:
    request = payment_pb2.BatchExecuteRequest(operations=operations)
    answer: payment_pb2.BatchExecuteResponse = await stack.call("BatchExecute", request, timeout=30)
    assert not [each for each in answer.results if each.HasField("error")]
    return answer


async def batch_of(stack: PaymentsStack, reference: str, amounts: Sequence[int]) -> list[Done]:
    """Top-ups that the rail reports later, all of them under one reference."""
    operations = [
        {"create_top_up": top_up(f"subjects/x{n}", minor, instrument="silent")} for n, minor in enumerate(amounts)
    ]
    answer = await stack.call("BatchExecute", payment_pb2.BatchExecuteRequest(operations=operations), timeout=1)
    done = []
    for result, minor in zip(answer.results, amounts, strict=True):
        await report(stack, result.top_up.name, rail_reference=reference)
        done.append(Done(result.top_up.name, "IN", minor, reference))
    return done


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_exactly_the_planted_breaks_are_found_among_orders(stack: PaymentsStack, seed: int):
    chance = random.Random(seed)
    done = await orders(stack, seed, 60)
    statement = await statement_of_today(stack, chunk=17)
    planted: Counter[Any] = Counter()
    fates = chance.sample(range(len(done)), 20)
    for position, each in enumerate(done):
        fate = fates.index(position) // 4 if position in fates else None
        if fate == 0:
            planted["MISSING_THERE", (), (each.name,)] += 1
            continue
        if fate == 1:
            wrong = statement.say(each.direction, each.minor + chance.choice([-1, 1, 900]), each.reference)
            planted["AMOUNT_DIFFERS", (wrong.external_id,), (each.name,)] += 1
            continue
        if fate == 2:
            # Several lines for one movement.
            part = chance.randrange(1, each.minor)
            statement.say(each.direction, part, each.reference)
            statement.say(each.direction, each.minor - part, each.reference)
            continue
        line = statement.say(each.direction, each.minor, chance.choice([each.reference, each.name]))
        if fate == 3:
            statement.say(each.direction, each.minor, line.reference, external_id=line.external_id)
            planted["DUPLICATE", (line.external_id,), ()] += 1
        elif fate == 4:
            # Which of two lines of the same words is the second, only their ids tell.
            line_id = f"a-{position}"
            statement.lines[-1] = replace(line, external_id=line_id)
            again = statement.say(each.direction, each.minor, line.reference, external_id=f"b-{position}")
            planted["DUPLICATE", (again.external_id,), ()] += 1
    for _ in range(4):
        stranger = statement.say(chance.choice(["IN", "OUT"]), chance.randrange(1, 10**6), f"stranger-{new_id()}")
        planted["MISSING_HERE", (stranger.external_id,), ()] += 1
    chance.shuffle(statement.lines)
    made = await send(stack, statement.parts())
    assert found(await items_of(stack, made.name, page_size=1000)) == planted
    assert made.state == reconciliation_pb2.Reconciliation.STATE_OPEN
    assert made.lines == len(statement.lines)
    assert made.in_minor == sum(line.minor for line in statement.lines if line.direction == "IN")
    assert made.out_minor == sum(line.minor for line in statement.lines if line.direction == "OUT")
    assert made.open_items == planted.total()
    assert Counter({Kind.Name(each.kind): each.items for each in made.breaks}) == Counter(
        f"BREAK_KIND_{kind}" for kind, _, _ in planted.elements()
    )
    assert made.matched_movements == len(done) - 8
    assert await stack.call("GetReconciliation", get(made.name), as_=OPERATOR) == made


async def test_orders_told_as_they_were_leave_no_break(stack: PaymentsStack):
    done = [*await orders(stack, 9, 30), *await batch_of(stack, "batch-7", [100, 250, 3])]
    statement = await statement_of_today(stack)
    for each in done[:-3]:
        statement.say(each.direction, each.minor, each.reference)
    # One line for the whole batch.
    statement.say("IN", 353, "batch-7")
    made = await send(stack, statement.parts())
    assert made.state == reconciliation_pb2.Reconciliation.STATE_RESOLVED
    assert (list(made.breaks), made.open_items) == ([], 0)
    assert (made.matched_lines, made.matched_movements) == (len(done) - 2, len(done))
    assert made.matched_minor == sum(each.minor for each in done)
    assert await items_of(stack, made.name) == []


# --- one statement after another --------------------------------------------------------------------------------------


async def test_the_same_statement_again_gets_the_same_answer_and_another_is_told_which_part_differs(
    stack: PaymentsStack,
):
    done = await fund(stack, 500)
    statement = await statement_of_today(stack)
    statement.say("IN", 500, done.reference)
    statement.say("IN", 7, "stranger")
    first = await send(stack, statement.parts())
    # In other chunks, and in another order, it is the same statement.
    assert await send(stack, replace(statement, chunk=1).parts()) == first
    assert await send(stack, replace(statement, lines=statement.lines[::-1]).parts()) == first
    assert (await stack.sql("SELECT count(*) AS made FROM reconciliations"))[0]["made"] == 1
    assert (await stack.sql("SELECT count(*) AS lines FROM statement_lines"))[0]["lines"] == 2
    other = [replace(statement.lines[0], minor=501), statement.lines[1]]
    for field_name, changed in {
        "lines": replace(statement, lines=other),
        "currency": replace(statement, currency="EUR"),
        "source": replace(statement, source="other.csv"),
        "end_time": replace(statement, end=statement.end + timedelta(hours=1)),
        "grace": replace(statement, grace=timedelta(hours=1)),
    }.items():
        with pytest.raises(RemoteError) as refused:
            await send(stack, changed.parts())
        assert (refused.value.code, refused.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert refused.value.metadata["field"] == field_name


async def test_what_an_earlier_statement_told_is_not_broken_again(stack: PaymentsStack):
    told, missed = await fund(stack, 500), await fund(stack, 40)
    first = await statement_of_today(stack)
    line = first.say("IN", 500, told.reference)
    made = await send(stack, first.parts())
    assert found(await items_of(stack, made.name)) == {("MISSING_THERE", (), (missed.name,)): 1}
    # The same time once more: what was matched is not missing, and what was missing is not missing again.
    empty = await send(stack, (await statement_of_today(stack)).parts())
    assert (empty.state, empty.lines) == (reconciliation_pb2.Reconciliation.STATE_RESOLVED, 0)
    again = await statement_of_today(stack)
    again.lines.append(line)
    other_id = again.say("IN", 500, told.reference)
    late = again.say("IN", 40, missed.reference)
    made = await send(stack, again.parts())
    assert found(await items_of(stack, made.name)) == {
        ("DUPLICATE", (line.external_id,), ()): 1,
        ("DUPLICATE", (other_id.external_id,), ()): 1,
    }
    assert (made.matched_lines, made.matched_movements) == (1, 1), late


async def test_a_movement_near_the_end_may_stand_in_the_next_statement(stack: PaymentsStack):
    early = await fund(stack, 1)
    begin, _ = await today(stack)
    now = await now_of(stack)
    await stack.advance(120)
    late = await fund(stack, 2)
    lost = await fund(stack, 3)
    end = now + timedelta(seconds=180)
    await stack.advance(120)
    first = Statement(begin, end, grace=timedelta(seconds=90))
    made = await send(stack, first.parts())
    assert found(await items_of(stack, made.name)) == {("MISSING_THERE", (), (early.name,)): 1}
    following = Statement(end, end + timedelta(hours=1))
    following.say("IN", 2, late.reference)
    made = await send(stack, following.parts())
    assert found(await items_of(stack, made.name)) == {("MISSING_THERE", (), (lost.name,)): 1}
    # It answers from where the one before stopped looking to where the books ended.
    assert made.movements_from.ToDatetime(UTC) == end - timedelta(seconds=90)
    assert made.movements_until.ToDatetime(UTC) < end + timedelta(hours=1)


async def test_what_comes_after_the_books_were_read_is_for_the_next_statement(stack: PaymentsStack):
    begin, end = await today(stack)
    first = await send(stack, Statement(begin, end).parts())
    assert first.open_items == 0
    done = await fund(stack, 5)
    made = await send(stack, Statement(end, end + DAY).parts())
    assert found(await items_of(stack, made.name)) == {("MISSING_THERE", (), (done.name,)): 1}


async def test_a_line_may_name_a_movement_of_before_its_statement_s_time_within_reach(
    stack: PaymentsStack, monkeypatch: pytest.MonkeyPatch
):
    done = [await fund(stack, minor) for minor in (5, 6)]
    await stack.advance(10)
    begin = await now_of(stack)
    for reach, found_minor in ((comparison.REACH, 5), (timedelta(0), 0)):
        monkeypatch.setattr(comparison, "REACH", reach)
        monkeypatch.setattr(comparison, "_AHEAD", timedelta(0))
        statement = Statement(begin, begin + DAY)
        each = done.pop(0)
        statement.say("IN", each.minor, each.reference)
        made = await send(stack, statement.parts())
        assert made.matched_minor == found_minor
        assert [total.kind for total in made.breaks] == ([] if found_minor else [Kind.BREAK_KIND_MISSING_HERE])


async def test_rails_and_currencies_have_statements_of_their_own(stack: PaymentsStack):
    yuan = await fund(stack, 5)
    euro = await stack.fund(BUYER, 6, "EUR")
    statement = await statement_of_today(stack, currency="EUR")
    stranger = statement.say("IN", 5, yuan.reference)
    made = await send(stack, statement.parts())
    assert found(await items_of(stack, made.name)) == {
        ("MISSING_HERE", (stranger.external_id,), ()): 1,
        ("MISSING_THERE", (), (euro.name,)): 1,
    }
    statement = await statement_of_today(stack)
    statement.say("IN", 5, yuan.reference)
    assert (await send(stack, statement.parts())).open_items == 0


async def test_money_that_came_back_is_matched_both_ways(stack: PaymentsStack):
    paid = await fund(stack, 900)
    await stack.call(
        "RefundTopUp",
        payment_pb2.RefundTopUpRequest(request_id=new_id(), name=paid.name, amount=money(300)),
    )
    returned = await fund(stack, 70)
    await report(stack, returned.name, "RETURNED")
    back = await stack.call("CreateWithdrawal", withdrawal(BUYER, 100), as_=PARTNER)
    await report(stack, back.name, "RETURNED")
    refund = (await stack.sql("SELECT id, rail_reference FROM rail_refunds"))[0]
    statement = await statement_of_today(stack)
    for direction, minor, reference in (
        ("IN", 900, paid.reference),
        ("OUT", 300, refund["rail_reference"]),
        ("IN", 70, returned.reference),
        ("OUT", 70, returned.reference),
        ("OUT", 100, back.rail_reference),
        ("IN", 100, back.rail_reference),
    ):
        statement.say(direction, minor, reference)
    made = await send(stack, statement.parts())
    assert found(await items_of(stack, made.name)) == {}
    assert made.matched_movements == 6


async def test_a_settlement_s_reference_stands_for_what_was_settled(stack: PaymentsStack):
    settled = [await fund(stack, minor) for minor in (10, 20, 30)]
    for each in settled:
        await report(stack, each.name, "SETTLED", rail_reference="payout-1")
    statement = await statement_of_today(stack)
    statement.say("IN", 60, "payout-1")
    made = await send(stack, statement.parts())
    assert (made.open_items, made.matched_lines, made.matched_movements) == (0, 1, 3)


async def test_two_replicas_that_import_at_once_account_for_everything_once(
    database: ServiceDatabase, authority: CertificateAuthority
):
    replicas = [PaymentsStack(database, authority, {"clock": "test"}) for _ in range(2)]
    for replica in replicas:
        await replica.start()
    try:
        done = await orders(replicas[0], 4, 40)
        begin, end = await today(replicas[0])
        statements = [Statement(begin, end) for _ in range(6)]
        for each in done:
            for number, statement in enumerate(statements):
                statement.say(each.direction, each.minor, each.reference, external_id=f"{number}-{each.name}")
        sent = [
            send(replicas[number % 2], statement.parts())
            for number, statement in enumerate([*statements, statements[0]])
        ]
        made = await asyncio.gather(*sent)
        assert made[0] == made[-1]
        assert sum(each.matched_movements for each in made[:-1]) == len(done)
        assert sorted(each.matched_movements for each in made[:-1]) == [0, 0, 0, 0, 0, len(done)]
        for each in made[:-1]:
            assert each.matched_lines + each.open_items == len(done)
        numbers = await replicas[0].sql("SELECT number FROM reconciliations ORDER BY number")
        assert [row["number"] for row in numbers] == [1, 2, 3, 4, 5, 6]
    finally:
        for replica in replicas:
            await replica.stop()


# --- what is not a statement ------------------------------------------------------------------------------------------


async def nothing_was_left(stack: PaymentsStack) -> bool:
    tables = ("reconciliations", "statement_lines", "reconciled_movements", "reconciliation_items")
    return not await stack.sql(" UNION ALL ".join(f"SELECT 1 FROM {table}" for table in tables))


Spoil = Callable[[list[Any]], list[Any]]


def header_with(name: str, value: Any = None) -> Spoil:
    """The header with another value in a field; None clears it."""

    def spoil(parts: list[Any]) -> list[Any]:
        parts[0].header.ClearField(name)
        if value is not None:
            parts[0].header.MergeFrom(reconciliation_pb2.StatementHeader(**{name: value}))
        return parts

    return spoil


def line_with(name: str, value: Any = None) -> Spoil:
    """The fourth line, which is the last chunk's second, with another value in a field; None clears it."""

    def spoil(parts: list[Any]) -> list[Any]:
        parts[-1].lines.lines[1].ClearField(name)
        if value is not None:
            setattr(parts[-1].lines.lines[1], name, value)
        return parts

    return spoil


NOT_STATEMENTS: dict[str, tuple[Spoil, str, str]] = {
    "no messages": (lambda parts: [], "FIELD_INVALID", "header"),
    "lines first": (lambda parts: parts[::-1], "FIELD_INVALID", "header"),
    "no header": (lambda parts: parts[1:], "FIELD_INVALID", "header"),
    "two headers": (lambda parts: [parts[0], *parts], "FIELD_INVALID", "header"),
    "nothing in a message": (
        lambda parts: [*parts, reconciliation_pb2.ImportStatementRequest()],
        "FIELD_INVALID",
        "content",
    ),
    "no lines in a chunk": (
        lambda parts: [*parts, reconciliation_pb2.ImportStatementRequest(lines={})],
        "FIELD_INVALID",
        "lines.lines",
    ),
    "too long a chunk": (
        lambda parts: [parts[0], reconciliation_pb2.ImportStatementRequest(lines={"lines": [LINE] * 1001})],
        "FIELD_INVALID",
        "lines.lines",
    ),
    "no request id": (header_with("request_id"), "FIELD_INVALID", "header.request_id"),
    "no rail": (header_with("rail"), "FIELD_INVALID", "header.rail"),
    "no currency": (header_with("currency"), "FIELD_INVALID", "header.currency"),
    "unknown currency": (header_with("currency", "XYZ"), "CURRENCY_UNKNOWN", "header.currency"),
    "unknown rail": (header_with("rail", "rails/none"), "RAIL_UNKNOWN", ""),
    "no begin": (header_with("start_time"), "FIELD_INVALID", "header.start_time"),
    "no end": (header_with("end_time"), "FIELD_INVALID", "header.end_time"),
    "an end before its begin": (header_with("end_time", {"seconds": 1}), "FIELD_INVALID", "header.end_time"),
    "more than 92 days": (header_with("start_time", {"seconds": 1}), "FIELD_INVALID", "header.end_time"),
    "no time at all": (header_with("start_time", {"seconds": 10**15}), "FIELD_INVALID", "header.start_time"),
    "a begin before 1970": (header_with("start_time", {"seconds": -1}), "FIELD_INVALID", "header.start_time"),
    "a begin in the year 1": (
        header_with("start_time", {"seconds": -62_135_596_800}),
        "FIELD_INVALID",
        "header.start_time",
    ),
    "an end in 3000": (header_with("end_time", {"seconds": 32_503_680_000}), "FIELD_INVALID", "header.end_time"),
    "an end in 9999": (header_with("end_time", {"seconds": 253_402_300_799}), "FIELD_INVALID", "header.end_time"),
    "the first day of all": (line_with("booking_date", "0001-01-01"), "FIELD_INVALID", "lines[3].booking_date"),
    "the last day of all": (line_with("booking_date", "9999-12-31"), "FIELD_INVALID", "lines[3].booking_date"),
    "too much grace": (header_with("grace", {"seconds": 691_200}), "FIELD_INVALID", "header.grace"),
    "no external id": (line_with("external_id"), "FIELD_INVALID", "lines[3].external_id"),
    "no direction": (line_with("direction"), "FIELD_INVALID", "lines[3].direction"),
    "a direction there is not": (line_with("direction", 7), "FIELD_INVALID", "lines[3].direction"),
    "an amount of nothing": (line_with("amount_minor", 0), "AMOUNT_NOT_POSITIVE", "lines[3].amount_minor"),
    "a sign": (line_with("amount_minor", -5), "AMOUNT_NOT_POSITIVE", "lines[3].amount_minor"),
    "more than fits": (line_with("amount_minor", 2**63 - 1), "FIELD_INVALID", "lines"),
    "a day that is none": (line_with("booking_date", "2026-02-30"), "FIELD_INVALID", "lines[3].booking_date"),
    "a day elsewhere": (line_with("booking_date", "1999-12-31"), "FIELD_INVALID", "lines[3].booking_date"),
    "no day": (line_with("booking_date"), "FIELD_INVALID", "lines[3].booking_date"),
    "too long a reference": (line_with("reference", "x" * 129), "FIELD_INVALID", "lines[3].reference"),
}
LINE = {"external_id": "1", "direction": "RAIL_DIRECTION_IN", "amount_minor": 1, "booking_date": "2026-01-01"}


@pytest.mark.parametrize("what", NOT_STATEMENTS)
async def test_what_is_no_statement_is_told_what_is_wrong_and_leaves_nothing(stack: PaymentsStack, what: str):
    spoil, reason, where = NOT_STATEMENTS[what]
    statement = await statement_of_today(stack, chunk=2)
    for number in range(4):
        statement.say("IN", 100, f"r{number}")
    with pytest.raises(RemoteError) as refused:
        await send(stack, spoil(statement.parts()))
    assert refused.value.reason == reason, refused.value
    assert refused.value.metadata.get("field", "") == where
    assert await nothing_was_left(stack)


async def test_a_stream_that_breaks_off_leaves_nothing_and_may_be_sent_again(stack: PaymentsStack):
    statement = await statement_of_today(stack, chunk=1)
    for number in range(3):
        statement.say("IN", 100, f"r{number}")

    async def broken() -> Any:
        for part in statement.parts()[:-1]:
            yield part
        raise ConnectionError("the caller died")

    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await stack.stub_method("ImportStatement")(broken(), metadata=OPERATOR, timeout=5)
    assert await nothing_was_left(stack)
    assert (await send(stack, statement.parts())).lines == 3


async def test_a_statement_needs_a_deadline(stack: PaymentsStack):
    with pytest.raises(RemoteError) as refused:
        await send(stack, (await statement_of_today(stack)).parts(), timeout=None)
    assert refused.value.reason == "DEADLINE_REQUIRED"


async def test_more_lines_than_a_statement_may_have_are_refused(stack: PaymentsStack, monkeypatch: Any):
    monkeypatch.setattr("danbao_payments.rpc.reconciliations.MOST_LINES", 5)
    statement = await statement_of_today(stack, chunk=2)
    for number in range(6):
        statement.say("IN", 100, f"r{number}")
    with pytest.raises(RemoteError) as refused:
        await send(stack, statement.parts())
    assert (refused.value.reason, refused.value.metadata["field"]) == ("FIELD_INVALID", "lines")
    assert await nothing_was_left(stack)
