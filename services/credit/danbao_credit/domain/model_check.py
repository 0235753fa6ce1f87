"""What is looked at before a model may score: a wrong answer here is a version rejected, never a service that stops."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.artefact import check_scale, check_sha256
from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.models import Finding
from danbao_credit.domain.profile import Change, Profile
from danbao_credit.domain.reasons import texts_from
from danbao_credit.domain.scorecard import Model, confidence_half_of, fingerprint_of, model_from, scorecard_from

_RANDOM_SUBJECTS = 100
_AS_OF_S = 1_800_000_000
# So much weaker out of time than in time, and what it learnt was the training rows.
_MOST_LOST_AUC = 0.05
# Of the grades from training to test: a population that moved this far needs another model.
_MOST_PSI = 0.25


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The check of an artefact against this service's own definitions. `texts`: the texts' file."""

    catalogue: Catalogue
    texts: Mapping[str, Any]
    newcomer_grade: Grade

    def findings(self, definition: Mapping[str, Any]) -> tuple[Finding, ...]:
        """All that was checked; what could not be checked because of something before is left out."""
        found = [
            _tried("HASH", lambda: check_sha256(definition), "its content is what its hash was made of"),
            _tried("SCALE", lambda: check_scale(definition), "600 at 19 to 1, 40 points double the odds"),
            self._scorecards(definition),
            self._catalogue(definition),
        ]
        if all(finding.passed for finding in found):
            model = model_from(definition, self.catalogue)
            found += self._of_model(model)
        return tuple(found)

    def _scorecards(self, definition: Mapping[str, Any]) -> Finding:
        def read() -> None:
            confidence_half_of(definition)
            for kind in SubjectKind:
                scorecard_from(kind, definition["scorecards"][kind.value], self.catalogue)

        return _tried("SCORECARD", read, "signs, bins, points and reasons agree with the catalogue")

    def _catalogue(self, definition: Mapping[str, Any]) -> Finding:
        def compare() -> None:
            scorecards = [scorecard_from(k, definition["scorecards"][k.value], self.catalogue) for k in SubjectKind]
            used, pinned = fingerprint_of(scorecards, self.catalogue), definition["catalogue"]
            if used != pinned:
                raise DefinitionInvalid(f"it was made for {pinned}, what it scores is {used} here")

        return _tried("CATALOGUE", compare, "what it scores is defined here as where it was made")

    def _of_model(self, model: Model) -> Iterator[Finding]:
        try:
            texts = texts_from(self.texts, self.catalogue, model)
        except DefinitionInvalid as error:
            yield Finding("TEXTS", False, str(error))
            return
        yield Finding("TEXTS", True, "every reason it can give has words")
        judge = Judge(self.catalogue, model, texts)
        for kind in SubjectKind:
            newcomer = judge.evaluate(Profile.empty(), kind=kind, as_of_s=_AS_OF_S)
            detail = f"{kind}: a newcomer has {newcomer.score}, {newcomer.grade}; the terms say {self.newcomer_grade}"
            yield Finding("NEWCOMER", newcomer.grade is self.newcomer_grade, detail)
            yield _additivity(judge, kind)
            yield _stability(model, kind)


def _tried(check: str, look: Any, good: str) -> Finding:
    try:
        look()
    except (DefinitionInvalid, KeyError, TypeError, ValueError, AttributeError) as error:
        text = str(error) if isinstance(error, DefinitionInvalid) else f"{type(error).__name__} {error}"
        return Finding(check, False, text)
    return Finding(check, True, good)


def _additivity(judge: Judge, kind: SubjectKind) -> Finding:
    """base + points + adjustments = score, for subjects made up from a fixed seed."""
    dice = random.Random(11)
    for number in range(_RANDOM_SUBJECTS):
        profile = random_profile(judge.catalogue, dice, as_of_s=_AS_OF_S)
        found = judge.evaluate(profile, kind=kind, as_of_s=_AS_OF_S)
        total = found.base_points + sum(points for _, points in found.sub_scores)
        total += sum(item.points for item in found.adjustments)
        if total != found.score:
            return Finding(
                "ADDITIVITY", False, f"{kind}: the parts of subject {number} add up to {total}, not {found.score}"
            )
    return Finding(
        "ADDITIVITY", True, f"{kind}: the parts of {_RANDOM_SUBJECTS} random subjects add up to their scores"
    )


def _stability(model: Model, kind: SubjectKind) -> Finding:
    training = model.scorecards[kind].training
    if training is None:
        return Finding("STABILITY", True, f"{kind}: set by hand, with nothing to be stable against")
    if training.out_of_time is None:
        return Finding("STABILITY", False, f"{kind}: it was never measured out of time")
    lost = training.in_time.auc - training.out_of_time.auc
    detail = (
        f"{kind}: AUC {training.in_time.auc:.3f} in time, {training.out_of_time.auc:.3f} out of time; "
        f"PSI of its grades {training.score_psi:.3f}"
    )
    return Finding("STABILITY", lost <= _MOST_LOST_AUC and training.score_psi < _MOST_PSI, detail)


def random_profile(catalogue: Catalogue, dice: random.Random, *, as_of_s: int) -> Profile:
    """A history without sense: every slot moved up to three times in the last 400 days."""
    changes = []
    for slot in catalogue.slots:
        for _ in range(dice.randrange(4)):
            at_us = (as_of_s - dice.randrange(400 * 86_400)) * 1_000_000
            amount = dice.randrange(1, 40) if slot.keep == "sum" else dice.randrange(1, 2**32)
            changes.append((at_us, Change(slot.id, slot.keep, amount)))
    return Profile.empty().with_changes(changes)
