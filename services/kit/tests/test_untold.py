"""What callers write, and what a store says of a row, stands in no log line, no span and no refusal."""

import ast
import json
from io import BytesIO
from pathlib import Path

import asyncpg
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from danbao.payments.v1 import payment_pb2
from danbao_kit import database, log
from danbao_kit.database import Database, TracedConnection
from danbao_kit.errors import FieldInvalid
from danbao_kit.rpc_status import status_of
from danbao_kit.server import _tell_what_nobody_awaits
from danbao_kit.telemetry import within
from danbao_kit.validation import check

SECRET = "canary-7f3e9a"
SERVICES = Path(__file__).parents[2]


@pytest.fixture
def lines(monkeypatch):
    """What was logged, as text, when it is asked for."""
    written = BytesIO()
    monkeypatch.setattr(log._Sink, "stream", written)
    return lambda: written.getvalue().decode()


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(database, "tracer", tracer)
    exporter.tracer = tracer
    return exporter


@pytest.fixture
async def refused_row(jar_database):
    """What PostgreSQL says of a row that it refuses: all of the row."""
    connection = await asyncpg.connect(jar_database.owner_dsn)
    try:
        await connection.execute("CREATE TABLE notes (text text CONSTRAINT notes_are_short CHECK (length(text) < 3))")
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await connection.execute("INSERT INTO notes VALUES ($1)", SECRET)
    finally:
        await connection.execute("DROP TABLE notes")
        await connection.close()
    assert SECRET in str(refused.value), "else nothing is shown"
    return refused.value


async def test_a_logged_exception_tells_where_and_what_and_no_row(lines, refused_row):
    try:
        try:
            raise refused_row
        except asyncpg.PostgresError as error:
            raise RuntimeError(f"postgresql://user:{SECRET}@host") from error
    except RuntimeError:
        log.log.exception("call_failed")
    told = json.loads(lines())["exception"]
    assert SECRET not in lines()
    assert "asyncpg.exceptions.CheckViolationError: 23514 notes notes_are_short\nwhich led to:" in told
    assert told.endswith("builtins.RuntimeError")
    assert "test_untold.py" in told


def test_our_own_words_for_a_mistake_and_the_system_s_for_a_file_are_told(lines):
    for error in (AssertionError("two rows of one key"), FileNotFoundError(2, "No such file", "tls.pem")):
        try:
            raise error
        except (AssertionError, OSError):
            log.log.exception("start_failed")
    first, second = lines().splitlines()
    assert json.loads(first)["exception"].endswith("builtins.AssertionError: two rows of one key")
    assert json.loads(second)["exception"].endswith("[Errno 2] No such file: 'tls.pem'")


def test_exceptions_of_a_group_are_told_each(lines):
    try:
        raise ExceptionGroup(SECRET, [ValueError(SECRET), AssertionError("ours")])
    except ExceptionGroup:
        log.log.exception("worker_failed")
    assert SECRET not in lines()
    assert "builtins.ValueError" in lines()
    assert "AssertionError: ours" in lines()


def test_what_asyncio_would_write_about_a_lost_exception_is_told_by_its_class(lines):
    _tell_what_nobody_awaits(None, {"message": f"Exception in callback f({SECRET!r})", "exception": KeyError(SECRET)})
    _tell_what_nobody_awaits(None, {"message": "Task was destroyed but it is pending!"})
    first, second = map(json.loads, lines().splitlines())
    assert (first["what"], first["exception"]) == ("Exception in callback f", "builtins.KeyError")
    assert (second["what"], second["exception"]) == ("Task was destroyed but it is pending!", "")
    assert SECRET not in lines()


def test_of_a_message_or_an_exception_in_a_log_line_its_type_is_told(lines):
    log.log.info("seen", message=payment_pb2.RefundPaymentRequest(description=SECRET), error=ValueError(SECRET))
    line = json.loads(lines())
    assert line["message"] == "<danbao.payments.v1.RefundPaymentRequest>"
    assert line["error"] == "builtins.ValueError"


def test_a_span_tells_an_exception_s_class_only(spans):
    with pytest.raises(ValueError, match=SECRET), within(spans.tracer.start_span("work")):
        raise ValueError(SECRET)
    (span,) = spans.get_finished_spans()
    assert SECRET not in span.to_json()
    assert (span.status.description, span.events) == ("ValueError", ())


async def test_a_refused_statement_s_span_and_error_tell_no_row(spans, jar_database):
    connection = await asyncpg.connect(jar_database.owner_dsn, connection_class=TracedConnection)
    store = Database(jar_database.owner_dsn)
    try:
        with within(spans.tracer.start_span("batch")):
            await connection.execute("CREATE TABLE notes (text text CHECK (length(text) < 3))")
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute("INSERT INTO notes VALUES ($1)", SECRET)
            async with store.engine.connect() as reads:
                with pytest.raises(database.DBAPIError) as refused:
                    await reads.exec_driver_sql("SELECT $1::text::int", (SECRET,))
                assert "[SQL parameters hidden" in str(refused.value)
    finally:
        await connection.execute("DROP TABLE notes")
        await connection.close()
        await store.close()
    seen = spans.get_finished_spans()
    assert [span.status.description for span in seen if span.name.startswith("SQL INSERT")] == ["23514"]
    assert not any(SECRET in span.to_json() for span in seen)


def test_a_refusal_names_fields_and_no_text():
    request = payment_pb2.CreatePaymentRequest(
        request_id=100 * SECRET,
        payer=SECRET,
        beneficiary=SECRET,
        payee={"owner": SECRET},
        description=40 * SECRET,
        instrument=40 * SECRET,
        metadata={SECRET: 40 * SECRET, 9 * SECRET: SECRET},
        splits=[{"beneficiary": SECRET}],
    )
    with pytest.raises(FieldInvalid) as refused:
        check(request)
    status = status_of(refused.value)
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert {"description", "instrument", "metadata", "payer", "splits[0].beneficiary"} <= {
        each.field for each in bad.field_violations
    }
    assert SECRET.encode() not in status.SerializeToString()
    assert isinstance(status, status_pb2.Status)


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}


def told_by_opentelemetry(source):
    """Where OpenTelemetry would write an exception's text into a span, which it does unless it is told not to."""
    for name, keywords in calls(ast.parse(source)):
        if name == "record_exception":
            yield name
        # `**quiet` says no, too.
        if name in ("use_span", "start_as_current_span") and not {None, "record_exception"} & set(keywords):
            yield name


def test_no_span_of_ours_records_exceptions():
    for path in SERVICES.glob("*/danbao_*/**/*.py"):
        assert not list(told_by_opentelemetry(path.read_text())), path
    assert list(told_by_opentelemetry("trace.use_span(span)\nspan.record_exception(e)"))
