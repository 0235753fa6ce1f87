"""How hundreds of indicators of one profile are computed at once: one program for a whole list of them.

Computed one by one, an indicator costs a chain of calls. Here the expressions, which have been parsed and checked, are
written out as one function with a line each; each window's totals are added up once.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Protocol, TypeAlias

from danbao_credit.domain.expression import Facts, Value, both, quotient, spread
from danbao_credit.domain.windows import WINDOWS


class Written(Protocol):
    """What the program needs of an indicator: its text in its window."""

    def written(self) -> str: ...


Program: TypeAlias = Callable[[Facts], list[Value]]


def program_of(indicators: Sequence[Written]) -> Program:
    """A function of a profile's facts that gives the values of these indicators, in order."""
    lines = [indicator.written() for indicator in indicators]
    text = "\n".join(lines)
    totals = [f"    t_{name} = facts.totals({name!r})" for name in WINDOWS if f"t_{name}[" in text]
    source = "\n".join(
        ("def values(facts):", *totals, "    return [", *(f"        {line}," for line in lines), "    ]")
    )
    module = compile(ast.parse(source), "<indicators>", "exec")
    code = next(constant for constant in module.co_consts if isinstance(constant, CodeType))
    # Nothing but these names can be reached from the program.
    names = {
        "quotient": quotient, "both": both, "spread": spread, "min": min, "max": max, "__builtins__": {},
    }  # fmt: skip
    return FunctionType(code, names)
