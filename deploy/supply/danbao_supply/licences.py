"""Is all that we ship, and all that we build and check with, under a licence that we accept?"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from license_expression import LicenseExpression, get_spdx_licensing

from danbao_supply.closure import NotInstalled, licence_metadata
from danbao_supply.lock import Pin

SPDX = get_spdx_licensing()
SPDX_ID = re.compile(r"[A-Za-z0-9.+-]+")
# Older metadata says it in words. Only those that can mean one thing; "BSD License" is two at least.
WORDS = {
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}


class PolicyUnreadable(Exception):
    """licences.toml says something that cannot be meant."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the policy says about one distribution, and why."""

    distribution: str
    licence: str
    reason: str
    ships: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The licences accepted everywhere; what distributions are under that do not say it clearly; the exceptions."""

    accepted: frozenset[str]
    named: Mapping[str, Entry] = field(default_factory=dict)
    exceptions: Mapping[str, Entry] = field(default_factory=dict)


def read_policy(path: Path) -> Policy:
    """The policy of licences.toml; raises PolicyUnreadable."""
    content = tomllib.loads(path.read_text())
    if unknown := content.keys() - {"accepted", "named", "exception"}:
        raise PolicyUnreadable(f"{path.name} has {sorted(unknown)}, which it cannot have")
    accepted = frozenset(content.get("accepted", ()))
    for licence in accepted:
        _parsed(licence, where=f"{path.name}, accepted")
    return Policy(accepted, _entries(path, content, "named"), _entries(path, content, "exception"))


def spdx_of(name: str, policy: Policy) -> str | None:
    """The SPDX expression of an installed distribution's licence; None where nothing says it clearly."""
    if name in policy.named:
        return policy.named[name].licence
    fields = licence_metadata(name)
    if expressions := fields["License-Expression"]:
        return expressions[0]
    for said in (fields["License"], fields["Classifier"]):
        if len(said) == 1 and (meant := WORDS.get(said[0].strip(), _known(said[0].strip()))):
            return meant
    return None


def refusals(pins: Iterable[Pin], shipped: Mapping[str, Iterable[str]], policy: Policy) -> list[str]:
    """A sentence for each distribution of the lock whose licence is not accepted, and for each entry without use.

    `shipped` says by deployable which distributions go into it. What ships must be accepted or an exception that ships.
    """
    names = sorted({pin.name for pin in pins})
    found = [
        f"licences.toml is about {entry}, which is not locked"
        for entry in sorted((policy.named.keys() | policy.exceptions.keys()) - set(names))
    ]
    for name in names:
        try:
            licence = spdx_of(name, policy)
        except NotInstalled:
            found.append(f"{name} is not installed here, so licences.toml has to name its licence")
            continue
        if licence is None:
            found.append(f"{name} does not say its licence clearly: read it, and name it in licences.toml")
            continue
        goes_into = sorted(deployable for deployable, parts in shipped.items() if name in set(parts))
        if refusal := _refusal(name, licence, goes_into, policy):
            found.append(refusal)
    return found


def npm_refusals(lock: Path, policy: Policy) -> list[str]:
    """The same for the tests' packages from npm; their lock says the licences, and they ship nowhere."""
    packages = json.loads(lock.read_text())["packages"]
    found = []
    for place, package in sorted(packages.items()):
        name = place.removeprefix("node_modules/")
        if not name:
            continue
        licence = package.get("license")
        refusal = f"{name} (npm) does not say its licence" if not licence else _refusal(name, licence, [], policy)
        if refusal:
            found.append(refusal)
    return found


def is_accepted(licence: str, accepts: Callable[[str], bool]) -> bool:
    """Whether one way to read an SPDX expression is accepted: each part of an AND, one of an OR."""
    return _holds(_parsed(licence, where=licence), accepts)


def _refusal(name: str, licence: str, goes_into: list[str], policy: Policy) -> str | None:
    if is_accepted(licence, policy.accepted.__contains__):
        if name in policy.exceptions:
            return f"{name} is accepted without the exception that licences.toml makes for it"
        return None
    entry = policy.exceptions.get(name)
    if entry is None:
        return f"{name} is under {licence}, which licences.toml does not accept"
    if entry.licence != licence:
        return f"{name} is under {licence}, and licences.toml makes an exception for {entry.licence}"
    if goes_into and not entry.ships:
        return f"{name} is under {licence}: an exception for tools, but it goes into {', '.join(goes_into)}"
    return None


def _holds(expression: LicenseExpression, accepts: Callable[[str], bool]) -> bool:
    operator = getattr(expression, "operator", "").strip()
    if operator == "AND":
        return all(_holds(each, accepts) for each in expression.args)
    if operator == "OR":
        return any(_holds(each, accepts) for each in expression.args)
    return accepts(expression.render())


def _known(text: str) -> str | None:
    """A text that is an SPDX identifier and nothing more; often it is a whole licence."""
    return text if SPDX_ID.fullmatch(text) and not SPDX.validate(text).errors else None


def _parsed(licence: str, *, where: str) -> LicenseExpression:
    if errors := SPDX.validate(licence).errors:
        raise PolicyUnreadable(f"{where}: {errors[0]}")
    return SPDX.parse(licence)


def _entries(path: Path, content: Mapping[str, list[dict[str, Any]]], kind: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for row in content.get(kind, ()):
        entry = Entry(**row)
        if not entry.reason.strip() or entry.distribution in found:
            raise PolicyUnreadable(f"{path.name}: {entry.distribution} needs one {kind} with a reason")
        _parsed(entry.licence, where=f"{path.name}, {entry.distribution}")
        found[entry.distribution] = entry
    return found
