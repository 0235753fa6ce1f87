"""How an indicator is computed: a small expression language over counted facts.

    seller_orders_late / max(seller_orders_shipped, seller_orders_late)
    seller_orders_paid["30d"] / seller_orders_paid["90d"]
    days_since(first_sale)      distinct(buyers)      top_share(buyers)      capped(completed_buyers, 6)

Names are slots, read in the indicator's window unless another one stands in brackets. There are + - * / min max, whole
numbers, parentheses and the functions below; nothing else, and nothing of the text is ever executed: it is parsed,
checked and built anew. A missing operand, or a denominator that is not above zero, makes the whole missing.

    days_since(moment)    whole days since then
    distinct(peers)       how many distinct ones were met; missing without any
    repeated(peers)       how many were met more than once; missing without any
    top_share(peers)      the most frequent one's share of all meetings; missing without any
    capped(peers, n)      meetings, of each peer and month at most n
    mutual(peers, peers)  how many stand in both
    orders(orders)        how many distinct orders; 0 without any
    spread(n, sum, squares)  standard deviation / mean of n amounts; missing below two of them
"""

from __future__ import annotations

import ast
import math
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

    def distinct(self, slot: int, window: str) -> int | None:
        """How many distinct peers were met; None without any."""
        ...

    def repeated(self, slot: int, window: str) -> int | None:
        """How many peers were met more than once; None without any."""
        ...

    def top_share(self, slot: int, window: str) -> float | None:
        """The most frequent peer's share; None without any."""
        ...

    def capped(self, slot: int, most: int, window: str) -> int:
        """Meetings, of each peer and month at most `most`."""
        ...

    def mutual(self, slot: int, other: int, window: str) -> int:
        """How many peers were met in both slots."""
        ...

    def orders(self, slot: int, window: str) -> int:
        """How many distinct orders are concerned."""
        ...


class Slots(Protocol):
    """The names an expression may use."""

    def find(self, name: str, *, keep: str) -> int | None:
        """The id of the slot of that name and kind."""
        ...


Term: TypeAlias = Callable[[Facts, str], Value]


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression: how it is computed, and how to write it in a program that computes many at once.

    `write` gives its text for a window; totals are read from lists called t_{window}, all else from `facts`.
    """

    term: Term
    write: Callable[[str], str]
    can_be_missing: bool


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. A quotient also knows its two sides. `by_days`: it needs a window of days, or life."""

    text: str
    value: Term
    numerator: Term | None
    denominator: Term | None
    slots: frozenset[int]
    by_days: bool
    write: Callable[[str], str]


_OPERATORS: Mapping[type[ast.operator], tuple[str, Callable[[int | float, int | float], int | float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
}
_PICKS: Mapping[str, Callable[..., int | float]] = {"min": min, "max": max}
# Written out, they cost a third; only where the right side does not use the same names.
_FASTER = {
    "max({}, {})": "(x if (x := {}) > (y := {}) else y)",
    "min({}, {})": "(x if (x := {}) < (y := {}) else y)",
}
# Functions of peers that are missing without any.
_OF_PEERS = ("distinct", "repeated", "top_share")


def compile_expression(text: str, slots: Slots) -> Expression:
    """Raises DefinitionInvalid, naming the place, for anything that is not of the language."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise DefinitionInvalid(f"{text!r} is not an expression: {error.msg}") from error
    compiler = _Compiler(text, slots)
    numerator = denominator = None
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Div):
        left, right = compiler.node(tree.left), compiler.node(tree.right)
        numerator, denominator = left.term, right.term
        whole = _quotient(left, right)
    else:
        whole = compiler.node(tree)
    slots_used = frozenset(compiler.used)
    return Expression(text, whole.term, numerator, denominator, slots_used, compiler.by_days, whole.write)


class _Compiler:
    def __init__(self, text: str, slots: Slots) -> None:
        self._text = text
        self._slots = slots
        self.used: set[int] = set()
        self.by_days = False

    def node(self, node: ast.expr) -> Node:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return _constant(node.value)
        if isinstance(node, ast.Name | ast.Subscript):
            return _total(*self._slot(node, "sum"))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return _quotient(self.node(node.left), self.node(node.right))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            sign, apply = _OPERATORS[type(node.op)]
            return _binary(f"({{}} {sign} {{}})", apply, self.node(node.left), self.node(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args)
        raise self._wrong(node)

    def _call(self, name: str, arguments: list[ast.expr]) -> Node:
        if name in _PICKS and len(arguments) == 2:
            return _binary(f"{name}({{}}, {{}})", _PICKS[name], self.node(arguments[0]), self.node(arguments[1]))
        if name == "days_since" and len(arguments) == 1:
            slot, fixed = self._slot(arguments[0], "mark")
            if fixed is None:
                return Node(lambda facts, _: facts.days_since(slot), lambda _: f"facts.days_since({slot})", True)
        if name == "spread" and len(arguments) == 3:
            return _spread([_total(*self._slot(argument, "sum")) for argument in arguments])
        return self._of_peers(name, arguments)

    def _of_peers(self, name: str, arguments: list[ast.expr]) -> Node:
        self.by_days = True
        if name in _OF_PEERS and len(arguments) == 1:
            slot, fixed = self._slot(arguments[0], "peers")
            return _from_facts(name, (slot,), fixed, can_be_missing=True)
        if name == "orders" and len(arguments) == 1:
            slot, fixed = self._slot(arguments[0], "orders")
            return _from_facts(name, (slot,), fixed, can_be_missing=False)
        if name == "mutual" and len(arguments) == 2:
            (slot, fixed), (other, _) = (self._slot(argument, "peers") for argument in arguments)
            return _from_facts(name, (slot, other), fixed, can_be_missing=False)
        if name == "capped" and len(arguments) == 2 and isinstance(arguments[1], ast.Constant):
            slot, fixed = self._slot(arguments[0], "peers")
            most = arguments[1].value
            if type(most) is int and most > 0:
                return _from_facts(name, (slot, most), fixed, can_be_missing=False)
        raise DefinitionInvalid(f"{self._text!r}: {name} with these arguments is not of the language")

    def _slot(self, node: ast.expr, keep: str) -> tuple[int, str | None]:
        """The slot and, if one is given, the window in brackets."""
        fixed = None
        if isinstance(node, ast.Subscript):
            fixed = self._window(node.slice)
            node = node.value
        if not isinstance(node, ast.Name):
            raise self._wrong(node)
        slot = self._slots.find(node.id, keep=keep)
        if slot is None:
            raise DefinitionInvalid(f"{self._text!r}: there is no slot {node.id} that keeps a {keep}")
        self.used.add(slot)
        return slot, fixed

    def _window(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and node.value in WINDOWS:
            return str(node.value)
        raise self._wrong(node)

    def _wrong(self, node: ast.expr) -> DefinitionInvalid:
        place = ast.get_source_segment(self._text, node) or self._text
        return DefinitionInvalid(f"{self._text!r}: {place!r} is not of the language")


def quotient(numerator: Value, denominator: Value) -> Value:
    """Missing if a side is, or if the denominator is not above zero."""
    if numerator is None or denominator is None or denominator <= 0:
        return None
    return numerator / denominator


def both(apply: Callable[..., int | float], left: Value, right: Value) -> Value:
    """Missing if a side is."""
    return None if left is None or right is None else apply(left, right)


def spread(count: Value, total: Value, squares: Value) -> Value:
    """Coefficient of variation: sqrt(n Σx² / (Σx)² − 1); missing below two values, or without a sum above zero."""
    if count is None or total is None or squares is None or count < 2 or total <= 0:
        return None
    return math.sqrt(max(count * squares / total**2 - 1, 0))


def _constant(value: int) -> Node:
    return Node(lambda facts, window: value, lambda window: str(value), False)


def _total(slot: int, fixed: str | None) -> Node:
    if fixed is None:
        return Node(lambda facts, window: facts.total(slot, window), lambda window: f"t_{window}[{slot}]", False)
    return Node(lambda facts, window: facts.total(slot, fixed), lambda window: f"t_{fixed}[{slot}]", False)


def _from_facts(name: str, arguments: tuple[int, ...], fixed: str | None, *, can_be_missing: bool) -> Node:
    def term(facts: Facts, window: str) -> Value:
        value: Value = getattr(facts, name)(*arguments, fixed or window)
        return value

    def write(window: str) -> str:
        return f"facts.{name}({', '.join(map(str, arguments))}, {(fixed or window)!r})"

    return Node(term, write, can_be_missing)


def _binary(text: str, apply: Callable[..., int | float], left: Node, right: Node) -> Node:
    def term(facts: Facts, window: str) -> Value:
        return both(apply, left.term(facts, window), right.term(facts, window))

    def write(window: str) -> str:
        one, two = left.write(window), right.write(window)
        if left.can_be_missing or right.can_be_missing:
            return f"both(lambda a, b: {text.format('a', 'b')}, {one}, {two})"
        if text in _FASTER and ":=" not in two:
            return _FASTER[text].format(one, two)
        return text.format(one, two)

    return Node(term, write, left.can_be_missing or right.can_be_missing)


def _quotient(left: Node, right: Node) -> Node:
    def term(facts: Facts, window: str) -> Value:
        return quotient(left.term(facts, window), right.term(facts, window))

    def write(window: str) -> str:
        if left.can_be_missing or right.can_be_missing:
            return f"quotient({left.write(window)}, {right.write(window)})"
        return f"({left.write(window)} / d if (d := {right.write(window)}) > 0 else None)"

    return Node(term, write, True)


def _spread(parts: list[Node]) -> Node:
    def term(facts: Facts, window: str) -> Value:
        count, total, squares = (part.term(facts, window) for part in parts)
        return spread(count, total, squares)

    return Node(term, lambda window: f"spread({', '.join(part.write(window) for part in parts)})", True)
