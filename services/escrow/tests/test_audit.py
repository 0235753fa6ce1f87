"""The audit finds what is planted, names it, and says nothing of books that are right: with the real payments."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
import pytest

from danbao.escrow.v1 import audit_pb2, audit_pb2_grpc, trade_pb2
from danbao_escrow.application.auditing import BooksUnavailable, no_rest
from danbao_escrow.clients.payments_books import PaymentsBooks
from danbao_escrow.domain.audit import RULES
from danbao_escrow.rpc import audit as audit_rpc
from danbao_escrow.store.audit import QUERIES
from danbao_escrow.workers.audits import AuditWorker
from danbao_payments.testing.stack import OPERATOR, rail_report

T = trade_pb2.Trade.State
BUYER, SELLER = "subjects/buyer", "subjects/seller"
RAIL = "rails/simulated"


@pytest.fixture
def stack(real_stack):
    return real_stack


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(audit_rpc, "AGAIN_AFTER_S", 0.3)


async def audit(stack, timeout=20):
    operator = stack.client_of(stack.replicas[0], peer="operator")
    stub = audit_pb2_grpc.AuditServiceStub(operator.channel)
    return await stub.GetAudit(audit_pb2.GetAuditRequest(), timeout=timeout)


async def found(stack):
    """Checks that something was found by, with its resources."""
    look = await audit(stack)
    assert look.complete
    assert not look.intact
    assert sum(check.violation_count for check in look.checks) == look.violation_count == len(look.violations)
    by_check = {}
    for violation in look.violations:
        by_check.setdefault(violation.check, []).append(violation.resource)
    return by_check


async def settled(client, trade, seen):
    for _ in range(400):
        current = await client.trade(trade.name)
        if seen(current):
            return current
        await asyncio.sleep(0.02)
    raise AssertionError(current)


@asynccontextmanager
async def corrupted(stack, *statements):
    """As the owner, constraints and all else aside."""
    connection = await asyncpg.connect(stack.database.owner_dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
        yield
    finally:
        await connection.close()


async def test_right_books_are_intact(stack, client, books):
    """One of everything: wallet, rail, checkout, an agreement, a chargeback, a void, what is kept back and paid out."""
    stack.credit.terms |= {"reserve_bps": 1000, "payout_delay_hours": 24}
    await client.shipped()
    done = await client.shipped(fee_bps=500, buyer_fee_bps=100)
    await client.give("ConfirmLines", done, "BUYER")
    await stack.advance(hours=25)
    await client.give("CancelLines", await client.paid(), "SELLER")
    await client.give("CancelTrade", await client.created(), "BUYER")
    dispute = await client.disputed(await client.shipped(10000))
    await client.ask("MakeOffer", dispute, "BUYER", buyer_minor=400, seller_minor=600)
    await client.ask("AcceptOffer", dispute, "SELLER")
    declined = await client.give("PayTrade", await client.created(), "BUYER", rail=RAIL, instrument="decline")
    await settled(client, declined, lambda trade: not trade.payment_pending)
    await client.give("PayTrade", declined, "BUYER")
    railed = await client.give("PayTrade", await client.created(), "BUYER", rail=RAIL, instrument="ok")
    await settled(client, railed, lambda trade: trade.funded_minor)
    amount = {"currency": "CNY", "amount_minor": 1000}
    await books.call("ReportRailResult", rail_report(railed.payment, "CHARGEBACK", amount=amount), as_=OPERATOR)
    await settled(client, railed, lambda trade: trade.charged_back_minor)
    voided = await client.give("PayTrade", await client.created(), "BUYER", rail=RAIL, instrument="silent")
    await client.give("CancelTrade", voided, "BUYER")
    together = trade_pb2.CreateCheckoutRequest(request_id="together", actor={"subject": BUYER, "role": "ROLE_BUYER"})
    together.trades.extend([(await client.created()).name, (await client.created()).name])
    await client.give("PayCheckout", await client.call("CreateCheckout", together), "BUYER")
    look = await audit(stack)
    assert list(look.violations) == []
    assert look.intact
    assert [check.check for check in look.checks] == [rule.name for rule in RULES]
    assert (look.trades, look.parked_events) == (10, 0)
    assert look.movements > 10 < look.steps


async def test_a_callers_lack_of_time_is_told(stack, client):
    await client.paid()
    look = await audit(stack, timeout=0.36)
    assert not look.intact or look.complete


async def test_what_payments_cannot_be_asked_now_is_said_to_be_missing(stack, client, monkeypatch):
    async def away(self, rest):
        raise BooksUnavailable("away")

    monkeypatch.setattr(PaymentsBooks, "held", away)
    await client.paid()
    look = await audit(stack)
    assert not look.complete
    assert not look.intact
    assert [check.check for check in look.checks if not check.complete] == ["held", "stray"]


async def test_audits_by_itself_are_logged(stack, client):
    trade = await client.paid()
    await AuditWorker(stack.replicas[0].auditor, every_s=1).audit(again_after_s=0.1)
    async with corrupted(stack, "UPDATE trades SET timeline_length = 7"):
        look = await AuditWorker(stack.replicas[0].auditor, every_s=1).audit(again_after_s=0.1)
    assert [(violation.rule.name, violation.resource) for violation in look.violations] == [("timeline", trade.name)]


async def test_only_operators_audit(stack):
    gateway = stack.client_of(stack.replicas[0])
    stub = audit_pb2_grpc.AuditServiceStub(gateway.channel)
    with pytest.raises(Exception, match="PERMISSION_DENIED"):
        await stub.GetAudit(audit_pb2.GetAuditRequest(), timeout=5, metadata=gateway._caller)


RELAXED = "ALTER TABLE trades DROP CONSTRAINT IF EXISTS nothing_is_held_at_the_end"
RESTORED = (
    "ALTER TABLE trades ADD CONSTRAINT nothing_is_held_at_the_end CHECK (state NOT IN ('COMPLETED', 'CLOSED',"
    " 'CANCELLED') OR released_minor + refunded_minor = funded_minor)"
)


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        (
            "UPDATE trades SET released_minor = released_minor - 1",
            {"counters", "told", "held", "ended_empty", "states"},
        ),
        ("UPDATE trades SET state = 'AWAITING_SHIPMENT'", {"states"}),
        ("UPDATE trades SET timeline_length = timeline_length + 1", {"timeline"}),
        ("UPDATE trades SET payment = 'payments/another'", {"funded_once"}),
        ("""UPDATE trades SET lines = jsonb_set(lines, '{0,state}', '"PAID"')""", {"states"}),
        ("""UPDATE trades SET lines = jsonb_set(lines, '{0,released_minor}', '2999')""", {"states"}),
        (
            "UPDATE steps SET ledger_reference = 'transactions/another' WHERE kind = 'RELEASE'",
            {"steps_match", "movements_match", "step_entries"},
        ),
        ("UPDATE steps SET payer = 'subjects/another' WHERE kind = 'RELEASE'", {"parties"}),
        (
            "UPDATE steps SET movement = jsonb_set(movement, '{released_minor}', '7999') WHERE kind = 'RELEASE'",
            {"steps_match", "counters"},
        ),
        (
            "UPDATE steps SET movement = jsonb_set(movement, '{legs,0,amount_minor}', '7999') WHERE kind = 'PAY'",
            {"steps_match"},
        ),
        ("DELETE FROM payment_movements WHERE kind = 'transaction_posted'", {"steps_match", "told"}),
        ("UPDATE payment_movements SET out_minor = 7999 WHERE out_minor > 0", {"steps_match", "told"}),
        (
            "INSERT INTO payment_movements SELECT event_sequence + 1000, trade_id, reference, payment, kind, step,"
            " currency, in_minor, out_minor, create_time FROM payment_movements WHERE out_minor > 0",
            {"steps_match", "told"},
        ),
        ("UPDATE trades SET charged_back_minor = 1", {"chargebacks_match", "counters"}),
        ("DELETE FROM timeline_entries WHERE command = 'ConfirmLines'", {"timeline", "step_entries"}),
        ("DELETE FROM events WHERE kind = 'lines_released'", {"events"}),
        ("DELETE FROM steps WHERE kind = 'RELEASE'", {"movements_match", "counters", "events"}),
    ],
)
async def test_what_is_planted_is_found_and_named(stack, client, statement, checks):
    trade = await client.shipped()
    await client.give("ConfirmLines", trade, "BUYER")
    assert (await audit(stack)).intact
    async with corrupted(stack, RELAXED, statement):
        try:
            by_check = await found(stack)
        finally:
            async with corrupted(stack, "TRUNCATE trades CASCADE", RESTORED):
                pass
    assert set(by_check) == checks


async def test_a_transaction_of_nobodys_step_is_found_in_payments_books(stack, client, books):
    trade = await client.paid()
    accounts = await books.accounts(trade.name)
    other = await books.accounts(BUYER)
    escrow, wallet = accounts["escrow.trade"].name, other["user.available"].name
    # As payments would never do it, and no event tells of it.
    await books.sql(
        """
        WITH mine AS (SELECT max(sequence) AS last FROM transfers),
        made AS (INSERT INTO transactions SELECT (jsonb_populate_record(transactions, jsonb_build_object(
            'id', 'aaaaaaaa-0000-4000-8000-000000000000'))).* FROM transactions LIMIT 1 RETURNING id)
        SELECT last FROM mine, made
        """
    )
    posted = await books.sql(
        """
        INSERT INTO transfers SELECT (jsonb_populate_record(transfers, jsonb_build_object(
            'sequence', (SELECT max(sequence) + 1 FROM transfers), 'amount_minor', 1, 'purpose', '',
            'payment_id', NULL, 'transaction_id', 'aaaaaaaa-0000-4000-8000-000000000000',
            'debit_account', $1::text, 'credit_account', $2::text))).* FROM transfers LIMIT 1 RETURNING transaction_id
        """,
        escrow.removeprefix("accounts/"),
        wallet.removeprefix("accounts/"),
    )
    await books.sql("UPDATE accounts SET debits_posted = debits_posted + 1 WHERE id = $1::uuid", escrow[9:])
    await books.sql("UPDATE accounts SET credits_posted = credits_posted + 1 WHERE id = $1::uuid", wallet[9:])
    by_check = await found(stack)
    assert by_check == {"held": [trade.name], "stray": [f"transactions/{posted[0]['transaction_id']}"]}


async def test_an_account_of_a_trade_that_nobody_knows_is_found(stack, client, books):
    trade = await client.paid()
    connection = await asyncpg.connect(stack.database.owner_dsn)
    (head,) = (await books.sql("SELECT max(sequence) FROM events"))[0]
    # What payments told of it is to be forgotten too, so it must have been read.
    while await connection.fetchval("SELECT coalesce(max(sequence), 0) FROM reader_cursors") < head:
        await asyncio.sleep(0.02)
    await connection.execute("TRUNCATE trades CASCADE; TRUNCATE payment_movements; TRUNCATE events")
    await connection.close()
    assert await found(stack) == {"held": [trade.name]}


async def test_an_account_that_holds_something_of_an_ended_trade_is_found(stack, client, books):
    trade = await client.paid()
    async with corrupted(stack, RELAXED, "UPDATE trades SET refunded_minor = funded_minor"):
        by_check = await found(stack)
        async with corrupted(stack, "TRUNCATE trades CASCADE", RESTORED):
            pass
    assert by_check["held"] == [trade.name]
    assert "stray" not in by_check


async def test_only_accounts_that_hold_something_are_compared(stack, client):
    ended = await client.shipped()
    await client.give("ConfirmLines", ended, "BUYER")
    open_trade = await client.paid()
    auditor = stack.replicas[0].auditor
    ours = {each.trade: each.minor async for page in auditor._own.held() for each in page}
    theirs = await auditor._theirs.held(no_rest)
    assert set(ours) == {open_trade.name}
    assert theirs == {(open_trade.name, "CNY"): ours[open_trade.name]}
    assert await auditor._own.known({ended.name, open_trade.name, "trades/nobody"}) == {ended.name, open_trade.name}


async def test_an_audit_by_itself_rests_as_long_after_each_piece_as_its_share_asks_for(stack, client):
    await client.paid()
    rests: list[float] = []
    took: list[float] = []

    async def pause(seconds):
        rests.append(seconds)

    worker = AuditWorker(stack.replicas[0].auditor, every_s=1, share=0.02, pause=pause)
    rest = worker._rest

    async def measured(took_s):
        took.append(took_s)
        await rest(took_s)

    worker._rest = measured
    look = await worker.audit()
    assert look.is_intact
    # Each statement, both readings of ours, and a page of theirs of each state.
    assert len(rests) == len(QUERIES) + 4
    assert rests == pytest.approx([seconds * 49 for seconds in took])
