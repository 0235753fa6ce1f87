"""What is counted and what is measured: slots and indicators, from one declarative file."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.expression import Expression, Value, compile_expression
from danbao_credit.domain.peers import PEER_WINDOWS
from danbao_credit.domain.profile import NEWEST, PEER_SLOTS, Change
from danbao_credit.domain.reports import COMMON, ReportKind, reports_from
from danbao_credit.domain.subject_facts import SubjectFacts as SubjectFacts
from danbao_credit.domain.vector import Program, program_of
from danbao_credit.domain.windows import LIFE, WINDOWS, Window


class SubjectKind(StrEnum):
    """As what a subject is looked at."""

    INDIVIDUAL = "individual"
    MERCHANT = "merchant"


_KEEPS = ("sum", "first", "last", "peers", "orders")
# Orders by value: below the first mark of their currency, from it on, from the second, from the third.
SIZES = ("tiny", "small", "medium", "large")
_DIRECTIONS = ("high", "low", "none")
_BOTH = "both"
_WHERE = re.compile(r"where (\w+) (\d+)\.\.(\d+)")


@dataclass(frozen=True, slots=True)
class Feed:
    """When `event` happens, the subject in `role` of it gets `sign` times `measure`.

    `where`: only if that measure of the event is given and lies from `lowest` to `highest`; empty: always.
    """

    event: str
    role: str
    measure: str
    sign: int
    where: str = ""
    lowest: int = 0
    highest: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing that is counted, in trades of `currency` and orders of `sizes` only; empty: in all."""

    id: int
    name: str
    keep: str
    currency: str
    sizes: tuple[str, ...]
    feeds: tuple[Feed, ...]


@dataclass(frozen=True, slots=True)
class Indicator:
    """One thing that is measured, in one window."""

    name: str
    category: str
    expression: Expression
    window: Window
    unit: str
    better: str
    reason: str
    applies_to: str
    # What is measured, in words: those of its window follow, unless a full stop says that nothing does.
    says: str

    @property
    def description(self) -> str:
        """What is measured, in words."""
        return self.says[:-1] if self.says.endswith(".") else f"{self.says} {self.window.words}"

    def applies(self, kind: SubjectKind) -> bool:
        return self.applies_to in (_BOTH, kind)

    def value(self, facts: SubjectFacts) -> Value:
        return self.expression.value(facts, self.window.name)

    def written(self) -> str:
        """How a program computes it."""
        return self.expression.write(self.window.name)


Taking: TypeAlias = tuple[Slot, Feed, Change]


@dataclass(frozen=True)
class Catalogue:
    """Slots and indicators that agree with one another. `version` is a hash of all of it."""

    slots: tuple[Slot, ...]
    indicators: tuple[Indicator, ...]
    categories: tuple[str, ...]
    currencies: tuple[str, ...]
    version: str
    # (event, role) → what its slots take from it.
    feeds: Mapping[tuple[str, str], tuple[tuple[Slot, Feed], ...]]
    by_name: Mapping[str, Indicator]
    reports: Mapping[str, ReportKind]
    # By currency: from how many minor units on an order is small, medium, large.
    sizes: Mapping[str, tuple[int, int, int]]
    _lines: Mapping[str, Any] = field(repr=False)
    _feeds_in: dict[tuple[str, str, str], tuple[Taking, ...]] = field(default_factory=dict, repr=False, compare=False)
    _programs: dict[SubjectKind | None, Program] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def slot_ids(self) -> int:
        """One more than the highest slot id."""
        return max((slot.id for slot in self.slots), default=0) + 1

    def listed(self, *, category: str, kind: SubjectKind | None) -> list[Indicator]:
        """Indicators by category, then name. Empty category, or no kind: all."""
        return [
            indicator
            for indicator in self.indicators
            if category in ("", indicator.category) and (kind is None or indicator.applies(kind))
        ]

    def values(self, facts: SubjectFacts, kind: SubjectKind | None) -> list[Value]:
        """The values of all indicators of a kind (none: of all), in the order of `listed`, computed at once."""
        program = self._programs.get(kind)
        if program is None:
            program = self._programs[kind] = program_of(self.listed(category="", kind=kind))
        return program(facts)

    def feeds_in(self, event: str, role: str, currency: str) -> tuple[Taking, ...]:
        """What slots take from this role of this event in this currency, each with its change for a measure of one."""
        if currency not in self.currencies:
            currency = ""
        feeds = self._feeds_in.get((event, role, currency))
        if feeds is None:
            feeds = self._feeds_in[event, role, currency] = tuple(
                (slot, feed, Change(slot.id, slot.keep, feed.sign))
                for slot, feed in self.feeds.get((event, role), ())
                if slot.currency in ("", currency)
            )
        return feeds

    def size_of(self, currency: str, order_minor: int) -> str:
        """How large an order is; in a currency without marks every one is medium."""
        marks = self.sizes.get(currency)
        return "medium" if marks is None else SIZES[bisect_right(marks, order_minor)]

    def fingerprint(self, names: Iterable[str]) -> str:
        """A hash of everything these indicators are computed from: what a model pins."""
        used = sorted(set(names))
        slots = {slot for name in used for slot in self.by_name[name].expression.slots}
        return _digest(
            {
                "indicators": [self._lines[name] for name in used],
                "slots": _described(self.slots, slots),
                "sizes": self.sizes if any(slot.sizes for slot in self.slots if slot.id in slots) else {},
            }
        )


def catalogue_from(definition: Mapping[str, Any]) -> Catalogue:
    """Reads the catalogue's file. Raises DefinitionInvalid, naming the line that is wrong."""
    categories = tuple(str(name) for name in definition["categories"])
    currencies = tuple(str(code) for code in definition["currencies"])
    slots = tuple(slot for line in definition["slots"] for slot in _slots_of(line, currencies))
    names = _SlotNames(slots)
    reports = reports_from(definition["reports"])
    sizes = {str(code): _marks(code, marks) for code, marks in definition["sizes"].items()}
    indicators: list[Indicator] = []
    lines: dict[str, Any] = {}
    for line in definition["indicators"]:
        for indicator in _indicators_of(line, currencies, categories, names):
            if indicator.name in lines:
                raise DefinitionInvalid(f"two indicators are called {indicator.name}")
            # What is said of it changes nothing of what it is.
            lines[indicator.name] = {key: part for key, part in line.items() if key != "says"} | {
                "currencies": currencies
            }
            indicators.append(indicator)
    empty = set(categories) - {indicator.category for indicator in indicators}
    if empty:
        raise DefinitionInvalid(f"categories without an indicator: {', '.join(sorted(empty))}")
    feeds: dict[tuple[str, str], list[tuple[Slot, Feed]]] = {}
    for slot in slots:
        for feed in slot.feeds:
            _check_report(slot, feed, reports)
            feeds.setdefault((feed.event, feed.role), []).append((slot, feed))
    indicators.sort(key=lambda indicator: (categories.index(indicator.category), indicator.name))
    return Catalogue(
        slots=slots,
        indicators=tuple(indicators),
        categories=categories,
        currencies=currencies,
        version=_digest(
            {
                "slots": _described(slots, None),
                "indicators": lines,
                "categories": categories,
                "sizes": sizes,
                "reports": definition["reports"],
            }
        ),
        feeds={key: tuple(value) for key, value in feeds.items()},
        by_name={indicator.name: indicator for indicator in indicators},
        reports=reports,
        sizes=sizes,
        _lines=lines,
    )


class _SlotNames:
    def __init__(self, slots: tuple[Slot, ...]) -> None:
        self._by_name: dict[str, Slot] = {}
        ids: set[int] = {NEWEST}
        for slot in slots:
            if slot.name in self._by_name:
                raise DefinitionInvalid(f"two slots are called {slot.name}")
            if slot.id in ids or not 0 < slot.id < (PEER_SLOTS if slot.keep in ("peers", "orders") else 65_536):
                raise DefinitionInvalid(f"slot {slot.name}: id {slot.id} is taken or out of range")
            ids.add(slot.id)
            self._by_name[slot.name] = slot

    def find(self, name: str, *, keep: str) -> int | None:
        slot = self._by_name.get(name)
        if slot is None:
            return None
        kept = "mark" if slot.keep in ("first", "last") else slot.keep
        return slot.id if kept == keep else None


def _slots_of(line: Mapping[str, Any], currencies: tuple[str, ...]) -> Iterable[Slot]:
    keep = line.get("keep", "sum")
    if keep not in _KEEPS:
        raise DefinitionInvalid(f"slot {line['name']}: keep is one of {', '.join(_KEEPS)}")
    feeds = tuple(_feed(text, line["name"]) for text in line["feeds"])
    sizes = tuple(line.get("sizes", ()))
    if not set(sizes) <= set(SIZES):
        raise DefinitionInvalid(f"slot {line['name']}: sizes are {', '.join(SIZES)}")
    if "id" in line:
        yield Slot(line["id"], line["name"], keep, "", sizes, feeds)
        return
    if set(line["ids"]) != set(currencies):
        raise DefinitionInvalid(f"slot {line['name']}: needs an id for each of {', '.join(currencies)}")
    for currency in currencies:
        yield Slot(line["ids"][currency], _in_currency(line["name"], currency), keep, currency, sizes, feeds)


def _feed(text: str, slot: str) -> Feed:
    words = text.split()
    found = _WHERE.fullmatch(" ".join(words[3:])) if len(words) > 3 else None
    if len(words) < 3 or (len(words) > 3 and found is None):
        raise DefinitionInvalid(f"slot {slot}: {text!r} is not 'event role measure [where measure lowest..highest]'")
    event, role, measure = words[:3]
    feed = Feed(event, role, measure.removeprefix("-"), -1 if measure.startswith("-") else 1)
    if found is None:
        return feed
    return replace(feed, where=found[1], lowest=int(found[2]), highest=int(found[3]))


def _check_report(slot: Slot, feed: Feed, reports: Mapping[str, ReportKind]) -> None:
    source, _, kind = feed.event.partition(".")
    if source != "reports":
        return
    known = (*COMMON, *reports[kind].measures) if kind in reports else ()
    if feed.measure not in known or feed.where not in ("", *known) or feed.role not in ("subject", "peer"):
        raise DefinitionInvalid(f"slot {slot.name}: no report gives {feed.event} {feed.role} {feed.measure}")


def _marks(currency: str, marks: Iterable[int]) -> tuple[int, int, int]:
    small, medium, large = (int(mark) for mark in marks)
    if not 0 < small < medium < large:
        raise DefinitionInvalid(f"sizes of {currency}: three marks that rise")
    return small, medium, large


def _indicators_of(
    line: Mapping[str, Any], currencies: tuple[str, ...], categories: tuple[str, ...], slots: _SlotNames
) -> Iterable[Indicator]:
    name = line["name"]
    if line["category"] not in categories:
        raise DefinitionInvalid(f"indicator {name}: there is no category {line['category']}")
    if line["better"] not in _DIRECTIONS:
        raise DefinitionInvalid(f"indicator {name}: better is one of {', '.join(_DIRECTIONS)}")
    if line["for"] not in (*SubjectKind, _BOTH):
        raise DefinitionInvalid(f"indicator {name}: for is merchant, individual or both")
    if (line["better"] != "none") != bool(line.get("reason")):
        raise DefinitionInvalid(f"indicator {name}: a reason belongs to a direction, and a direction to a reason")
    for currency in currencies if "{currency}" in name else ("",):
        expression = compile_expression(_in_currency(line["value"], currency), slots)
        for window in line["windows"]:
            if window not in WINDOWS:
                raise DefinitionInvalid(f"indicator {name}: there is no window {window}")
            if expression.by_days and window not in PEER_WINDOWS:
                raise DefinitionInvalid(f"indicator {name}: peers are kept by days, not by hours")
            yield Indicator(
                name=f"{_in_currency(name, currency)}_{window}",
                category=line["category"],
                expression=expression,
                window=WINDOWS.get(window, LIFE),
                unit=line["unit"],
                better=line["better"],
                reason=line.get("reason", ""),
                applies_to=line["for"],
                says=line["says"].replace("{currency}", currency),
            )


def _in_currency(text: str, currency: str) -> str:
    return text.replace("{currency}", currency.lower())


def _described(slots: Iterable[Slot], wanted: set[int] | None) -> list[list[Any]]:
    return [
        [slot.id, slot.name, slot.keep, slot.currency, slot.sizes, [astuple(feed) for feed in slot.feeds]]
        for slot in sorted(slots, key=lambda slot: slot.id)
        if wanted is None or slot.id in wanted
    ]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
