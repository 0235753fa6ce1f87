"""Whatever is locked is under a licence that is accepted, and what is not fails."""

import json
from pathlib import Path

import pytest

from danbao_supply import places
from danbao_supply.__main__ import closures
from danbao_supply.closure import DEPLOYABLES
from danbao_supply.licences import (
    Entry,
    Policy,
    PolicyUnreadable,
    is_accepted,
    npm_refusals,
    read_policy,
    refusals,
    spdx_of,
)
from danbao_supply.lock import Pin, read_pins

PERMISSIVE = frozenset({"MIT", "Apache-2.0", "BSD-3-Clause"})
HASH = ("0" * 64,)


def pin(name: str) -> Pin:
    return Pin(name, "1", None, HASH)


def exception(name: str, licence: str, *, ships: bool = False) -> dict[str, Entry]:
    return {name: Entry(name, licence, "because", ships)}


def test_all_that_is_locked_is_accepted() -> None:
    pins, policy = read_pins(places.LOCK.read_text()), read_policy(places.LICENCES)
    assert refusals(pins, closures(pins), policy) == []
    assert npm_refusals(places.NPM_LOCK, policy) == []


def test_a_distribution_under_another_licence_is_refused() -> None:
    assert refusals([pin("hypothesis")], {}, Policy(PERMISSIVE)) == [
        "hypothesis is under MPL-2.0, which licences.toml does not accept"
    ]


def test_a_distribution_that_says_only_bsd_is_refused_until_a_person_names_it() -> None:
    [refusal] = refusals([pin("jinja2")], {}, Policy(PERMISSIVE))
    assert refusal.startswith("jinja2 does not say its licence clearly")
    named = Policy(PERMISSIVE, named=exception("jinja2", "BSD-3-Clause"))
    assert refusals([pin("jinja2")], {}, named) == []


def test_a_distribution_that_is_not_installed_is_refused_until_a_person_names_it() -> None:
    [refusal] = refusals([pin("left-pad")], {}, Policy(PERMISSIVE))
    assert refusal.startswith("left-pad is not installed here")


def test_an_exception_for_a_tool_does_not_let_it_into_an_image() -> None:
    policy = Policy(PERMISSIVE, exceptions=exception("hypothesis", "MPL-2.0"))
    assert refusals([pin("hypothesis")], {"escrow": ["orjson"]}, policy) == []
    [refusal] = refusals([pin("hypothesis")], {"escrow": ["hypothesis"]}, policy)
    assert refusal.endswith("an exception for tools, but it goes into escrow")
    ships = Policy(PERMISSIVE, exceptions=exception("hypothesis", "MPL-2.0", ships=True))
    assert refusals([pin("hypothesis")], {"escrow": ["hypothesis"]}, ships) == []


def test_an_exception_ends_when_the_licence_changes() -> None:
    policy = Policy(PERMISSIVE, exceptions=exception("hypothesis", "AGPL-3.0-only"))
    assert refusals([pin("hypothesis")], {}, policy) == [
        "hypothesis is under MPL-2.0, and licences.toml makes an exception for AGPL-3.0-only"
    ]


@pytest.mark.parametrize("kind", ["named", "exceptions"])
def test_an_entry_for_what_is_not_locked_is_refused(kind: str) -> None:
    policy = Policy(PERMISSIVE, **{kind: exception("gone", "MIT")})
    assert refusals([], {}, policy) == ["licences.toml is about gone, which is not locked"]


def test_an_exception_without_need_is_refused() -> None:
    policy = Policy(PERMISSIVE, exceptions=exception("alembic", "MIT"))
    assert refusals([pin("alembic")], {}, policy) == [
        "alembic is accepted without the exception that licences.toml makes for it"
    ]


@pytest.mark.parametrize(
    ("licence", "accepted"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("(GPL-3.0-only OR MIT) AND Apache-2.0", True),
        ("(GPL-3.0-only OR MPL-2.0) AND Apache-2.0", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_every_part_of_an_and_must_be_accepted_and_one_of_an_or(licence: str, accepted: bool) -> None:
    assert is_accepted(licence, PERMISSIVE.__contains__) is accepted


def test_a_whole_licence_in_place_of_its_name_is_not_guessed_at() -> None:
    assert spdx_of("contourpy", Policy(PERMISSIVE)) is None


@pytest.mark.parametrize(
    "text",
    [
        'accepted = ["No such licence"]',
        'acepted = ["MIT"]',
        '[[exception]]\ndistribution = "x"\nlicence = "MIT"\nreason = " "',
        '[[exception]]\ndistribution = "x"\nlicence = "perhaps MIT"\nreason = "because"',
        '[[named]]\ndistribution = "x"\nlicence = "MIT"\nreason = "a"\n'
        '[[named]]\ndistribution = "x"\nlicence = "MIT"\nreason = "b"',
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "licences.toml").write_text(text)
    with pytest.raises(PolicyUnreadable):
        read_policy(tmp_path / "licences.toml")


def test_npm_packages_are_held_against_the_same_policy(tmp_path: Path) -> None:
    packages = {"": {}, "node_modules/a": {"license": "MIT"}, "node_modules/b": {"license": "SSPL-1.0"}}
    packages["node_modules/c"] = {}
    (tmp_path / "lock.json").write_text(json.dumps({"packages": packages}))
    assert npm_refusals(tmp_path / "lock.json", Policy(PERMISSIVE)) == [
        "b is under SSPL-1.0, which licences.toml does not accept",
        "c (npm) does not say its licence",
    ]


def test_nothing_that_tests_or_builds_goes_into_a_service() -> None:
    pins = read_pins(places.LOCK.read_text())
    for deployable in DEPLOYABLES:
        parts = closures(pins)[deployable].keys()
        assert not parts & {"pytest", "hypothesis", "grpcio-tools", "matplotlib", "cryptography", "pip", "setuptools"}
