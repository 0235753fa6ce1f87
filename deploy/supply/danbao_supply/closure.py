"""Which distributions does a deployable need to run, by what the installed ones say of themselves?"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from danbao_supply.lock import Pin

SERVICES = ("payments", "escrow", "credit")
DEPLOYABLES = (*SERVICES, "gateway")
# What the images run on, whatever machine asks.
IMAGE: Mapping[str, str] = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}


class NotInstalled(Exception):
    """A distribution that an image needs is not installed here, so what it needs in turn is not known."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed here: say `make install`, on Linux")


class NotLocked(Exception):
    """A distribution that an image needs is neither ours nor in the lock."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is needed but not locked: say `make lock`")


@dataclass(frozen=True, slots=True)
class Part:
    """One distribution of a deployable; `pin` is None for ours, `needs` are names of other parts."""

    name: str
    version: str
    pin: Pin | None
    needs: tuple[str, ...]


def is_ours(name: str) -> bool:
    """Whether a distribution is built from this repository."""
    return name.startswith("danbao-")


def closure(deployable: str, pins: Mapping[str, Pin]) -> dict[str, Part]:
    """By name in order, a deployable's distribution and all that it needs in an image, extras included."""
    return reach([f"danbao-{deployable}"], pins)


def reach(names: Iterable[str], pins: Mapping[str, Pin]) -> dict[str, Part]:
    """By name in order, some distributions and all that they need in an image; raises NotInstalled, NotLocked."""
    found: dict[str, Part] = {}
    asked: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        new = extras - asked.get(name, set())
        if name in found and not new:
            continue
        asked.setdefault(name, set()).update(extras)
        requirements = _requirements(name, frozenset(asked[name]))
        pin = pins.get(name)
        if pin is None and not is_ours(name):
            raise NotLocked(name)
        version = pin.version if pin else _installed(name).version
        found[name] = Part(name, version, pin, tuple(sorted({each for each, _ in requirements})))
        waiting.extend(requirements)
    return dict(sorted(found.items()))


def licence_metadata(name: str) -> Mapping[str, list[str]]:
    """What an installed distribution says of its licence, by its metadata's fields; raises NotInstalled."""
    fields = _installed(name).metadata
    return {
        "License-Expression": fields.get_all("License-Expression") or [],
        "License": fields.get_all("License") or [],
        "Classifier": [each for each in fields.get_all("Classifier") or [] if each.startswith("License ::")],
    }


def _requirements(name: str, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    found: list[tuple[str, frozenset[str]]] = []
    for text in _installed(name).requires or []:
        needed = Requirement(text)
        environments = [dict(IMAGE, extra=extra) for extra in ("", *sorted(extras))]
        if needed.marker is None or any(needed.marker.evaluate(each) for each in environments):
            found.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def _installed(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise NotInstalled(name) from None
