"""Why points are missing, in words: every reason names the fact, its value and the window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.expression import Value
from danbao_credit.domain.hard_rules import HARD_RULES
from danbao_credit.domain.scorecard import Cap, Measured, Model

MAX_REASONS = 4
# The reason of points that are missing because there is nothing to judge by yet.
NO_HISTORY = "SHORT_HISTORY"
_FACTS = {"indicator", "measure", "value", "percent", "numerator", "denominator", "window", "completed"}


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause of lost points."""

    code: str
    points_lost: int
    text: str


@dataclass(frozen=True, slots=True)
class Texts:
    """Templates of one language: by indicator name or reason code, and by the code of an adjustment."""

    reasons: Mapping[str, str]
    adjustments: Mapping[str, str]
    no_history: str
    # Of a value that is assumed in a simulation.
    assumed: str
    measures: Mapping[str, str]
    plurals: Mapping[str, tuple[str, str]]

    def reason(self, measured: Measured, completed: int) -> str:
        """The reason's text, with the facts of this subject."""
        indicator = measured.characteristic.indicator
        if measured.is_assumed:
            template = self.assumed
        elif measured.value is None:
            template = self.no_history
        else:
            template = self.reasons.get(_line_name(indicator.name)) or self.reasons[indicator.reason]
        return self._filled(
            template,
            value=_number(measured.value),
            percent=_percent(measured.value),
            numerator=_number(measured.numerator),
            denominator=_number(measured.denominator),
            window=indicator.window.words,
            completed=str(completed),
            measure=self.measures.get(_line_name(indicator.name), indicator.says.rstrip(",.")),
            indicator=indicator.name,
        )

    def adjustment(self, code: str, *, score: int, value: Value, completed: int) -> str:
        """The text of a cap, rule or bound that moved the sum to `score`."""
        return self._filled(
            self.adjustments[code],
            score=str(score),
            value=_number(value),
            percent=_percent(value),
            completed=str(completed),
        )

    def _filled(self, template: str, **facts: str) -> str:
        """Fills {fact} in; {fact:noun} adds the noun in the number that the fact asks for."""
        parts: list[str] = []
        for text, name, noun, _ in Formatter().parse(template):
            parts.append(text)
            if name is not None:
                parts.append(facts[name])
                if noun:
                    parts.append(" " + self.plurals[noun][0 if facts[name] == "1" else 1])
        return "".join(parts)


def texts_from(definition: Mapping[str, Any], catalogue: Catalogue, model: Model) -> Texts:
    """Reads a language's file. Raises DefinitionInvalid when a reason that the model can give has no text."""
    texts = Texts(
        reasons=dict(definition["reasons"]),
        adjustments=dict(definition["adjustments"]),
        no_history=str(definition["no_history"]),
        assumed=str(definition["assumed"]),
        measures=dict(definition["measures"]),
        plurals={noun: (str(one), str(many)) for noun, (one, many) in definition["plurals"].items()},
    )
    for scorecard in model.scorecards.values():
        for characteristic in scorecard.characteristics:
            indicator = characteristic.indicator
            if not {_line_name(indicator.name), indicator.reason} & set(texts.reasons):
                raise DefinitionInvalid(f"there is no text for {indicator.name} or its reason {indicator.reason}")
        for cap in scorecard.caps:
            _check_adjustment(cap, texts)
    for rule in HARD_RULES:
        if rule.code not in texts.adjustments:
            raise DefinitionInvalid(f"there is no text for the hard rule {rule.code}")
    for template in (*texts.reasons.values(), texts.no_history, texts.assumed):
        names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        nouns = {noun for _, _, noun, _ in Formatter().parse(template) if noun}
        if names - _FACTS or nouns - set(texts.plurals):
            raise DefinitionInvalid(f"{template!r} uses what is not a fact or a noun of the file")
    return texts


def reasons_of(measured: Iterable[Measured], texts: Texts, completed: int) -> tuple[Reason, ...]:
    """What cost most points: merged by code, heaviest first, at most four, none zero; each tells its worst fact."""
    lost: dict[str, int] = {}
    worst: dict[str, Measured] = {}
    for item in measured:
        if item.points_lost <= 0:
            continue
        code = item.characteristic.indicator.reason if item.value is not None else NO_HISTORY
        lost[code] = lost.get(code, 0) + item.points_lost
        if code not in worst or item.points_lost > worst[code].points_lost:
            worst[code] = item
    ranked = sorted(lost, key=lambda code: (-lost[code], code))[:MAX_REASONS]
    return tuple(Reason(code, lost[code], texts.reason(worst[code], completed)) for code in ranked)


def _check_adjustment(cap: Cap, texts: Texts) -> None:
    if cap.code not in texts.adjustments:
        raise DefinitionInvalid(f"there is no text for the adjustment {cap.code}")


def _line_name(indicator: str) -> str:
    return indicator.rpartition("_")[0]


def _number(value: Value) -> str:
    if value is None:
        return "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _percent(value: Value) -> str:
    return "no" if value is None else f"{100 * value:.1f}"
