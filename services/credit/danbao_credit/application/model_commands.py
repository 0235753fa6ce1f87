"""How model versions change: taken, checked, compared, promoted, rolled back; by the table in domain/models.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.errors import ModelVersionExists, ModelVersionNotFound, NoFormerModel
from danbao_credit.domain.models import Finding, ModelChange, ModelState, ModelVersion, Step
from danbao_kit.decision import Moment


@dataclass(frozen=True, slots=True)
class CreateModelVersion:
    """Takes an artefact, given as canonical JSON."""

    version: str
    artefact: str
    sha256: str
    description: str
    actor: str

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("actor",)


@dataclass(frozen=True, slots=True)
class RegisterShipped:
    """The model that ships with this release becomes known; champion if there is none."""

    version: str
    artefact: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ValidateModelVersion:
    """`findings`: what its check found. An artefact never changes, so it is looked at before the transaction begins."""

    version: str
    findings: tuple[Finding, ...]
    actor: str

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("findings", "actor")


@dataclass(frozen=True, slots=True)
class PromoteModelVersion:
    version: str
    reason: str
    actor: str

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("actor",)


@dataclass(frozen=True, slots=True)
class SetChallenger:
    version: str
    actor: str

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("actor",)


@dataclass(frozen=True, slots=True)
class RollbackModel:
    reason: str
    actor: str

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("actor",)


ModelCommand = (
    CreateModelVersion | RegisterShipped | ValidateModelVersion | PromoteModelVersion | SetChallenger | RollbackModel
)
MODEL_COMMANDS = (
    CreateModelVersion,
    RegisterShipped,
    ValidateModelVersion,
    PromoteModelVersion,
    SetChallenger,
    RollbackModel,
)


def create_model_version(command: CreateModelVersion, working: CreditSet, moment: Moment) -> ModelVersion:
    """Raises ModelVersionExists."""
    known = working.models.get(command.version)
    if known is not None:
        raise ModelVersionExists(known.name, known.sha256)
    return _new(working, command.version, command.artefact, command.sha256, command.description, moment, command.actor)


def register_shipped(command: RegisterShipped, working: CreditSet, moment: Moment) -> ModelVersion:
    """The shipped model as it stands: it was checked when it was loaded, or this service would not run.

    Raises ModelVersionExists if another content has its version.
    """
    known = working.models.get(command.version)
    if known is not None:
        if known.sha256 != command.sha256:
            raise ModelVersionExists(known.name, known.sha256)
        return known
    loaded = Finding("SHIPPED", True, "ships with the service, which checks it at every start")
    draft = _new(
        working, command.version, command.artefact, command.sha256, "ships with the service", moment, "service"
    )
    shipped = _step(working, draft, Step.PASS, moment, "service", "", findings=(loaded,))
    if _in_state(working, ModelState.CHAMPION) is None:
        shipped = _step(working, shipped, Step.PROMOTE, moment, "service", "there was no champion")
    return shipped


def validate_model_version(command: ValidateModelVersion, working: CreditSet, moment: Moment) -> ModelVersion:
    """Raises ModelVersionNotFound and ModelStateInvalid."""
    draft = _existing(working, command.version)
    step = Step.PASS if all(finding.passed for finding in command.findings) else Step.FAIL
    return _step(working, draft, step, moment, command.actor, "", findings=command.findings)


def promote_model_version(command: PromoteModelVersion, working: CreditSet, moment: Moment) -> ModelVersion:
    """Raises ModelVersionNotFound and ModelStateInvalid."""
    version = _existing(working, command.version)
    former = _in_state(working, ModelState.CHAMPION)
    name = "" if former is None else former.version
    promoted = _step(working, version, Step.PROMOTE, moment, command.actor, command.reason, former=name)
    if former is not None:
        _step(working, former, Step.RETIRE, moment, command.actor, command.reason)
    return promoted


def set_challenger(command: SetChallenger, working: CreditSet, moment: Moment) -> ModelVersion:
    """Raises ModelVersionNotFound and ModelStateInvalid."""
    version = _existing(working, command.version)
    former = _in_state(working, ModelState.CHALLENGER)
    if former is not None and former.version != version.version:
        _step(working, former, Step.STAND_DOWN, moment, command.actor, "")
    return _step(working, version, Step.CHALLENGE, moment, command.actor, "")


def rollback_model(command: RollbackModel, working: CreditSet, moment: Moment) -> ModelVersion:
    """Raises NoFormerModel."""
    champion = _in_state(working, ModelState.CHAMPION)
    former = None if champion is None else working.models.get(champion.former)
    if champion is None or former is None or former.state is not ModelState.RETIRED:
        raise NoFormerModel("" if champion is None else champion.name)
    _step(working, champion, Step.RETIRE, moment, command.actor, command.reason)
    return _step(working, former, Step.RESTORE, moment, command.actor, command.reason)


def _new(
    working: CreditSet, version: str, artefact: str, sha256: str, description: str, moment: Moment, actor: str
) -> ModelVersion:
    made = ModelVersion(version, ModelState.DRAFT, artefact, sha256, description, moment.now, moment.now)
    working.models.put(version, made)
    working.model_changes.append(ModelChange(version, "CREATE", ModelState.DRAFT, moment.now, actor, description))
    return made


def _step(
    working: CreditSet, version: ModelVersion, step: Step, moment: Moment, actor: str, reason: str, **changes: Any
) -> ModelVersion:
    after = version.after(step, moment.now, **changes)
    working.models.put(after.version, after)
    working.model_changes.append(ModelChange(after.version, step, after.state, moment.now, actor, reason))
    return after


def _existing(working: CreditSet, version: str) -> ModelVersion:
    known = working.models.get(version)
    if known is None:
        raise ModelVersionNotFound(f"models/{version}")
    return known


def _in_state(working: CreditSet, state: ModelState) -> ModelVersion | None:
    return next((version for version in working.models.values() if version.state is state), None)
