"""A statement as a CSV file: what is wrong with one is told by line and column, and the command imports the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from danbao_payments.__main__ import main
from danbao_payments.clients.statement_file import StatementUnreadable, minor_of, read_statement
from danbao_payments.testing.stack import PaymentsStack, new_id
from danbao_payments.testing.statements import fund, now_of

HEADER = "external_id,direction,amount,currency,date,reference,description\n"
FINE = "e1,IN,12.34,CNY,2026-11-20,r1,top-up\n"


def file_of(folder: Path, text: str | bytes) -> Path:
    path = folder / f"{new_id()}.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.34", "CNY", 1234),
        ("12.3", "CNY", 1230),
        ("12", "CNY", 1200),
        ("0.01", "CNY", 1),
        ("100", "JPY", 100),
        ("1.234", "KWD", 1234),
        ("92233720368547758.07", "CNY", 2**63 - 1),
    ],
)
def test_a_decimal_number_is_read_exactly(text: str, currency: str, minor: int):
    assert minor_of(text, currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("12.345", "CNY"),
        ("12.0", "JPY"),
        ("0", "CNY"),
        ("0.00", "CNY"),
        ("-1", "CNY"),
        ("+1", "CNY"),
        ("1,000", "CNY"),
        ("1e3", "CNY"),
        ("12.", "CNY"),
        (".5", "CNY"),
        ("", "CNY"),
        ("１２", "CNY"),
        ("NaN", "CNY"),
        ("92233720368547758.08", "CNY"),
        ("9" * 5000, "CNY"),
    ],
)
def test_what_is_no_amount_is_refused(text: str, currency: str):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - what is wrong is its text
        minor_of(text, currency)
    assert text[:8] in str(refused.value)


def test_columns_may_stand_in_any_order_and_the_last_two_be_left_out(tmp_path: Path):
    whole = read_statement(file_of(tmp_path, HEADER + FINE))[0]
    turned = read_statement(
        file_of(tmp_path, "\ufeffdate,currency,amount,direction,external_id\r\n2026-11-20,CNY,12.34,IN,e1\r\n\r\n")
    )[0]
    assert turned == whole._replace(reference="", description="")
    quoted = read_statement(file_of(tmp_path, HEADER + 'e1,IN,12.34,CNY,2026-11-20,"a, b","two\nlines"\n'))[0]
    assert (quoted.reference, quoted.description) == ("a, b", "two\nlines")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: the file is empty"),
        (b"\xff\xfe", "line 1: the file is not UTF-8"),
        ("a,b\n", "line 1, column external_id: is missing in the header"),
        (HEADER.replace("reference", "ref"), "line 1, column ref: is no column of a statement"),
        (HEADER.replace("reference", "amount"), "line 1, column amount: stands twice in the header"),
        (HEADER + FINE + "e2,IN,1\n", "line 3: 3 cells where the header has 7"),
        (HEADER + FINE + FINE.replace("e1", ""), "line 3, column external_id: is empty"),
        (HEADER + FINE.replace("e1", "x" * 129), "line 2, column external_id: longer than 128 characters"),
        (HEADER + FINE.replace("IN", "in"), "line 2, column direction: 'in' is neither IN nor OUT"),
        (HEADER + FINE.replace("CNY", "XYZ"), "line 2, column currency: 'XYZ' is not a currency of ISO 4217"),
        (HEADER + FINE + FINE.replace("CNY", "EUR"), "line 3, column currency: EUR after CNY: one statement has one"),
        (HEADER + FINE.replace("12.34", "12.345"), "line 2, column amount: '12.345' has more than the 2 digits of CNY"),
        (HEADER + FINE.replace("-20", "-31"), "line 2, column date: '2026-11-31' is no day as 2026-11-20 is one"),
        (HEADER + FINE.replace("2026", "9999"), "line 2, column date: 9999-11-20 lies outside the years 1970 to 2999"),
        (HEADER + FINE.replace("2026", "0001"), "line 2, column date: 0001-11-20 lies outside the years 1970 to 2999"),
        (HEADER + '"two\nlines",IN,x,CNY,2026-11-20,,\n', "line 3, column amount: 'x' is no decimal number"),
    ],
)
def test_what_is_no_statement_is_told_by_line_and_column(tmp_path: Path, text: str | bytes, told: str):
    with pytest.raises(StatementUnreadable) as refused:
        read_statement(file_of(tmp_path, text))
    assert str(refused.value).startswith(told)


# --- the command ------------------------------------------------------------------------------------------------------


async def command(stack: PaymentsStack, *arguments: str) -> int:
    """Runs it as the operator, straight at the service."""
    pair = stack.authority.issue("operator")
    tls = ["--ca", str(pair.ca), "--cert", str(pair.cert), "--key", str(pair.key)]
    asked = ["import-statement", *arguments, "--to", f"127.0.0.1:{stack.port}", *tls]
    return await asyncio.to_thread(main, asked)


async def test_the_command_tells_what_differs_and_says_so_by_its_exit_code(
    stack: PaymentsStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    done = await fund(stack, 1234)
    today = (await now_of(stack)).date()
    line = f"e1,IN,12.34,CNY,{today},{done.reference},\n"
    clean = file_of(tmp_path, HEADER + line)
    assert await command(stack, str(clean), "--rail", "rails/simulated") == 0
    said = capsys.readouterr()
    assert "RESOLVED" in said.out
    assert said.out.count("12.34 CNY") == 2
    assert "1 of 1 lines sent" in said.err
    # The same file again is the same request: the same answer, and nothing is imported twice.
    assert await command(stack, str(clean), "--rail", "rails/simulated") == 0
    assert capsys.readouterr().out == said.out
    broken = file_of(tmp_path, HEADER + line + f"e2,OUT,0.07,CNY,{today},stranger,\n")
    assert await command(stack, str(broken), "--rail", "rails/simulated") == 2
    said = capsys.readouterr()
    assert "OPEN" in said.out
    assert "MISSING_HERE" in said.out
    assert "e2" in said.out
    assert "DUPLICATE" in said.out
    assert (await stack.sql("SELECT count(*) AS made FROM reconciliations"))[0]["made"] == 2


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        (HEADER + FINE.replace("IN", "UP"), [], "line 2, column direction"),
        (HEADER, [], "--currency is missing"),
        (HEADER, ["--currency", "CNY"], "needs --begin and --end"),
        (HEADER + FINE, ["--currency", "EUR"], "the lines are in CNY, not EUR"),
        (HEADER + FINE, ["--begin", "yesterday"], "'yesterday' is neither a day nor a time"),
        (HEADER + FINE, ["--begin", "2026-11-21"], "FIELD_INVALID: header.end_time"),
        (HEADER + FINE, ["--rail", "rails/none"], "RAIL_UNKNOWN: rails/none is not connected"),
        (HEADER + FINE, ["--rail", "none"], "FIELD_INVALID: header.rail"),
    ],
)
async def test_what_cannot_be_imported_is_told_and_exits_with_one(
    stack: PaymentsStack, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, arguments: Any, told: str
):
    asked = arguments if "--rail" in arguments else ["--rail", "rails/simulated", *arguments]
    assert await command(stack, str(file_of(tmp_path, text)), *asked) == 1
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


async def test_a_service_that_is_not_there_is_told(stack: PaymentsStack, tmp_path: Path, capsys: Any, monkeypatch: Any):
    path = str(file_of(tmp_path, HEADER + FINE))
    monkeypatch.delenv("DANBAO_OPERATOR_TOKEN", raising=False)
    monkeypatch.delenv("DANBAO_GRPC", raising=False)
    for arguments, told in (
        ([], "--to or $DANBAO_GRPC must say"),
        (["--to", "127.0.0.1:1"], "an operator's token is needed"),
        (["--to", "127.0.0.1:1", "--cert", "x"], "--cert, --key and --ca go together"),
    ):
        asked = ["import-statement", path, "--rail", "rails/simulated", *arguments]
        assert await asyncio.to_thread(main, asked) == 1
        assert told in capsys.readouterr().err
