"""Which states a model version goes through, who may follow whom, and what its check looks at.

Everything that may become of a version stands in TRANSITIONS; nothing else changes a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from danbao_credit.domain.errors import ModelStateInvalid


class ModelState(StrEnum):
    """Where a version stands."""

    DRAFT = "DRAFT"
    VALIDATED = "VALIDATED"
    CHALLENGER = "CHALLENGER"
    CHAMPION = "CHAMPION"
    RETIRED = "RETIRED"
    REJECTED = "REJECTED"


class Step(StrEnum):
    """What is done with a version."""

    PASS = "PASS"
    FAIL = "FAIL"
    CHALLENGE = "CHALLENGE"
    STAND_DOWN = "STAND_DOWN"
    PROMOTE = "PROMOTE"
    RETIRE = "RETIRE"
    RESTORE = "RESTORE"


TRANSITIONS: Mapping[tuple[ModelState, Step], ModelState] = {
    (ModelState.DRAFT, Step.PASS): ModelState.VALIDATED,
    (ModelState.DRAFT, Step.FAIL): ModelState.REJECTED,
    (ModelState.VALIDATED, Step.CHALLENGE): ModelState.CHALLENGER,
    (ModelState.CHALLENGER, Step.STAND_DOWN): ModelState.VALIDATED,
    (ModelState.VALIDATED, Step.PROMOTE): ModelState.CHAMPION,
    (ModelState.CHALLENGER, Step.PROMOTE): ModelState.CHAMPION,
    (ModelState.CHAMPION, Step.RETIRE): ModelState.RETIRED,
    (ModelState.RETIRED, Step.RESTORE): ModelState.CHAMPION,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version with its artefact, which never changes. `former`: the champion it followed; empty if it was none."""

    version: str
    state: ModelState
    artefact: str
    sha256: str
    description: str
    create_time: datetime
    change_time: datetime
    findings: tuple[Finding, ...] = ()
    former: str = ""

    @property
    def name(self) -> str:
        return f"models/{self.version}"

    def after(self, step: Step, now: datetime, **changes: Any) -> ModelVersion:
        """The version after a step. Raises ModelStateInvalid if its state does not allow it."""
        state = TRANSITIONS.get((self.state, step))
        if state is None:
            raise ModelStateInvalid(self.name, self.state, step)
        return replace(self, state=state, change_time=now, **changes)


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A step that was taken, for good: who, when, why."""

    version: str
    step: str
    state: ModelState
    at: datetime
    actor: str
    reason: str
