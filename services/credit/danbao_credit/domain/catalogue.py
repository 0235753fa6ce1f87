"""What is counted and what is measured: slots and indicators, from one declarative file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.expression import Expression, Value, compile_expression
from danbao_credit.domain.profile import NEWEST, Kind, Profile
from danbao_credit.domain.reports import ReportKind, reports_from
from danbao_credit.domain.windows import DAY_S, LIFE, WINDOWS, Window


class SubjectKind(StrEnum):
    """As what a subject is looked at."""

    INDIVIDUAL = "individual"
    MERCHANT = "merchant"


_KEEPS = ("sum", "first", "last", "peers")
_DIRECTIONS = ("high", "low", "none")
_BOTH = "both"


@dataclass(frozen=True, slots=True)
class Feed:
    """When `event` happens, the subject in `role` of it gets `sign` times `measure`."""

    event: str
    role: str
    measure: str
    sign: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing that is counted. `currency`: only in trades of it; empty: in all."""

    id: int
    name: str
    keep: str
    currency: str
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

    def applies(self, kind: SubjectKind) -> bool:
        return self.applies_to in (_BOTH, kind)

    def value(self, facts: SubjectFacts) -> Value:
        return self.expression.value(facts, self.window.name)


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
    _lines: Mapping[str, Any] = field(repr=False)

    @property
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

    def fingerprint(self, names: Iterable[str]) -> str:
        """A hash of everything these indicators are computed from: what a model pins."""
        used = sorted(set(names))
        slots = {slot for name in used for slot in self.by_name[name].expression.slots}
        return _digest({"indicators": [self._lines[name] for name in used], "slots": _described(self.slots, slots)})


def catalogue_from(definition: Mapping[str, Any]) -> Catalogue:
    """Reads the catalogue's file. Raises DefinitionInvalid, naming the line that is wrong."""
    categories = tuple(str(name) for name in definition["categories"])
    currencies = tuple(str(code) for code in definition["currencies"])
    slots = tuple(slot for line in definition["slots"] for slot in _slots_of(line, currencies))
    names = _SlotNames(slots)
    indicators: list[Indicator] = []
    lines: dict[str, Any] = {}
    for line in definition["indicators"]:
        for indicator in _indicators_of(line, currencies, categories, names):
            if indicator.name in lines:
                raise DefinitionInvalid(f"two indicators are called {indicator.name}")
            lines[indicator.name] = {**line, "currencies": currencies}
            indicators.append(indicator)
    empty = set(categories) - {indicator.category for indicator in indicators}
    if empty:
        raise DefinitionInvalid(f"categories without an indicator: {', '.join(sorted(empty))}")
    feeds: dict[tuple[str, str], list[tuple[Slot, Feed]]] = {}
    for slot in slots:
        for feed in slot.feeds:
            feeds.setdefault((feed.event, feed.role), []).append((slot, feed))
    indicators.sort(key=lambda indicator: (categories.index(indicator.category), indicator.name))
    return Catalogue(
        slots=slots,
        indicators=tuple(indicators),
        categories=categories,
        currencies=currencies,
        version=_digest({"slots": _described(slots, None), "indicators": lines, "categories": categories}),
        feeds={key: tuple(value) for key, value in feeds.items()},
        by_name={indicator.name: indicator for indicator in indicators},
        reports=reports_from(definition["reports"]),
        _lines=lines,
    )


class SubjectFacts:
    """A profile seen at one moment; what indicators are computed from. Windows are added up when first asked for."""

    __slots__ = ("_as_of_s", "_profile", "_slots", "_totals")

    def __init__(self, profile: Profile, *, as_of_s: int, slots: int) -> None:
        self._profile = profile
        self._as_of_s = as_of_s
        self._slots = slots
        self._totals: dict[str, list[int]] = {}

    def total(self, slot: int, window: str) -> int:
        totals = self._totals.get(window)
        if totals is None:
            span = WINDOWS[window]
            totals = self._profile.totals(hop_s=span.hop_s, tiles=span.tiles, as_of_s=self._as_of_s, slots=self._slots)
            self._totals[window] = totals
        return totals[slot]

    def days_since(self, slot: int) -> int | None:
        for kind in (Kind.FIRST, Kind.LAST):
            moment = self._profile.mark(kind, slot)
            if moment is not None:
                return max(self._as_of_s - moment, 0) // DAY_S
        return None

    def distinct(self, slot: int) -> int | None:
        return self._profile.distinct_peers(slot) or None

    def top_share(self, slot: int) -> float | None:
        _, counts = self._profile.peers(slot)
        return float(counts.max() / counts.sum()) if len(counts) else None


class _SlotNames:
    def __init__(self, slots: tuple[Slot, ...]) -> None:
        self._by_name: dict[str, Slot] = {}
        ids: set[int] = {NEWEST}
        for slot in slots:
            if slot.name in self._by_name:
                raise DefinitionInvalid(f"two slots are called {slot.name}")
            if slot.id in ids or not 0 < slot.id < 65_536:
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
    if "id" in line:
        yield Slot(line["id"], line["name"], keep, "", feeds)
        return
    if set(line["ids"]) != set(currencies):
        raise DefinitionInvalid(f"slot {line['name']}: needs an id for each of {', '.join(currencies)}")
    for currency in currencies:
        yield Slot(line["ids"][currency], _in_currency(line["name"], currency), keep, currency, feeds)


def _feed(text: str, slot: str) -> Feed:
    words = text.split()
    if len(words) != 3:
        raise DefinitionInvalid(f"slot {slot}: {text!r} is not 'event role measure'")
    event, role, measure = words
    return Feed(event, role, measure.removeprefix("-"), -1 if measure.startswith("-") else 1)


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
            yield Indicator(
                name=f"{_in_currency(name, currency)}_{window}",
                category=line["category"],
                expression=expression,
                window=WINDOWS.get(window, LIFE),
                unit=line["unit"],
                better=line["better"],
                reason=line.get("reason", ""),
                applies_to=line["for"],
            )


def _in_currency(text: str, currency: str) -> str:
    return text.replace("{currency}", currency.lower())


def _described(slots: Iterable[Slot], wanted: set[int] | None) -> list[list[Any]]:
    return [
        [slot.id, slot.name, slot.keep, slot.currency, [[f.event, f.role, f.measure, f.sign] for f in slot.feeds]]
        for slot in sorted(slots, key=lambda slot: slot.id)
        if wanted is None or slot.id in wanted
    ]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
