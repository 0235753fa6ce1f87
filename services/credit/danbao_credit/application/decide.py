"""Which function decides which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from danbao_credit.application.apply_events import ApplyEvents, apply_events
from danbao_credit.application.model_commands import (
    CreateModelVersion,
    PromoteModelVersion,
    RegisterShipped,
    RollbackModel,
    SetChallenger,
    ValidateModelVersion,
    create_model_version,
    promote_model_version,
    register_shipped,
    rollback_model,
    set_challenger,
    validate_model_version,
)
from danbao_credit.application.working_set import CreditSet
from danbao_kit.decision import Moment

_BY_TYPE: Mapping[type, Callable[[Any, CreditSet, Moment], object]] = {
    ApplyEvents: apply_events,
    CreateModelVersion: create_model_version,
    RegisterShipped: register_shipped,
    ValidateModelVersion: validate_model_version,
    PromoteModelVersion: promote_model_version,
    SetChallenger: set_challenger,
    RollbackModel: rollback_model,
}


def decide(command: object, working: CreditSet, moment: Moment) -> object:
    """What the write path runs."""
    return _BY_TYPE[type(command)](command, working, moment)
