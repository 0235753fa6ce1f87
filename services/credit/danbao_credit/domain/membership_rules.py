"""What a credible merchant must be: conditions of joining, rules of suspension, and how much is to be deposited.

Source of the numbers: the `membership` section of terms.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from danbao_credit.domain.catalogue import Catalogue, SubjectFacts
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.evaluation import Evaluation
from danbao_credit.domain.grades import FLOORS, Grade
from danbao_credit.domain.membership import Cause, CauseCode
from danbao_credit.domain.profile import Kind, Profile
from danbao_kit.money import decimal_text, exponent

# What an identity that was checked is remembered by.
IDENTITY_SLOT = "first_identity"
_RANKS = {grade: rank for rank, (grade, _) in enumerate(FLOORS)} | {Grade.E: len(FLOORS)}


@dataclass(frozen=True, slots=True)
class MembershipRules:
    """The numbers. Rates are shares of orders; periods as their names say."""

    join_grade: Grade
    join_days: int
    join_completed: int
    join_defect_rate: float
    keep_grade: Grade
    keep_defect_rate: float
    keep_defect_orders: int
    keep_deposit_percent: int
    keep_promise: timedelta
    deposit_major: int
    deposit_gmv_percent: int
    notice: timedelta
    leaving: timedelta


def rules_from(definition: Mapping[str, Any]) -> MembershipRules:
    """Reads the section of the terms' file. Raises DefinitionInvalid for one that is not whole."""
    try:
        section = definition["membership"]
        join, keep, deposit = section["join"], section["keep"], section["deposit"]
        rules = MembershipRules(
            join_grade=Grade(join["grade"]),
            join_days=int(join["days"]),
            join_completed=int(join["completed"]),
            join_defect_rate=float(join["defect_rate"]),
            keep_grade=Grade(keep["grade"]),
            keep_defect_rate=float(keep["defect_rate"]),
            keep_defect_orders=int(keep["orders"]),
            keep_deposit_percent=int(keep["deposit_percent"]),
            keep_promise=timedelta(hours=int(keep["promise_hours"])),
            deposit_major=int(deposit["major_units"]),
            deposit_gmv_percent=int(deposit["gmv_percent"]),
            notice=timedelta(days=int(section["notice_days"])),
            leaving=timedelta(days=int(section["leaving_days"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DefinitionInvalid(f"the terms' membership section is not whole: {error!r}") from error
    if rules.deposit_major <= 0 or not 0 < rules.keep_deposit_percent <= 100 or rules.notice <= timedelta(0):
        raise DefinitionInvalid("the numbers of the terms' membership section are out of range")
    return rules


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rules look at, of one subject at one moment. Rates None: nothing was sold in that time."""

    grade: Grade
    days_since_first_sale: int
    completed: int
    defect_rate_90d: float | None
    defect_rate_life: float | None
    orders_90d: int
    identity_verified: bool
    # What was released to the merchant in 30 days, minor units by currency.
    gmv_30d_minor: Mapping[str, int]
    fraud: bool = False
    # How long a promise has been unpaid; None: none is.
    promise_unpaid: timedelta | None = None


def figures_of(catalogue: Catalogue, facts: SubjectFacts, profile: Profile, evaluation: Evaluation) -> Figures:
    """The figures out of a profile, by the catalogue's own indicators."""

    def value(name: str) -> float | None:
        found = catalogue.by_name[name].value(facts)
        return None if found is None else float(found)

    slot = next(slot.id for slot in catalogue.slots if slot.name == IDENTITY_SLOT)
    return Figures(
        grade=evaluation.grade,
        days_since_first_sale=int(value("sale_age_life") or 0),
        completed=int(value("orders_completed_life") or 0),
        defect_rate_90d=value("order_defect_rate_90d"),
        defect_rate_life=value("order_defect_rate_life"),
        orders_90d=int(value("orders_paid_90d") or 0),
        identity_verified=profile.mark(Kind.FIRST, slot) is not None,
        gmv_30d_minor={code: int(value(f"released_{code.lower()}_30d") or 0) for code in catalogue.currencies},
    )


def unmet_conditions(figures: Figures, rules: MembershipRules) -> tuple[str, ...]:
    """Every condition of joining that is not met, as a sentence with its figure. The defect rate is that of the last 90
    days, so that old mistakes pass; of who sold nothing in that time it is that of life."""
    unmet: list[str] = []
    if _RANKS[figures.grade] > _RANKS[rules.join_grade]:
        unmet.append(f"grade {figures.grade}, and {rules.join_grade} or better is needed")
    if figures.days_since_first_sale < rules.join_days:
        unmet.append(f"{figures.days_since_first_sale} of {rules.join_days} days since the first sale")
    if figures.completed < rules.join_completed:
        unmet.append(f"{figures.completed} of {rules.join_completed} completed trades")
    window = "in the last 90 days" if figures.defect_rate_90d is not None else "in all"
    rate = figures.defect_rate_90d if figures.defect_rate_90d is not None else figures.defect_rate_life
    if rate is not None and rate > rules.join_defect_rate:
        unmet.append(
            f"{_percent(rate)} of orders defective {window}, and at most {_percent(rules.join_defect_rate)} may be"
        )
    if not figures.identity_verified:
        unmet.append("the identity is not verified")
    if figures.fraud:
        unmet.append("fraud is confirmed")
    if figures.promise_unpaid is not None and figures.promise_unpaid > rules.keep_promise:
        unmet.append(_unpaid(figures.promise_unpaid))
    return tuple(unmet)


def causes_of(
    figures: Figures, rules: MembershipRules, *, balances_minor: Mapping[str, int], required_minor: Mapping[str, int]
) -> tuple[Cause, ...]:
    """Every rule of suspension that holds, the gravest first. `balances_minor` and `required_minor` by currency.

    Defects count from a number of orders on, as for scores: one slip among few orders is no habit.
    """
    causes: list[Cause] = []
    if figures.fraud:
        causes.append(Cause(CauseCode.FRAUD, "fraud is confirmed"))
    if figures.promise_unpaid is not None and figures.promise_unpaid > rules.keep_promise:
        causes.append(Cause(CauseCode.PROMISE_UNPAID, _unpaid(figures.promise_unpaid)))
    for currency, required in required_minor.items():
        balance = balances_minor.get(currency, 0)
        if balance * 100 < required * rules.keep_deposit_percent:
            causes.append(Cause(CauseCode.DEPOSIT_TOO_LOW, f"deposit of {missing_text(currency, balance, required)}"))
    rate = figures.defect_rate_90d
    if rate is not None and rate > rules.keep_defect_rate and figures.orders_90d >= rules.keep_defect_orders:
        text = f"{_percent(rate)} of {figures.orders_90d} orders defective in the last 90 days"
        causes.append(Cause(CauseCode.DEFECTS, text))
    if _RANKS[figures.grade] > _RANKS[rules.keep_grade]:
        causes.append(Cause(CauseCode.GRADE, f"grade {figures.grade}, below {rules.keep_grade}"))
    return tuple(causes)


def required_deposit_minor(currency: str, gmv_30d_minor: int, rules: MembershipRules) -> int:
    """max(1,000 major units, 5 % of 30 days' GMV), rounded up; minor units."""
    share_minor = -(-gmv_30d_minor * rules.deposit_gmv_percent // 100)
    floor_minor: int = rules.deposit_major * 10 ** exponent(currency)
    return max(floor_minor, share_minor)


def missing_text(currency: str, balance_minor: int, required_minor: int) -> str:
    """Such as "400.00 of 1000.00 CNY"."""
    return f"{decimal_text(currency, balance_minor)} of {decimal_text(currency, required_minor)} {currency}"


def _percent(rate: float) -> str:
    return f"{rate * 100:.2f} %"


def _unpaid(since: timedelta) -> str:
    return f"a promise unpaid for {since // timedelta(hours=1)} hours"
