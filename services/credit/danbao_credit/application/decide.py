"""Which function decides which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from danbao_credit.application.apply_events import ApplyEvents, apply_events
from danbao_credit.application.membership_commands import (
    ApplyMembership,
    ClaimDepositStep,
    FundDeposit,
    LeaveMembership,
    LookAtMembership,
    OpenDeposits,
    ReinstateMembership,
    SettleDepositStep,
    SuspendMembership,
)
from danbao_credit.application.memberships import Desk
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
from danbao_credit.application.rebuild import FoldLog, RebuildProfile, fold_log, rebuild_profile
from danbao_credit.application.record_events import RecordEvents, record_events
from danbao_credit.application.record_scores import RecordScores, record_scores
from danbao_credit.application.rights import RIGHTS
from danbao_credit.application.working_set import CreditSet
from danbao_kit.decision import Moment, Need

Decide = Callable[[object, CreditSet, Moment], object]

_BY_TYPE: Mapping[type, Callable[[Any, CreditSet, Moment], object]] = {
    ApplyEvents: apply_events,
    RecordScores: record_scores,
    RecordEvents: record_events,
    RebuildProfile: rebuild_profile,
    FoldLog: fold_log,
    **RIGHTS,
    CreateModelVersion: create_model_version,
    RegisterShipped: register_shipped,
    ValidateModelVersion: validate_model_version,
    PromoteModelVersion: promote_model_version,
    SetChallenger: set_challenger,
    RollbackModel: rollback_model,
}


def decide(command: object, working: CreditSet, moment: Moment) -> object:
    """What the write path runs where nobody asks about memberships."""
    _wait_for_erasures(command, working)
    return _BY_TYPE[type(command)](command, working, moment)


def decider(desk: Desk) -> Decide:
    """What the service's write path runs."""
    by_type: Mapping[type, Callable[[Any, CreditSet, Moment], object]] = {
        **_BY_TYPE,
        OpenDeposits: desk.open_deposits,
        ApplyMembership: desk.apply,
        FundDeposit: desk.fund,
        SuspendMembership: desk.suspend,
        ReinstateMembership: desk.reinstate,
        LeaveMembership: desk.leave,
        LookAtMembership: desk.look,
        ClaimDepositStep: desk.claim_step,
        SettleDepositStep: desk.settle_step,
    }

    def decided(command: object, working: CreditSet, moment: Moment) -> object:
        _wait_for_erasures(command, working)
        return by_type[type(command)](command, working, moment)

    return decided


def _wait_for_erasures(command: object, working: CreditSet) -> None:
    """What is asked or told of a subject after its erasure goes into the next batch: this one's erasures are written
    last, and would take it along. Raises Need."""
    erased = {removal.subject for removal in working.removals.accepted if removal.through_us is not None}
    if not erased:
        return
    told = getattr(command, "subjects", ())
    concerned = {getattr(command, "subject", ""), *(told() if callable(told) else told)}
    if erased & concerned:
        raise Need(subjects=erased & concerned)
