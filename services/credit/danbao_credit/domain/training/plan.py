"""What the trainer is told, from one file: what counts as bad, when rows are taken, and what people decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.grades import HIGHEST_SCORE, LOWEST_SCORE
from danbao_credit.domain.training.rows import Outcome


@dataclass(frozen=True, slots=True)
class KindPlan:
    """Of one kind: its outcome, and the parts of its scorecard that are not learnt, as they stand in an artefact."""

    outcome: Outcome
    outcome_words: str
    completed: str
    expert: tuple[Mapping[str, Any], ...]
    caps: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """All of it."""

    newcomer_score: int
    confidence_half: int
    step_days: int
    warm_up_days: int
    test_share: float
    # By line: why it is never scored.
    never: Mapping[str, str]
    kinds: Mapping[SubjectKind, KindPlan]


def plan_from(definition: Mapping[str, Any], catalogue: Catalogue) -> TrainingPlan:
    """Raises DefinitionInvalid, naming what is wrong."""
    try:
        cuts = definition["cuts"]
        plan = TrainingPlan(
            newcomer_score=int(definition["newcomer_score"]),
            confidence_half=int(definition["confidence_half"]),
            step_days=int(cuts["step_days"]),
            warm_up_days=int(cuts["warm_up_days"]),
            test_share=float(cuts["test_share"]),
            never={str(line): str(why) for line, why in definition.get("never", {}).items()},
            kinds={kind: _kind(definition["kinds"][kind.value], catalogue) for kind in SubjectKind},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DefinitionInvalid(f"the training plan cannot be read: {type(error).__name__} {error}") from error
    if not LOWEST_SCORE <= plan.newcomer_score <= HIGHEST_SCORE:
        raise DefinitionInvalid(f"the training plan: {plan.newcomer_score} is not a score")
    if plan.step_days < 1 or plan.warm_up_days < 0 or not 0 <= plan.test_share < 1:
        raise DefinitionInvalid("the training plan: its cuts are out of range")
    return plan


def _kind(definition: Mapping[str, Any], catalogue: Catalogue) -> KindPlan:
    outcome = definition["outcome"]
    made = Outcome(
        horizon_days=int(outcome["horizon_days"]),
        bad=_slots(outcome["bad"], catalogue),
        among=_slots(outcome["among"], catalogue),
        most=int(outcome["most"]),
    )
    if made.horizon_days < 1 or made.most < 1:
        raise DefinitionInvalid("the training plan: an outcome is out of range")
    words = f"{' + '.join(outcome['bad'])} of {' + '.join(outcome['among'])}"
    return KindPlan(
        outcome=made,
        outcome_words=f"{words} within {made.horizon_days} days",
        completed=str(definition["completed"]),
        expert=tuple(definition["expert"]),
        caps=tuple(definition["caps"]),
    )


def _slots(names: list[str], catalogue: Catalogue) -> frozenset[int]:
    by_name = {slot.name: slot.id for slot in catalogue.slots if slot.keep in ("sum", "orders")}
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        raise DefinitionInvalid(f"the training plan: there is no slot {', '.join(unknown) or 'at all'} that counts")
    return frozenset(by_name[name] for name in names)
