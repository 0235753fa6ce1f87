"""How a rail's statement looks as a CSV file, and what is wrong with one, by line and column.

    external_id,direction,amount,currency,date,reference,description
    bk-20261120-1,IN,12.34,CNY,2026-11-20,sim-019a…,

The header line names the columns; they may stand in any order, and `reference` and `description` may be left out.
Amounts are decimal numbers above zero with at most the digits of their currency, without signs or separators: direction
says IN or OUT. The file is UTF-8, with or without a mark at the beginning.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from danbao_kit.errors import DanbaoError
from danbao_kit.money import MAX_MINOR, check_currency, exponent
from danbao_kit.timestamps import END_OF_TIME, FIRST_TIME

REQUIRED = ("external_id", "direction", "amount", "currency", "date")
OPTIONAL = ("reference", "description")
_LONGEST_AMOUNT = 25
_LONGEST = {"external_id": 128, "reference": 128, "description": 256}


class StatementUnreadable(Exception):
    """The file is no statement: the line, counted from 1 with the header, and the column if there is one."""

    def __init__(self, line: int, column: str, what: str) -> None:
        super().__init__(f"line {line}{f', column {column}' if column else ''}: {what}")


class Row(NamedTuple):
    """One line of the file. Minor units."""

    external_id: str
    direction: str
    amount_minor: int
    currency: str
    day: date
    reference: str
    description: str


def read_statement(path: Path) -> list[Row]:
    """All its lines, of one currency. Raises StatementUnreadable, OSError."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return list(_rows(csv.reader(file, strict=True)))
        except UnicodeDecodeError as error:
            raise StatementUnreadable(1, "", "the file is not UTF-8") from error


def minor_of(text: str, currency: str) -> int:
    """A decimal number as minor units: ("12.3", "CNY") → 1230. Raises ValueError with what is wrong."""
    whole, point, digits = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and (not point or (digits.isascii() and digits.isdigit()))):
        raise ValueError(f"{text!r} is no decimal number without sign and separators")
    if len(digits) > exponent(currency):
        raise ValueError(f"{text!r} has more than the {exponent(currency)} digits of {currency}")
    minor = 0 if len(whole) > _LONGEST_AMOUNT else int(whole + digits.ljust(exponent(currency), "0"))
    if not 0 < minor <= MAX_MINOR:
        raise ValueError(f"{text!r} is not between 0 and 2^63 - 1 minor units")
    return minor


def _rows(reader: Iterator[list[str]]) -> Iterator[Row]:
    columns: list[str] | None = None
    first: str | None = None
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise StatementUnreadable(number, "", str(error)) from error
        number = max(number, getattr(reader, "line_num", number))
        if columns is None:
            columns = _columns(cells)
        elif cells:
            row = _row(number, columns, cells)
            first = first or row.currency
            if row.currency != first:
                raise StatementUnreadable(number, "currency", f"{row.currency} after {first}: one statement has one")
            yield row
    if columns is None:
        raise StatementUnreadable(1, "", "the file is empty")


def _columns(cells: list[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    for name in REQUIRED:
        if name not in columns:
            raise StatementUnreadable(1, name, "is missing in the header")
    for name in columns:
        if name not in (*REQUIRED, *OPTIONAL):
            raise StatementUnreadable(1, name, "is no column of a statement")
        if columns.count(name) > 1:
            raise StatementUnreadable(1, name, "stands twice in the header")
    return columns


def _row(number: int, columns: list[str], cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise StatementUnreadable(number, "", f"{len(cells)} cells where the header has {len(columns)}")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    for name, longest in _LONGEST.items():
        if len(given.get(name, "")) > longest:
            raise StatementUnreadable(number, name, f"longer than {longest} characters")
    if not given["external_id"]:
        raise StatementUnreadable(number, "external_id", "is empty")
    if given["direction"] not in ("IN", "OUT"):
        raise StatementUnreadable(number, "direction", f"{given['direction']!r} is neither IN nor OUT")
    try:
        check_currency(given["currency"], "currency")
    except DanbaoError as error:
        raise StatementUnreadable(number, "currency", error.message) from error
    try:
        minor = minor_of(given["amount"], given["currency"])
    except ValueError as error:
        raise StatementUnreadable(number, "amount", str(error)) from error
    try:
        day = date.fromisoformat(given["date"])
    except ValueError as error:
        raise StatementUnreadable(number, "date", f"{given['date']!r} is no day as 2026-11-20 is one") from error
    if not FIRST_TIME.date() <= day < END_OF_TIME.date():
        raise StatementUnreadable(number, "date", f"{given['date']} lies outside the years 1970 to 2999")
    reference, description = given.get("reference", ""), given.get("description", "")
    return Row(given["external_id"], given["direction"], minor, given["currency"], day, reference, description)
