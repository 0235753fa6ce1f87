"""Audits of what is new: what is planted in new rows is found, and nothing else, wherever the last look ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from io import BytesIO

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from danbao.payments.v1 import audit_pb2, payment_pb2
from danbao_kit.clock import RealClock, SettableClock
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.domain.audit import Extent, Look, Position
from danbao_payments.store.audit_checks import CHECKS, NEW_CHECKS
from danbao_payments.testing.corrupted import (
    BUYER,
    IN_WALLET,
    NOW,
    SELLER,
    WAYS,
    auditor_of,
    run,
    told,
)
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment
from danbao_payments.workers.auditor import AuditWorker

BEGINNING = Position(0, 0)
SEEN_NEW = {check.rule.name for check in NEW_CHECKS}


async def look_at_new(database: ServiceDatabase, since: Position | None, most: int = 1_000) -> Look:
    return await auditor_of(database).look_at_new(since, now=NOW, most=most)


async def position_of(database: ServiceDatabase) -> Position:
    rows = await run(database, "SELECT (SELECT max(sequence) FROM transfers), (SELECT max(sequence) FROM events)")
    return Position(*rows[0])


@pytest.fixture
async def served(scratch: ServiceDatabase, authority: CertificateAuthority) -> AsyncIterator[PaymentsStack]:
    stack = PaymentsStack(scratch, authority, {"clock": "test"})
    await stack.start()
    yield stack
    await stack.stop()


# --- what is found ----------------------------------------------------------------------------------------------------

# What is reached by no new transfer: a payment that has none, or none any more, and top-ups.
_NOT_SEEN = {
    "the last transfer deleted": {"captured"},
    "a payment made twice for one request": {"captured", "refunded"},
    "what a rail took back": {"not_overpaid"},
}


@pytest.mark.parametrize("name", WAYS)
async def test_what_is_wrong_among_new_rows_is_found_where_it_is(scratch: ServiceDatabase, name: str):
    way = WAYS[name]
    where = (await run(scratch, way.where))[0][0]
    await run(scratch, *way.how)
    look = await look_at_new(scratch, BEGINNING)
    found = told(look)
    assert look.is_complete
    assert set(found) == way.checks & SEEN_NEW - _NOT_SEEN.get(name, set()), found
    if way.by in found:
        there = [(each.rule.invariant, each.off_minor) for each in found[way.by] if each.resource == where]
        assert (way.invariant, way.off_minor) in there, (where, found[way.by])


@pytest.mark.parametrize("name", WAYS)
async def test_what_looks_at_new_rows_miss_the_parts_of_a_round_find(scratch: ServiceDatabase, name: str):
    way = WAYS[name]
    seen = await position_of(scratch)
    await run(scratch, *way.how)
    auditor = auditor_of(scratch)
    looks = [await auditor.look_at_new(seen, now=NOW, most=1_000)]
    looks += [await auditor.look_at_part(part, now=NOW) for part in auditor.parts()]
    assert {name for look in looks for name in told(look)} == way.checks
    assert [each.rule.name for look in looks[1:] for each in look.checked if not each.done] == []


def test_a_look_at_new_rows_keeps_no_rule_that_a_round_has_not():
    assert {check.rule.name for check in CHECKS} >= SEEN_NEW


async def test_the_parts_of_a_round_are_all_rules_once(scratch: ServiceDatabase):
    parts = auditor_of(scratch).parts()
    assert sorted(name for part in parts for name in part.rules) == sorted(check.rule.name for check in CHECKS)
    assert (sum(part.flows for part in parts), sum(part.counts for part in parts)) == (1, 1)


async def test_a_total_that_was_changed_before_a_posting_used_it_is_a_loss_of_what_is_new(served: PaymentsStack):
    seen = await position_of(served.database)
    await served.sql(f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
    assert told(await look_at_new(served.database, seen)) == {}
    await served.call("CreatePayment", payment(BUYER, SELLER, 3))
    found = told(await look_at_new(served.database, seen))
    assert {name: [each.off_minor for each in violations] for name, violations in found.items()} == {
        "balanced": [1],
        "totals": [1],
        "steps": [1],
    }
    served.touched = False
    await served.sql(f"UPDATE accounts SET credits_posted = credits_posted - 1 WHERE {IN_WALLET}")


# --- and nothing else -------------------------------------------------------------------------------------------------


async def test_wherever_the_last_look_ended_intact_books_are_intact(scratch: ServiceDatabase):
    head = await position_of(scratch)
    ends = [row[0] for row in await run(scratch, "SELECT last_sequence FROM ledger_batches ORDER BY 1")]
    assert len(ends) > 15
    for sequence in (0, *ends):
        for event in (0, min(sequence, head.event_sequence), head.event_sequence):
            look = await look_at_new(scratch, Position(sequence, event))
            assert (look.violations(), look.is_complete, look.skipped) == ([], True, 0), (sequence, event)
            assert (look.extent, look.position, look.since.sequence) == (Extent.NEW, head, sequence)


async def test_what_begins_in_one_look_and_ends_in_another_is_no_violation(served: PaymentsStack):
    """Holds, captures in parts, refunds, what is reversed: each after a look of its own."""
    worker = AuditWorker(auditor_of(served.database), SettableClock(NOW), every_s=60)

    async def intact() -> None:
        look = await worker.audit_new()
        assert (look.violations(), look.is_complete) == ([], True)

    await intact()
    held = await served.call("CreatePayment", manual(BUYER, SELLER, 500))
    other = await served.call("CreatePayment", manual(BUYER, SELLER, 60))
    await intact()
    for minor, final in ((100, False), (150, False), (200, True)):
        part = payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name, amount=money(minor), final=final)
        await served.call("CapturePayment", part)
        await intact()
    await served.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=other.name))
    await intact()
    for minor in (40, 410):
        back = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=held.name, amount=money(minor))
        await served.call("RefundPayment", back)
        await intact()
    expiring = await served.call("CreatePayment", manual(BUYER, SELLER, 70))
    await intact()
    await served.advance(40 * 86_400)
    while (await served.call("GetPayment", payment_pb2.GetPaymentRequest(name=expiring.name))).state in (
        payment_pb2.Payment.STATE_AUTHORIZED,
    ):
        await asyncio.sleep(0.05)
    await intact()


async def test_what_is_written_while_it_looks_is_no_violation(served: PaymentsStack):
    worker = AuditWorker(auditor_of(served.database), RealClock(), every_s=60)
    done = asyncio.Event()

    async def pay() -> None:
        for _ in range(40):
            held = await served.call("CreatePayment", manual(BUYER, SELLER, 5))
            await served.call("CreatePayment", payment(BUYER, SELLER, 2))
            part = payment_pb2.CapturePaymentRequest(request_id=new_id(), name=held.name, amount=money(3))
            await served.call("CapturePayment", part)
            back = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=held.name, amount=money(1))
            await served.call("RefundPayment", back)

    async def look() -> int:
        moved, looks = 0, 0
        while not done.is_set():
            found = await worker.audit_new()
            assert (found.violations(), found.is_complete) == ([], True)
            moved += found.sequence - found.since.sequence
            looks += 1
        assert looks > 5
        return moved

    before = (await position_of(served.database)).sequence
    looking = asyncio.create_task(look())
    await asyncio.gather(pay(), pay())
    done.set()
    moved = await looking
    last = await worker.audit_new()
    assert (last.violations(), last.is_complete) == ([], True)
    # Every transfer was looked at by one look, the first of which began at the books' beginning.
    assert moved + last.sequence - last.since.sequence == last.sequence > before


# --- how far a look goes ----------------------------------------------------------------------------------------------


async def test_after_a_restart_it_says_what_it_skipped(scratch: ServiceDatabase):
    head = await position_of(scratch)
    whole = await look_at_new(scratch, None)
    assert (whole.skipped, whole.since.sequence, whole.position) == (0, 0, head)
    few = await look_at_new(scratch, None, most=7)
    assert few.skipped == few.since.sequence > 0
    assert head.sequence - few.since.sequence >= 7
    ends = {row[0] for row in await run(scratch, "SELECT last_sequence FROM ledger_batches")}
    assert few.since.sequence in ends
    assert (few.violations(), few.is_complete) == ([], True)


async def test_of_more_than_it_may_take_in_it_looks_at_the_last_and_says_how_many_it_skipped(scratch: ServiceDatabase):
    ends = [row[0] for row in await run(scratch, "SELECT last_sequence FROM ledger_batches ORDER BY 1")]
    look = await look_at_new(scratch, Position(ends[2], 0), most=5)
    assert look.skipped == look.since.sequence - ends[2] > 0
    assert look.since.sequence in ends
    all_of_it = await look_at_new(scratch, Position(ends[-2], 0), most=1)
    assert (all_of_it.skipped, all_of_it.since.sequence) == (0, ends[-2])


async def test_where_nothing_is_new_nothing_is_looked_at(scratch: ServiceDatabase):
    head = await position_of(scratch)
    look = await look_at_new(scratch, head)
    assert (look.since, look.position, look.violations(), look.is_complete) == (head, head, [], True)
    # What waits is told all the same.
    assert look.flows is not None
    assert set(look.flows) <= {"CNY"}


async def test_empty_books_have_nothing_new(database: ServiceDatabase):
    look = await look_at_new(database, None)
    assert (look.violations(), look.is_complete, look.position, look.currencies) == ([], True, BEGINNING, ())


async def test_events_that_are_cut_off_at_the_end_are_missed(scratch: ServiceDatabase):
    head = await position_of(scratch)
    await run(scratch, f"DELETE FROM events WHERE sequence > {head.event_sequence - 2}")
    for seen in (head.event_sequence - 4, head.event_sequence - 2):
        found = told(await look_at_new(scratch, Position(head.sequence, seen)))
        assert [each.resource for each in found["events_gapless"]] == [f"events/{head.event_sequence}"]


# --- the worker -------------------------------------------------------------------------------------------------------


def measured(reader: InMemoryMetricReader) -> dict[str, float]:
    """Each gauge by name and currency."""
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    found[" ".join([metric.name, *map(str, (point.attributes or {}).values())])] = point.value
    return found


async def test_a_loss_among_new_rows_is_told_until_a_round_does_not_find_it(
    served: PaymentsStack, monkeypatch: pytest.MonkeyPatch
):
    log = BytesIO()
    reader, seconds = InMemoryMetricReader(), [0.0]
    meter = MeterProvider([reader]).get_meter("test")
    worker = AuditWorker(
        auditor_of(served.database), SettableClock(NOW), every_s=60, meter=meter, monotonic=lambda: seconds[0]
    )
    await worker.audit()
    await worker.audit_new()
    assert measured(reader)["asset_loss_minor_units CNY"] == 0
    await served.call("CreatePayment", payment(BUYER, SELLER, 3))
    await served.sql(f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
    served.touched = False
    monkeypatch.setattr("danbao_kit.log._Sink.stream", log)
    seconds[0] = 100.0
    await worker.audit_new()
    numbers = measured(reader)
    assert numbers["asset_loss_minor_units CNY"] == 2
    assert (numbers["audit_age_seconds"], numbers["whole_audit_age_seconds"]) == (0.0, 100.0)
    # The next look sees nothing new; what the books lack they lack still.
    seconds[0] = 160.0
    look = await worker.audit_new()
    assert (look.violations(), measured(reader)["asset_loss_minor_units CNY"]) == ([], 2)
    assert log.getvalue().count(b"audit_violation") == 2
    assert log.getvalue().count(b'"extent":"NEW"') == 2
    await served.sql(f"UPDATE accounts SET credits_posted = credits_posted - 1 WHERE {IN_WALLET}")
    seconds[0] = 200.0
    assert measured(reader)["asset_loss_minor_units CNY"] == 2
    await worker.audit()
    numbers = measured(reader)
    assert (numbers["asset_loss_minor_units CNY"], numbers["whole_audit_age_seconds"]) == (0, 0.0)
    assert log.getvalue().count(b'"extent":"WHOLE"') == 1


async def test_what_is_settled_is_counted_on_from_look_to_look(served: PaymentsStack):
    (last,) = await served.sql("SELECT max(create_time) FROM transfers")
    worker = AuditWorker(auditor_of(served.database), SettableClock(last[0] + timedelta(hours=1)), every_s=60)
    await worker.audit_new()
    whole = await auditor_of(served.database).look(now=NOW)
    await worker.audit()
    for minor in (7, 11):
        await served.fund(BUYER, minor)
        await worker.audit_new()
    after = await auditor_of(served.database).look(now=NOW)
    assert whole.flows is not None
    assert after.flows is not None
    (yuan,) = [loss for loss in worker.losses if loss.currency == "CNY"]
    assert yuan.flows.settled_minor == after.flows["CNY"].settled_minor == whole.flows["CNY"].settled_minor + 18
    await worker.audit()
    (again,) = [loss for loss in worker.losses if loss.currency == "CNY"]
    assert again.flows.settled_minor == yuan.flows.settled_minor


async def test_a_round_rests_as_long_after_each_part_as_its_share_asks_for(scratch: ServiceDatabase):
    pauses: list[float] = []
    parts = len(auditor_of(scratch).parts())

    async def pause(seconds: float) -> None:
        if asyncio.current_task() is rounds:
            pauses.append(seconds)
            if len(pauses) > parts + 1:
                raise asyncio.CancelledError
        await asyncio.sleep(0)

    worker = AuditWorker(auditor_of(scratch), SettableClock(NOW), every_s=60, share=0.02, pause=pause)
    rounds = asyncio.ensure_future(worker._go_round())
    with pytest.raises(asyncio.CancelledError):
        await rounds
    assert worker.last is not None
    assert worker.last.is_complete
    assert (pauses[0], pauses[-1], len(pauses)) == (60, 60, parts + 2)
    assert math.isclose(sum(pauses[1:-1]), worker.last.elapsed_s * 99, rel_tol=1e-6)


async def test_a_round_goes_on_where_the_store_went_away(scratch: ServiceDatabase, monkeypatch: pytest.MonkeyPatch):
    nowhere = auditor_of(scratch)
    dsn, nowhere._dsn = nowhere._dsn, nowhere._dsn.rpartition("@")[0] + "@127.0.0.1:1/nothing"
    log, rests = BytesIO(), 0
    monkeypatch.setattr("danbao_kit.log._Sink.stream", log)

    async def pause(seconds: float) -> None:
        nonlocal rests
        rests += 1
        if rests == 3:
            nowhere._dsn = dsn
        if worker.last is not None:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    worker = AuditWorker(nowhere, SettableClock(NOW), every_s=60, pause=pause)
    with pytest.raises(asyncio.CancelledError):
        await worker._go_round()
    assert worker.last is not None
    assert worker.last.is_complete
    assert log.getvalue().count(b"not_audited") == 2


async def test_the_service_looks_at_what_is_new_and_goes_round(
    scratch: ServiceDatabase, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
):
    log = BytesIO()
    monkeypatch.setattr("danbao_kit.log._Sink.stream", log)
    stack = PaymentsStack(scratch, authority, {"clock": "test", "audit_seconds": 0.1, "audit_share": 1.0})
    await stack.start()
    try:
        while not all(each in log.getvalue() for each in (b'"extent":"NEW"', b'"extent":"WHOLE"')):
            await stack.call("CreatePayment", payment(BUYER, SELLER, 1))
        young = await stack.call("GetAudit", audit_pb2.GetAuditRequest(max_age_seconds=600), as_=OPERATOR)
    finally:
        await stack.stop()
    assert (young.intact, young.complete) == (True, True)
    assert [each.check for each in young.checks] == [check.rule.name for check in CHECKS]
    assert young.counts.transfers > 0
    assert b"audit_violation" not in log.getvalue()
