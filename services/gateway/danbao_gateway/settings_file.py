"""Where each key of a settings file stands, and what is wrong with it before its values are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from danbao_gateway.contracts import Contracts

Place = tuple[str, ...]
"""The keys on the way to a key, itself the last."""


class Unusable(ValueError):
    """A file that the settings consist of cannot be taken; the text is one sentence that names it."""


def lines_of_keys(text: str, path: Path) -> dict[Place, int]:
    """The line of every key that only mappings lead to. Raises Unusable for what is no YAML, and for a key that stands
    twice in one mapping: the parser would forget the first without a word."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise Unusable(f"{path}{where}: this is no YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    lines: dict[Place, int] = {}
    _read(root, (), lines, path, seen=set())
    return lines


def _read(node: yaml.Node | None, place: Place, lines: dict[Place, int], path: Path, *, seen: set[int]) -> None:
    if id(node) in seen:  # an alias of what was read before
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _read(item, (*place, str(number)), lines, path, seen=seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                raise Unusable(
                    f"{path}, line {line}: {'.'.join(here)} stands twice, first in line {lines[here]}; make one of them"
                )
            lines[here] = line
            _read(value, here, lines, path, seen=seen)


def check_methods(named: Iterable[str], place: Place, lines: Mapping[Place, int], path: Path) -> None:
    """Raises Unusable for a method that its package, one of the installed contracts, does not have. Methods of other
    packages are the deployment's own."""
    methods = Contracts.installed().methods()
    known, packages = {method.full_name for method in methods}, {method.package for method in methods}
    for name in named:
        package = name.rpartition("/")[0].rpartition(".")[0]
        if name not in known and (package in packages or package.count(".") == 0):
            line = lines.get((*place, name), lines.get(place, 1))
            raise Unusable(f"{path}, line {line}: {'.'.join(place)} names {name}, and no service has such a method")
