"""How much a payer may pay: per transaction, per day and per month of UTC, counted as it is paid."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple

from danbao_payments.domain.errors import LimitExceeded

SUBJECT_PREFIX = "subjects/"


class Limits(NamedTuple):
    """What may be paid in one currency, by a subject or by whoever pays under a class. Minor units; None: any."""

    scope: str  # subjects/{id} or limitClasses/{id}
    currency: str
    per_transaction_minor: int | None
    per_day_minor: int | None
    per_month_minor: int | None
    update_time: datetime


class Usage(NamedTuple):
    """What a subject has paid, on `day` and in its month. Minor units."""

    subject: str
    currency: str
    day: date
    day_minor: int
    month_minor: int

    def at(self, day: date) -> Usage:
        """The same, looked at on a later day: what lies before it no longer counts."""
        if day == self.day:
            return self
        same_month = (day.year, day.month) == (self.day.year, self.day.month)
        return self._replace(day=day, day_minor=0, month_minor=self.month_minor if same_month else 0)


def class_scope(limit_class: str) -> str:
    """The scope of a class's limits."""
    return f"limitClasses/{limit_class}"


def check_limits(limits: Limits, usage: Usage, amount_minor: int) -> None:
    """Raises LimitExceeded: of the transaction, then the day, then the month."""
    for period, limit_minor, used_minor in (
        ("transaction", limits.per_transaction_minor, 0),
        ("day", limits.per_day_minor, usage.day_minor),
        ("month", limits.per_month_minor, usage.month_minor),
    ):
        if limit_minor is not None and used_minor + amount_minor > limit_minor:
            raise LimitExceeded(
                limits.scope, period=period, limit_minor=limit_minor, used_minor=used_minor, amount_minor=amount_minor
            )
