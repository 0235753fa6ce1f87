"""Conditions of joining, rules of suspension and the deposit's size: each at its edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.membership import CauseCode
from danbao_credit.domain.membership_rules import (
    Figures,
    causes_of,
    figures_of,
    required_deposit_minor,
    rules_from,
    unmet_conditions,
)
from danbao_credit.domain.profile import Profile
from danbao_credit.testing.deposits import merchant

GOOD = Figures(
    grade=Grade.A,
    days_since_first_sale=90,
    completed=100,
    defect_rate_90d=0.005,
    defect_rate_life=0.2,
    orders_90d=100,
    identity_verified=True,
    gmv_30d_minor={},
)
WHOLE = {"balances_minor": {"CNY": 100_000}, "required_minor": {"CNY": 100_000}}


def test_who_is_at_every_edge_may_join(table: Any) -> None:
    assert unmet_conditions(GOOD, table.membership) == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"grade": Grade.B}, "grade B, and A or better is needed"),
        ({"days_since_first_sale": 89}, "89 of 90 days since the first sale"),
        ({"completed": 57}, "57 of 100 completed trades"),
        ({"defect_rate_90d": 0.0051}, "0.51 % of orders defective in the last 90 days, and at most 0.50 % may be"),
        ({"defect_rate_90d": None}, "20.00 % of orders defective in all, and at most 0.50 % may be"),
        ({"identity_verified": False}, "the identity is not verified"),
        ({"fraud": True}, "fraud is confirmed"),
        ({"promise_unpaid": timedelta(hours=73)}, "a promise unpaid for 73 hours"),
    ],
)
def test_what_is_not_met_is_said_with_its_figure(table: Any, change: dict[str, Any], sentence: str) -> None:
    assert unmet_conditions(replace(GOOD, **change), table.membership) == (sentence,)


def test_every_condition_that_is_not_met_is_listed(table: Any, judge: Any) -> None:
    evaluation = judge.evaluate(Profile.empty(), kind=SubjectKind.MERCHANT, as_of_s=0)
    facts = judge.facts(Profile.empty(), 0)
    nobody = figures_of(judge.catalogue, facts, Profile.empty(), evaluation)
    assert unmet_conditions(nobody, table.membership) == (
        "grade C, and A or better is needed",
        "0 of 90 days since the first sale",
        "0 of 100 completed trades",
        "the identity is not verified",
    )


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"grade": Grade.B}, []),
        ({"grade": Grade.C}, [CauseCode.GRADE]),
        ({"defect_rate_90d": 0.01}, []),
        ({"defect_rate_90d": 0.011}, [CauseCode.DEFECTS]),
        ({"defect_rate_90d": 0.011, "orders_90d": 49}, []),
        ({"defect_rate_90d": None}, []),
        ({"promise_unpaid": timedelta(hours=72)}, []),
        ({"promise_unpaid": timedelta(hours=72, seconds=1)}, [CauseCode.PROMISE_UNPAID]),
        ({"fraud": True, "grade": Grade.E}, [CauseCode.FRAUD, CauseCode.GRADE]),
    ],
)
def test_a_rule_of_suspension_holds_beyond_its_edge(table: Any, change: dict[str, Any], codes: list[str]) -> None:
    causes = causes_of(replace(GOOD, **change), table.membership, **WHOLE)
    assert [cause.code for cause in causes] == codes
    assert all(cause.text for cause in causes)


@pytest.mark.parametrize(("balance", "low"), [(100_000, False), (50_000, False), (49_999, True), (0, True)])
def test_half_a_deposit_is_enough_to_stay_and_a_cent_less_is_not(table: Any, balance: int, low: bool) -> None:
    causes = causes_of(
        GOOD, table.membership, balances_minor={"CNY": balance, "EUR": 9}, required_minor={"CNY": 100_000, "EUR": 9}
    )
    assert [cause.code for cause in causes] == [CauseCode.DEPOSIT_TOO_LOW] * low


@pytest.mark.parametrize(
    ("currency", "gmv", "required"),
    [
        ("CNY", 0, 100_000),
        ("CNY", 2_000_000, 100_000),
        ("CNY", 2_000_001, 100_001),
        ("CNY", 10_000_000, 500_000),
        ("JPY", 0, 1_000),
        ("JPY", 100_000, 5_000),
        ("KWD", 0, 1_000_000),
    ],
)
def test_the_deposit_is_a_thousand_or_a_twentieth_of_a_months_sales(
    table: Any, currency: str, gmv: int, required: int
) -> None:
    assert required_deposit_minor(currency, gmv, table.membership) == required


def test_the_figures_are_those_of_the_catalogues_indicators(judge: Any) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    profile = merchant(
        judge.catalogue, now, completed=120, days=200, defective=1, gmv_minor={"CNY": 777}, verified=False
    )
    as_of_s = int(now.timestamp())
    evaluation = judge.evaluate(profile, kind=SubjectKind.MERCHANT, as_of_s=as_of_s)
    figures = figures_of(judge.catalogue, judge.facts(profile, as_of_s), profile, evaluation)
    assert (figures.days_since_first_sale, figures.completed, figures.identity_verified) == (200, 120, False)
    assert figures.defect_rate_life == pytest.approx(1 / 120)
    assert figures.gmv_30d_minor == {"CNY": 777, "BRL": 0, "USD": 0, "EUR": 0}
    assert figures.grade is evaluation.grade


@pytest.mark.parametrize("broken", [{}, {"membership": {}}, {"membership": {"join": {"grade": "F"}}}])
def test_terms_without_whole_rules_of_membership_are_refused_at_start(broken: dict[str, Any]) -> None:
    with pytest.raises(DefinitionInvalid, match="membership"):
        rules_from(broken)
