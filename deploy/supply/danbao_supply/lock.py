"""Which distributions does requirements.lock permit: their versions, where they count, the hashes of their archives?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class LockUnreadable(Exception):
    """A line of the lock is not a version with hashes."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One version that the lock permits; `sha256` has one hash for each of its archives, wheels and source."""

    name: str
    version: str
    marker: Marker | None
    sha256: tuple[str, ...]

    def counts_in(self, environment: Mapping[str, str]) -> bool:
        """Whether it is installed in an environment, given by the variables of markers."""
        return self.marker is None or self.marker.evaluate(dict(environment))


def read_pins(text: str) -> tuple[Pin, ...]:
    """The lock's versions, in its order; raises LockUnreadable for anything that is not one version with its hashes."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    pins = []
    for stanza in "\n".join(lines).replace("\\\n", " ").splitlines():
        requirement = Requirement(stanza.split(" --hash=")[0])
        versions = [s.version for s in requirement.specifier if s.operator == "=="]
        hashes = HASH.findall(stanza)
        if len(versions) != 1 or requirement.url or not hashes:
            raise LockUnreadable(stanza)
        name = canonicalize_name(requirement.name)
        pins.append(Pin(name, versions[0], requirement.marker, tuple(sorted(hashes))))
    return tuple(pins)


def pins_in(pins: Iterable[Pin], environment: Mapping[str, str]) -> dict[str, Pin]:
    """By name, the versions that count in an environment."""
    return {pin.name: pin for pin in pins if pin.counts_in(environment)}
