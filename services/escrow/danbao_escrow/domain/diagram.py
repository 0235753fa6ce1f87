"""Drawings of the state tables, in Mermaid, for the README: made from the tables, so that they cannot say otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from danbao_escrow.domain import claim, dispute, refund_case, trade
from danbao_escrow.domain.case_commands import CaseCommandName
from danbao_escrow.domain.case_model import ClaimState, DisputeState, RefundCaseState
from danbao_escrow.domain.commands import CommandName
from danbao_escrow.domain.machine import Machine, Way
from danbao_escrow.domain.model import LineState, Role
from danbao_escrow.domain.trade import Transition

_LINE_ENDS = (LineState.RELEASED, LineState.REFUNDED, LineState.CANCELLED)
_MARKED = re.compile(r"<!-- diagram (\w+) -->\n.*?<!-- end of diagram -->", re.DOTALL)


_Roles = dict[tuple[str, str, str, str], list[Role]]
"""Who, by begin, end, command and condition."""


class _Edge(NamedTuple):
    begin: str
    to: str
    label: str


def diagrams() -> Mapping[str, str]:
    """The drawing of each machine, by its name."""
    return MappingProxyType(
        {
            "line": _drawn(_line_edges()),
            "refund_case": _drawn(
                [_Edge("[*]", RefundCaseState.REQUESTED, _label("OpenRefundCase", refund_case.OPEN_ROLES))],
                _machine_edges(refund_case.TABLE, RefundCaseState),
            ),
            "dispute": _drawn(
                [_Edge("[*]", DisputeState.OPEN, _label("OpenDispute", {Role.BUYER}))],
                _machine_edges(dispute.TABLE, DisputeState),
            ),
            "claim": _drawn(
                [_Edge("[*]", ClaimState.OPEN, _label("OpenClaim", claim.OPEN_ROLES))],
                _machine_edges(claim.TABLE, ClaimState),
            ),
        }
    )


def with_diagrams(document: str) -> str:
    """The document with a fresh drawing between each pair of marks. Raises KeyError for a machine nobody knows."""
    drawings = diagrams()
    return _MARKED.sub(lambda found: _marked(found[1], drawings[found[1]]), document)


def _marked(name: str, drawing: str) -> str:
    return f"<!-- diagram {name} -->\n```mermaid\n{drawing}```\n<!-- end of diagram -->"


def _drawn(*edges: Iterable[_Edge]) -> str:
    """Commands that lead the same way stand at one arrow."""
    labels: dict[tuple[str, str], list[str]] = {}
    for group in edges:
        for edge in group:
            found = labels.setdefault((edge.begin, edge.to), [])
            if edge.label and edge.label not in found:
                found.append(edge.label)
    lines = ["stateDiagram-v2"]
    for (begin, to), found in labels.items():
        lines.append(f"    {begin} --> {to}" + (f" : {'<br>'.join(found)}" if found else ""))
    return "\n".join(lines) + "\n"


def _line_edges() -> Iterator[_Edge]:
    yield _Edge("[*]", LineState.UNPAID, _label(CommandName.CREATE_TRADE, trade.CREATE_ROLES))
    roles: _Roles = {}
    for (state, command, role), found in trade.TABLE.items():
        roles.setdefault((state, found.to, command, _condition(found)), []).append(role)
    yield from _labelled(roles)
    for state in _LINE_ENDS:
        yield _Edge(state, "[*]", "")


def _machine_edges(machine: Machine[Any, Any], states: type[StrEnum]) -> Iterator[_Edge]:
    roles: _Roles = {}
    for (state, command, role), ways in machine.table.items():
        for way in ways:
            to = "[*]" if way.ends else way.meanwhile or way.to
            roles.setdefault((state, to, command, _condition(way)), []).append(role)
            if way.meanwhile is not None:
                roles.setdefault((way.meanwhile, way.to, "paid", ""), [])
    yield from _labelled(roles)
    for state in states:
        if state in machine.ends:
            yield _Edge(state, "[*]", "")


def _labelled(roles: _Roles) -> Iterator[_Edge]:
    for (begin, to, command, condition), who in roles.items():
        yield _Edge(begin, to, _label(command, who, condition) if who else command)


def _label(command: str, roles: Iterable[Role], condition: str = "") -> str:
    if command == CaseCommandName.TIME_PASSES:
        return f"time, {condition}" if condition else "time"
    text = f"{command} ({', '.join(sorted(roles))})"
    return f"{text} {condition}" if condition else text


def _condition(way: Transition | Way[Any, Any]) -> str:
    """The guard's name in words, for it is named for being read; and how its money moves."""
    name = way.guard.__name__
    words = "" if name in ("always", "<lambda>") else name.replace("_", " ")
    return ", ".join(filter(None, (words, f"step {way.step}" if way.step else "")))
