"""What does a Dockerfile say: its stages, their bases, their instructions?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

COMMENT = re.compile(r"^\s*#.*\n?", re.MULTILINE)
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    word: str
    rest: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the image or the stage that it begins with, its name, its instructions in order."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> tuple[str, ...]:
        """What stands after each instruction of one word."""
        return tuple(each.rest for each in self.instructions if each.word == word)


def read_stages(path: Path, given: Mapping[str, str] = MappingProxyType({})) -> tuple[Stage, ...]:
    """The stages in order; arguments before the first count as they are `given`, else with their defaults."""
    text = COMMENT.sub("", path.read_text()).replace("\\\n", " ")
    lines = [re.split(r"\s+", line.strip(), maxsplit=1) for line in text.splitlines() if line.strip()]
    defaults: dict[str, str] = {}
    stages: list[tuple[str, str, list[Instruction]]] = []
    for word, rest in lines:
        if word == "FROM":
            base, _, name = _filled(rest, defaults).partition(" AS ")
            stages.append((base, name, []))
        elif stages:
            stages[-1][2].append(Instruction(word, " ".join(rest.split())))
        elif word == "ARG":
            key, _, value = rest.partition("=")
            defaults[key] = given.get(key, value)
    return tuple(Stage(base, name, tuple(instructions)) for base, name, instructions in stages)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: values[found[1]], text)
