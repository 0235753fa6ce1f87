"""What a subject's credit is at one moment: score = base + points + adjustments, as integers, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from danbao_credit.domain.catalogue import Catalogue, SubjectFacts, SubjectKind
from danbao_credit.domain.expression import Value
from danbao_credit.domain.grades import HIGHEST_SCORE, LOWEST_SCORE, Grade, grade_of
from danbao_credit.domain.hard_rules import binding
from danbao_credit.domain.marks import MarkKind
from danbao_credit.domain.profile import Kind, Profile
from danbao_credit.domain.reasons import MAX_REASONS, Reason, Texts, reasons_of
from danbao_credit.domain.scorecard import NOTHING_ASSUMED, Model, value_of

SCALE_END = "SCALE_END"
_NOTHING_STANDS: Mapping[MarkKind, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A cap, rule or bound that moved the sum."""

    code: str
    points: int
    text: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A subject's credit. `sub_scores` has every category of the catalogue."""

    kind: SubjectKind
    score: int
    grade: Grade
    blocked: bool
    base_points: int
    sub_scores: tuple[tuple[str, int], ...]
    adjustments: tuple[Adjustment, ...]
    reasons: tuple[Reason, ...]
    confidence_permille: int
    model_version: str


@dataclass(slots=True)
class Judge:
    """Catalogue, model and texts that agree with one another. Another model may take over while the service runs."""

    catalogue: Catalogue
    model: Model
    texts: Texts

    def take(self, model: Model, texts: Texts) -> None:
        """Judges by another model of the same catalogue from now on. An evaluation names the model that made it."""
        self.model, self.texts = model, texts

    def facts(self, profile: Profile, as_of_s: int) -> SubjectFacts:
        """The profile as it is seen at `as_of_s`, seconds since the epoch."""
        return SubjectFacts(profile, as_of_s=as_of_s, slots=self.catalogue.slot_ids)

    def kind_of(self, profile: Profile) -> SubjectKind:
        """Merchant if it ever sold, else individual."""
        first_sale = next(slot.id for slot in self.catalogue.slots if slot.name == "first_sale")
        return SubjectKind.INDIVIDUAL if profile.mark(Kind.FIRST, first_sale) is None else SubjectKind.MERCHANT

    def evaluate(
        self,
        profile: Profile,
        *,
        kind: SubjectKind,
        as_of_s: int,
        standing: Mapping[MarkKind, int] = _NOTHING_STANDS,
        assumed: Mapping[str, Value] = NOTHING_ASSUMED,
    ) -> Evaluation:
        """The subject's credit at `as_of_s`, seconds since the epoch. An empty profile is a newcomer's.

        `standing`: which marks stand, for how many seconds. `assumed`: values in place of those of indicators, by name.
        """
        facts = self.facts(profile, as_of_s)
        scorecard = self.model.scorecards[kind]
        measured = [characteristic.measure(facts, assumed) for characteristic in scorecard.characteristics]
        points = dict.fromkeys(self.catalogue.categories, 0)
        for item in measured:
            points[item.characteristic.indicator.category] += item.points
        completed = int(value_of(scorecard.completed, facts, assumed) or 0)
        score = scorecard.base + sum(points.values())
        adjustments: list[Adjustment] = []
        causes: list[Reason] = []
        for rule, units in binding(standing):
            lost = max(score - rule.at_most, 0)
            text = self.texts.adjustment(rule.code, score=rule.at_most, value=units, completed=completed)
            if lost:
                adjustments.append(Adjustment(rule.code, -lost, text))
                score = rule.at_most
            # Who is blocked is told so even where the points alone had led to the end of the scale.
            if lost or rule.kind is MarkKind.FRAUD:
                causes.append(Reason(rule.code, max(lost, 1), text))
        for cap in scorecard.caps:
            if score > cap.at_most and cap.applies(facts, assumed):
                value = value_of(cap.indicator, facts, assumed) if cap.indicator is not None else None
                text = self.texts.adjustment(cap.code, score=cap.at_most, value=value, completed=completed)
                adjustments.append(Adjustment(cap.code, cap.at_most - score, text))
                score = cap.at_most
        bounded = min(max(score, LOWEST_SCORE), HIGHEST_SCORE)
        if bounded != score:
            text = self.texts.adjustment(SCALE_END, score=bounded, value=None, completed=completed)
            adjustments.append(Adjustment(SCALE_END, bounded - score, text))
        return Evaluation(
            kind=kind,
            score=bounded,
            grade=grade_of(bounded),
            blocked=MarkKind.FRAUD in standing,
            base_points=scorecard.base,
            sub_scores=tuple(points.items()),
            adjustments=tuple(adjustments),
            reasons=(*causes, *reasons_of(measured, self.texts, completed))[:MAX_REASONS],
            confidence_permille=1000 * completed // (completed + self.model.confidence_half) if completed > 0 else 0,
            model_version=self.model.version,
        )
