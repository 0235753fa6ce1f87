"""How points are given: binned indicators with hand-set or trained points, caps and rules, from one versioned file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from danbao_credit.domain.artefact import (
    TrainingFacts,
    baseline_of,
    check_scale,
    check_sha256,
    grade_baseline_of,
    training_of,
)
from danbao_credit.domain.catalogue import Catalogue, Indicator, SubjectFacts, SubjectKind
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.expression import Value
from danbao_credit.domain.grades import HIGHEST_SCORE, LOWEST_SCORE

_ORIGINS = ("TRAINED", "EXPERT")
# No bin weighs more than the scale is long.
_MOST_POINTS = HIGHEST_SCORE - LOWEST_SCORE
# By indicator: values that stand for what the facts give, in a simulation.
NOTHING_ASSUMED: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One indicator's bins. Values up to an edge (better low) or from an edge on (better high) lie in the better bin.

    `floor`: a quotient's denominator counts as at least this much, so that one slip among few orders weighs little.
    """

    indicator: Indicator
    edges: tuple[float, ...]
    points: tuple[int, ...]
    missing: int
    floor: int
    # TRAINED or EXPERT.
    origin: str = "EXPERT"
    # Shares of the training rows by bin, the missing ones last; empty without any.
    baseline: tuple[float, ...] = ()

    @property
    def best(self) -> int:
        return max(self.points)

    def points_of(self, value: Value) -> int:
        """The points of a value; None is missing."""
        return self.missing if value is None else self.points[self._bin_of(value)]

    def place(self, measured: Measured) -> int:
        """The bin of a subject's value, as in the baseline: a missing value's is the last."""
        numerator, denominator = measured.numerator, measured.denominator
        if measured.value is None:
            return len(self.points)
        if numerator is None or denominator is None:
            return self._bin_of(measured.value)
        return self._bin_of(numerator / max(denominator, self.floor))

    def _bin_of(self, value: int | float) -> int:
        # Points stand in the order of the edges: a low value first.
        find = bisect_left if self.indicator.better == "low" else bisect_right
        return find(self.edges, value)

    def measure(self, facts: SubjectFacts, assumed: Mapping[str, Value] = NOTHING_ASSUMED) -> Measured:
        """The value at hand, or that which is assumed, and its points."""
        if self.indicator.name in assumed:
            value = assumed[self.indicator.name]
            return Measured(self, value, None, None, self.points_of(value), is_assumed=True)
        expression, window = self.indicator.expression, self.indicator.window.name
        if expression.numerator is None or expression.denominator is None:
            value = expression.value(facts, window)
            return Measured(self, value, None, None, self.points_of(value))
        numerator, denominator = expression.numerator(facts, window), expression.denominator(facts, window)
        if numerator is None or denominator is None or denominator <= 0:
            return Measured(self, None, numerator, denominator, self.missing)
        points = self.points_of(numerator / max(denominator, self.floor))
        return Measured(self, numerator / denominator, numerator, denominator, points)


@dataclass(frozen=True, slots=True)
class Measured:
    """A characteristic's value of one subject, its points, and the two sides of a quotient."""

    characteristic: Characteristic
    value: Value
    numerator: Value
    denominator: Value
    points: int
    is_assumed: bool = False

    @property
    def points_lost(self) -> int:
        return self.characteristic.best - self.points


def value_of(indicator: Indicator, facts: SubjectFacts, assumed: Mapping[str, Value]) -> Value:
    """The value that is assumed for an indicator, else the one that the facts give."""
    return assumed[indicator.name] if indicator.name in assumed else indicator.value(facts)


@dataclass(frozen=True, slots=True)
class Cap:
    """A score is brought down to `at_most` while `indicator` is above `above` and the volume is within bounds."""

    code: str
    at_most: int
    indicator: Indicator | None
    above: float
    volume: Indicator
    volume_from: int
    volume_below: int | None

    def applies(self, facts: SubjectFacts, assumed: Mapping[str, Value] = NOTHING_ASSUMED) -> bool:
        volume = value_of(self.volume, facts, assumed) or 0
        if volume < self.volume_from or (self.volume_below is not None and volume >= self.volume_below):
            return False
        if self.indicator is None:
            return True
        value = value_of(self.indicator, facts, assumed)
        return value is not None and value > self.above


@dataclass(frozen=True, slots=True)
class Scorecard:
    """How subjects of one kind are scored. `completed` counts the trades that confidence comes from."""

    kind: SubjectKind
    base: int
    completed: Indicator
    characteristics: tuple[Characteristic, ...]
    caps: tuple[Cap, ...]
    # Shares of the training rows by grade, best first; empty without any.
    grade_baseline: tuple[float, ...] = ()
    training: TrainingFacts | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """Scorecards of one version, checked against the catalogue they were made for."""

    version: str
    scorecards: Mapping[SubjectKind, Scorecard]
    confidence_half: int
    sha256: str


def model_from(definition: Mapping[str, Any], catalogue: Catalogue) -> Model:
    """Reads a model's artefact. Raises DefinitionInvalid, naming the place, for a wrong sign, edges out of order, an

    unknown indicator, another catalogue, another scale, or content that is not what its hash was made of.
    """
    try:
        return _model(definition, catalogue)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DefinitionInvalid(f"the model cannot be read: {type(error).__name__} {error}") from error


def fingerprint_of(scorecards: Iterable[Scorecard], catalogue: Catalogue) -> str:
    """The hash of everything these scorecards are computed from."""
    return catalogue.fingerprint(name for scorecard in scorecards for name in _indicators(scorecard))


def confidence_half_of(definition: Mapping[str, Any]) -> int:
    """With so many completed trades confidence is one half. Raises DefinitionInvalid."""
    return _whole(definition["confidence_half"], "confidence_half", least=1)


def scorecard_from(kind: SubjectKind, definition: Mapping[str, Any], catalogue: Catalogue) -> Scorecard:
    """One kind's part of an artefact. Raises DefinitionInvalid, naming the place."""
    completed = _indicator(definition["completed"], kind, catalogue)
    base = definition["base"]
    if type(base) is not int or not LOWEST_SCORE <= base <= HIGHEST_SCORE:
        raise DefinitionInvalid(f"{kind}: a base of {base} is not a score")
    characteristics = tuple(_characteristic(line, kind, catalogue) for line in definition["characteristics"])
    names = [item.indicator.name for item in characteristics]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DefinitionInvalid(f"{kind}: {twice[0]} is scored twice")
    return Scorecard(
        kind=kind,
        base=base,
        completed=completed,
        characteristics=characteristics,
        caps=tuple(_cap(line, kind, completed, catalogue) for line in definition["caps"]),
        grade_baseline=grade_baseline_of(kind, definition.get("grades")),
        training=training_of(kind, definition.get("training")),
    )


def _model(definition: Mapping[str, Any], catalogue: Catalogue) -> Model:
    version = str(definition["version"])
    check_scale(definition)
    confidence_half = confidence_half_of(definition)
    scorecards = {kind: scorecard_from(kind, definition["scorecards"][kind.value], catalogue) for kind in SubjectKind}
    used = fingerprint_of(scorecards.values(), catalogue)
    pinned = str(definition["catalogue"])
    if pinned != used:
        raise DefinitionInvalid(
            f"model {version} pins the catalogue {pinned}, but what it scores is defined as {used} here: "
            "train it anew on this catalogue, or check that its bins still mean the same and give it a new version"
        )
    check_sha256(definition)
    return Model(version, scorecards, confidence_half, str(definition["sha256"]))


def _indicators(scorecard: Scorecard) -> list[str]:
    names = [scorecard.completed.name]
    names += [characteristic.indicator.name for characteristic in scorecard.characteristics]
    for cap in scorecard.caps:
        names.append(cap.volume.name)
        if cap.indicator is not None:
            names.append(cap.indicator.name)
    return names


def _characteristic(line: Mapping[str, Any], kind: SubjectKind, catalogue: Catalogue) -> Characteristic:
    indicator = _indicator(line["indicator"], kind, catalogue)
    edges, points = tuple(line["edges"]), tuple(line["points"])
    name = indicator.name
    missing = _whole(line.get("missing", 0), f"{name}: missing", least=-_MOST_POINTS)
    floor = _whole(line.get("floor", 0), f"{name}: floor")
    if any(type(edge) not in (int, float) for edge in edges):
        raise DefinitionInvalid(f"{name}: edges are numbers")
    if list(edges) != sorted(set(edges)) or len(points) != len(edges) + 1:
        raise DefinitionInvalid(f"{name}: edges must rise, and there is one bin more than edges")
    if any(type(number) is not int for number in points):
        raise DefinitionInvalid(f"{name}: points are whole numbers")
    if any(abs(number) > _MOST_POINTS for number in points):
        raise DefinitionInvalid(f"{name}: no bin has more than {_MOST_POINTS} points, up or down")
    wanted: Sequence[int] = sorted(points, reverse=indicator.better == "low")
    if indicator.better == "none" or list(points) != list(wanted):
        raise DefinitionInvalid(f"{name} is better {indicator.better}: its points go the wrong way")
    if not min(points) <= missing <= max(points):
        raise DefinitionInvalid(f"{name}: a missing value cannot be better than the best or worse than the worst")
    if floor and indicator.expression.denominator is None:
        raise DefinitionInvalid(f"{name}: only a quotient has a floor")
    if line.get("reason", indicator.reason) != indicator.reason:
        raise DefinitionInvalid(f"{name}: its reason is {indicator.reason}, not {line['reason']}")
    origin = line.get("origin", "EXPERT")
    if origin not in _ORIGINS:
        raise DefinitionInvalid(f"{name}: origin is one of {', '.join(_ORIGINS)}")
    baseline = baseline_of(name, line.get("baseline"), len(points))
    return Characteristic(indicator, edges, points, missing, floor, origin, baseline)


def _cap(line: Mapping[str, Any], kind: SubjectKind, completed: Indicator, catalogue: Catalogue) -> Cap:
    code, below = line["code"], line.get("volume_below")
    if not isinstance(code, str):
        raise DefinitionInvalid(f"cap {code}: its code is a word")
    at_most = _whole(line["at_most"], f"cap {code}: at_most")
    if not LOWEST_SCORE <= at_most <= HIGHEST_SCORE:
        raise DefinitionInvalid(f"cap {code}: {at_most} is not a score")
    return Cap(
        code=code,
        at_most=at_most,
        indicator=_indicator(line["indicator"], kind, catalogue) if "indicator" in line else None,
        above=float(line.get("above", 0)),
        volume=_indicator(line["volume"], kind, catalogue) if "volume" in line else completed,
        volume_from=_whole(line.get("volume_from", 0), f"cap {code}: volume_from"),
        volume_below=None if below is None else _whole(below, f"cap {code}: volume_below"),
    )


def _whole(number: Any, name: str, *, least: int = 0) -> int:
    if type(number) is not int or number < least:
        raise DefinitionInvalid(f"{name} must be a whole number, {least} or more")
    return number


def _indicator(name: str, kind: SubjectKind, catalogue: Catalogue) -> Indicator:
    indicator = catalogue.by_name.get(name)
    if indicator is None or not indicator.applies(kind):
        raise DefinitionInvalid(f"the catalogue has no indicator {name} for a {kind}")
    return indicator
