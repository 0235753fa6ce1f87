"""How a seller of each grade is treated, from one versioned table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.errors import CurrencyWithoutTerms, DefinitionInvalid
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.membership_rules import MembershipRules, rules_from


@dataclass(frozen=True, slots=True)
class GradeTerms:
    """The terms of a grade that do not depend on the currency."""

    fee_percent: int
    auto_confirm_days: int
    auto_confirm_by_operator: bool
    payout_delay_hours: int
    payout_by_operator: bool
    reserve_bps: int


@dataclass(frozen=True, slots=True)
class TermsTable:
    """Terms by grade, and the largest trade by currency and grade in minor units."""

    version: str
    default_grade: Grade
    grades: Mapping[Grade, GradeTerms]
    limits_minor: Mapping[str, Mapping[Grade, int]]
    # By currency and grade: how much at most the buyer of a member is compensated, in minor units.
    compensation_limits_minor: Mapping[str, Mapping[Grade, int]]
    membership: MembershipRules
    # Subjects that are members without a membership, to try things out.
    members: frozenset[str] = frozenset()

    def limit_minor(self, grade: Grade, currency: str, *, field: str) -> int:
        """Raises CurrencyWithoutTerms, naming the request's field."""
        row = self.limits_minor.get(currency)
        if row is None:
            raise CurrencyWithoutTerms(currency, field, self.version)
        return row[grade]

    def compensation_limit_minor(self, grade: Grade, currency: str) -> int:
        """Of a member of that grade. 0 in a currency without a row."""
        return self.compensation_limits_minor.get(currency, {}).get(grade, 0)


def terms_from(definition: Mapping[str, Any], currencies: Iterable[str], members: Iterable[str] = ()) -> TermsTable:
    """Reads the terms' file. Raises DefinitionInvalid when one of `currencies` or a grade has no row."""
    grades = {grade: _grade_terms(grade, definition["grades"]) for grade in Grade}
    limits = {
        str(currency): {grade: _limit(currency, grade, row) for grade in Grade}
        for currency, row in definition["per_trade_limits_minor"].items()
    }
    missing = [currency for currency in currencies if currency not in limits]
    if missing:
        raise DefinitionInvalid(f"the terms table has no row for {', '.join(missing)}")
    compensation_limits = {
        str(currency): {Grade(grade): _not_negative(currency, grade, limit) for grade, limit in row.items()}
        for currency, row in definition.get("compensation_limits_minor", {}).items()
    }
    return TermsTable(
        version=str(definition["version"]),
        default_grade=Grade(definition["default_grade"]),
        grades=grades,
        limits_minor=limits,
        compensation_limits_minor=compensation_limits,
        membership=rules_from(definition),
        members=frozenset(members),
    )


def _grade_terms(grade: Grade, rows: Mapping[str, Mapping[str, Any]]) -> GradeTerms:
    row = rows.get(grade.value)
    if row is None:
        raise DefinitionInvalid(f"the terms table has no row for grade {grade}")
    terms = GradeTerms(
        fee_percent=int(row["fee_percent"]),
        auto_confirm_days=int(row["auto_confirm_days"]),
        auto_confirm_by_operator=bool(row.get("auto_confirm_by_operator", False)),
        payout_delay_hours=int(row["payout_delay_hours"]),
        payout_by_operator=bool(row.get("payout_by_operator", False)),
        reserve_bps=int(row["reserve_bps"]),
    )
    if terms.auto_confirm_days < 1 or terms.fee_percent < 0 or not 0 <= terms.reserve_bps <= 10_000:
        raise DefinitionInvalid(f"the terms of grade {grade} are out of range")
    return terms


def _limit(currency: str, grade: Grade, row: Mapping[str, int]) -> int:
    limit = row.get(grade.value)
    if type(limit) is not int or limit <= 0:
        raise DefinitionInvalid(f"the terms table has no limit above zero for {currency} and grade {grade}")
    return limit


def _not_negative(currency: str, grade: str, limit: Any) -> int:
    if type(limit) is not int or limit < 0:
        raise DefinitionInvalid(f"the compensation limit for {currency} and grade {grade} is no amount")
    return limit
