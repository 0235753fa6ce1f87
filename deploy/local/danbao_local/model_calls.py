"""Bodies that work for credit's models, with the versions they need: copies of the champion under other names."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.artefact import SHA, sha256_of
from danbao_local.client import GatewayClient
from danbao_local.demo import CREDIT, new_id

_MODELS = f"{CREDIT}.ModelService"


@dataclass(frozen=True, slots=True)
class ModelFixtures:
    """Versions in the state that the bodies need."""

    champion: str
    artefact: str
    to_validate: str
    to_promote: str
    to_challenge: str


Example = tuple[str, Callable[[ModelFixtures], dict[str, Any]]]

EXAMPLES: Mapping[str, Example] = {
    f"{_MODELS}/CreateModelVersion": ("operator", lambda made: _new(made.artefact)),
    f"{_MODELS}/ValidateModelVersion": ("operator", lambda made: _named(made.to_validate)),
    f"{_MODELS}/PromoteModelVersion": ("operator", lambda made: _named(made.to_promote, reason="better out of time")),
    f"{_MODELS}/RollbackModel": ("operator", lambda _: {"requestId": new_id(), "reason": "complaints"}),
    f"{_MODELS}/SetChallenger": ("operator", lambda made: _named(made.to_challenge)),
    f"{_MODELS}/GetModelVersion": ("operator", lambda made: {"name": made.champion}),
    f"{_MODELS}/ListModelVersions": ("operator", lambda _: {"pageSize": 10}),
    f"{_MODELS}/GetDriftReport": ("operator", lambda _: {"kind": "SUBJECT_KIND_MERCHANT", "sampleSize": 100}),
}
"""By RPC: the role to call it with, and the body. A rollback goes back from what was promoted just before."""


def make(client: GatewayClient) -> ModelFixtures:
    """Raises CallFailed."""
    listed = client.call(f"{_MODELS}/ListModelVersions", {"pageSize": 1000}, role="operator").models
    champion = next(model.name for model in listed if model.state == type(model).STATE_CHAMPION)
    text = client.call(f"{_MODELS}/GetModelVersion", {"name": champion}, role="operator").artefact

    def created() -> str:
        return str(client.call(f"{_MODELS}/CreateModelVersion", _new(_copied(text)), role="operator").name)

    def validated() -> str:
        return str(client.call(f"{_MODELS}/ValidateModelVersion", _named(created()), role="operator").name)

    return ModelFixtures(
        champion=champion,
        artefact=_copied(text),
        to_validate=created(),
        to_promote=validated(),
        to_challenge=validated(),
    )


def _copied(text: str) -> str:
    """The same model as another version."""
    artefact = json.loads(text)
    artefact["version"] = f"example-{new_id()}"
    artefact[SHA] = sha256_of(artefact)
    return json.dumps(artefact, ensure_ascii=False)


def _new(artefact: str) -> dict[str, Any]:
    return {"requestId": new_id(), "artefact": artefact, "description": "a copy of the champion"}


def _named(name: str, **fields: Any) -> dict[str, Any]:
    return {"requestId": new_id(), "name": name, **fields}
