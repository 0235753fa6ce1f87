"""What a varied population shows: no indicator repeats another, and hardly any is about nobody."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from danbao_credit.domain.catalogue import Catalogue, Indicator, SubjectKind
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.expression import Value
from danbao_credit.domain.profile import Profile
from danbao_credit.testing.population import NOW_US, Population, Told, profiles_of

AS_OF_S = NOW_US // 1_000_000


@pytest.fixture(scope="module")
def told() -> list[Told]:
    return list(Population().told())


@pytest.fixture(scope="module")
def profiles(told: list[Told], catalogue: Catalogue) -> dict[str, Profile]:
    return profiles_of(told, catalogue)


def columns(judge: Judge, profiles: dict[str, Profile], kind: SubjectKind) -> list[tuple[Indicator, tuple[Value, ...]]]:
    """Each indicator with its values of all subjects."""
    rows = [judge.catalogue.values(judge.facts(profile, AS_OF_S), kind) for profile in profiles.values()]
    return list(zip(judge.catalogue.listed(category="", kind=kind), zip(*rows, strict=True), strict=True))


@pytest.mark.parametrize("kind", list(SubjectKind))
def test_no_two_indicators_say_the_same_of_everybody(
    judge: Judge, profiles: dict[str, Profile], kind: SubjectKind
) -> None:
    assert len(profiles) >= 300
    by_values: dict[tuple[Value, ...], list[str]] = {}
    for indicator, values in columns(judge, profiles, kind):
        by_values.setdefault(values, []).append(indicator.name)
    assert [names for names in by_values.values() if len(names) > 1] == []


@pytest.mark.parametrize("kind", list(SubjectKind))
def test_nearly_every_indicator_can_be_computed_for_somebody(
    judge: Judge, profiles: dict[str, Profile], kind: SubjectKind
) -> None:
    found = columns(judge, profiles, kind)
    of_nobody = [indicator.name for indicator, values in found if all(value is None for value in values)]
    assert len(of_nobody) <= 0.2 * len(found), of_nobody


def test_a_program_computes_what_each_indicator_computes_alone(judge: Judge, profiles: dict[str, Profile]) -> None:
    listed = judge.catalogue.listed(category="", kind=None)
    for profile in [Profile.empty(), *list(profiles.values())[:40]]:
        facts = judge.facts(profile, AS_OF_S)
        assert judge.catalogue.values(facts, None) == [indicator.value(facts) for indicator in listed]


def test_rates_and_shares_lie_between_0_and_1_and_counts_are_never_below_0(
    judge: Judge, profiles: dict[str, Profile]
) -> None:
    unbounded = {"order_spread", "purchase_spread", "ship_hours_spread"}
    for kind in SubjectKind:
        for indicator, values in columns(judge, profiles, kind):
            known = [value for value in values if value is not None]
            assert all(value >= 0 for value in known), indicator.name
            is_share = indicator.unit == "ratio" and not any(indicator.name.startswith(name) for name in unbounded)
            if is_share:
                assert all(value <= 1 for value in known), indicator.name


def test_a_population_shuffled_and_cut_gives_the_same_bytes(
    told: list[Told], profiles: dict[str, Profile], catalogue: Catalogue
) -> None:
    names = Population().subjects[::40]
    wanted = [item for item in told if concerns(item, names)]
    shuffled = list(wanted)
    random.Random(4).shuffle(shuffled)
    again = profiles_of(shuffled, catalogue)
    assert {name: again[name].to_bytes() for name in names} == {name: profiles[name].to_bytes() for name in names}


def concerns(item: Told, names: Sequence[str]) -> bool:
    parts = ("buyer", "seller", "payer", "payee", "owner", "subject", "peer")
    return any(getattr(item.event, part, "") in names for part in parts)
