"""The commands: licences, sbom, audit.

python -m danbao_supply licences            # 0: all accepted; 1: not
python -m danbao_supply sbom [--out folder] [--base image@digest] [--envoy image@digest]
                                            # a bill of materials for each deployable, and one for the whole lock
python -m danbao_supply audit [pip-audit's arguments that choose another database]
                                            # 0: nothing known; 1: something; 69: no answer, or none about some
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from danbao_supply import audit, places
from danbao_supply.bill import bill, bill_of_lock, ships
from danbao_supply.closure import DEPLOYABLES, IMAGE, NotInstalled, NotLocked, Part, closure
from danbao_supply.dockerfile import read_stages
from danbao_supply.licences import PolicyUnreadable, npm_refusals, read_policy, refusals
from danbao_supply.lock import LockUnreadable, Pin, pins_in, read_pins

UNREACHED = os.EX_UNAVAILABLE


def main() -> int:
    """Run one command; its code is what the module's first lines say."""
    parser = argparse.ArgumentParser(prog="danbao_supply", description="What goes into what Danbao ships.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("licences", help="whether every licence is accepted")
    sbom = commands.add_parser("sbom", help="a CycloneDX bill of materials for each deployable, and for the lock")
    sbom.add_argument("--out", type=Path, default=places.BILLS)
    sbom.add_argument("--base", help="what services' images were built on, by its digest: BASE of the build")
    sbom.add_argument("--envoy", help="what the gateway's image was built on, by its digest: ENVOY of the build")
    commands.add_parser("audit", help="whether a vulnerability is known; other arguments go to pip-audit")
    arguments, others = parser.parse_known_args()
    if others and arguments.command != "audit":
        parser.error(f"unknown: {' '.join(others)}")
    try:
        pins = read_pins(places.LOCK.read_text())
        match arguments.command:
            case "licences":
                return check_licences(pins)
            case "sbom":
                bases = {"BASE": arguments.base, "ENVOY": arguments.envoy}
                return write_bills(pins, arguments.out, {name: image for name, image in bases.items() if image})
            case _:
                return check_vulnerabilities(pins, others)
    except (LockUnreadable, NotInstalled, NotLocked, PolicyUnreadable, audit.PolicyUnreadable) as failure:
        print(failure, file=sys.stderr)
        return 1


def check_licences(pins: tuple[Pin, ...]) -> int:
    """Print what is not accepted; 1 if there is any."""
    policy = read_policy(places.LICENCES)
    found = refusals(pins, closures(pins), policy) + npm_refusals(places.NPM_LOCK, policy)
    print("\n".join(found) if found else f"{len(pins)} locked versions are under licences that are accepted.")
    return 1 if found else 0


def write_bills(pins: tuple[Pin, ...], folder: Path, bases: Mapping[str, str]) -> int:
    """Write {deployable}.cdx.json for each, and lock.cdx.json; `bases` are the builds' arguments, by their names."""
    policy, made = read_policy(places.LICENCES), commit_time()
    folder.mkdir(parents=True, exist_ok=True)
    shipped: set[str] = set()
    for deployable, parts in closures(pins).items():
        base = read_stages(places.dockerfile(deployable), bases)[-1].base
        file = folder / f"{deployable}.cdx.json"
        file.write_text(bill(deployable, parts, base, policy, made))
        shipped.update(name for name in parts if ships(deployable, name))
        words = "" if "@sha256:" in base else ", which is named by a tag that can move"
        print(f"{file}: {len(parts)} distributions on {base}{words}")
    version = tomllib.loads(places.WORKSPACE.read_text())["project"]["version"]
    file = folder / "lock.cdx.json"
    file.write_text(bill_of_lock(pins, version, shipped, policy, made))
    print(f"{file}: all {len(pins)} locked versions")
    return 0


def check_vulnerabilities(pins: tuple[Pin, ...], service: list[str]) -> int:
    """Print what is known; 1 if there is any that is not excepted, 69 if the database said nothing of some."""
    today = datetime.now(UTC).date()
    exemptions = audit.read_exemptions(places.VULNERABILITIES, today)
    try:
        found = audit.findings(audit.ask(pins, service=service), exemptions, today)
    except audit.NotAsked as failure:
        print("\n".join(map(str, failure.known)), end="\n" if failure.known else "")
        print(f"NOT AUDITED: {failure}", file=sys.stderr)
        return UNREACHED
    print("\n".join(found) if found else f"{len(pins)} locked versions have no known vulnerability.")
    return 1 if found else 0


def closures(pins: tuple[Pin, ...]) -> dict[str, dict[str, Part]]:
    """By deployable, what goes into it."""
    in_image = pins_in(pins, IMAGE)
    return {deployable: closure(deployable, in_image) for deployable in DEPLOYABLES}


def commit_time() -> datetime | None:
    """When what is described came to be, the same whenever it is asked: SOURCE_DATE_EPOCH, else the commit's time."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not seconds:
        command = ["git", "-C", str(places.ROOT), "log", "-1", "--format=%ct"]
        try:
            seconds = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:
            return None
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


if __name__ == "__main__":
    sys.exit(main())
