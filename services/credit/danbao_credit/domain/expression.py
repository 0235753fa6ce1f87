"""How an indicator is computed: a small expression language over counted facts.

    seller_orders_late / max(seller_orders_shipped, seller_orders_late)
    seller_orders_paid["30d"] / seller_orders_paid["90d"]
    days_since(first_sale)      distinct(buyers)      top_share(buyers)

Names are slots, read in the indicator's window unless another one stands in brackets. There are + - * / min max, whole
numbers and parentheses; nothing else, and nothing is ever executed. A missing operand, or a denominator that is not
above zero, makes the whole missing.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.windows import WINDOWS

# None is missing.
Value: TypeAlias = "int | float | None"


class Facts(Protocol):
    """What a subject's profile says at one moment."""

    def total(self, slot: int, window: str) -> int:
        """The sum of a slot in a window."""
        ...

    def days_since(self, slot: int) -> int | None:
        """Whole days since a moment; None if it has not come."""
        ...

    def distinct(self, slot: int) -> int | None:
        """How many distinct peers were met; None without any."""
        ...

    def top_share(self, slot: int) -> float | None:
        """The most frequent peer's share; None without any."""
        ...


class Slots(Protocol):
    """The names an expression may use."""

    def find(self, name: str, *, keep: str) -> int | None:
        """The id of the slot of that name and kind."""
        ...


Term: TypeAlias = Callable[[Facts, str], Value]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. A quotient also knows its two sides."""

    text: str
    value: Term
    numerator: Term | None
    denominator: Term | None
    slots: frozenset[int]


_OPERATORS: Mapping[type[ast.operator], Callable[[int | float, int | float], int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_PICKS: Mapping[str, Callable[..., int | float]] = {"min": min, "max": max}
_MARKS = {"days_since": "mark", "distinct": "peers", "top_share": "peers"}


def compile_expression(text: str, slots: Slots) -> Expression:
    """Raises DefinitionInvalid, naming the place, for anything that is not of the language."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise DefinitionInvalid(f"{text!r} is not an expression: {error.msg}") from error
    compiler = _Compiler(text, slots)
    numerator = denominator = None
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Div):
        numerator, denominator = compiler.term(tree.left), compiler.term(tree.right)
        value = _quotient(numerator, denominator)
    else:
        value = compiler.term(tree)
    return Expression(text, value, numerator, denominator, frozenset(compiler.used))


class _Compiler:
    def __init__(self, text: str, slots: Slots) -> None:
        self._text = text
        self._slots = slots
        self.used: set[int] = set()

    def term(self, node: ast.expr) -> Term:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return _constant(node.value)
        if isinstance(node, ast.Name):
            return _total(self._slot(node, "sum"), None)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return _total(self._slot(node.value, "sum"), self._window(node.slice))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return _quotient(self.term(node.left), self.term(node.right))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _binary(_OPERATORS[type(node.op)], self.term(node.left), self.term(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args)
        raise self._wrong(node)

    def _call(self, name: str, arguments: list[ast.expr]) -> Term:
        if name in _PICKS and len(arguments) == 2:
            return _binary(_PICKS[name], self.term(arguments[0]), self.term(arguments[1]))
        if name in _MARKS and len(arguments) == 1 and isinstance(arguments[0], ast.Name):
            slot = self._slot(arguments[0], _MARKS[name])
            if name == "days_since":
                return lambda facts, _: facts.days_since(slot)
            if name == "distinct":
                return lambda facts, _: facts.distinct(slot)
            return lambda facts, _: facts.top_share(slot)
        raise DefinitionInvalid(f"{self._text!r}: {name} with {len(arguments)} arguments is not of the language")

    def _slot(self, node: ast.Name, keep: str) -> int:
        slot = self._slots.find(node.id, keep=keep)
        if slot is None:
            raise DefinitionInvalid(f"{self._text!r}: there is no slot {node.id} that keeps a {keep}")
        self.used.add(slot)
        return slot

    def _window(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and node.value in WINDOWS:
            return str(node.value)
        raise self._wrong(node)

    def _wrong(self, node: ast.expr) -> DefinitionInvalid:
        place = ast.get_source_segment(self._text, node) or self._text
        return DefinitionInvalid(f"{self._text!r}: {place!r} is not of the language")


def _constant(value: int) -> Term:
    return lambda facts, window: value


def _total(slot: int, fixed: str | None) -> Term:
    if fixed is None:
        return lambda facts, window: facts.total(slot, window)
    return lambda facts, window: facts.total(slot, fixed)


def _binary(apply: Callable[..., int | float], left: Term, right: Term) -> Term:
    def value(facts: Facts, window: str) -> Value:
        a = left(facts, window)
        b = right(facts, window)
        return None if a is None or b is None else apply(a, b)

    return value


def _quotient(left: Term, right: Term) -> Term:
    def value(facts: Facts, window: str) -> Value:
        a = left(facts, window)
        b = right(facts, window)
        return None if a is None or b is None or b <= 0 else a / b

    return value
