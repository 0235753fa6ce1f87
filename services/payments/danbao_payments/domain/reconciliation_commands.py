"""What can be asked of reconciliation: to take a statement in, and to explain a break."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import ClassVar
from uuid import UUID

from danbao_kit.errors import DanbaoError, FieldInvalid, FieldViolation
from danbao_kit.money import MAX_MINOR, check_currency, check_positive
from danbao_payments.domain.callers import OURSELVES, Caller
from danbao_payments.domain.commands import Leg, PostTransaction, SpreadLeg
from danbao_payments.domain.reconciliation import Matching, StatementLine

MOST_LINES = 50_000
LONGEST_PERIOD = timedelta(days=92)
# A rail's day may begin and end at another hour than ours.
_A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StatementLines:
    """All lines of a statement. By their digest two are the same or not: cheap to compare, and to write down."""

    digest: str
    rows: tuple[StatementLine, ...] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of the books and of the rail's earlier statements, and what came of the comparison."""

    # The rail's last statement when it was read: whoever imports one in between makes this reading worthless.
    last_number: int
    ledger_sequence: int
    movements_from: datetime
    movements_until: datetime
    matching: Matching = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImportStatement:
    """A statement, and how it compares with the books; that was found out before, outside the write path."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("reading", "caller")

    rail: str
    currency: str
    start_time: datetime
    end_time: datetime
    lines: StatementLines
    source: str = ""
    grace: timedelta = timedelta()
    reading: Reading | None = None
    caller: Caller = OURSELVES

    def compared(self, reading: Reading) -> ImportStatement:
        """The same with what the comparison found."""
        return replace(self, reading=reading)

    def check(self) -> None:
        """Raises FieldInvalid, AmountNotPositive, CurrencyUnknown."""
        if not self.start_time < self.end_time <= self.start_time + LONGEST_PERIOD:
            path = "header.end_time"
            raise FieldInvalid(FieldViolation(path, "must come after start_time, by at most 92 days"))
        first, last = (self.start_time - _A_DAY).date(), (self.end_time + _A_DAY).date()
        for line in self.lines.rows:
            if not first <= line.booking_date <= last:
                path = f"lines[{line.position}].booking_date"
                raise FieldInvalid(FieldViolation(path, "lies outside the statement's time"))
        if sum(line.amount_minor for line in self.lines.rows if line.amount_minor > 0) > MAX_MINOR:
            raise FieldInvalid(FieldViolation("lines", "come to more than 2^63 - 1 minor units"))
        for line in self.lines.rows:
            check_positive(line.amount_minor, f"lines[{line.position}].amount_minor")
        check_currency(self.currency, "header.currency")


@dataclass(frozen=True, slots=True)
class ResolveReconciliationItem:
    """Exactly one of `transaction`, `reason` and `legs`; the legs are posted with it, under `description`."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    reconciliation: UUID
    number: int
    transaction: UUID | None = None
    reason: str = ""
    legs: tuple[Leg | SpreadLeg, ...] = ()
    description: str = ""
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises what PostTransaction's check raises, with the field's place in this request."""
        if not self.legs:
            return
        try:
            self.posting("").check()
        except DanbaoError as error:
            error.fields = tuple(FieldViolation(f"posting.{each.field}", each.description) for each in error.fields)
            if "field" in error.metadata:
                error.metadata["field"] = f"posting.{error.metadata['field']}"
            raise

    def posting(self, item: str) -> PostTransaction:
        """What is to be posted to explain the item of this name."""
        return PostTransaction(self.legs, self.description, (("reconciliation_item", item),), self.caller)


def day_of(text: str, path: str) -> date:
    """A day as a statement spells it, YYYY-MM-DD. Raises FieldInvalid."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise FieldInvalid(FieldViolation(path, "is no day")) from error


ReconciliationCommand = ImportStatement | ResolveReconciliationItem
