"""The auditor, audited: scratch copies of filled books, each corrupted by one cent or one row, and what is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from io import BytesIO

import asyncpg
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from danbao.payments.v1 import audit_pb2, ledger_pb2, rail_pb2
from danbao_kit.clock import SettableClock
from danbao_kit.database import Database
from danbao_kit.errors import StoreUnavailable
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.domain.audit import Term, Window, losses
from danbao_payments.store.audit import BooksAuditor
from danbao_payments.store.audit_checks import CHECKS
from danbao_payments.store.chain import ChainReader
from danbao_payments.testing.corrupted import (
    BUYER,
    IN_WALLET,
    NEW,
    NOW,
    PAID,
    PAID_ROW,
    WAYS,
    again,
    auditor_of,
    look_at,
    run,
    told,
    withdrawal,
)
from danbao_payments.testing.stack import (
    OPERATOR,
    PaymentsStack,
    new_id,
)
from danbao_payments.workers.auditor import AuditWorker

# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WAYS)
async def test_what_is_wrong_is_found_where_it_is(scratch: ServiceDatabase, name: str):
    way = WAYS[name]
    where = (await run(scratch, way.where))[0][0]
    await run(scratch, *way.how)
    look = await look_at(scratch)
    found = told(look)
    assert set(found) == way.checks, found
    there = [each for each in found[way.by] if each.resource == where]
    assert there, (where, found[way.by])
    assert (there[0].rule.invariant, there[0].off_minor) == (way.invariant, way.off_minor), there[0]
    assert there[0].expected != there[0].found
    assert look.is_complete


def test_every_check_has_found_something():
    assert {check.rule.name for check in CHECKS} == {name for way in WAYS.values() for name in way.checks}


async def test_in_an_intact_copy_nothing_is_found(scratch: ServiceDatabase):
    look = await look_at(scratch)
    assert (look.violations(), look.is_complete, look.count()) == ([], True, 0)
    assert [loss.total_minor for loss in losses(look)] == [0, 0]
    rows = await run(scratch, "SELECT (SELECT count(*) FROM transfers), (SELECT max(sequence) FROM transfers)")
    assert (look.counts.transfers, look.sequence) == tuple(rows[0])
    assert look.counts.payments == 5
    assert (
        look.chain_hash == (await run(scratch, "SELECT hash FROM ledger_batches ORDER BY 1"))[0][0] or look.chain_hash
    )


async def test_empty_books_are_intact(database: ServiceDatabase):
    look = await look_at(database)
    assert (look.violations(), look.is_complete, look.sequence, look.currencies) == ([], True, 0, ())
    assert losses(look) == []


async def test_numbers_that_cannot_be_added_up_are_a_finding_too(scratch: ServiceDatabase):
    await run(scratch, f"UPDATE transfers SET debit_debits_posted = 9223372036854775807 WHERE {PAID_ROW}")
    look = await look_at(scratch)
    assert look.is_complete
    assert {"steps", "chain"} <= set(told(look))


async def test_of_many_violations_a_hundred_are_shown_and_all_counted(scratch: ServiceDatabase):
    rows = "generate_series(1, 150) AS n"
    await run(
        scratch,
        f"INSERT INTO events (sequence, kind, create_time, payload) SELECT 1000 + 2 * n, 'x', now(), '' FROM {rows}",
        "UPDATE stream_heads SET event_sequence = 1300",
    )
    look = await look_at(scratch)
    assert (len(look.violations()), look.count()) == (100, 150)
    assert [each.resource for each in look.violations()[1:3]] == ["events/1003", "events/1005"]


_SILENCE = "UPDATE withdrawals SET recorded_at = now() - interval '31 s' WHERE state = 'PENDING'"


# --- what is lost -----------------------------------------------------------------------------------------------------


async def test_each_term_of_the_loss_is_what_is_missing(scratch: ServiceDatabase):
    await run(
        scratch,
        f"UPDATE accounts SET credits_posted = credits_posted - 3 WHERE {IN_WALLET}",
        again("payments", PAID, id=f"'{NEW}'"),
        "DELETE FROM payments WHERE amount_minor = 77",
        "UPDATE payments SET released_minor = released_minor + 5 WHERE hold_id IS NOT NULL",
    )
    look = await look_at(scratch, losses_only=True)
    yuan, dollar = losses(look)
    assert (yuan.currency, dollar.currency, dollar.total_minor) == ("CNY", "USD", 0)
    # The payment that is gone was acknowledged twice: when it was made and when it was voided.
    assert yuan.terms == {
        Term.UNBALANCED: 3,
        Term.MISMATCHED: 3,
        Term.HELD: 5,
        Term.DUPLICATED: 1_000,
        Term.MISSING: 154,
        Term.OVERPAID: 0,
    }
    assert (yuan.total_minor, yuan.flows.settled_minor) == (1_165, 101_500)
    assert yuan.parts_per_billion == 11_477_833
    assert losses(look, "USD") == [dollar]


async def test_a_rate_is_rounded_up_and_a_loss_without_turnover_is_total(scratch: ServiceDatabase):
    await run(scratch, f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
    yuan, dollar = losses(await look_at(scratch))
    assert (yuan.total_minor, yuan.parts_per_billion, dollar.parts_per_billion) == (2, 19_705, 0)
    yuan, _ = losses(await look_at(scratch, window=Window(since=NOW)))
    assert (yuan.flows.settled_minor, yuan.parts_per_billion) == (0, 1_000_000_000)
    tiny = yuan.__class__(yuan.currency, {Term.MISSING: 1}, yuan.flows._replace(settled_minor=10**15))
    assert tiny.parts_per_billion == 1


async def test_value_in_limbo_and_losses_by_fraud_stand_beside_the_loss(scratch: ServiceDatabase):
    await run(scratch, _SILENCE)
    (yuan, dollar) = losses(await look_at(scratch, window=Window(NOW - timedelta(days=36_500), NOW)))
    # A rail owes 70, and 1800 are held though the hold's time is long up on this clock. The fund has paid 500.
    assert (yuan.flows.limbo_minor, yuan.flows.limbo_count, yuan.flows.fraud_minor) == (1_870, 2, 500)
    assert dollar.flows == (5_000, 0, 0, 0)
    await run(scratch, "UPDATE top_ups SET state = 'PENDING', recorded_at = now() - interval '31 s'")
    (yuan, dollar) = losses(await look_at(scratch))
    assert (yuan.flows.limbo_minor, yuan.flows.limbo_count) == (101_870, 3)
    assert (dollar.flows.limbo_minor, dollar.flows.limbo_count) == (5_000, 1)
    await run(scratch, "UPDATE top_ups SET recorded_at = now()", "UPDATE withdrawals SET recorded_at = now()")
    (yuan, dollar) = losses(await look_at(scratch))
    assert (yuan.flows.limbo_minor, dollar.flows.limbo_minor) == (1_800, 0)


async def test_a_voided_payment_that_its_rail_has_not_answered_is_in_limbo(scratch: ServiceDatabase):
    late = "recorded_at = now() - interval '31 s'"
    await run(
        scratch,
        # What else a rail owes is young, however long the test took.
        "UPDATE withdrawals SET recorded_at = now()",
        "UPDATE rail_refunds SET recorded_at = now()",
        f"UPDATE payments SET state = 'VOIDED', last_transaction = NULL, failure = '', {late} WHERE rail <> ''",
    )
    (yuan, _) = losses(await look_at(scratch))
    # Beside the hold whose time is up.
    assert (yuan.flows.limbo_minor, yuan.flows.limbo_count) == (2_400, 2)
    await run(scratch, "UPDATE payments SET failure = 'it never came' WHERE rail <> ''")
    (yuan, _) = losses(await look_at(scratch))
    assert (yuan.flows.limbo_minor, yuan.flows.limbo_count) == (1_800, 1)


# --- how it reads -----------------------------------------------------------------------------------------------------


async def test_without_time_nothing_is_claimed(scratch: ServiceDatabase):
    look = await look_at(scratch, budget_s=0.0)
    assert (look.is_complete, look.flows, [each.done for each in look.checked]) == (False, None, [False] * len(CHECKS))


async def test_a_check_that_breaks_is_not_complete_and_the_others_look_on(
    scratch: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
):
    await run(scratch, f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
    broken = CHECKS[0]._replace(query="SELECT extract(epoch FROM '-infinity'::timestamptz)::bigint AS off")
    monkeypatch.setattr("danbao_payments.store.audit.CHECKS", (broken, *CHECKS[1:]))
    monkeypatch.setattr("danbao_payments.store.audit.FLOWS", "SELECT nothing")
    log = BytesIO()
    monkeypatch.setattr("danbao_kit.log._Sink.stream", log)
    look = await look_at(scratch)
    assert (look.is_complete, look.flows, look.count()) == (False, None, 1)
    assert [each.rule.name for each in look.checked if not each.done] == ["balanced"]
    assert set(told(look)) == {"totals"}
    assert log.getvalue().count(b"audit_check_failed") == 2


async def test_a_time_that_is_none_is_found_where_it_is(scratch: ServiceDatabase):
    await run(
        scratch,
        "ALTER TABLE transfers DROP CONSTRAINT a_transfer_counts_at_a_time_that_is_one",
        "UPDATE transfers SET effective_time = '-infinity' WHERE amount_minor = 9000",
    )
    where = (await run(scratch, "SELECT 'transfers/' || sequence FROM transfers WHERE amount_minor = 9000"))[0][0]
    look = await look_at(scratch)
    assert look.is_complete
    assert [(each.rule.name, each.resource) for each in look.violations()] == [("chain", where)]
    database = Database(scratch.dsn)
    try:
        chain = await ChainReader(database).verify()
    finally:
        await database.close()
    assert chain.broken is not None
    assert (f"transfers/{chain.broken.sequence}", chain.broken.what) == (where, "was changed")


async def test_the_store_refuses_times_that_no_reader_can_show(scratch: ServiceDatabase):
    for table in ("transactions", "transfers"):
        for time in ("-infinity", "1969-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "infinity"):
            with pytest.raises(asyncpg.CheckViolationError):
                await run(scratch, f"UPDATE {table} SET effective_time = '{time}'")


async def test_a_statement_that_takes_too_long_is_given_up(scratch: ServiceDatabase, monkeypatch: pytest.MonkeyPatch):
    slow = CHECKS[0]._replace(
        query="SELECT 'x' AS resource, '' AS currency, '' AS expected, pg_sleep(9)::text AS found, 0 AS off"
    )
    monkeypatch.setattr("danbao_payments.store.audit.CHECKS", (slow, *CHECKS[1:]))
    look = await look_at(scratch, budget_s=1.0)
    assert (look.is_complete, look.checked[0].done, look.violations()) == (False, False, [])
    assert look.elapsed_s < 3


async def test_who_goes_away_leaves_nothing_running(scratch: ServiceDatabase, monkeypatch: pytest.MonkeyPatch):
    slow = "SELECT 'x' AS resource, '' AS currency, '' AS expected, pg_sleep(60)::text AS found, 0 AS off"
    monkeypatch.setattr("danbao_payments.store.audit.CHECKS", (CHECKS[0]._replace(query=slow),))
    asking = asyncio.create_task(look_at(scratch))
    mine = (
        "SELECT query FROM pg_stat_activity WHERE application_name = 'danbao auditor' AND datname = current_database()"
    )
    watcher = await asyncpg.connect(scratch.dsn)
    try:
        while not any("pg_sleep" in row["query"] for row in await watcher.fetch(mine)):
            await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while await watcher.fetch(mine):
            await asyncio.sleep(0.02)
    finally:
        await watcher.close()


async def test_it_can_only_read(scratch: ServiceDatabase):
    async with BooksAuditor(scratch.owner_dsn, lambda *_: None)._snapshot() as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("UPDATE accounts SET rule = rule")


async def test_without_a_store_it_says_so(scratch: ServiceDatabase):
    nowhere = scratch.dsn.rpartition("@")[0] + "@127.0.0.1:1/nothing"
    with pytest.raises(StoreUnavailable):
        await BooksAuditor(nowhere, lambda *_: None).look(now=NOW)


# --- the worker -------------------------------------------------------------------------------------------------------


def measured(reader: InMemoryMetricReader) -> dict[str, float]:
    """Each gauge by name and currency."""
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    found[" ".join([metric.name, *point.attributes.values()])] = point.value
    return found


async def test_the_worker_tells_losses_and_the_age_of_what_it_knows(
    scratch: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
):
    await run(scratch, _SILENCE)
    log = BytesIO()
    monkeypatch.setattr("danbao_kit.log._Sink.stream", log)
    reader, seconds = InMemoryMetricReader(), [0.0]
    meter = MeterProvider([reader]).get_meter("test")
    worker = AuditWorker(auditor_of(scratch), SettableClock(NOW), every_s=60, meter=meter, monotonic=lambda: seconds[0])
    seconds[0] = 100.0
    assert (measured(reader), worker.last) == (
        {"audit_age_seconds": 100.0, "whole_audit_age_seconds": 100.0},
        None,
    )
    await worker.audit()
    seconds[0] = 130.0
    numbers = measured(reader)
    assert (numbers["audit_age_seconds"], numbers["whole_audit_age_seconds"]) == (30.0, 30.0)
    assert (numbers["asset_loss_minor_units CNY"], numbers["asset_loss_rate CNY"]) == (0, 0.0)
    assert numbers["limbo_value CNY"] == 1_870
    assert b"audit_violation" not in log.getvalue()
    where = (await run(scratch, f"SELECT id::text FROM accounts WHERE {IN_WALLET}"))[0][0]
    await run(scratch, f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
    await worker.audit()
    assert measured(reader)["asset_loss_minor_units CNY"] == 2
    lines = [line for line in log.getvalue().splitlines() if b"audit_violation" in line]
    assert len(lines) == 2
    assert any(f"accounts/{where}".encode() in line for line in lines)


async def test_an_audit_that_fails_makes_what_is_known_older(scratch: ServiceDatabase):
    reader, seconds = InMemoryMetricReader(), [0.0]
    meter = MeterProvider([reader]).get_meter("test")
    nowhere = BooksAuditor(scratch.dsn.rpartition("@")[0] + "@127.0.0.1:1/nothing", lambda *_: None)
    worker = AuditWorker(nowhere, SettableClock(NOW), every_s=60, meter=meter, monotonic=lambda: seconds[0])
    seconds[0] = 200.0
    with pytest.raises(StoreUnavailable):
        await worker.audit()
    assert measured(reader) == {"audit_age_seconds": 200.0, "whole_audit_age_seconds": 200.0}


# --- through the service ----------------------------------------------------------------------------------------------


@pytest.fixture
async def served(scratch: ServiceDatabase, authority: CertificateAuthority) -> AsyncIterator[PaymentsStack]:
    stack = PaymentsStack(scratch, authority, {"clock": "test"})
    await stack.start()
    yield stack
    await stack.stop()


async def test_an_operator_asks_and_is_told(served: PaymentsStack):
    audit = await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR)
    assert (audit.intact, audit.complete, list(audit.violations), audit.violation_count) == (True, True, [], 0)
    assert [each.check for each in audit.checks] == [check.rule.name for check in CHECKS]
    assert (audit.counts.payments, audit.counts.top_ups) == (5, 2)
    head = await served.call("VerifyChain", ledger_pb2.VerifyChainRequest(), as_=OPERATOR)
    assert (head.hash, head.verified_sequence) == (audit.chain_hash, audit.sequence)
    where = (await served.sql(f"SELECT id::text FROM accounts WHERE {IN_WALLET}"))[0][0]
    await served.sql(f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
    audit = await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR, peer="operator")
    assert (audit.intact, audit.complete, audit.violation_count) == (False, True, 2)
    found = [(each.invariant, each.resource, each.off_minor, each.currency) for each in audit.violations]
    assert found == [(1, "currencies/CNY", 1, "CNY"), (3, f"accounts/{where}", 1, "CNY")]
    only = await served.call("GetAudit", audit_pb2.GetAuditRequest(currency="USD"), as_=OPERATOR)
    assert (only.intact, only.violation_count) == (True, 0)
    loss = await served.call("GetAssetLoss", audit_pb2.GetAssetLossRequest(currency="CNY"), as_=OPERATOR)
    assert (loss.complete, loss.sequence) == (True, audit.sequence)
    (yuan,) = loss.currencies
    assert (yuan.loss_minor, yuan.unbalanced_minor, yuan.mismatched_minor) == (2, 1, 1)
    assert (yuan.settled_minor, yuan.loss_parts_per_billion) == (101_500, 19_705)
    later = audit_pb2.GetAssetLossRequest()
    later.start_time.FromDatetime(datetime(2100, 1, 1))
    loss = await served.call("GetAssetLoss", later, as_=OPERATOR)
    assert [(each.currency, each.settled_minor) for each in loss.currencies] == [("CNY", 0), ("USD", 0)]


async def test_a_withdrawal_that_came_back_is_told_from_one_that_did_not(served: PaymentsStack):
    made = await served.call("CreateWithdrawal", withdrawal(31))
    back = {"movement": made.name, "result": rail_pb2.RAIL_RESULT_RETURNED}
    await served.call("ReportRailResult", rail_pb2.ReportRailResultRequest(request_id=new_id(), **back), as_=OPERATOR)
    assert (await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR)).intact
    await served.sql("UPDATE withdrawals SET state = 'SUCCEEDED' WHERE amount_minor = 31")
    audit = await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR)
    found = [(each.check, each.resource, each.expected, each.found) for each in audit.violations]
    assert found == [("withdrawn", made.name, "returned 0", "returned 31")]


async def test_a_settlement_is_one_transfer_and_a_time(served: PaymentsStack):
    brought = await served.fund(BUYER, 41)
    told = {"movement": brought.name, "result": rail_pb2.RAIL_RESULT_SETTLED}
    await served.call("ReportRailResult", rail_pb2.ReportRailResultRequest(request_id=new_id(), **told), as_=OPERATOR)
    assert (await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR)).intact
    await served.sql("UPDATE top_ups SET settle_time = NULL WHERE amount_minor = 41")
    audit = await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR)
    assert [(each.check, each.resource, each.off_minor) for each in audit.violations] == [("settled", brought.name, 41)]


async def test_nobody_else_is_told(served: PaymentsStack):
    for peer in ("escrow", "credit"):
        for method, request in (
            ("GetAudit", audit_pb2.GetAuditRequest()),
            ("GetAssetLoss", audit_pb2.GetAssetLossRequest()),
        ):
            with pytest.raises(RemoteError) as caught:
                await served.call(method, request, as_=(), peer=peer)
            assert caught.value.code == "PERMISSION_DENIED"


async def test_a_late_audit_says_so_instead_of_nothing(served: PaymentsStack):
    audit = await served.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR, timeout=0.6)
    assert audit.elapsed_ms < 600


async def test_the_last_audit_will_do_if_it_is_young_enough(scratch: ServiceDatabase, authority: CertificateAuthority):
    stack = PaymentsStack(scratch, authority, {"clock": "test", "audit_seconds": 0.2, "audit_share": 1.0})
    await stack.start()
    try:
        first = await stack.call("GetAudit", audit_pb2.GetAuditRequest(max_age_seconds=600), as_=OPERATOR)
        assert first.intact
        await stack.sql(f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}")
        now = await stack.call("GetAudit", audit_pb2.GetAuditRequest(), as_=OPERATOR)
        assert not now.intact
        while True:
            young = await stack.call("GetAudit", audit_pb2.GetAuditRequest(max_age_seconds=600), as_=OPERATOR)
            again = await stack.call("GetAudit", audit_pb2.GetAuditRequest(max_age_seconds=600), as_=OPERATOR)
            if young.create_time == again.create_time and not young.intact:
                break
        assert young.age_seconds <= 600
    finally:
        await stack.stop()


async def test_the_chain_is_verified_in_slices(served: PaymentsStack):
    async def verify(**fields) -> ledger_pb2.Chain:
        return await served.call("VerifyChain", ledger_pb2.VerifyChainRequest(**fields), as_=OPERATOR)

    whole = await verify()
    assert (whole.intact, whole.complete) == (True, True)
    part, batches = await verify(max_batches=2), 0
    while not part.complete:
        assert (part.intact, part.batches, part.broken_sequence) == (False, 2, 0)
        batches += part.batches
        part = await verify(max_batches=2, after_sequence=part.verified_sequence, after_hash=part.hash)
    assert (part.intact, part.hash, part.verified_sequence) == (True, whole.hash, whole.verified_sequence)
    assert batches + part.batches == whole.batches
    end = await verify(after_sequence=whole.verified_sequence, after_hash=whole.hash)
    assert (end.intact, end.batches, end.hash) == (True, 0, whole.hash)


async def test_books_that_no_longer_begin_as_they_did_are_told(served: PaymentsStack):
    async def verify(sequence: int, digest: str) -> ledger_pb2.Chain:
        request = ledger_pb2.VerifyChainRequest(after_sequence=sequence, after_hash=digest)
        return await served.call("VerifyChain", request, as_=OPERATOR)

    kept = await served.call("VerifyChain", ledger_pb2.VerifyChainRequest(), as_=OPERATOR)
    other = await verify(kept.verified_sequence, "ab" * 32)
    assert (other.intact, other.complete, other.broken_sequence) == (False, True, kept.verified_sequence)
    assert other.broken_because == "ends a batch with another hash"
    # Somebody cuts the end off: what is left is a chain without a flaw, and only who kept the head can tell.
    await served.sql("DELETE FROM ledger_batches WHERE last_sequence = $1", kept.verified_sequence)
    await served.sql("DELETE FROM transfers WHERE sequence = $1", kept.verified_sequence)
    assert (await served.call("VerifyChain", ledger_pb2.VerifyChainRequest(), as_=OPERATOR)).intact
    cut = await verify(kept.verified_sequence, kept.hash)
    assert (cut.intact, cut.broken_sequence, cut.broken_because) == (False, kept.verified_sequence, "ends no batch")
    missing = await verify(kept.verified_sequence + 5, kept.hash)
    assert not missing.intact


async def test_a_chain_that_takes_too_long_says_how_far_it_came(served: PaymentsStack):
    part = await served.call("VerifyChain", ledger_pb2.VerifyChainRequest(), as_=OPERATOR, timeout=0.35)
    assert part.complete or (not part.intact and part.broken_sequence == 0)
