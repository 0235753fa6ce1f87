"""Tables as the migrations make them, constraints where code would fail, and rows of the version before."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import orjson
import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from danbao_escrow.domain import commands
from danbao_escrow.domain.model import FeePayer, Line, Role, Trade
from danbao_escrow.domain.step_model import Step
from danbao_escrow.store import escrow_store, rows
from danbao_escrow.store.case_tables import metadata
from danbao_escrow.store.tables import trades
from danbao_escrow.testing.world import World, plain_terms
from danbao_kit import migrations
from danbao_kit.immutable import replace

UPGRADE = migrations.command.upgrade

SCHEMA = """
SELECT relname, attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute
JOIN pg_class ON pg_class.oid = attrelid WHERE attnum > 0 AND NOT attisdropped AND relname = ANY($1)
"""
CHECKS = """
SELECT conname, pg_get_constraintdef(pg_constraint.oid) AS definition FROM pg_constraint
JOIN pg_class ON pg_class.oid = conrelid WHERE contype = 'c' AND relname = ANY($1)
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY($1)"


async def queried(database, query, *arguments):
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        return [dict(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


def columns(table: Table):
    spelled = {"CHAR(3)": "character(3)", "TIMESTAMP WITH TIME ZONE": "timestamp with time zone"}
    for column in table.columns:
        type_ = column.type.compile(postgresql.dialect())
        yield table.name, column.name, spelled.get(type_, type_.lower()), not column.nullable


async def test_tables_are_what_the_migrations_make(database):
    tables = list(metadata.tables)
    made = {tuple(row.values()) for row in await queried(database, SCHEMA, tables)}
    assert made == {column for table in metadata.tables.values() for column in columns(table)}


async def test_constraints_and_indexes_say_what_the_tables_say(database):
    """Made anew from store/tables.py in a schema of its own, everything reads the same."""
    tables = list(metadata.tables)
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        before = [dict(row) for row in await connection.fetch(CHECKS, tables)]
        index_before = [dict(row) for row in await connection.fetch(INDEXES, tables)]
        await connection.execute("CREATE SCHEMA again; SET search_path TO again")
        for table in metadata.sorted_tables:
            await connection.execute(str(CreateTable(table).compile(dialect=postgresql.dialect())))
            for index in table.indexes:
                await connection.execute(str(CreateIndex(index).compile(dialect=postgresql.dialect())))
        query = CHECKS + " AND relnamespace = 'again'::regnamespace"
        after = [dict(row) for row in await connection.fetch(query, tables)]
        indexes = await connection.fetch(INDEXES + " AND schemaname = 'again'", tables)
        index_after = [{name: text.replace("again.", "public.") for name, text in row.items()} for row in indexes]
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS again CASCADE")
        await connection.close()
    assert sorted(map(str, before)) == sorted(map(str, after))
    assert sorted(map(str, index_before)) == sorted(map(str, index_after))


@pytest.mark.parametrize(
    "corruption",
    [
        "funded_minor = total_minor",
        "released_minor = funded_minor + 1",
        "refunded_minor = -1",
        "fees_minor = released_minor + 1",
        "fees_minor = buyer_fee_released_minor - 1",
        "buyer_fee_released_minor = buyer_fee_minor + 1",
        "buyer_fee_refunded_minor = refunded_minor + 1",
        "state = 'COMPLETED'",
        "open_cases = -1",
        "pending_step = 9",
    ],
)
async def test_no_trade_can_be_written_that_gives_out_what_it_has_not(stack, client, corruption):
    trade = await client.shipped(3000, 5000, buyer_fee_bps=100)
    await client.give("ConfirmLines", trade, "BUYER", line_ids=["1"])
    with pytest.raises(asyncpg.CheckViolationError):
        await stack.rows(f"UPDATE trades SET {corruption}")


def test_a_trade_is_read_as_it_was_written():
    world = World()
    trade = world.shipped((3000, 5000), postage_minor=10, fee_bps=None, fee_payer=FeePayer.SPLIT, terms=plain_terms())
    world.open_case(trade)
    trade = world.trades[trade.trade_id]
    written = dict(zip(rows.TRADE_COLUMNS, rows.columns_of(trade, rows.TRADE_COLUMNS), strict=True))
    assert rows.trade_of(written) == trade
    for step in world.steps.values():
        written = dict(zip(rows.STEP_COLUMNS, rows.columns_of(step, rows.STEP_COLUMNS), strict=True))
        read = rows.step_of(written)
        assert (read.movement, read.cause, read.line_ids) == (step.movement, step.cause, step.line_ids)


def test_rows_of_the_version_before_are_read():
    world = World()
    trade = world.released((3000, 5000), postage_minor=10, fee_bps=0)
    written = dict(zip(rows.TRADE_COLUMNS, rows.columns_of(trade, rows.TRADE_COLUMNS), strict=True))
    added = ("postage_minor", "extended_days", "open_case", "pause_time", "paused_us")
    lines = orjson.loads(written["lines"])
    terms = orjson.loads(written["terms"])
    known = {"grade", "score", "model_version", "terms_version", "fee_bps", "auto_confirm_days", "defaulted"}
    known |= {"auto_confirm_by_operator", "per_trade_limit_minor", "payout_delay_hours", "payout_by_operator"}
    known |= {"reserve_bps"}
    written["lines"] = [{name: value for name, value in line.items() if name not in added} for line in lines]
    written["terms"] = {name: value for name, value in terms.items() if name in known}
    assert rows.trade_of(written) == trade
    step = world.steps[trade.trade_id, 2]
    stored = dict(zip(rows.STEP_COLUMNS, rows.columns_of(step, rows.STEP_COLUMNS), strict=True))
    movement = orjson.loads(stored["movement"])
    later = ("parts", "buyer_fee_released_minor", "buyer_fee_refunded_minor")
    movement = {name: value for name, value in movement.items() if name not in later}
    stored["movement"] = movement | {"postage_released_minor": 10, "postage_refunded_minor": 0}
    assert rows.step_of(stored).movement.released_minor == 8010


async def test_trades_of_the_version_before_go_on(postgres, monkeypatch):
    """Rows as migration 0001 knew them, then the newer migrations, then today's code."""
    database = postgres.create_service_database("escrow", database=f"escrow_before_{uuid4().hex[:8]}")

    def migrate(revision):
        monkeypatch.setattr(migrations.command, "upgrade", lambda config, _: UPGRADE(config, revision))
        with ThreadPoolExecutor(1) as pool:  # it brings an event loop of its own
            to = {"package": "danbao_escrow", "dsn": database.owner_dsn, "role": database.role}
            pool.submit(migrations.upgrade, **to).result()

    migrate("0001")
    now = datetime.now(UTC)
    await queried(
        database,
        """
        INSERT INTO trades (trade_id, state, buyer, seller, partner, currency, lines, held, terms, postage_minor,
            total_minor, funded_minor, released_minor, refunded_minor, fees_minor, payment, last_step, pending_step,
            step_blocked, step_refusal, reference, revision, timeline_length, pay_by_time, create_time, update_time,
            ship_by_time, deadline_at)
        VALUES ($1, 'AWAITING_SHIPMENT', 'subjects/b', 'subjects/s', 'p', 'CNY',
            '[{"line_id": "1", "title": "t", "amount_minor": 10, "delivery": "POST", "state": "PAID",
               "released_minor": 0, "refunded_minor": 0, "carrier": "", "tracking": "", "ship_time": null,
               "deliver_time": null, "deadline_time": null, "settle_time": null, "operator_needed": false}]', '[]',
            '{"grade": "A", "score": 1, "model_version": "m", "terms_version": "t", "fee_bps": 100,
              "auto_confirm_days": 7, "auto_confirm_by_operator": false, "per_trade_limit_minor": 100,
              "payout_delay_hours": 0, "payout_by_operator": false, "reserve_bps": 0, "defaulted": false}',
            0, 10, 10, 0, 0, 0, 'payments/1', 1, 0, false, '', '', 1, 1, $2, $2, $2, $2, $2)
        """,
        uuid4(),
        now,
    )
    migrate("head")
    (row,) = await queried(database, f"SELECT {', '.join(rows.TRADE_COLUMNS)} FROM trades")
    trade = rows.trade_of(row)
    assert (trade.buyer_fee_minor, trade.deadline_time, trade.postage_left_minor) == (0, now, 0)
    assert trade.terms.fee_payer is FeePayer.SELLER
    assert (trade.made_by, trade.made_by_partner) == (Role.BUYER, True), "as nearly all were"


def test_no_index_of_trades_is_on_what_changes():
    """Else each change writes every index; the deadline of the version before stays null once it is."""
    changing = {"state", "lines", "update_time", "pending_step", "deadline_time", "revision"}
    assert changing <= set(escrow_store.TRADE_CHANGES)
    indexed = {column.name for index in trades.indexes for column in index.columns}
    assert not indexed & set(escrow_store.TRADE_CHANGES)


DEADLINES = "SELECT trade_id, deadline_at FROM trade_deadlines"
WAITING = f"SELECT trade_id, deadline_at FROM trades WHERE deadline_at IS NOT NULL UNION ALL {DEADLINES}"


async def test_deadlines_follow_their_trades(stack, client):
    trade = await client.created(1000)
    (created,) = await stack.rows(DEADLINES)
    assert trade.name == f"trades/{created['trade_id']}"
    assert created["deadline_at"] == trade.create_time.ToDatetime(UTC) + timedelta(hours=18), "pay-by's reminder"
    trade = await client.give("PayTrade", trade, "BUYER")
    (paid,) = await stack.rows(DEADLINES)
    assert paid["deadline_at"] == trade.pay_time.ToDatetime(UTC) + timedelta(hours=54), "ship-by's"
    trade = await client.give("ShipLines", trade, "SELLER")
    await client.give("ConfirmLines", trade, "BUYER")
    assert await stack.rows(DEADLINES) == []


OF_THE_VERSION_BEFORE = """
WITH moved AS (DELETE FROM trade_deadlines RETURNING *)
UPDATE trades SET deadline_at = moved.deadline_at FROM moved WHERE moved.trade_id = trades.trade_id
"""


async def test_what_a_replica_of_the_version_before_wrote_is_looked_at_and_moved(stack, client):
    trade = await client.created(1000)
    await stack.rows(OF_THE_VERSION_BEFORE)
    await stack.advance(hours=18)
    timeline = await client.timeline(trade)
    assert [entry.reason for entry in timeline][1:] == ["PayBy"]
    (moved,) = await stack.rows(DEADLINES)
    assert moved["deadline_at"] == trade.pay_by_time.ToDatetime(UTC)
    assert await stack.rows("SELECT deadline_at FROM trades") == [{"deadline_at": None}]
    await stack.rows(OF_THE_VERSION_BEFORE)
    await stack.advance(hours=6)
    assert (await client.trade(trade.name)).state == trade.STATE_CANCELLED
    assert await stack.rows(WAITING) == []


@pytest.mark.parametrize("also_in_its_row", [False, True])
async def test_a_deadline_that_is_out_of_date_is_put_right(stack, client, also_in_its_row):
    """A replica of the version before changed the trade since."""
    trade = await client.shipped(1000)
    (right,) = await stack.rows(DEADLINES)
    await stack.rows("UPDATE trade_deadlines SET deadline_at = to_timestamp(0)")
    if also_in_its_row:
        await stack.rows("UPDATE trades SET deadline_at = to_timestamp(1)")
    await stack.replicas[0].timers.drain_due()
    assert await stack.rows(WAITING) == [right]
    assert await client.trade(trade.name) == trade


async def test_a_trade_whose_step_is_blocked_is_not_looked_at_for_ever(stack, client):
    trade = await client.shipped(1000)
    stack.payments.script.append("refuse:ACCOUNT_FROZEN")
    stack.payments.script.extend(["dropped"] * 20)
    trade = await client.give("ConfirmLines", trade, "BUYER")
    assert trade.step_blocked
    assert await stack.rows(DEADLINES) == []
    await stack.rows("INSERT INTO trade_deadlines SELECT trade_id, to_timestamp(0) FROM trades")
    await stack.rows("UPDATE trades SET deadline_at = to_timestamp(0)")
    await stack.replicas[0].timers.drain_due()
    assert await stack.rows(WAITING) == []


@pytest.mark.parametrize("of", [Trade, Line, Step])
def test_what_is_read_has_every_field(of):
    """It is made without its class filling in defaults."""
    world = World()
    trade = world.shipped((3000,))
    read = rows.trade_of(dict(zip(rows.TRADE_COLUMNS, rows.columns_of(trade, rows.TRADE_COLUMNS), strict=True)))
    step = world.steps[trade.trade_id, 1]
    written = dict(zip(rows.STEP_COLUMNS, rows.columns_of(step, rows.STEP_COLUMNS), strict=True))
    made = {Trade: read, Line: read.lines[0], Step: rows.step_of(written)}[of]
    assert vars(made).keys() == {field.name for field in fields(of)}


FIELDS = [field.name for field in fields(Trade) if field.name in escrow_store.TRADE_CHANGES]


@pytest.mark.parametrize("name", FIELDS)
def test_a_change_of_any_field_is_written(name):
    """By the statement that is chosen for it, alone or with what a step changes."""
    before = World().shipped((3000,))
    for also in ({}, {"pending_step": 2, "revision": 9}, {"lines": ()}):
        after = replace(before, **{**also, name: object()})
        update = next(update for update in escrow_store.TRADE_UPDATES if update.suffices(before, after))
        assert {name, *also} <= set(update.names)


def test_a_step_that_begins_is_written_without_the_lines():
    world = World()
    before = world.shipped((3000,))
    world.give(commands.ConfirmLines, before, Role.BUYER)
    begun = world.trades[before.trade_id]
    settled = world.settle(before)
    step, lines, _ = escrow_store.TRADE_UPDATES
    assert step.suffices(before, begun)
    assert not step.suffices(begun, settled)
    assert lines.suffices(begun, settled)
