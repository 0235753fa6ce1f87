"""A bill of materials says what is in an image, in the standard's words, and the same each time."""

import functools
import json
import re
from datetime import UTC, datetime

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from danbao_supply import places
from danbao_supply.__main__ import closures, write_bills
from danbao_supply.bill import bill, bill_of_lock
from danbao_supply.closure import DEPLOYABLES, IMAGE, NotInstalled, NotLocked, Part, closure
from danbao_supply.dockerfile import read_stages
from danbao_supply.licences import read_policy
from danbao_supply.lock import LockUnreadable, pins_in, read_pins

MADE = datetime(2026, 11, 29, tzinfo=UTC)


@functools.cache
def parts_of(deployable: str) -> dict[str, Part]:
    return closures(read_pins(places.LOCK.read_text()))[deployable]


def made_bill(deployable: str) -> str:
    parts = parts_of(deployable)
    base = read_stages(places.dockerfile(deployable))[-1].base
    return bill(deployable, parts, base, read_policy(places.LICENCES), MADE)


@pytest.mark.parametrize("deployable", DEPLOYABLES)
def test_a_bill_is_valid_by_the_standards_own_schema(deployable: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made_bill(deployable)) is None


def test_the_validator_refuses_what_is_no_bill() -> None:
    broken = json.loads(made_bill("payments"))
    broken["components"][0]["type"] = "sandwich"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize("deployable", DEPLOYABLES)
def test_the_same_inputs_make_the_same_bytes(deployable: str) -> None:
    assert made_bill(deployable) == made_bill(deployable)


def test_the_serial_number_changes_with_the_content() -> None:
    one, other = (json.loads(made_bill(each))["serialNumber"] for each in ("payments", "escrow"))
    assert one != other


@pytest.mark.parametrize("deployable", DEPLOYABLES)
def test_every_part_that_is_not_ours_has_its_locked_version_hashes_and_licence(deployable: str) -> None:
    locked = pins_in(read_pins(places.LOCK.read_text()), IMAGE)
    components = json.loads(made_bill(deployable))["components"]
    foreign = [each for each in components if each["type"] == "library" and not each["name"].startswith("danbao-")]
    assert foreign
    for each in foreign:
        pin = locked[each["name"]]
        assert each["version"] == pin.version
        assert tuple(entry["content"] for entry in each["hashes"]) == pin.sha256, each["name"]
        assert each["licenses"], each["name"]
        assert each["purl"] == f"pkg:pypi/{pin.name}@{pin.version}"


def bill_of_the_lock() -> dict:
    pins, policy = read_pins(places.LOCK.read_text()), read_policy(places.LICENCES)
    text = bill_of_lock(pins, "0.1.0", {"grpcio"}, policy, MADE)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return json.loads(text)


def test_the_locks_bill_has_every_locked_version_with_its_hashes_and_its_licence() -> None:
    pins = read_pins(places.LOCK.read_text())
    listed = {
        (each["name"], each["version"]): (tuple(entry["content"] for entry in each["hashes"]), each["licenses"])
        for each in bill_of_the_lock()["components"]
    }
    assert {key: hashes for key, (hashes, _) in listed.items()} == {(pin.name, pin.version): pin.sha256 for pin in pins}
    assert [name for name, (_, licences) in listed.items() if not licences] == []


def test_the_locks_bill_tells_what_ships_from_what_builds_and_checks() -> None:
    scopes = {each["name"]: each["scope"] for each in bill_of_the_lock()["components"]}
    assert scopes["grpcio"] == "required"
    assert scopes["pytest"] == "excluded"


def test_a_base_that_is_named_by_its_digest_is_billed_by_it() -> None:
    image = f"mirror.example:5000/python:3.11-slim@sha256:{'ab' * 32}"
    base = read_stages(places.dockerfile("payments"), {"BASE": image})[-1].base
    parts = parts_of("payments")
    text = bill("payments", parts, base, read_policy(places.LICENCES), MADE)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    [found] = [each for each in json.loads(text)["components"] if each["type"] == "container"]
    assert (found["name"], found["version"]) == ("mirror.example:5000/python", "3.11-slim")
    assert found["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert f"@sha256:{'ab' * 32}" in found["purl"].replace("%3A", ":")


@pytest.mark.parametrize("deployable", DEPLOYABLES)
def test_a_bill_has_no_address_and_no_place_of_this_machine(deployable: str) -> None:
    text = made_bill(deployable)
    assert re.findall(r"\S+://\S+", text) == ['"http://cyclonedx.org/schema/bom-1.6.schema.json",']
    assert str(places.ROOT) not in text


def test_each_service_has_its_own_closure() -> None:
    parts = closures(read_pins(places.LOCK.read_text()))
    assert "numpy" in parts["credit"]
    assert "numpy" not in parts["escrow"]
    assert "danbao-payments" not in parts["escrow"]
    # By way of an extra: SQLAlchemy needs it for asyncio only.
    assert "greenlet" in parts["payments"]


def test_the_gateways_bill_tells_what_runs_from_what_only_renders() -> None:
    scopes = {each["name"]: each.get("scope") for each in json.loads(made_bill("gateway"))["components"]}
    assert scopes["swagger-ui-bundle"] == "required"
    assert scopes["pydantic"] == "excluded"
    assert "envoyproxy/envoy" in scopes


def test_the_command_writes_one_bill_for_each_deployable_and_one_for_the_lock(tmp_path, capsys) -> None:
    digest = f"envoyproxy/envoy@sha256:{'0' * 64}"
    assert write_bills(read_pins(places.LOCK.read_text()), tmp_path / "bills", {"ENVOY": digest}) == 0
    assert {each.name for each in (tmp_path / "bills").iterdir()} == {
        f"{each}.cdx.json" for each in (*DEPLOYABLES, "lock")
    }
    said = capsys.readouterr().out.splitlines()
    # Whoever bills a release sees that its base is named by nothing that stays.
    assert [each for each in said if "a tag that can move" in each] == said[:3]
    assert said[3].endswith(digest)


def test_a_need_that_is_not_locked_is_no_bill() -> None:
    locked = pins_in(read_pins(places.LOCK.read_text()), IMAGE)
    del locked["uvloop"]
    with pytest.raises(NotLocked, match="uvloop"):
        closure("payments", locked)


def test_a_deployable_that_is_not_installed_is_no_bill() -> None:
    with pytest.raises(NotInstalled, match="danbao-logistics"):
        closure("logistics", {})


@pytest.mark.parametrize(
    "line",
    [
        "left-pad==1.0",
        f"left-pad>=1.0 --hash=sha256:{'0' * 64}",
        f"left-pad @ file:///somewhere --hash=sha256:{'0' * 64}",
        "left-pad==1.0 --hash=sha256:0000",
    ],
)
def test_a_lock_without_a_version_or_its_hash_is_refused(line: str) -> None:
    with pytest.raises(LockUnreadable):
        read_pins(line)
