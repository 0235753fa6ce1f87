"""Has any distribution that the lock permits a vulnerability that is known and not excepted?

pip-audit asks; this says what its answer means. A distribution that nobody could be asked about is no clean one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from danbao_supply.lock import Pin

LONGEST = timedelta(days=90)


class PolicyUnreadable(Exception):
    """vulnerabilities.toml says something that cannot be meant."""


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One known vulnerability of one version; `ids` has all the names of the advisory."""

    distribution: str
    version: str
    ids: frozenset[str]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix is known"
        return f"{self.distribution} {self.version}: {', '.join(sorted(self.ids))}; {fixed}"


class NotAsked(Exception):
    """The database did not answer, or not about all: nothing is known, which is not the same as nothing found.

    `known` is what it said of the others all the same.
    """

    def __init__(self, why: str, known: tuple[Vulnerability, ...] = ()) -> None:
        super().__init__(why)
        self.known = known


@dataclass(frozen=True, slots=True)
class Exemption:
    """A vulnerability that passes until the end of a day, and why."""

    id: str
    distribution: str
    until: date
    reason: str


def read_exemptions(path: Path, today: date) -> tuple[Exemption, ...]:
    """The exceptions of vulnerabilities.toml; raises PolicyUnreadable, also for one that would count beyond 90 days."""
    content = tomllib.loads(path.read_text())
    if unknown := content.keys() - {"exception"}:
        raise PolicyUnreadable(f"{path.name} has {sorted(unknown)}, which it cannot have")
    found = []
    for row in content.get("exception", ()):
        if row.keys() != {"id", "distribution", "until", "reason"} or type(row["until"]) is not date:
            raise PolicyUnreadable(f"{path.name}: an exception has an id, a distribution, a day and a reason: {row}")
        if not row["reason"].strip():
            raise PolicyUnreadable(f"{path.name}: {row['id']} has no reason")
        if row["until"] > today + LONGEST:
            raise PolicyUnreadable(f"{path.name}: {row['id']} would count until {row['until']}, beyond 90 days")
        found.append(Exemption(**row))
    return tuple(found)


def ask(pins: Iterable[Pin], *, service: Sequence[str] = ()) -> tuple[Vulnerability, ...]:
    """What is known of every version that the lock permits, whatever machine it is for; raises NotAsked.

    `service` are pip-audit's arguments that choose the database; without them it is the package index's own.
    """
    wanted = {(pin.name, pin.version) for pin in pins}
    found: list[Vulnerability] = []
    asked: set[tuple[str, str]] = set()
    unasked: list[str] = []
    for file in _in_turns(wanted):
        for each in _answer(file, service):
            if "skip_reason" in each:
                unasked.append(f"{each['name']}: {each['skip_reason']}")
                continue
            asked.add((each["name"], each["version"]))
            found.extend(
                Vulnerability(
                    each["name"],
                    each["version"],
                    frozenset({known["id"], *known["aliases"]}),
                    tuple(known["fix_versions"]),
                )
                for known in each["vulns"]
            )
    known = tuple(sorted(found, key=lambda one: (one.distribution, one.version, sorted(one.ids))))
    if missing := sorted(wanted - asked):
        why = unasked[0] if unasked else f"the answer leaves out {missing[0][0]} {missing[0][1]}"
        raise NotAsked(f"no answer about {len(missing)} of {len(wanted)} locked versions; {why}", known)
    return known


def findings(known: Iterable[Vulnerability], exemptions: Iterable[Exemption], today: date) -> list[str]:
    """A sentence for each vulnerability that is not excepted today, and for each exception that is of no use."""
    known = tuple(known)
    found, used = [], set()
    for one in known:
        matching = [each for each in exemptions if each.distribution == one.distribution and each.id in one.ids]
        used.update(matching)
        if not matching:
            found.append(str(one))
        elif max(each.until for each in matching) < today:
            found.append(f"{one}; its exception ended with {max(each.until for each in matching)}")
    found.extend(
        f"vulnerabilities.toml excepts {each.id} of {each.distribution}, which is not found any more"
        for each in exemptions
        if each not in used
    )
    return found


def _in_turns(wanted: set[tuple[str, str]]) -> list[str]:
    """Requirement files with each distribution at one version: pip-audit takes no two in one."""
    files: list[dict[str, str]] = []
    for name, version in sorted(wanted):
        file = next((each for each in files if name not in each), None)
        if file is None:
            files.append(file := {})
        file[name] = version
    return ["".join(f"{name}=={version}\n" for name, version in file.items()) for file in files]


def _answer(requirements: str, service: Sequence[str]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "versions.txt"
        file.write_text(requirements)
        command = [sys.executable, "-P", "-m", "pip_audit", "--requirement", str(file), "--no-deps", "--disable-pip"]
        options = ["--format", "json", "--progress-spinner", "off", "--cache-dir", folder, *service]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        # 1: something was found. Whatever else goes wrong has 1 too, and then no answer in JSON.
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        words = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise NotAsked(words[-1] if words else f"pip-audit ended with {done.returncode}") from None
